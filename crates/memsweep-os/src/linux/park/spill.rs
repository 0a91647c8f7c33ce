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
use std::{fmt, thread, time};

use memsweep_core::bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};

use super::place;
use crate::Roots;
use crate::linux::mapping::{Mapping, is_mapped, map_over};

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

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
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
        let fresh = Mapping::private(file, offset as u64, bytes)?;
        // SAFETY: the caller's promise.
        let Err(error) = (unsafe { fresh.move_over(address) }) else { return Ok(()) };
        if is_mapped(address, bytes) {
            return Err(error);
        }
        // The kernel took the old pages away and then found no memory for its own books, which
        // it has never been seen to do. The bytes are safe in the file: they must only be seen again.
        let range = address..address + bytes;
        // SAFETY: nothing is mapped at the target, and the file holds what was there.
        while unsafe { map_over(file, offset as u64, &range) }.is_err() {
            thread::sleep(time::Duration::from_millis(1));
        }
        Ok(())
    }

    fn drop_cache(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
    }
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
