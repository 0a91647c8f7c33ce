//! `cargo xtask demo`: workflows on a real ComfyUI, with and without the nodes. They are run by
//! `tests/comfyui/demo.py`, which shares its server with the tests.

use anyhow::Result;
use clap::Args;

use crate::comfyui;
use crate::paths::Paths;
use crate::run::Program;
use crate::setup::{self, Checkpoint};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Use a checkpoint of the full SD1.5 shape (2 GB, needs about 6 GB of RAM)
    #[arg(long)]
    full: bool,
    /// Leave the server up until Ctrl-C, and print its address
    #[arg(long)]
    serve: bool,
    /// Port of the server with MemSweep
    #[arg(long)]
    port: Option<u16>,
}

pub(crate) fn run(paths: &Paths, options: &Options) -> Result<bool> {
    let checkpoint = if options.full { Checkpoint::Full } else { Checkpoint::Small };
    println!(
        "MemSweep demo: ComfyUI {} on the CPU, {} checkpoint with random weights",
        comfyui::CURRENT.version,
        checkpoint.name()
    );
    setup::run(paths, &[checkpoint])?;
    let flags = [("--full", options.full), ("--serve", options.serve)];
    let flags = flags.iter().filter(|(_, given)| *given).map(|(name, _)| (*name).to_owned());
    let port = options.port.map(|port| format!("--port={port}"));
    let status = Program::new(paths.python(), &paths.root)
        .arg("tests/comfyui/demo.py")
        .args(flags.chain(port))
        .envs(paths.environment())
        .run_here()?;
    Ok(status.success())
}
