//! Dropping the clean cached pages of single files, and counting them before and after.
//!
//! Deliberately no `madvise` on a mapping: on a private one it would throw away what was written
//! there. `posix_fadvise` only ever drops clean pages that are not mapped.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reason::Nothing;
use rustix::fs::{Access, Advice, AtFlags};

use super::mapping::Mapping;
use super::maps::{self, MappedFile};

/// How much of a file is mapped at a time: a table of 64 Ki page flags.
const WINDOW: u64 = 256 * 1024 * 1024;

pub(crate) fn drop_files(proc: &Path, files: &[String]) -> Outcome {
    if files.is_empty() {
        return Outcome::nothing(Nothing::NoFile);
    }
    let mapped: Vec<MappedFile> = maps::read(proc).unwrap_or_default().into_iter().collect();
    let mut tally = Tally::default();
    for name in files {
        match drop_file(Path::new(name), &mapped) {
            Ok(fate) => tally.add(name, fate),
            Err(error) => tally.failed.push(format!("{name}: {error}")),
        }
    }
    tally.outcome()
}

/// What became of one file.
#[derive(Debug)]
enum Fate {
    /// This process has it mapped. Dropping would do nothing, so it was not tried.
    StillMapped,
    /// Not one page was cached.
    NotCached,
    /// The cache was dropped: by how much it fell, and how much of it stayed.
    Dropped { fell: Bytes, stayed: Bytes },
    /// The cache was dropped, but this user may not see which pages of the file are cached.
    DroppedUnseen,
}

fn drop_file(path: &Path, mapped: &[MappedFile]) -> io::Result<Fate> {
    // Non-blocking, so that opening a named pipe by mistake cannot hang.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let device = (rustix::fs::major(data.dev()), rustix::fs::minor(data.dev()));
    let real_path = fs::canonicalize(path)?;
    if mapped.iter().any(|known| known.is(&real_path, device, data.ino())) {
        return Ok(Fate::StillMapped);
    }
    let before = cached_bytes(&file, &data);
    if before == Some(Bytes::ZERO) {
        return Ok(Fate::NotCached);
    }
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(match (before, cached_bytes(&file, &data)) {
        (Some(before), Some(stayed)) => {
            Fate::Dropped { fell: Bytes(before.0.saturating_sub(stayed.0)), stayed }
        }
        _ => Fate::DroppedUnseen,
    })
}

/// Bytes of the file in the page cache. `None` when this user may not know: to users who neither
/// own the file nor may write to it, `mincore` reports every page as present.
pub(super) fn cached_bytes(file: &File, data: &fs::Metadata) -> Option<Bytes> {
    let owner = rustix::process::geteuid().as_raw() == data.uid();
    if !owner && rustix::fs::accessat(file, "", Access::WRITE_OK, seen_as_opened()).is_err() {
        return None;
    }
    let page = rustix::param::page_size() as u64;
    let mut pages = 0u64;
    let mut offset = 0u64;
    while offset < data.len() {
        let length = (data.len() - offset).min(WINDOW);
        let window = Mapping::shared(file, offset, usize::try_from(length).ok()?).ok()?;
        pages += window.pages_in_memory()? as u64;
        offset += length;
    }
    Some(Bytes(pages.saturating_mul(page).min(data.len())))
}

/// About the open file itself, with the permissions that file access uses.
fn seen_as_opened() -> AtFlags {
    AtFlags::EMPTY_PATH | AtFlags::EACCESS
}

/// What became of all files, in words.
#[derive(Debug, Default)]
struct Tally {
    dropped: usize,
    fell: Bytes,
    stayed: Bytes,
    unseen: usize,
    not_cached: usize,
    mapped: Vec<String>,
    failed: Vec<String>,
}

impl Tally {
    fn add(&mut self, name: &str, fate: Fate) {
        match fate {
            Fate::StillMapped => self.mapped.push(name.to_owned()),
            Fate::NotCached => self.not_cached += 1,
            Fate::Dropped { fell, stayed } => {
                self.dropped += 1;
                self.fell = self.fell.plus(fell);
                self.stayed = self.stayed.plus(stayed);
            }
            Fate::DroppedUnseen => {
                self.dropped += 1;
                self.unseen += 1;
            }
        }
    }

    fn outcome(self) -> Outcome {
        let words = self.words();
        if self.dropped > 0 {
            // If one file cannot be counted, the sum is unknown, not smaller.
            let claimed = (self.unseen == 0).then_some(self.fell);
            Outcome::Done { claimed, detail: Some(words) }
        } else if self.mapped.is_empty() && self.not_cached == 0 {
            Outcome::Failed { error: words }
        } else {
            Outcome::nothing(Nothing::from(words))
        }
    }

    fn words(&self) -> String {
        let mut parts = Vec::new();
        if self.dropped > 0 {
            parts.push(format!("page cache of {} dropped", count(self.dropped, "file")));
        }
        if self.stayed > Bytes::ZERO {
            parts.push(format!(
                "{} stayed cached: not written to disk yet, or mapped by another program",
                self.stayed
            ));
        }
        if self.unseen > 0 {
            parts.push(format!("{} that this user may not count", count(self.unseen, "file")));
        }
        if self.not_cached > 0 {
            parts.push(format!("{} not cached", count(self.not_cached, "file")));
        }
        if !self.mapped.is_empty() {
            parts.push(format!("still mapped by this process: {}", some_of(&self.mapped)));
        }
        if !self.failed.is_empty() {
            parts.push(format!("failed: {}", some_of(&self.failed)));
        }
        parts.join("; ")
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The first few: a row of a report is not a list of files.
fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(3) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
