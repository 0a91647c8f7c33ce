//! `cargo xtask demo`.

use anyhow::Result;
use clap::Args;

use crate::paths::Paths;

#[derive(Args, Debug)]
pub(crate) struct Options {}

pub(crate) fn run(_paths: &Paths, _options: &Options) -> Result<bool> {
    Ok(true)
}
