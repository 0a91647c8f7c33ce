//! The part of MemSweep that decides.
//!
//! Design constraints:
//! - values in, values out: no file system, clock, environment, thread, Python or logging;
//! - total: nothing here fails or panics on any input, errors are for misuse at the edges;
//! - deterministic: the same inventory and policy give the same plan, byte for byte;
//! - every decision carries its reason, for what is kept as for what is released.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod action;
pub mod bytes;
pub mod reading;
