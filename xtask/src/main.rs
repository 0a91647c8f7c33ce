//! The project's commands: `cargo xtask setup | demo | test | windows | check-targets | ...`, see [`Command`].
//!
//! Nothing here is part of the product. Every program that a command starts is ended with it.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "printing is what these commands do")]

mod bench;
mod clean;
mod comfyui;
mod cross;
mod demo;
mod dist;
mod files;
mod fuzz;
mod gpu;
mod meter;
mod overlay;
mod paths;
mod planted;
mod progress;
mod run;
mod setup;
mod stamp;
mod targets;
mod test;
mod tidy;
mod tools;
mod upstream;
mod valgrind;
mod windows;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::paths::Paths;
use crate::setup::Checkpoint;

/// The project's commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare Python, torch, a real ComfyUI, the wheel and the small checkpoint
    Setup,
    /// Run workflows on a real ComfyUI with and without the nodes, and show what they freed
    Demo(demo::Options),
    /// Run the quick tests, or every test
    Test(test::Options),
    /// Run libFuzzer on the parsers of outside text
    Fuzz(fuzz::Options),
    /// Measure the budgets, as ratios within one run
    Bench(bench::Options),
    /// Build the Rust crates for Windows and run their tests under wine
    Windows,
    /// Check that the code compiles for every system we claim
    CheckTargets,
    /// Build the wheels and the source archive, and check them
    Dist(dist::Options),
    /// Check the project's own rules, and run ruff, mypy, stubtest and cargo-deny
    Tidy,
    /// Run the tests that need a CUDA device
    Gpu,
    /// Remove the cache folder: environments, ComfyUI, checkpoints
    Clean,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(&arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// `Ok(false)`: everything ran, and something of it is not as it should be.
fn dispatch(command: &Command) -> Result<bool> {
    run::end_everything_on_ctrl_c()?;
    let paths = Paths::find()?;
    match command {
        Command::Setup => {
            setup::run(&paths, &[Checkpoint::Small])?;
            println!("ready: {}", paths.cache.display());
            Ok(true)
        }
        Command::Demo(options) => demo::run(&paths, options),
        Command::Test(options) => test::run(&paths, options),
        Command::Fuzz(options) => fuzz::run(&paths, options),
        Command::Bench(options) => bench::run(&paths, options),
        Command::Windows => test::only(&paths, test::Suite::Windows),
        Command::CheckTargets => test::only(&paths, test::Suite::Targets),
        Command::Dist(options) => dist::run(&paths, options),
        Command::Tidy => Ok(tidy::run(&paths)?.problems == 0),
        Command::Gpu => gpu::run(&paths),
        Command::Clean => clean::run(&paths),
    }
}

/// A choice as it is called on the command line.
fn name_of(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
