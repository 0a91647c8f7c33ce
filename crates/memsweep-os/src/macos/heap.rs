//! Giving the C heap's free pages back.

use std::ffi::c_void;
use std::ptr;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reason::Nothing;

unsafe extern "C" {
    /// `malloc/malloc.h`: releases at least `goal` bytes, or all that is free when 0, of one zone,
    /// or of all zones when null. Returns the bytes released.
    fn malloc_zone_pressure_relief(zone: *mut c_void, goal: usize) -> usize;
}

pub(crate) fn trim() -> Outcome {
    // SAFETY: a null zone means all zones, which take their own locks.
    let released = unsafe { malloc_zone_pressure_relief(ptr::null_mut(), 0) };
    if released == 0 {
        return Outcome::nothing(Nothing::HeapInUse);
    }
    Outcome::Done {
        claimed: Some(Bytes(released as u64)),
        detail: Some("malloc_zone_pressure_relief".to_owned()),
    }
}
