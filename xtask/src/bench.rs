//! `cargo xtask bench`: the budgets, as ratios within one run.
//!
//! The measuring is done by Python scripts that print one JSON object per row.

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::{CellAlignment, LineStyle, Table, presets};
use serde::{Deserialize, Serialize};

use crate::paths::Paths;
use crate::progress::Step;
use crate::run::Program;
use crate::setup::{self, Checkpoint};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Print one JSON object per row: name, ratio, budget, ok
    #[arg(long)]
    json: bool,
    /// Measure with the full-size checkpoint loaded (needs about 4 GB of RAM)
    #[arg(long)]
    full: bool,
}

/// One measured budget.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Row {
    name: String,
    ratio: f64,
    /// `None`: measured for information; nothing is promised, and the row says so.
    #[serde(deserialize_with = "Option::deserialize")]
    budget: Option<f64>,
    ok: bool,
}

pub(crate) fn run(paths: &Paths, options: &Options) -> Result<bool> {
    let checkpoint = if options.full { Checkpoint::Full } else { Checkpoint::Small };
    setup::run(paths, &[checkpoint])?;
    let mut rows = Vec::new();
    let full = if options.full { &["--full"][..] } else { &[] };
    let scripts: [(&str, &str, &[&str]); 6] = [
        ("Measuring the heap walk", "tests/python/bench_walk.py", &[]),
        ("Measuring it with arrays", "tests/python/bench_walk_arrays.py", &[]),
        ("Measuring the parking", "tests/python/bench_park.py", &[]),
        ("Measuring the stops", "tests/python/bench_stops.py", &[]),
        ("Measuring in a real ComfyUI", "tests/comfyui/bench_nodes.py", full),
        ("Measuring loops", "tests/comfyui/bench_loops.py", &[]),
    ];
    for (heading, script, arguments) in scripts {
        let step = Step::begin(heading);
        let (status, lines) = Program::new(paths.python(), &paths.root)
            .arg(paths.root.join(script))
            .args(arguments)
            .envs(paths.environment())
            .run_captured()?;
        let found: Vec<Row> = lines.iter().filter_map(|line| row(line)).collect();
        // A script also fails when a budget is broken, but then all its rows are there.
        if found.is_empty() || !status.success() && found.iter().all(|row| row.ok) {
            step.finish("FAILED");
            for line in &lines {
                eprintln!("    | {line}");
            }
            bail!("{script} failed ({status})");
        }
        step.finish("done");
        rows.extend(found);
    }
    if options.json {
        for row in &rows {
            println!("{}", serde_json::to_string(row).context("writing a row as JSON")?);
        }
    } else {
        println!("{}", table(&rows));
    }
    Ok(rows.iter().all(|row| row.ok))
}

/// `None` for a line that is not a row. Whether it is ok is decided here, by its numbers.
fn row(line: &str) -> Option<Row> {
    let row: Row = serde_json::from_str(line).ok()?;
    let ok = row.budget.is_none_or(|budget| row.ratio <= budget);
    Some(Row { ok, ..row })
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    let line = LineStyle::none().fill('-').junction('-');
    table.load_style(presets::NOTHING.header_separator(line));
    table.set_header(["What", "Ratio", "Budget", ""]);
    for row in rows {
        let verdict = match row.budget {
            None => "no promise",
            Some(_) if row.ok => "ok",
            Some(_) => "OVER",
        };
        table.add_row([
            row.name.clone(),
            format!("{:.2}", row.ratio),
            row.budget.map_or_else(String::new, |budget| format!("{budget:.2}")),
            verdict.to_owned(),
        ]);
    }
    for index in 1..3 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_its_numbers() {
        let line = r#"{"name": "walk", "ratio": 0.4, "budget": 0.35, "ok": true}"#;
        let found = row(line).unwrap();
        assert!(!found.ok, "the script's own verdict does not count");
        assert!(table(std::slice::from_ref(&found)).contains("OVER"));
        assert_eq!(row(&serde_json::to_string(&found).unwrap()), Some(found));
        let free = row(r#"{"name": "x", "ratio": 9.0, "budget": null, "ok": false}"#).unwrap();
        assert!(free.ok, "without a budget nothing is broken");
    }

    #[test]
    fn other_lines_are_not_rows() {
        for line in [
            "",
            "warning: x",
            "{}",
            r#"{"name": "x", "ratio": null, "budget": 1}"#,
            r#"{"name": "x", "ratio": 1}"#,
        ] {
            assert_eq!(row(line), None, "{line}");
        }
    }
}
