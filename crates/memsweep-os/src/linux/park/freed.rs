//! Heap memory that was parked and then freed. If it stayed as it is, its next use would read it
//! from disk, and its files would be kept.
//!
//! Large chunks are freed by unmapping them. Smaller ones stay with glibc, which does not announce
//! that they are free. So we allocate them: what `malloc` returns is ours, and nothing else can
//! touch it until we free it. While it is ours, pages of spill files inside are replaced by plain
//! memory.
//!
//! `malloc` is asked for exactly the sizes of free chunks that glibc lists, so that it returns
//! those and splits none. It returns only chunks of the calling thread's arena; freed chunks of
//! other threads stay as they are until a sweep runs there.

use std::ffi::{c_char, c_int, c_void};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{mem, ptr, slice, thread};

use memsweep_core::bytes::Bytes;
use memsweep_core::park::SMALLEST_BLOCK;

use super::areas::{self, Area};
use super::registry::{self, Spills};
use crate::Detail;
use crate::linux::libraries::symbol;
use crate::linux::mapping::{fresh_over, is_mapped};

/// Listing the free chunks visits all of them: 10 ms for 500 thousand and more where they are
/// scattered.
const LONGEST: Duration = Duration::from_millis(500);
/// When a mapped chunk of up to this size is freed, glibc maps only larger ones from then on.
const BEYOND_THRESHOLD: usize = 64 * 1024 * 1024;
/// The flags in the low bits of a chunk's size, and the one that marks mapped chunks.
const FLAGS: usize = 7;
const IS_MAPPED: usize = 2;

/// Replaces the pages of spill files inside free chunks by plain memory. Returns how much.
pub(crate) fn release(proc: &Path) -> Bytes {
    let mut released = Bytes::ZERO;
    if registry::parked(proc, Detail::Full).is_none_or(|bytes| bytes == Bytes::ZERO) {
        return released;
    }
    if super::refused().is_some() || free_sizes().is_empty() {
        return released;
    }
    let Some(areas) = areas::read(proc) else { return released };
    let begun = Instant::now();
    let Some(spills) = registry::known() else { return released };
    let mut taken = Vec::new();
    let mut progress = true;
    while mem::take(&mut progress) && begun.elapsed() < LONGEST {
        for size in free_sizes() {
            while begun.elapsed() < LONGEST {
                let Some(chunk) = Chunk::take(size) else { break };
                if !chunk.was_free(&areas) {
                    break;
                }
                let bytes = chunk.release(&areas, &spills);
                released = released.plus(bytes);
                taken.push(chunk);
                if bytes == Bytes::ZERO {
                    break;
                }
                progress = true;
            }
        }
    }
    released
}

/// A chunk of the C heap that is ours until it is dropped.
struct Chunk {
    start: *mut c_void,
    bytes: usize,
}

impl Chunk {
    /// A chunk of this size, its bookkeeping included.
    fn take(size: usize) -> Option<Self> {
        let bytes = size.checked_sub(size_of::<usize>())?;
        // SAFETY: a plain request.
        let start = unsafe { libc::malloc(bytes) };
        (!start.is_null()).then_some(Self { start, bytes })
    }

    fn is_mapped(&self) -> bool {
        // SAFETY: glibc keeps a chunk's size in the word before it, and this chunk is allocated.
        unsafe { *self.start.cast::<usize>().sub(1) & IS_MAPPED != 0 }
    }

    fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.bytes
    }

    /// Whether it was part of the heap before, and was not made just now because none of its size
    /// was free.
    fn was_free(&self, areas: &[Area]) -> bool {
        let mut at = self.range().start;
        for area in &areas[areas.partition_point(|area| area.end <= at)..] {
            if area.start > at || area.refusal(false).is_some() {
                return false;
            }
            at = area.end;
            if at >= self.range().end {
                return !self.is_mapped();
            }
        }
        false
    }

    /// Replaces pages of spill files by fresh memory.
    fn release(&self, areas: &[Area], spills: &Spills) -> Bytes {
        let page = rustix::param::page_size();
        let range = self.range();
        let (start, end) = (range.start.next_multiple_of(page), range.end & !(page - 1));
        let first = areas.partition_point(|area| area.end <= start);
        let inside = areas[first..].iter().take_while(|area| area.start < end);
        inside
            .filter(|area| spills.contains(area))
            .map(|area| area.start.max(start)..area.end.min(end))
            // SAFETY: whole pages inside an allocation of ours, whose content is not needed.
            .filter(|pages| unsafe { renew(pages) })
            .map(|pages| Bytes(pages.len() as u64))
            .sum()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Freeing a mapped chunk would make glibc keep larger blocks in the heap from then on,
        // unless it is very large.
        if self.is_mapped() && self.bytes < BEYOND_THRESHOLD {
            // SAFETY: ours; the kernel moves the mapping, and no byte is touched.
            let larger = unsafe { libc::realloc(self.start, BEYOND_THRESHOLD) };
            if !larger.is_null() {
                self.start = larger;
            }
        }
        // SAFETY: ours, and freed once.
        unsafe { libc::free(self.start) };
    }
}

/// Replaces whole pages by fresh ones. `false` when they are as they were.
///
/// # Safety
/// The pages are private memory of the caller, who does not need their content.
unsafe fn renew(pages: &Range<usize>) -> bool {
    loop {
        // SAFETY: the caller's promise.
        if unsafe { fresh_over(pages) }.is_ok() {
            return true;
        }
        if is_mapped(pages.start, pages.len()) {
            return false;
        }
        // Old kernels remove the pages before they find that they lack memory for the new mapping.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sizes of free chunks that are at least as large as a block, the largest first: the extremes of
/// each of glibc's lists.
fn free_sizes() -> Vec<usize> {
    let mut sizes = listing().map(|text| sizes(&text)).unwrap_or_default();
    sizes.retain(|size| *size as u64 >= SMALLEST_BLOCK.0);
    sizes
}

/// What `malloc_info` writes.
fn listing() -> Option<Vec<u8>> {
    type MallocInfo = unsafe extern "C" fn(c_int, *mut libc::FILE) -> c_int;
    let malloc_info = symbol(c"malloc_info")?;
    // SAFETY: `int malloc_info(int, FILE *)` in glibc, the only library that has it.
    let malloc_info: MallocInfo = unsafe { mem::transmute(malloc_info) };
    let (mut text, mut length) = (ptr::null_mut::<c_char>(), 0);
    // SAFETY: both are written when the stream is closed, below.
    let stream = unsafe { libc::open_memstream(&raw mut text, &raw mut length) };
    if stream.is_null() {
        return None;
    }
    // SAFETY: an open stream.
    let listed = unsafe { malloc_info(0, stream) } == 0;
    // SAFETY: the same stream, closed once in any case.
    let written = unsafe { libc::fclose(stream) } == 0 && listed;
    // SAFETY: a closed stream of memory left a text of this length.
    let copy = (written && !text.is_null())
        .then(|| unsafe { slice::from_raw_parts(text.cast::<u8>(), length) }.to_vec());
    // SAFETY: the caller of `open_memstream` frees the text; null is allowed.
    unsafe { libc::free(text.cast()) };
    copy
}

/// From lines like `<size from="1048593" to="2097169" total="3145762" count="2"/>` and
/// `<unsorted ...`. The sizes there include the flags.
fn sizes(listing: &[u8]) -> Vec<usize> {
    let mut sizes: Vec<usize> = String::from_utf8_lossy(listing)
        .lines()
        .filter(|line| line.contains("<size ") || line.contains("<unsorted "))
        .flat_map(|line| {
            ["from=\"", "to=\""].map(|key| {
                let (_, rest) = line.split_once(key)?;
                rest.split_once('"')?.0.parse::<usize>().ok().map(|size| size & !FLAGS)
            })
        })
        .flatten()
        .collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_and_smallest_chunk_of_each_list_are_found() {
        let listing =
            b"<heap nr=\"0\">\n<sizes>\n  <size from=\"33\" to=\"33\" total=\"33\" count=\"1\"/>\n\
            <size from=\"1048597\" to=\"4194325\" total=\"9\" count=\"3\"/>\n\
            <unsorted from=\"65\" to=\"x\" total=\"65\" count=\"1\"/>\n</sizes>\n\
            <total type=\"fast\" count=\"7\" size=\"8\"/>\n<aspace type=\"total\" size=\"9\"/>\n";
        assert_eq!(sizes(listing), [4_194_320, 1_048_592, 64, 32]);
        assert!(sizes(b"").is_empty());
    }
}
