//! Spill files: nameless, reserved, written, flushed, mapped over memory.
//!
//! A file never has a name (`O_TMPFILE`), and its descriptor is closed once it is mapped: only its
//! mappings keep it. So nothing is left behind however the process ends, and its disk space is
//! freed when the last mapping is gone, including those of forked children. Holes are never
//! punched: a child may still read what we no longer do.

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

/// Small enough to stay in the processor's cache while it is compared.
pub(super) const COMPARED_AT_ONCE: usize = 128 * 1024;

/// What parking does with the disk, as a trait so that tests can make every single step fail.
pub(crate) trait Disk {
    /// Makes a nameless file with `bytes` of reserved disk space.
    fn create(&self, bytes: usize) -> io::Result<File>;
    /// Writes memory into the file. If the memory is gone, that is an error and not a fault.
    fn write(&self, file: &File, offset: usize, address: usize, bytes: usize) -> io::Result<()>;
    /// Begins to write the file to the disk.
    fn start_flush(&self, file: &File) -> io::Result<()>;
    /// Waits until the file is on disk.
    fn flush(&self, file: &File) -> io::Result<()>;
    /// Whether memory is equal to the file from `offset` on. `copy` is room for what is read.
    ///
    /// # Safety
    /// The memory is mapped and readable, and is not unmapped during the call.
    unsafe fn holds(
        &self,
        file: &File,
        offset: usize,
        memory: &Range<usize>,
        copy: &mut [u8],
    ) -> io::Result<bool>;
    /// Replaces memory by the file's pages, all or nothing.
    ///
    /// # Safety
    /// The range is whole pages of private memory that equal the file there, and is not written
    /// during the call.
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

/// What a user can do about an unsuitable folder.
const CURE: &str =
    "choose a writable one on ext4 or xfs (MEMSWEEP_PARK_FOLDER, or `folder` in `parking`)";

/// The real disk beneath a folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Checks that the folder can hold spill files and that they leave memory. `Err` says why not,
    /// and what to do. Writes a small nameless file.
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

    /// Disk space that this user may still use.
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
        // Reserves the space before anything is written: once a file is mapped, a full disk can no
        // longer be reported as an error.
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

    /// This advice begins to write dirty pages before it drops clean ones, and unlike
    /// `sync_file_range` it reaches the file beneath an overlay. Only a hint: errors show when
    /// flushing.
    fn start_flush(&self, file: &File) -> io::Result<()> {
        self.drop_cache(file)
    }

    /// `sync_file_range` would not wait for the journal and would be faster. But on an overlay it
    /// reports success and writes nothing, and it does not notice a failed journal: pages would be
    /// swapped that the disk never stored.
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
        // Read in parts and not mapped: a mapping would count as the process's memory, and a page
        // that the disk cannot read back would be a `SIGBUS` and not an error.
        for at in memory.clone().step_by(copy.len()) {
            let bytes = copy.len().min(memory.end - at);
            let part = &mut copy[..bytes];
            file.read_exact_at(part, (offset + at - memory.start) as u64)?;
            // SAFETY: readable by the caller's promise. `memcmp` and not slices: memory that may be
            // written must not be borrowed.
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
        // Mapped elsewhere first: whatever the kernel may refuse (mappings, limits, accounting), it
        // refuses while the old pages are still in place.
        let fresh = Mapping::private(file, offset as u64, bytes)?;
        // SAFETY: the caller's promise.
        let Err(error) = (unsafe { fresh.move_over(address) }) else { return Ok(()) };
        if is_mapped(address, bytes) {
            return Err(error);
        }
        // The kernel removed the old pages and then lacked memory for the new mapping, which has
        // never been seen to happen. The bytes are safe in the file and only have to be mapped
        // again.
        let range = address..address + bytes;
        // SAFETY: not all of the target is mapped any more, and the file holds what was there.
        while unsafe { map_over(file, offset as u64, &range) }.is_err() {
            thread::sleep(time::Duration::from_millis(1));
        }
        Ok(())
    }

    fn drop_cache(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
    }
}

/// Asks the kernel to drop clean pages of a range that was parked before. Unlike `MADV_DONTNEED`
/// this never loses a page, whatever is mapped there by now: the memory is not held during the
/// call.
pub(crate) fn page_out(address: usize, bytes: usize) {
    // SAFETY: the kernel moves pages out and brings them back on touch. No content changes, and for
    // a range that is no longer mapped the call fails.
    let _ = unsafe { libc::madvise(address as *mut libc::c_void, bytes, libc::MADV_PAGEOUT) };
}

pub(crate) fn inode(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.ino())
}
