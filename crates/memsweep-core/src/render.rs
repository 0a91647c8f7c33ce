//! Reports as text. Draws what it is given; computes nothing.
//!
//! Whatever came from outside passes [`plain`] here, so that a text has the lines that we made, and
//! no others.

use std::fmt::{Display, Write as _};

use serde::Serialize;

use crate::action::{Destroyed, Outcome};
use crate::balance::balance;
use crate::bytes::{Bytes, Change};
use crate::headline::{Gave, Measure, PROCESS};
use crate::park::{Parked, Refused};
use crate::plain::plain;
use crate::reading::Reading;
use crate::reason::{Note, Why};
use crate::report::{Report, Row, Verdict};
use crate::rest::Rest;
use crate::stayed::Stayed;

/// One line for a log.
#[must_use]
pub fn summary(report: &Report) -> String {
    let headline = &report.headline;
    let mut parts = vec![process_part(report)];
    for gave in headline.freed.iter().filter(|gave| gave.place != PROCESS) {
        parts.push(format!("{} {}", place(gave), given_back(gave.bytes)));
    }
    if headline.parked > Bytes::ZERO {
        parts.push(format!("{} moved to disk", headline.parked));
    }
    if headline.failed_steps > 0 {
        let plural = if headline.failed_steps == 1 { "step" } else { "steps" };
        parts.push(format!("{} {plural} failed", headline.failed_steps));
    }
    if report.cancelled {
        parts.push("cancelled".to_owned());
    }
    if let Some(seconds) = headline.seconds {
        parts.push(format!("{seconds:.2} s"));
    }
    let dry = if report.dry_run { " (dry run)" } else { "" };
    let turns = if report.turns == 1 { String::new() } else { format!(", {} turns", report.turns) };
    format!("MemSweep {}{dry}{turns}: {}", report.level, parts.join("; "))
}

/// The whole report for people.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = summary(report);
    out.push('\n');
    if let Some(stayed) = &report.stayed {
        let Stayed { what, bytes, why, advice } = stayed;
        let (what, why, advice) = (plain(what), shown(why), plain(advice));
        let _ = writeln!(out, "not freed: {what} ({bytes}): {why}; {advice}");
    }
    if report.turns > 1 {
        out.push_str("the last turn:\n");
    }
    for (what, came_of_it) in grouped(&report.rows) {
        let what: Vec<String> = what.into_iter().map(plain).collect();
        let _ = writeln!(out, "- {}: {came_of_it}", what.join(", "));
    }
    let stayed = report.kept.iter().filter(|kept| kept.bytes != Some(Bytes::ZERO));
    for (index, kept) in stayed.enumerate() {
        if index == 0 {
            out.push_str("kept:\n");
        }
        let (what, reason) = (plain(&kept.what), shown(&kept.why));
        let _ = writeln!(out, "- {what} ({}): {reason}", known(kept.bytes));
    }
    out.push_str(&rest_text(&report.rest));
    out.push_str(&notes_text(&report.notes));
    out
}

/// What people should know, a line each.
pub(crate) fn notes_text(notes: &[Why<Note>]) -> String {
    notes.iter().map(|note| format!("note: {}\n", shown(note))).collect()
}

/// What holds memory that is still in use, a line each.
pub(crate) fn rest_text(rest: &[Rest]) -> String {
    let mut out = String::from(if rest.is_empty() { "" } else { "what holds the rest:\n" });
    for Rest { bytes, why } in rest {
        let _ = match bytes {
            Some(bytes) => writeln!(out, "- {}: {bytes}", shown(why)),
            None => writeln!(out, "- {}", shown(why)),
        };
    }
    out
}

/// One line of a reading for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadingLine {
    /// What it is.
    pub name: String,
    /// Its size; `None` when unknown.
    pub bytes: Option<Bytes>,
    /// It is part of the nearest line above that is not a part itself.
    pub part: bool,
}

/// A reading as balance sheets, line by line.
#[must_use]
pub fn reading_lines(reading: &Reading) -> Vec<ReadingLine> {
    let line = |name: &str, bytes, part| ReadingLine { name: name.to_owned(), bytes, part };
    let mut lines = Vec::new();
    for sheet in balance(reading) {
        lines.push(line(&sheet.title, sheet.total, false));
        lines.extend(sheet.parts.iter().map(|part| line(&part.name, part.bytes, true)));
    }
    let within = [
        ("commit charge", reading.process.commit),
        ("footprint", reading.process.footprint),
        ("process memory that is page-locked", reading.process.page_locked),
        ("process memory free in the C heap, at most", reading.process.heap_slack),
        ("in swap", reading.process.swapped),
        ("parked on disk", reading.process.parked.filter(|bytes| *bytes > Bytes::ZERO)),
        ("RAM available", reading.ram_available()),
        ("RAM of the machine", reading.machine.total),
        ("container limit", reading.machine.cgroup_limit),
    ];
    let known = within.into_iter().filter(|(_, bytes)| bytes.is_some());
    lines.extend(known.map(|(name, bytes)| line(name, bytes, false)));
    lines
}

/// The same as text.
#[must_use]
pub fn reading_text(reading: &Reading) -> String {
    let mut out = String::new();
    for line in reading_lines(reading) {
        let indent = if line.part { "  " } else { "" };
        let _ = writeln!(out, "{indent}{}: {}", plain(&line.name), known(line.bytes));
    }
    out
}

/// Consecutive steps with the same result share a line.
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
    let headline = &report.headline;
    let process = headline.freed.iter().find(|gave| gave.place == PROCESS);
    match (process, headline.process_before, headline.process_after) {
        // Between turns the loop takes memory too, so before and after do not make up the sum.
        (Some(gave), _, Some(after)) if report.turns > 1 => {
            format!("{} {} in all, {after} in use now", place(gave), given_back(gave.bytes))
        }
        (Some(gave), Some(before), Some(after)) => {
            format!("{} {before} -> {after} ({})", place(gave), given_back(gave.bytes))
        }
        _ => "process memory unknown".to_owned(),
    }
}

/// The place, worded by the number that stands for it.
fn place(gave: &Gave) -> String {
    let id = plain(&gave.place);
    match gave.measure {
        Measure::Charged => "charged memory".to_owned(),
        Measure::Private => "private RAM".to_owned(),
        Measure::Resident => "resident RAM".to_owned(),
        Measure::DriverProcess | Measure::Held => id,
        Measure::Tensors => format!("{id} tensors"),
        Measure::AllPrograms => format!("{id} (all programs)"),
    }
}

fn given_back(change: Change) -> String {
    if change.0 >= 0 {
        format!("{change} given back")
    } else {
        format!("grew by {}", Bytes(change.0.unsigned_abs()))
    }
}

fn row_text(row: &Row) -> String {
    match &row.outcome {
        Outcome::Done { claimed, detail } => {
            let mut text = match row.verdict {
                Verdict::OutsideProcess => String::from("done"),
                Verdict::Unmeasured => String::from("done, not measured"),
                // Waiting gives nothing back.
                _ if row.action.acts_on().is_empty() => String::from("done"),
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
                let _ = write!(text, " ({})", plain(detail));
            }
            text
        }
        Outcome::Parked(parked) => parked_text(row, parked),
        Outcome::Destroyed(destroyed) => destroyed_text(row, destroyed),
        Outcome::NothingToDo(why) => format!("nothing to do: {}", shown(why)),
        Outcome::Skipped(why) => match row.estimated.filter(|bytes| bytes.0 > 0) {
            Some(estimated) => format!("not done: {}, at most {estimated} expected", shown(why)),
            None => format!("not done: {}", shown(why)),
        },
        Outcome::Unsupported(why) => format!("not possible here: {}", shown(why)),
        Outcome::Failed { error } => format!("failed: {}", plain(error)),
        Outcome::Cancelled => "cancelled before it began".to_owned(),
    }
}

fn parked_text(row: &Row, parked: &Parked) -> String {
    let place =
        parked.folder.as_deref().map_or(String::new(), |folder| format!(" in {}", plain(folder)));
    let mut parts = vec![measured(row), format!("{} moved to disk{place}", parked.bytes)];
    if row.verdict == Verdict::ClaimNotSeen {
        parts.push("not seen".to_owned());
    }
    if parked.already > Bytes::ZERO {
        parts.push(format!("{} already there", parked.already));
    }
    if let Some(bytes) = parked.in_memory.filter(|bytes| *bytes > Bytes::ZERO) {
        parts.push(format!("{bytes} of all parked memory in RAM again"));
    }
    if let Some(bytes) = parked.in_flight.filter(|bytes| *bytes > Bytes::ZERO) {
        parts.push(format!("at most {bytes} in flight at once"));
    }
    if let Some(why) = &parked.stopped {
        parts.push(format!("ended early: {}", shown(why)));
    }
    parts.retain(|part| !part.is_empty());
    format!("{}{}", parts.join(", "), refused_text(&parked.refused))
}

fn destroyed_text(row: &Row, destroyed: &Destroyed) -> String {
    let mut parts = vec![measured(row), format!("{} destroyed", destroyed.bytes())];
    if row.verdict == Verdict::ClaimNotSeen {
        parts.push("not seen".to_owned());
    }
    parts.retain(|part| !part.is_empty());
    let mut text = parts.join(", ");
    for owner in &destroyed.owners {
        let plural = if owner.tensors == 1 { "tensor" } else { "tensors" };
        let _ =
            write!(text, "; {} {plural} of {}, {}", owner.tensors, plain(&owner.name), owner.bytes);
    }
    text + &refused_text(&destroyed.refused)
}

fn refused_text(refused: &[Refused]) -> String {
    let mut text = String::new();
    for Refused { why, blocks, bytes } in refused {
        let plural = if *blocks == 1 { "block" } else { "blocks" };
        let _ = write!(text, "; stayed: {blocks} {plural}, {bytes}, {}", shown(why));
    }
    text
}

/// Falls and rises separately: a model that leaves a device takes RAM.
fn measured(row: &Row) -> String {
    if !row.gave.is_empty() && row.gave.iter().all(|gave| gave.bytes.0 == 0) {
        return "gave back nothing".to_owned();
    }
    let (mut given, mut taken) = (Vec::new(), Vec::new());
    for gave in &row.gave {
        let list = if gave.bytes.0 >= 0 { &mut given } else { &mut taken };
        list.push(format!("{} of {}", Bytes(gave.bytes.0.unsigned_abs()), place(gave)));
    }
    let parts = [("gave back", given), ("took", taken)];
    let said = parts.iter().filter(|(_, list)| !list.is_empty());
    said.map(|(verb, list)| format!("{verb} {}", list.join(", "))).collect::<Vec<_>>().join(", ")
}

/// A reason may hold text from outside.
fn shown<T: Display>(why: &Why<T>) -> String {
    plain(&why.to_string())
}

/// A size that may be unknown.
pub(crate) fn known(bytes: Option<Bytes>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string())
}
