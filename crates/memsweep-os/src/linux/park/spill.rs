//! Spill files: nameless, reserved, written, flushed, mapped over memory.
//!
//! A file has no name from the start (`O_TMPFILE`), and its descriptor is closed when it is mapped:
//! the mappings alone keep it. So nothing is left behind however the process ends, and its disk
//! space comes back when the last mapping is gone, those of forked children included. Holes are
//! never punched: a child may still read what we no longer do.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{ptr, thread, time};

use memsweep_core::bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};

use super::place;
use crate::Roots;

/// What is compared at once stays in the processor's cache.
pub(super) const COMPARED_AT_ONCE: usize = 128 * 1024;

/// What a park asks of the disk, so that tests can let every single step fail.
pub(crate) trait Disk {
    /// A file without a name and with `bytes` of disk space of its own.
    fn create(&self, bytes: usize) -> io::Result<File>;
    /// Writes memory into the file. Memory that is gone is an error, never a fault.
    fn write(&self, file: &File, offset: usize, address: usize, bytes: usize) -> io::Result<()>;
    /// Begins to write to the disk.
    fn start_flush(&self, file: &File) -> io::Result<()>;
    /// Waits until everything is on disk.
    fn flush(&self, file: &File) -> io::Result<()>;
    /// Whether memory holds what the file holds from `offset` on. `copy` is for what is read.
    ///
    /// # Safety
    /// The memory is mapped and readable, and nobody unmaps it meanwhile.
    unsafe fn holds(
        &self,
        file: &File,
        offset: usize,
        memory: &Range<usize>,
        copy: &mut [u8],
    ) -> io::Result<bool>;
    /// Puts the file's pages in place of memory, all or nothing.
    ///
    /// # Safety
    /// The range is whole pages of private memory that hold what the file holds there, and nobody
    /// writes to it meanwhile.
    unsafe fn swap(
        &self,
        file: &File,
        offset: usize,
        address: usize,
        bytes: usize,
    ) -> io::Result<()>;
    /// Drops the file's pages from memory, as far as they are clean.
    fn drop_cache(&self, file: &File) -> io::Result<()>;
}

/// What a user can do about a folder that does not serve.
const CURE: &str =
    "choose a writable one on ext4 or xfs (MEMSWEEP_PARK_FOLDER, or `folder` in `parking`)";

/// The real disk beneath a folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Checks that the folder can take spill files and that they leave memory, and says what to do
    /// where it cannot. Writes a small file without a name.
    pub(crate) fn open(roots: &Roots, path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let data = path.metadata().map_err(|error| format!("spill folder {shown}: {error}"))?;
        if !data.is_dir() {
            return Err(format!("spill folder {shown}: not a folder"));
        }
        if let Some(what) = place::refusal(roots, path) {
            return Err(format!("spill folder {shown} is on {what}; {CURE}"));
        }
        let folder = Self { path: path.to_owned() };
        let file = folder.file().map_err(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL) => {
                "its file system has no files without a name (O_TMPFILE)".to_owned()
            }
            _ => error.to_string(),
        });
        file.and_then(|file| place::prove(file, path))
            .map_err(|why| format!("spill folder {shown}: {why}; {CURE}"))?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Disk space that this user may still take.
    pub(crate) fn free(&self) -> Option<Bytes> {
        let system = rustix::fs::statvfs(&self.path).ok()?;
        Some(Bytes(system.f_bavail.saturating_mul(system.f_frsize)))
    }

    fn file(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
        Ok(File::from(rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?))
    }
}

impl Disk for Folder {
    fn create(&self, bytes: usize) -> io::Result<File> {
        let file = self.file()?;
        // Space is taken before anything is written: a mapped file that finds the disk full later
        // cannot tell anybody.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)?;
        Ok(file)
    }

    fn write(&self, file: &File, offset: usize, address: usize, bytes: usize) -> io::Result<()> {
        let mut done = 0;
        while done < bytes {
            // SAFETY: the kernel reads the memory; where it is gone, the call fails with EFAULT.
            let written = unsafe {
                libc::pwrite(
                    std::os::fd::AsRawFd::as_raw_fd(file),
                    (address + done) as *const libc::c_void,
                    bytes - done,
                    (offset + done) as libc::off_t,
                )
            };
            match usize::try_from(written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// This advice begins to write before it drops what is clean, and unlike `sync_file_range` it
    /// reaches the files beneath an overlay. Only a hint: an error is seen when flushing.
    fn start_flush(&self, file: &File) -> io::Result<()> {
        self.drop_cache(file)
    }

    /// `sync_file_range` would not wait for the journal, and be faster; but it answers with success
    /// on an overlay and writes nothing, and it does not see a journal that failed. Then pages would
    /// be swapped that the disk never stored.
    fn flush(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    // SAFETY: the contract is the trait's.
    unsafe fn holds(
        &self,
        file: &File,
        offset: usize,
        memory: &Range<usize>,
        copy: &mut [u8],
    ) -> io::Result<bool> {
        // Read bit by bit and not mapped: a mapping of it would count as the process's memory, and a
        // page that the disk cannot bring back would be a `SIGBUS` and not an error.
        for at in memory.clone().step_by(copy.len()) {
            let bytes = copy.len().min(memory.end - at);
            let part = &mut copy[..bytes];
            file.read_exact_at(part, (offset + at - memory.start) as u64)?;
            // SAFETY: readable by the caller's promise. `memcmp` instead of slices: memory that
            // somebody writes must not be borrowed.
            if unsafe { libc::memcmp(part.as_ptr().cast(), at as *const libc::c_void, bytes) } != 0
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    // SAFETY: the contract is the trait's.
    unsafe fn swap(
        &self,
        file: &File,
        offset: usize,
        address: usize,
        bytes: usize,
    ) -> io::Result<()> {
        // Mapped somewhere else first: what can be refused (mappings, limits, accounting) is
        // refused while the old pages are still in place.
        // SAFETY: a new mapping at an address the kernel chooses.
        let fresh =
            unsafe { map_private(file, offset, ptr::null_mut(), bytes, MapFlags::empty()) }?;
        let flags = MremapFlags::MAYMOVE;
        // SAFETY: the fresh mapping is ours; the target is the caller's promise.
        let moved = unsafe {
            rustix::mm::mremap_fixed(fresh, bytes, bytes, flags, address as *mut libc::c_void)
        };
        let Err(error) = moved else { return Ok(()) };
        if is_mapped(address, bytes) {
            // SAFETY: still ours, as it was not moved.
            let _ = unsafe { rustix::mm::munmap(fresh, bytes) };
            return Err(error.into());
        }
        // The kernel took the old pages away and then found no memory for its own books, which
        // it has never been seen to do. The bytes are safe in the file: they must only be seen again.
        loop {
            // SAFETY: nothing is mapped at the target, and the file holds what was there.
            let mapped = unsafe {
                map_private(file, offset, address as *mut libc::c_void, bytes, MapFlags::FIXED)
            };
            if mapped.is_ok() {
                return Ok(());
            }
            thread::sleep(time::Duration::from_millis(1));
        }
    }

    fn drop_cache(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
    }
}

/// # Safety
/// With `FIXED`, the range at `address` may be replaced.
unsafe fn map_private(
    file: &File,
    offset: usize,
    address: *mut libc::c_void,
    bytes: usize,
    flags: MapFlags,
) -> rustix::io::Result<*mut libc::c_void> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | flags;
    // SAFETY: the caller's promise.
    unsafe { rustix::mm::mmap(address, bytes, protection, flags, file, offset as u64) }
}

pub(crate) fn is_mapped(address: usize, bytes: usize) -> bool {
    pages_in_memory(address, bytes).is_some()
}

/// Bytes of a range of private memory that are in RAM. 0 where it is not mapped.
pub(crate) fn resident(address: usize, bytes: usize) -> usize {
    pages_in_memory(address, bytes).unwrap_or(0) * rustix::param::page_size()
}

/// `None` where not all of the range is mapped.
fn pages_in_memory(address: usize, bytes: usize) -> Option<usize> {
    let mut flags = vec![0_u8; bytes.div_ceil(rustix::param::page_size())];
    // SAFETY: `mincore` touches no page, and `flags` has a byte for each.
    let answer = unsafe { libc::mincore(address as *mut libc::c_void, bytes, flags.as_mut_ptr()) };
    (answer == 0).then(|| flags.iter().filter(|flag| **flag & 1 == 1).count())
}

/// Asks the kernel to drop what is clean of an already parked range. Unlike `MADV_DONTNEED` this never
/// loses a page, whatever is mapped there by now: nobody holds the memory meanwhile.
pub(crate) fn page_out(address: usize, bytes: usize) {
    // SAFETY: the kernel moves pages out and brings them back on touch; no content changes, and a
    // range that is not mapped any more is an error.
    let _ = unsafe { libc::madvise(address as *mut libc::c_void, bytes, libc::MADV_PAGEOUT) };
}

pub(crate) fn inode(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.ino())
}
