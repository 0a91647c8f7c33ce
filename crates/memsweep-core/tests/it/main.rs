//! The core from outside: one binary, so that it links once.
//!
//! `plan` holds the rules as rows, `properties` holds them against an oracle on random workflows,
//! `sweep` holds the loop against hosts that are honest, lying, failing or blind, and `golden`
//! holds the JSON and the text that other languages read.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod build;
mod golden;
mod headline;
mod hostile;
mod hosts;
mod oracle;
mod park;
mod plan;
mod properties;
mod strategies;
mod sweep;
