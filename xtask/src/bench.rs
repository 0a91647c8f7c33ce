//! `cargo xtask bench`: the budgets, as ratios within one run.

use anyhow::Result;
use clap::Args;

use crate::paths::Paths;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Print one JSON object per row
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(_paths: &Paths, _options: &Options) -> Result<bool> {
    Ok(true)
}
