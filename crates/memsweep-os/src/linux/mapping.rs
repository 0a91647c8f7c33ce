//! All mappings that this crate makes, and which pages of a range are in memory.

use std::fs::File;
use std::ops::Range;
use std::{io, mem, ptr};

use libc::c_void;
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A part of a file, mapped at an address of the kernel's choice. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut c_void,
    length: usize,
}

impl Mapping {
    /// Only to ask which pages are in memory; nothing is read through it.
    pub(crate) fn shared(file: &File, offset: u64, length: usize) -> io::Result<Self> {
        Self::new(file, offset, length, ProtFlags::READ, MapFlags::SHARED)
    }

    /// To be used as memory: what is written to it stays private to this process.
    pub(crate) fn private(file: &File, offset: u64, length: usize) -> io::Result<Self> {
        Self::new(file, offset, length, READ_WRITE, MapFlags::PRIVATE)
    }

    fn new(
        file: &File,
        offset: u64,
        length: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> io::Result<Self> {
        // SAFETY: a new mapping at an address the kernel chooses; no memory of ours is replaced.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), length, protection, flags, file, offset) }?;
        Ok(Self { start, length })
    }

    /// How many of its pages are in memory.
    pub(crate) fn pages_in_memory(&self) -> Option<usize> {
        pages_in_memory(self.start as usize, self.length)
    }

    /// Moves it to `address`, replacing what is mapped there, in one system call.
    ///
    /// # Safety
    /// The memory there, of the length of this mapping, may be replaced.
    pub(crate) unsafe fn move_over(self, address: usize) -> io::Result<()> {
        let target = address as *mut c_void;
        let flags = MremapFlags::MAYMOVE;
        // SAFETY: the mapping is ours and nothing points into it; the target is the caller's
        // promise.
        unsafe { rustix::mm::mremap_fixed(self.start, self.length, self.length, flags, target) }?;
        // It is at `address` now, and belongs to the owner of the memory there.
        mem::forget(self);
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this length and not moved since; nothing points into it.
        let _ = unsafe { rustix::mm::munmap(self.start, self.length) };
    }
}

/// Maps a part of a file over a range, private and writable.
///
/// # Safety
/// The range may be replaced.
pub(crate) unsafe fn map_over(file: &File, offset: u64, range: &Range<usize>) -> io::Result<()> {
    let (start, flags) = (range.start as *mut c_void, MapFlags::PRIVATE | MapFlags::FIXED);
    // SAFETY: the caller's promise.
    unsafe { rustix::mm::mmap(start, range.len(), READ_WRITE, flags, file, offset) }?;
    Ok(())
}

/// Replaces a range by fresh memory, all zeros.
///
/// # Safety
/// The range may be replaced.
pub(crate) unsafe fn fresh_over(range: &Range<usize>) -> io::Result<()> {
    let (start, flags) = (range.start as *mut c_void, MapFlags::PRIVATE | MapFlags::FIXED);
    // SAFETY: the caller's promise.
    unsafe { rustix::mm::mmap_anonymous(start, range.len(), READ_WRITE, flags) }?;
    Ok(())
}

/// Whether every page of a range is mapped.
pub(crate) fn is_mapped(address: usize, bytes: usize) -> bool {
    pages_in_memory(address, bytes).is_some()
}

/// Bytes of a range that are in memory. 0 where not all of it is mapped.
pub(crate) fn resident(range: &Range<usize>) -> usize {
    pages_in_memory(range.start, range.len()).unwrap_or(0) * rustix::param::page_size()
}

/// `None` where not all of the range is mapped.
fn pages_in_memory(address: usize, bytes: usize) -> Option<usize> {
    let mut flags = vec![0_u8; bytes.div_ceil(rustix::param::page_size())];
    // SAFETY: `mincore` touches no page of the range, and `flags` has a byte for each.
    let answer = unsafe { libc::mincore(address as *mut c_void, bytes, flags.as_mut_ptr()) };
    (answer == 0).then(|| flags.iter().filter(|flag| **flag & 1 == 1).count())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::*;

    fn file(bytes: usize) -> NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        file
    }

    /// How often the file is mapped. Other tests map and unmap at the same time, so an address
    /// alone would prove nothing.
    fn mappings(file: &NamedTempFile) -> usize {
        let table = std::fs::read_to_string("/proc/self/maps").unwrap();
        table.lines().filter(|line| line.ends_with(file.path().to_str().unwrap())).count()
    }

    #[test]
    fn a_mapping_is_gone_when_it_is_dropped() {
        let page = rustix::param::page_size();
        let file = file(page);
        let mapping = Mapping::private(file.as_file(), 0, page).unwrap();
        assert_eq!((mappings(&file), mapping.pages_in_memory()), (1, Some(1)));
        drop(mapping);
        assert_eq!(mappings(&file), 0);
    }

    #[test]
    fn what_is_mapped_at_an_address_is_replaced_and_nothing_is_left_behind() {
        let page = rustix::param::page_size();
        let file = file(page);
        let target = Mapping::private(file.as_file(), 0, page).unwrap();
        let range = target.start as usize..target.start as usize + page;
        // SAFETY: a byte of the page that is ours.
        let byte = || unsafe { target.start.cast::<u8>().read_volatile() };
        // SAFETY: the one page of the mapping above.
        unsafe { fresh_over(&range) }.unwrap();
        assert_eq!((byte(), mappings(&file)), (0, 0));
        let fresh = Mapping::private(file.as_file(), 0, page).unwrap();
        // SAFETY: as above.
        unsafe { fresh.move_over(range.start) }.unwrap();
        assert_eq!((byte(), mappings(&file)), (7, 1));
        // SAFETY: as above.
        unsafe { fresh_over(&range) }.unwrap();
        // SAFETY: as above.
        unsafe { map_over(file.as_file(), 0, &range) }.unwrap();
        assert_eq!((byte(), mappings(&file)), (7, 1));
    }

    #[test]
    fn a_mapping_that_cannot_be_moved_is_unmapped() {
        let page = rustix::param::page_size();
        let file = file(page);
        let mapping = Mapping::private(file.as_file(), 0, page).unwrap();
        let within = mapping.start as usize + 1;
        // SAFETY: the kernel refuses an address within a page, and nothing is replaced.
        assert!(unsafe { mapping.move_over(within) }.is_err());
        assert_eq!(mappings(&file), 0);
    }
}
