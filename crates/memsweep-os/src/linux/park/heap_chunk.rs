//! Whether memory is a chunk of glibc's heap, the only kind that may be parked.
//!
//! A library may have an allocator of its own, whatever `malloc` is: torch has mimalloc built in on
//! some platforms.

use std::ffi::c_void;
use std::io::Read;
use std::os::fd::AsRawFd;

use crate::Block;

/// The flags in the low bits of a chunk's size.
const FLAGS: usize = 7;
/// By how much a chunk may exceed what was asked for: alignment, pages, huge pages.
const EXCESS: usize = 4 * 1024 * 1024;

/// Whether glibc's own bookkeeping precedes the allocation.
///
/// Safe for any address.
pub(crate) fn is_chunk(start: usize, block: Block) -> bool {
    let word = size_of::<usize>();
    if !start.is_multiple_of(2 * word) || start > block.address || start < 2 * word {
        return false;
    }
    // An allocation at the start of a page has its bookkeeping on the page before, which may be
    // missing or guarded if the allocation is not glibc's.
    let before = start - 2 * word;
    let Some(size) = word_at(start - word).map(|size| size & !FLAGS) else { return false };
    let needed = block.address.saturating_add(block.bytes).saturating_sub(before);
    size.saturating_add(word) >= needed && size <= needed.saturating_add(EXCESS)
}

/// A word of memory; `None` where it cannot be read. The kernel reads it, as for any write to a
/// pipe: nothing can fault, and no sandbox forbids it.
fn word_at(address: usize) -> Option<usize> {
    let (mut reader, writer) = std::io::pipe().ok()?;
    let mut word = [0; size_of::<usize>()];
    // SAFETY: the kernel reads the memory; where it cannot, the call fails with EFAULT.
    let written = unsafe { libc::write(writer.as_raw_fd(), address as *const c_void, word.len()) };
    (written == word.len() as isize).then_some(())?;
    reader.read_exact(&mut word).ok()?;
    Some(usize::from_ne_bytes(word))
}
