//! RAM of the machine, from the kernel's own counters.

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;
use std::{mem, ptr};

use mach2::host_info::HOST_VM_INFO64_COUNT;
use mach2::kern_return::{KERN_SUCCESS, kern_return_t};
use mach2::mach_init::mach_host_self;
use mach2::message::mach_msg_type_number_t;
use mach2::port::mach_port_t;
use mach2::vm_page_size::vm_page_size;
use mach2::vm_statistics::vm_statistics64;
use mach2::vm_types::integer_t;
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::MachineMemory;

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

pub(crate) fn read() -> MachineMemory {
    let swap = sysctl::<libc::xsw_usage>(c"vm.swapusage");
    MachineMemory {
        total: sysctl::<u64>(c"hw.memsize").map(Bytes),
        available: available(),
        swap_total: swap.map(|usage| Bytes(usage.xsu_total)),
        swap_free: swap.map(|usage| Bytes(usage.xsu_avail)),
        ..MachineMemory::default()
    }
}

/// Free and inactive pages: the kernel has no number of its own for available memory.
fn available() -> Option<Bytes> {
    let mut statistics = vm_statistics64::default();
    let mut count = HOST_VM_INFO64_COUNT;
    // SAFETY: the structure is ours and `count` holds its length; older kernels fill less.
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

/// Each call of `mach_host_self` adds a reference to the port, so there is only one.
fn host() -> mach_port_t {
    static HOST: OnceLock<mach_port_t> = OnceLock::new();
    // SAFETY: it has no arguments and returns a port right that we keep.
    *HOST.get_or_init(|| unsafe { mach_host_self() })
}

/// Types for which every bit pattern is a value.
trait Plain: Copy {}
impl Plain for u64 {}
impl Plain for libc::xsw_usage {}

fn sysctl<T: Plain>(name: &CStr) -> Option<T> {
    let mut value = mem::MaybeUninit::<T>::zeroed();
    let mut length = mem::size_of::<T>();
    // SAFETY: the name is a C string, the buffer is ours and `length` holds its size.
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
