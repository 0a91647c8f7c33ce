//! `/proc/meminfo` and `/proc/pressure/memory`, one after the other.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memsweep_core::reading::MachineMemory;
use memsweep_fuzz::{kibibytes, parts};
use memsweep_os::fuzzing;

fuzz_target!(|content: &[u8]| {
    let [meminfo, pressure] = parts(content);
    let expected = MachineMemory {
        total: kibibytes(meminfo, "MemTotal"),
        available: kibibytes(meminfo, "MemAvailable"),
        swap_total: kibibytes(meminfo, "SwapTotal"),
        swap_free: kibibytes(meminfo, "SwapFree"),
        ..MachineMemory::default()
    };
    assert_eq!(fuzzing::meminfo(meminfo), expected);
    if let Some(percent) = fuzzing::pressure(pressure) {
        assert!((0.0..=100.0).contains(&percent), "{percent}");
        assert!(pressure.windows(6).any(|window| window == b"avg10="));
    }
});
