//! The `memsweep` command on its own, without Python.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(memsweep_cli::run(std::env::args_os(), &mut std::io::stdout().lock()))
}
