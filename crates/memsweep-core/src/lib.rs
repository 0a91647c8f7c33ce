//! The part of MemSweep that decides.
//!
//! Design constraints:
//! - values in, values out: no file system, clock, environment, thread, Python or logging;
//! - total: nothing here fails or panics on any input, errors are for misuse at the edges;
//! - deterministic: the same inventory and policy give the same plan, byte for byte;
//! - every decision carries its reason, for what is kept as well as for what is released.
//!
//! Data flows one way: [`reading`] and [`inventory`] in, [`plan`] decides, [`sweep`] carries out
//! through a [`sweep::Host`], [`report`] says what came of it, [`render`] draws it.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod action;
pub mod balance;
pub mod bytes;
pub mod destroy;
pub mod device;
pub mod freed;
pub mod headline;
pub mod inventory;
pub mod level;
pub mod live;
pub mod memory_report;
pub mod names;
pub mod park;
pub mod plain;
pub mod plan;
pub mod policy;
pub mod reading;
pub mod reason;
pub mod render;
pub mod report;
pub mod rest;
pub mod stayed;
pub mod sweep;
pub mod turns;
