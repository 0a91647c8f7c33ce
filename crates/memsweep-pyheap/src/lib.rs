//! Walks the interpreter's heap: what objects reach, what else there is, and what is in use.
//!
//! Design constraints:
//! - One hold of the interpreter lock covers a whole question, with the collector off. Strong
//!   references leave it, and hints: where an object and its memory were. A hint is used only in a
//!   later hold, after its walk has met an object there that owns that very memory.
//! - The walk runs no Python code. It uses the limited API only, so one build serves 3.10 to 3.14.
//! - What the walk cannot see counts as in use (see `hidden`), and an interpreter that the self-test
//!   does not understand is refused, not guessed at.
//! - Running out of memory is an error, and nothing panics across the C border.
//!
//! The tables ([`bitmap`], [`tally`], [`numbering`]) take plain numbers. Only they are built for
//! `cargo test`, so that the test binary does not have to be linked against an interpreter; pytest
//! tests the rest.
#![allow(
    unsafe_code,
    reason = "it reads the interpreter's own memory; each use says why it is sound"
)]

pub mod bitmap;
pub mod numbering;
pub mod table;
pub mod tally;

#[cfg(test)]
mod order;

#[cfg(not(test))]
mod destroy;
#[cfg(not(test))]
mod edges;
#[cfg(not(test))]
mod foreign;
#[cfg(not(test))]
mod frames;
#[cfg(not(test))]
mod hidden;
#[cfg(not(test))]
mod holders;
#[cfg(not(test))]
mod idle;
#[cfg(not(test))]
mod kinds;
#[cfg(not(test))]
mod labels;
#[cfg(not(test))]
mod layout;
#[cfg(not(test))]
mod library;
#[cfg(not(test))]
mod object;
#[cfg(not(test))]
mod passive;
#[cfg(not(test))]
mod questions;
#[cfg(not(test))]
mod reach;
#[cfg(not(test))]
mod selftest;
#[cfg(not(test))]
mod storages;
#[cfg(not(test))]
mod trust;
#[cfg(not(test))]
mod users;
#[cfg(not(test))]
mod visitor;
#[cfg(not(test))]
mod walk;
#[cfg(not(test))]
mod world;
#[cfg(not(test))]
mod writers;

#[cfg(not(test))]
pub use destroy::{Candidate, Destroy, Stays, Taken, destroy};
#[cfg(not(test))]
pub use edges::{Edge, edges};
#[cfg(not(test))]
pub use foreign::{Block, Memory};
#[cfg(not(test))]
pub use frames::WaitsHere;
#[cfg(not(test))]
pub use holders::Holders;
#[cfg(not(test))]
pub use idle::{Busy, Found, Idle, Wanted, each_still_idle, idle_memory};
#[cfg(not(test))]
pub use labels::Label;
#[cfg(not(test))]
pub use layout::Layout;
#[cfg(not(test))]
pub use questions::{Candidates, candidates, pinned, reach, variables};
#[cfg(not(test))]
pub use reach::Objects;
#[cfg(not(test))]
pub use selftest::{SelfTest, self_test};
#[cfg(not(test))]
pub use storages::{StorageFact, Storages, blocks, memory_types};
