//! `cargo xtask demo`: workflows on a real ComfyUI, with and without the nodes.
//!
//! Two servers, one after the other. The first has no MemSweep: it makes the reference images, and
//! shows what ComfyUI's own `/free` gives. The second has it: each prompt runs with one node of
//! ours, and its image must be the reference bit for bit.

mod png;
mod server;
mod table;
mod workflow;

use anyhow::Result;
use clap::Args;

use self::server::Server;
use self::table::{Row, Run, Sizes};
use self::workflow::{PLACEMENTS, Picture};
use crate::comfyui;
use crate::paths::Paths;
use crate::progress::Step;
use crate::setup::{self, Checkpoint};

/// The first time is easy; after it the C heap keeps what it gets, unless it is trimmed.
const ROUNDS: usize = 2;
/// How large the server may stay after a node that frees all, against its size at rest.
const LARGEST_RATIO: f64 = 1.15;

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
    let file = format!("{}.safetensors", checkpoint.name());
    let pictures: Vec<Picture<'_>> = (0..PLACEMENTS.len() * ROUNDS)
        .map(|number| Picture {
            checkpoint: &file,
            number,
            steps: if options.full { 1 } else { 2 },
        })
        .collect();

    let (own_free, references) = references(paths, &pictures)?;
    let mut server = Server::start(paths, true, options.port)?;
    let idle = server.resident_at_rest();
    let rows = with_nodes(&mut server, &pictures, &references)?;

    println!("\n{}\n", table::render(&rows));
    println!(
        "Each node ran twice: first line, second line. RAM is the server's VmRSS. Before, after and"
    );
    println!(
        "released: the node's own report. Afterwards: read from outside, the prompt having ended.\n"
    );
    let good = conclude(&rows, idle, &own_free, options.full);
    if options.serve {
        println!("\nserving at {} (Ctrl-C ends it)", server.address);
        server.wait_for_end()?;
    }
    Ok(good)
}

/// The images without our nodes, and what ComfyUI's own `/free` leaves.
fn references(paths: &Paths, pictures: &[Picture<'_>]) -> Result<(Sizes, Vec<Vec<u8>>)> {
    let mut server = Server::start(paths, false, None)?;
    let mut own_free = Sizes { idle: server.resident_at_rest(), after: Vec::new() };
    let mut images = Vec::new();
    let mut step = Step::begin(&format!("Running {} prompts without the nodes", pictures.len()));
    for (number, picture) in pictures.iter().enumerate() {
        step.tick(&|| format!("{number} of {}", pictures.len()));
        images.push(server.run(&picture.plain())?.pixels);
        if number < ROUNDS {
            own_free.after.push(server.free()?);
        }
    }
    step.finish("done");
    Ok((own_free, images))
}

fn with_nodes(
    server: &mut Server,
    pictures: &[Picture<'_>],
    references: &[Vec<u8>],
) -> Result<Vec<Row>> {
    let mut step = Step::begin(&format!("Running {} prompts with the nodes", pictures.len()));
    let mut work = pictures.iter().zip(references);
    let mut rows = Vec::new();
    for placement in &PLACEMENTS {
        let mut runs = Vec::new();
        for (picture, reference) in work.by_ref().take(ROUNDS) {
            step.tick(&|| placement.label.to_owned());
            let finished = server.run(&picture.with(placement))?;
            runs.push(Run {
                report: workflow::report(&finished.outputs),
                resident: finished.resident,
                identical: finished.pixels == *reference,
            });
        }
        rows.push(Row { label: placement.label, frees_all: placement.frees_all, runs });
    }
    step.finish("done");
    Ok(rows)
}

/// Prints what the table amounts to. True when it is as promised.
fn conclude(rows: &[Row], idle: Option<u64>, own_free: &Sizes, full: bool) -> bool {
    let mut good = true;
    let mut line = |label: &str, sizes: &Sizes, limited: bool| {
        let text = format!("idle server {}; after {label}: {}", sizes.idle_text(), sizes.text());
        let large = sizes.ratios().into_iter().flatten().any(|ratio| ratio > LARGEST_RATIO);
        if limited && large {
            println!("{text}  TOO LARGE: at most {LARGEST_RATIO} x is promised");
            good = false;
        } else {
            println!("{text}");
        }
    };
    for row in rows.iter().filter(|row| row.frees_all) {
        let after = row.runs.iter().map(|run| run.resident).collect();
        line(row.label, &Sizes { idle, after }, full);
    }
    line("ComfyUI's own /free", own_free, false);
    let runs = || rows.iter().flat_map(|row| &row.runs);
    let identical = runs().filter(|run| run.identical).count();
    println!("images identical: {identical} of {}", runs().count());
    let reported = runs().all(|run| run.report.is_some());
    if !reported {
        println!("  A NODE LEFT NO REPORT");
    }
    good && reported && identical == runs().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(identical: bool, resident: u64, report: bool) -> Vec<Row> {
        let run = Run {
            report: report.then(|| serde_json::json!({})),
            resident: Some(resident),
            identical,
        };
        vec![Row { label: "x", frees_all: true, runs: vec![run] }]
    }

    #[test]
    fn the_demo_fails_on_a_different_image_a_missing_report_and_a_large_server() {
        let own_free = Sizes { idle: None, after: vec![None] };
        let check = |rows: &[Row], full| conclude(rows, Some(100), &own_free, full);
        assert!(check(&rows(true, 115, true), true));
        assert!(!check(&rows(false, 115, true), true));
        assert!(!check(&rows(true, 115, false), true));
        assert!(!check(&rows(true, 116, true), true));
        assert!(check(&rows(true, 116, true), false), "only the full shape has a promise");
    }
}
