//! Giving the C heap's free pages back.

use std::ffi::c_void;
use std::ptr;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;

use crate::platform::nothing_to_do;

unsafe extern "C" {
    /// `malloc/malloc.h`: relieves one zone, or all when null, of at least `goal` bytes, or of
    /// everything when 0; returns the bytes released.
    fn malloc_zone_pressure_relief(zone: *mut c_void, goal: usize) -> usize;
}

pub(crate) fn trim() -> Outcome {
    // SAFETY: a null zone stands for all zones, which take their own locks.
    let released = unsafe { malloc_zone_pressure_relief(ptr::null_mut(), 0) };
    if released == 0 {
        return nothing_to_do("no malloc zone had free pages to give back");
    }
    Outcome::Done {
        claimed: Some(Bytes(released as u64)),
        detail: Some("malloc_zone_pressure_relief".to_owned()),
    }
}
