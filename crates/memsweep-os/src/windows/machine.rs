//! RAM and commit charge of the machine.

use std::ffi::c_void;

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::MachineMemory;
use windows_sys::Win32::System::ProcessStatus::{
    ENUM_PAGE_FILE_INFORMATION, K32EnumPageFilesW, K32GetPerformanceInfo, PERFORMANCE_INFORMATION,
};
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};

use super::answers::{nonzero, size};

pub(crate) fn read() -> MachineMemory {
    let mut memory = MachineMemory::default();
    let mut status =
        MEMORYSTATUSEX { dwLength: size::<MEMORYSTATUSEX>(), ..MEMORYSTATUSEX::default() };
    // SAFETY: the structure is ours and holds its own length, as the call requires.
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
    // SAFETY: the callback gets the pointer back, and only during this call.
    let known = unsafe { K32EnumPageFilesW(Some(add_page_file), (&raw mut files).cast()) };
    (known != 0).then_some(files)
}

/// # Safety
/// `files` points to a [`PageFiles`] that nothing else uses, and `file` to what the system
/// describes.
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
