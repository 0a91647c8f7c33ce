//! Process and machine memory from the kernel's own counters.

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;
use std::{mem, ptr};

use mach2::host_info::HOST_VM_INFO64_COUNT;
use mach2::kern_return::{KERN_SUCCESS, kern_return_t};
use mach2::mach_init::mach_host_self;
use mach2::message::mach_msg_type_number_t;
use mach2::port::mach_port_t;
use mach2::task::task_info;
use mach2::task_info::{TASK_VM_INFO, task_vm_info};
use mach2::traps::mach_task_self;
use mach2::vm_page_size::vm_page_size;
use mach2::vm_statistics::vm_statistics64;
use mach2::vm_types::integer_t;
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{MachineMemory, ProcessMemory};

/// `mach/host_info.h`.
const HOST_VM_INFO64: c_int = 4;

unsafe extern "C" {
    /// `mach/mach_host.h`.
    fn host_statistics64(
        host: mach_port_t,
        flavor: c_int,
        info: *mut integer_t,
        count: *mut mach_msg_type_number_t,
    ) -> kern_return_t;
}

pub(crate) fn process() -> ProcessMemory {
    let mut info = task_vm_info::default();
    let mut count = words::<task_vm_info>();
    // SAFETY: `info` is ours and `count` tells its length; older kernels fill less and say so.
    let answer = unsafe {
        task_info(mach_task_self(), TASK_VM_INFO, (&raw mut info).cast(), &raw mut count)
    };
    let filled = count as usize * mem::size_of::<integer_t>();
    let needed = mem::offset_of!(task_vm_info, phys_footprint) + mem::size_of::<u64>();
    if answer != KERN_SUCCESS || filled < needed {
        return ProcessMemory::default();
    }
    ProcessMemory {
        resident: Some(Bytes(info.resident_size)),
        anonymous: Some(Bytes(info.internal)),
        file_backed: Some(Bytes(info.external)),
        footprint: Some(Bytes(info.phys_footprint)),
        ..ProcessMemory::default()
    }
}

pub(crate) fn machine() -> MachineMemory {
    let swap = sysctl::<libc::xsw_usage>(c"vm.swapusage");
    MachineMemory {
        total: sysctl::<u64>(c"hw.memsize").map(Bytes),
        available: available(),
        swap_total: swap.map(|usage| Bytes(usage.xsu_total)),
        swap_free: swap.map(|usage| Bytes(usage.xsu_avail)),
        ..MachineMemory::default()
    }
}

/// Free and inactive pages: the kernel has no number of its own for what can be had.
fn available() -> Option<Bytes> {
    let mut statistics = vm_statistics64::default();
    let mut count = HOST_VM_INFO64_COUNT;
    // SAFETY: the structure is ours and `count` tells its length; older kernels fill less.
    let answer = unsafe {
        host_statistics64(host(), HOST_VM_INFO64, (&raw mut statistics).cast(), &raw mut count)
    };
    if answer != KERN_SUCCESS {
        return None;
    }
    let pages = u64::from(statistics.free_count) + u64::from(statistics.inactive_count);
    // SAFETY: a constant that the system library sets before `main`.
    let page_bytes = unsafe { vm_page_size } as u64;
    pages.checked_mul(page_bytes).map(Bytes)
}

/// Each `mach_host_self` adds a reference to the port, so it is asked once.
fn host() -> mach_port_t {
    static HOST: OnceLock<mach_port_t> = OnceLock::new();
    // SAFETY: takes nothing and returns a port right that we keep.
    *HOST.get_or_init(|| unsafe { mach_host_self() })
}

/// Types for which every bit pattern is a value.
trait Plain: Copy {}
impl Plain for u64 {}
impl Plain for libc::xsw_usage {}

fn sysctl<T: Plain>(name: &CStr) -> Option<T> {
    let mut value = mem::MaybeUninit::<T>::zeroed();
    let mut length = mem::size_of::<T>();
    // SAFETY: the name is a C string, the buffer is ours and `length` tells its size.
    let answer = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    // SAFETY: any bits are a `T`, and they were zeroed before the call filled them.
    let value = unsafe { value.assume_init() };
    (answer == 0 && length == mem::size_of::<T>()).then_some(value)
}

/// The size of a structure in the unit these calls count in.
const fn words<T>() -> mach_msg_type_number_t {
    (mem::size_of::<T>() / mem::size_of::<integer_t>()) as mach_msg_type_number_t
}
