//! Reports as text. Draws what it is given; computes nothing.

use std::fmt::Write as _;

use crate::action::{Action, Destroyed, Outcome};
use crate::balance::balance;
use crate::bytes::{Bytes, Change};
use crate::park::{Parked, Refused};
use crate::reading::Reading;
use crate::report::{Report, Row, Verdict};

/// One line for a log.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut parts = vec![process_part(report)];
    for device in &report.freed.devices {
        if let Some(change) = device.ours {
            parts.push(format!("{} {}", device.id, given_back(change)));
        }
    }
    let failed = report.rows.iter().filter(|row| row.verdict == Verdict::Failed).count();
    if failed > 0 {
        let plural = if failed == 1 { "step" } else { "steps" };
        parts.push(format!("{failed} {plural} failed"));
    }
    if report.cancelled {
        parts.push("cancelled".to_owned());
    }
    if let Some(seconds) = seconds(report) {
        parts.push(format!("{seconds:.2} s"));
    }
    let dry = if report.dry_run { " (dry run)" } else { "" };
    format!("MemSweep {}{dry}: {}", report.level, parts.join("; "))
}

/// The whole report for people.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = summary(report);
    out.push('\n');
    for (what, came_of_it) in grouped(&report.rows) {
        let _ = writeln!(out, "- {}: {came_of_it}", what.join(", "));
    }
    let shown = report.kept.iter().filter(|kept| kept.bytes != Some(Bytes::ZERO));
    for (index, kept) in shown.enumerate() {
        if index == 0 {
            out.push_str("kept:\n");
        }
        let _ = writeln!(out, "- {} ({}): {}", kept.what, known(kept.bytes), kept.reason);
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

/// A reading as balance sheets.
#[must_use]
pub fn reading_text(reading: &Reading) -> String {
    let mut out = String::new();
    for sheet in balance(reading) {
        let _ = writeln!(out, "{}: {}", sheet.title, known(sheet.total));
        for part in &sheet.parts {
            let _ = writeln!(out, "  {}: {}", part.name, known(part.bytes));
        }
    }
    let within = [
        ("commit charge", reading.process.commit),
        ("footprint", reading.process.footprint),
        ("page-locked, of that", reading.process.page_locked),
        ("free in the C heap, of that at most", reading.process.heap_slack),
        ("in swap", reading.process.swapped),
        ("parked on disk", reading.process.parked.filter(|bytes| *bytes > Bytes::ZERO)),
        ("RAM still to be had", reading.ram_available()),
        ("RAM of the machine", reading.machine.total),
        ("container limit", reading.machine.cgroup_limit),
    ];
    for (name, bytes) in within {
        if bytes.is_some() {
            let _ = writeln!(out, "{name}: {}", known(bytes));
        }
    }
    out
}

/// Neighbouring steps that came to the same thing share a line.
fn grouped(rows: &[Row]) -> Vec<(Vec<&str>, String)> {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for row in rows {
        let text = row_text(row);
        match groups.last_mut() {
            Some((what, same)) if *same == text && row.verdict == Verdict::NotRun => {
                if !what.contains(&row.what.as_str()) {
                    what.push(&row.what);
                }
            }
            _ => groups.push((vec![&row.what], text)),
        }
    }
    groups
}

fn process_part(report: &Report) -> String {
    let (before, after) = (&report.before.process, &report.after.process);
    let freed = &report.freed;
    let (what, before, after, change) = if freed.process_charged.is_some() {
        ("process is charged", before.charged(), after.charged(), freed.process_charged)
    } else {
        ("process", before.resident, after.resident, freed.process_resident)
    };
    match (before, after, change) {
        (Some(before), Some(after), Some(change)) => {
            format!("{what} {before} -> {after} ({})", given_back(change))
        }
        _ => "process memory unknown".to_owned(),
    }
}

fn given_back(change: Change) -> String {
    if change.0 >= 0 {
        format!("{change} given back")
    } else {
        format!("grew by {}", Bytes(change.0.unsigned_abs()))
    }
}

fn seconds(report: &Report) -> Option<f64> {
    Some((report.after.seconds? - report.before.seconds?).max(0.0))
}

fn row_text(row: &Row) -> String {
    match &row.outcome {
        Outcome::Done { claimed, detail } => {
            let mut text = match row.verdict {
                Verdict::OutsideProcess => String::from("done"),
                Verdict::Unmeasured => String::from("done, not measured"),
                _ => measured(row),
            };
            if let Some(estimated) = row.estimated.filter(|bytes| bytes.0 > 0) {
                let _ = write!(text, ", at most {estimated} expected");
            }
            if let Some(claimed) = claimed {
                let _ = write!(text, ", {claimed} claimed");
            }
            if row.verdict == Verdict::ClaimNotSeen {
                text.push_str(", not seen");
            }
            if let Some(detail) = detail {
                let _ = write!(text, " ({detail})");
            }
            text
        }
        Outcome::Parked(parked) => parked_text(row, parked),
        Outcome::Destroyed(destroyed) => destroyed_text(row, destroyed),
        Outcome::NothingToDo { reason } => format!("nothing to do: {reason}"),
        Outcome::Skipped { reason } => match row.estimated.filter(|bytes| bytes.0 > 0) {
            Some(estimated) => format!("not done: {reason}, at most {estimated} expected"),
            None => format!("not done: {reason}"),
        },
        Outcome::Unsupported { reason } => format!("not possible here: {reason}"),
        Outcome::Failed { error } => format!("failed: {error}"),
        Outcome::Cancelled => "cancelled before it began".to_owned(),
    }
}

fn parked_text(row: &Row, parked: &Parked) -> String {
    let place = parked.folder.as_deref().map_or(String::new(), |folder| format!(" in {folder}"));
    let mut parts = vec![measured(row), format!("{} moved to disk{place}", parked.bytes)];
    if row.verdict == Verdict::ClaimNotSeen {
        parts.push("not seen".to_owned());
    }
    if parked.already > Bytes::ZERO {
        parts.push(format!("{} lay there before", parked.already));
    }
    if let Some(bytes) = parked.in_memory.filter(|bytes| *bytes > Bytes::ZERO) {
        parts.push(format!("{bytes} of all that is parked in memory again"));
    }
    if let Some(bytes) = parked.in_flight.filter(|bytes| *bytes > Bytes::ZERO) {
        parts.push(format!("at most {bytes} on the way at once"));
    }
    if let Some(why) = &parked.stopped {
        parts.push(format!("ended early: {why}"));
    }
    parts.retain(|part| !part.is_empty());
    format!("{}{}", parts.join(", "), refused_text(&parked.refused))
}

fn destroyed_text(row: &Row, destroyed: &Destroyed) -> String {
    let mut parts = vec![measured(row), format!("{} destroyed", destroyed.bytes())];
    parts.retain(|part| !part.is_empty());
    let mut text = parts.join(", ");
    for owner in &destroyed.owners {
        let plural = if owner.tensors == 1 { "tensor" } else { "tensors" };
        let _ = write!(text, "; {} {plural} of {}, {}", owner.tensors, owner.name, owner.bytes);
    }
    text + &refused_text(&destroyed.refused)
}

fn refused_text(refused: &[Refused]) -> String {
    let mut text = String::new();
    for Refused { reason, blocks, bytes } in refused {
        let plural = if *blocks == 1 { "block" } else { "blocks" };
        let _ = write!(text, "; stayed: {blocks} {plural}, {bytes}, {reason}");
    }
    text
}

/// Falls and rises apart: a model that leaves a device takes RAM.
fn measured(row: &Row) -> String {
    let (mut given, mut taken) = (Vec::new(), Vec::new());
    let mut note = |change: Change, place: &str| {
        let list = if change.0 >= 0 { &mut given } else { &mut taken };
        list.push(format!("{} of {place}", Bytes(change.0.unsigned_abs())));
    };
    let process = &row.measured;
    match process.process_charged {
        // What the system charges may hold a device's memory too.
        Some(_) if row.action == Action::EmptyDeviceCache => {}
        Some(change) => note(change, "memory"),
        None => {
            if let Some(change) = process.process_resident.or(process.process_anonymous) {
                note(change, "RAM");
            }
        }
    }
    for device in &row.measured.devices {
        if let Some(change) = device.ours {
            note(change, &device.id);
        }
    }
    let parts = [("gave back", given), ("took", taken)];
    let said = parts.iter().filter(|(_, list)| !list.is_empty());
    said.map(|(verb, list)| format!("{verb} {}", list.join(", "))).collect::<Vec<_>>().join(", ")
}

fn known(bytes: Option<Bytes>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string())
}
