//! Memory of this process, from the kernel's own counters.

use std::mem;

use mach2::kern_return::KERN_SUCCESS;
use mach2::message::mach_msg_type_number_t;
use mach2::task::task_info;
use mach2::task_info::{TASK_VM_INFO, task_vm_info};
use mach2::traps::mach_task_self;
use mach2::vm_types::integer_t;
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::ProcessMemory;

pub(crate) fn read() -> ProcessMemory {
    let mut info = task_vm_info::default();
    let mut count = words::<task_vm_info>();
    // SAFETY: `info` is ours and `count` holds its length; older kernels fill less and say so.
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

/// The size of a structure in the unit these calls count in.
const fn words<T>() -> mach_msg_type_number_t {
    (mem::size_of::<T>() / mem::size_of::<integer_t>()) as mach_msg_type_number_t
}
