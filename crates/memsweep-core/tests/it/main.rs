//! The core from outside: one binary, so that it links once.
//!
//! `plan` holds the rules as rows, `properties` holds them against an oracle on random workflows,
//! `sweep` holds the loop against hosts that are honest, lying, failing or blind, `golden`
//! holds the JSON and the text that other languages read, and `schema` its shape.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod build;
mod files;
mod golden;
mod headline;
mod hostile;
mod hosts;
mod oracle;
mod park;
mod plan;
mod properties;
mod schema;
mod strategies;
mod sweep;
mod turns;
