//! Memory of this process: its working set and its commit charge.

use memsweep_core::reading::ProcessMemory;
use windows_sys::Win32::System::ProcessStatus::{
    K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS, PROCESS_MEMORY_COUNTERS_EX,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use super::answers::{nonzero, size};

pub(crate) fn read() -> ProcessMemory {
    let mut counters = PROCESS_MEMORY_COUNTERS_EX {
        cb: size::<PROCESS_MEMORY_COUNTERS_EX>(),
        ..PROCESS_MEMORY_COUNTERS_EX::default()
    };
    // SAFETY: the pseudo handle is always valid; the extended structure begins with the plain one,
    // and `cb` limits how much is written.
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
