//! Process and machine memory. A call that fails, or an impossible 0, is unknown.

use std::ffi::c_void;
use std::mem;

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{MachineMemory, ProcessMemory};
use windows_sys::Win32::System::ProcessStatus::{
    ENUM_PAGE_FILE_INFORMATION, K32EnumPageFilesW, K32GetPerformanceInfo, K32GetProcessMemoryInfo,
    PERFORMANCE_INFORMATION, PROCESS_MEMORY_COUNTERS, PROCESS_MEMORY_COUNTERS_EX,
};
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

pub(crate) fn process() -> ProcessMemory {
    let mut counters = PROCESS_MEMORY_COUNTERS_EX {
        cb: size::<PROCESS_MEMORY_COUNTERS_EX>(),
        ..PROCESS_MEMORY_COUNTERS_EX::default()
    };
    // SAFETY: the pseudo handle is always valid; the extended structure begins with the plain
    // one, and `cb` tells the call how much it may fill.
    let known = unsafe {
        K32GetProcessMemoryInfo(
            GetCurrentProcess(),
            (&raw mut counters).cast::<PROCESS_MEMORY_COUNTERS>(),
            counters.cb,
        )
    };
    if known == 0 {
        return ProcessMemory::default();
    }
    ProcessMemory {
        resident: nonzero(counters.WorkingSetSize),
        commit: nonzero(counters.PrivateUsage),
        ..ProcessMemory::default()
    }
}

pub(crate) fn machine() -> MachineMemory {
    let mut memory = MachineMemory::default();
    let mut status =
        MEMORYSTATUSEX { dwLength: size::<MEMORYSTATUSEX>(), ..MEMORYSTATUSEX::default() };
    // SAFETY: the structure is ours and carries its own length, as the call demands.
    if unsafe { GlobalMemoryStatusEx(&raw mut status) } != 0 {
        memory.total = Some(Bytes(status.ullTotalPhys));
        memory.available = Some(Bytes(status.ullAvailPhys));
    }
    let mut info = PERFORMANCE_INFORMATION {
        cb: size::<PERFORMANCE_INFORMATION>(),
        ..PERFORMANCE_INFORMATION::default()
    };
    // SAFETY: the structure is ours and its size is passed along.
    if unsafe { K32GetPerformanceInfo(&raw mut info, info.cb) } != 0 {
        let pages = |count: usize| count.checked_mul(info.PageSize).and_then(nonzero);
        memory.commit_used = pages(info.CommitTotal);
        memory.commit_limit = pages(info.CommitLimit);
        if let Some(files) = page_files() {
            let bytes = |count: usize| Some(Bytes(count.checked_mul(info.PageSize)? as u64));
            memory.swap_total = bytes(files.total);
            memory.swap_free = bytes(files.total.saturating_sub(files.in_use));
        }
    }
    memory
}

/// In pages. A machine may have no page file at all, so here 0 is a number.
#[derive(Default)]
struct PageFiles {
    total: usize,
    in_use: usize,
}

fn page_files() -> Option<PageFiles> {
    let mut files = PageFiles::default();
    // SAFETY: the callback gets the pointer back, during this call only.
    let known = unsafe { K32EnumPageFilesW(Some(add_page_file), (&raw mut files).cast()) };
    (known != 0).then_some(files)
}

/// # Safety
/// `files` is a [`PageFiles`] of nobody else, and `file` is what the system describes.
unsafe extern "system" fn add_page_file(
    files: *mut c_void,
    file: *mut ENUM_PAGE_FILE_INFORMATION,
    _name: *const u16,
) -> i32 {
    // SAFETY: the caller's promise.
    let (files, file) = unsafe { (&mut *files.cast::<PageFiles>(), &*file) };
    files.total = files.total.saturating_add(file.TotalSize);
    files.in_use = files.in_use.saturating_add(file.TotalInUse);
    1
}

/// A live process and a running system never have 0 of these: compatibility layers that do not
/// know a number answer 0.
fn nonzero(bytes: usize) -> Option<Bytes> {
    (bytes != 0).then_some(Bytes(bytes as u64))
}

/// The size of a small structure, in the type these calls take.
const fn size<T>() -> u32 {
    mem::size_of::<T>() as u32
}
