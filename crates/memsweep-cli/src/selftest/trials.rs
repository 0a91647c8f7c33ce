//! The trials: each allocates memory, has it released, measures, and throws the memory away.

use std::io::{self, Write as _};
use std::path::Path;

use memsweep_core::action::{Action, Outcome};
use memsweep_core::bytes::{Bytes, Change};
use memsweep_core::reading::Reading;
use memsweep_core::report::Freed;
use tempfile::NamedTempFile;

use super::Trial;
use super::judge::{Finding, judge};
use crate::machine::Machine;

const MIB: usize = 1024 * 1024;
const SIZE: usize = 64 * MIB;
/// Below the size from which glibc maps each block and unmaps it when it is freed, even where users
/// have lowered that size.
const SMALL: usize = 16 * 1024;

/// Whether a reading shows memory that was just allocated.
pub(super) fn readings(machine: &mut impl Machine) -> Trial {
    let before = machine.read();
    let taken = content(1, SIZE);
    let after = machine.read();
    let expected = Some(Bytes(SIZE as u64));
    // With the readings exchanged, what was allocated looks like memory that was given back.
    let measured = fallen(&after, &before);
    let mut finding = judge(expected, &Outcome::done(), measured);
    if taken != content(1, SIZE) {
        finding = Finding::Damaged;
    }
    let detail = Some("64 MiB were allocated, and a reading must show them".to_owned());
    Trial { name: "reading", expected, claimed: None, measured, finding, detail }
}

/// Free pages that the heap keeps because something behind them is still in use.
pub(super) fn heap(machine: &mut impl Machine) -> Trial {
    let mut blocks: Vec<Vec<u8>> = (0..2 * SIZE / SMALL).map(|n| content(n, SMALL)).collect();
    let all = blocks.len();
    let mut number = 0;
    blocks.retain(|_| {
        number += 1;
        number % 64 == 0
    });
    let freed = Bytes(((all - blocks.len()) * SMALL) as u64);
    let expected = machine.promises().then_some(freed);
    let trial = measured(machine, "heap", expected, |machine| machine.release(&Action::TrimHeap));
    let whole = blocks.iter().enumerate().all(|(n, block)| *block == content(n * 64 + 63, SMALL));
    trial.unless_damaged(whole)
}

/// The cached pages of a file that this process has not mapped.
pub(super) fn file_cache(machine: &mut impl Machine, folder: &Path) -> Trial {
    let name = "file cache";
    let file = match cached_file(folder) {
        Ok(file) => file,
        Err(error) => return Trial::failed(name, format!("{}: {error}", folder.display())),
    };
    let path = file.path().to_owned();
    let files = vec![path.to_string_lossy().into_owned()];
    let before = machine.cached(&path);
    let outcome = machine.release(&Action::DropFileCache { files });
    let measured = before.zip(machine.cached(&path)).map(|(then, now)| then.fallen_to(now));
    // Some file systems keep their cache elsewhere, and then there is nothing to give back here.
    let is_cached = before.is_some_and(|bytes| bytes.0 as usize > SIZE / 10 * 9);
    let expected = (machine.promises() && is_cached).then_some(Bytes(SIZE as u64));
    let trial = Trial::new(name, expected, &outcome, measured);
    trial.unless_damaged(std::fs::read(&path).is_ok_and(|bytes| bytes == content(3, SIZE)))
}

/// Memory that is in use, is moved to disk and read again.
pub(super) fn park(machine: &mut impl Machine, folder: &Path) -> Trial {
    let mut held: Vec<Vec<u8>> = (0..16).map(|number| content(number, SIZE / 16)).collect();
    let expected = machine.promises().then_some(Bytes(SIZE as u64));
    let trial = measured(machine, "park", expected, |machine| machine.park(&mut held, folder));
    let whole = held.iter().enumerate().all(|(n, memory)| *memory == content(n, SIZE / 16));
    trial.unless_damaged(whole)
}

/// What affects more than the program, or only moves its pages. It promises nothing on any system.
pub(super) fn system_wide(machine: &mut impl Machine) -> Trial {
    measured(machine, "system-wide", None, |machine| machine.release(&Action::SystemWide))
}

fn measured<M: Machine>(
    machine: &mut M,
    name: &'static str,
    expected: Option<Bytes>,
    act: impl FnOnce(&mut M) -> Outcome,
) -> Trial {
    let before = machine.read();
    let outcome = act(machine);
    let after = machine.read();
    Trial::new(name, expected, &outcome, fallen(&before, &after))
}

impl Trial {
    fn new(
        name: &'static str,
        expected: Option<Bytes>,
        outcome: &Outcome,
        measured: Option<Change>,
    ) -> Self {
        let finding = judge(expected, outcome, measured);
        let detail = said(outcome);
        Self { name, expected, claimed: outcome.claimed(), measured, finding, detail }
    }

    fn failed(name: &'static str, error: String) -> Self {
        Self::new(name, None, &Outcome::Failed { error }, None)
    }

    fn unless_damaged(self, whole: bool) -> Self {
        if whole { self } else { Self { finding: Finding::Damaged, ..self } }
    }
}

fn said(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Done { detail, .. } => detail.clone(),
        Outcome::Parked(parked) => parked.stopped.as_ref().map(ToString::to_string).or_else(|| {
            let refused = parked.refused.first().map(|row| row.why.to_string());
            refused.or_else(|| parked.folder.as_ref().map(|folder| format!("files in {folder}")))
        }),
        Outcome::NothingToDo(why) => Some(why.to_string()),
        Outcome::Skipped(why) => Some(why.to_string()),
        Outcome::Unsupported(why) => Some(why.to_string()),
        Outcome::Failed { error } => Some(error.clone()),
        _ => None,
    }
}

/// What the process gave back between two readings: private memory, or else resident memory.
fn fallen(before: &Reading, after: &Reading) -> Option<Change> {
    let freed = Freed::between(before, after);
    freed.process().map(|gave| gave.bytes)
}

/// A file that is on disk and in the page cache.
fn cached_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::with_prefix_in("memsweep-", folder)?;
    file.write_all(&content(3, SIZE))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Different for each number, and on every page.
fn content(number: usize, bytes: usize) -> Vec<u8> {
    let mut content = vec![number as u8 | 1; bytes];
    for (at, byte) in content.iter_mut().step_by(509).enumerate() {
        *byte = (at * 31 + number) as u8;
    }
    content
}
