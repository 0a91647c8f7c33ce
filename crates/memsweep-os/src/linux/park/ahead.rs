//! Step 1 of parking: files are written ahead of their turn. Memory is not touched.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use memsweep_core::bytes::Bytes;
use memsweep_core::park::ParkLimits;
use memsweep_core::reason::Stopped;

use super::pieces::{Piece, length};
use super::spill::Disk;
use super::watch::Watch;

/// How many written files may wait. With those being swapped, this bounds what is in the page
/// cache.
pub(super) const FILES_AHEAD: usize = 4;

/// A file that is written, is being flushed, and waits for its turn.
pub(super) struct Written<'a> {
    pub(super) file: File,
    pub(super) pieces: &'a [Piece],
    /// Whether each piece is being watched; `None` where the kernel cannot.
    pub(super) watched: Vec<Option<bool>>,
    /// Counts it until it was swapped and dropped from the cache.
    _counted: Counted<'a>,
}

/// Watches and writes the files in order and sends each on, until the time is up, one fails, or the other side
/// has stopped.
pub(super) fn write_all<'a>(
    disk: &impl Disk,
    watch: Option<&Watch>,
    files: &'a [Vec<Piece>],
    limits: &ParkLimits,
    in_flight: &'a InFlight,
    ahead: &SyncSender<Result<Written<'a>, Stopped>>,
) {
    let deadline = Instant::now() + Duration::from_secs_f64(limits.seconds.clamp(0.0, 1e6));
    for pieces in files {
        let next = if Instant::now() < deadline {
            let counted = in_flight.add(length(pieces));
            write(disk, watch, pieces, counted)
        } else {
            Err(Stopped::Time { seconds: limits.seconds })
        };
        let ended = next.is_err();
        if ahead.send(next).is_err() || ended {
            break;
        }
    }
}

/// Writes a file and begins to flush it. On an error the file is gone again and memory is
/// untouched.
fn write<'a>(
    disk: &impl Disk,
    watch: Option<&Watch>,
    pieces: &'a [Piece],
    counted: Counted<'a>,
) -> Result<Written<'a>, Stopped> {
    let mut watched = Vec::with_capacity(pieces.len());
    let file =
        disk.create(length(pieces)).map_err(|error| format!("reserving disk space: {error}"))?;
    for piece in pieces {
        watched.push(watch.map(|watch| watch.begin(&piece.range).is_ok()));
        let (address, bytes) = (piece.range.start, piece.range.len());
        match disk.write(&file, piece.offset, address, bytes) {
            // Freed in the meantime. The gate will refuse the block, or the file differs from
            // memory.
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {}
            other => other.map_err(|error| format!("writing: {error}"))?,
        }
    }
    disk.start_flush(&file).map_err(|error| format!("flushing: {error}"))?;
    Ok(Written { file, pieces, watched, _counted: counted })
}

/// Bytes of files that are being written or not yet dropped from the page cache.
#[derive(Default)]
pub(super) struct InFlight {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl InFlight {
    fn add(&self, bytes: usize) -> Counted<'_> {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(now, Ordering::Relaxed);
        Counted { counter: self, bytes }
    }

    pub(super) fn most(&self) -> Bytes {
        Bytes(self.most.load(Ordering::Relaxed) as u64)
    }
}

/// Is counted until dropped.
struct Counted<'a> {
    counter: &'a InFlight,
    bytes: usize,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counter.now.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
