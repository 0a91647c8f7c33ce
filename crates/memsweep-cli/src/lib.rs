//! The `memsweep` command: `memsweep reading` and `memsweep selftest`.
//!
//! It reads and changes only the process it runs in. It decides nothing about a workflow: what to
//! release there is up to the pack and the library.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod machine;
mod selftest;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use memsweep_core::render::reading_text;
use memsweep_os::Os;

pub use crate::machine::{Machine, ThisMachine};
pub use crate::selftest::{Finding, Selftest, Trial, selftest};

/// Show who holds memory, and test what can be given back on this machine.
#[derive(Debug, Parser)]
#[command(name = "memsweep", bin_name = "memsweep", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the memory of this process, the machine and its devices
    Reading {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Release throw-away memory in every way this system offers, and compare claims with
    /// measurements
    Selftest {
        /// As JSON, for a bug report
        #[arg(long)]
        json: bool,
        /// A folder on a disk, for files of 64 MiB that are removed again
        #[arg(long, default_value_os_t = folder())]
        folder: PathBuf,
        /// Also drop the page cache of the whole machine (Linux, as root)
        #[arg(long)]
        system_wide: bool,
    },
}

/// Runs a command line. Returns the exit status: 0, 1 when a trial did not pass, 2 for a usage
/// error.
///
/// `arguments` begin with the program's name.
pub fn run(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    out: &mut impl Write,
) -> u8 {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(answer) => {
            // Help and version go to standard output, errors to standard error.
            let _ = answer.print();
            return u8::try_from(answer.exit_code()).unwrap_or(2);
        }
    };
    // When writing fails, nothing reads the output any more. The exit status stays the same.
    match command {
        Command::Reading { json } => {
            let reading = Os::current().read();
            let _ = if json {
                write_json(out, &reading)
            } else {
                out.write_all(reading_text(&reading).as_bytes())
            };
            0
        }
        Command::Selftest { json, folder, system_wide } => {
            let tested = selftest(&mut ThisMachine::new(), &folder, system_wide);
            let _ = if json { write_json(out, &tested) } else { writeln!(out, "{tested}") };
            u8::from(!tested.passed)
        }
    }
}

fn write_json(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Where parking puts its files by default: temporary folders are often in memory.
fn folder() -> PathBuf {
    if cfg!(target_os = "linux") { PathBuf::from("/var/tmp") } else { std::env::temp_dir() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_usage_error_has_a_status_of_its_own() {
        assert_eq!(run(["memsweep", "no-such-thing"], &mut Vec::new()), 2);
        assert_eq!(run(["memsweep", "--help"], &mut Vec::new()), 0);
    }

    #[test]
    fn a_reading_is_text_or_json() {
        let mut text = Vec::new();
        assert_eq!(run(["memsweep", "reading"], &mut text), 0);
        assert!(String::from_utf8(text).unwrap().starts_with("process: "));
        let mut json = Vec::new();
        assert_eq!(run(["memsweep", "reading", "--json"], &mut json), 0);
        let reading: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert!(reading["process"]["resident"].as_u64().unwrap() > 0);
    }
}
