//! Spill files: nameless, reserved, written, flushed, mapped over memory.
//!
//! A file has no name from the start (`O_TMPFILE`), and its descriptor is closed when it is mapped:
//! the mappings alone keep it. So nothing is left behind however the process ends, and its disk
//! space comes back when the last mapping is gone, those of forked children included. Holes are
//! never punched: a child may still read what we no longer do.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{ptr, thread, time};

use memsweep_core::bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};

/// What a park asks of the disk, so that tests can let every single step fail.
pub(crate) trait Disk {
    /// A file without a name and with `bytes` of disk space of its own.
    fn create(&self, bytes: usize) -> io::Result<File>;
    /// Writes memory into the file. Memory that is gone is an error, never a fault.
    fn write(&self, file: &File, offset: usize, address: usize, bytes: usize) -> io::Result<()>;
    /// Begins to flush.
    fn start_flush(&self, file: &File) -> io::Result<()>;
    /// Waits until everything is on disk.
    fn flush(&self, file: &File) -> io::Result<()>;
    /// The file as memory, for comparing.
    fn view(&self, file: &File, bytes: usize) -> io::Result<View>;
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

/// The real disk beneath a folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// File systems that keep their files in memory, or elsewhere than on a disk of this machine: a
/// read that fails or hangs later would take the whole process with it.
const REFUSED: [(u64, &str); 7] = [
    (0x0102_1994, "tmpfs, which is memory"),
    (0x8584_58f6, "ramfs, which is memory"),
    (0x6969, "NFS, and memory must not depend on the network"),
    (0xff53_4d42, "CIFS, and memory must not depend on the network"),
    (0xfe53_4d42, "SMB, and memory must not depend on the network"),
    (0x0102_1997, "9p, and memory must not depend on another machine"),
    (0x6573_5546, "FUSE, and memory must not depend on another program"),
];

impl Folder {
    /// Checks that the folder can take spill files, and says what to do where it cannot.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let data = path.metadata().map_err(|error| format!("spill folder {shown}: {error}"))?;
        if !data.is_dir() {
            return Err(format!("spill folder {shown}: not a folder"));
        }
        let system =
            rustix::fs::statfs(path).map_err(|error| format!("spill folder {shown}: {error}"))?;
        #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "differs by target")]
        let kind = system.f_type as u64 & 0xffff_ffff;
        if let Some((_, name)) = REFUSED.iter().find(|(magic, _)| *magic == kind) {
            return Err(format!("spill folder {shown} is on {name}; choose one on a disk"));
        }
        let folder = Self { path: path.to_owned() };
        folder.file().map_err(|error| {
            let why = match error.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL) => {
                    "its file system has no files without a name (O_TMPFILE)".to_owned()
                }
                _ => error.to_string(),
            };
            format!("spill folder {shown}: {why}; choose a writable one on ext4, xfs or btrfs")
        })?;
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

    fn start_flush(&self, file: &File) -> io::Result<()> {
        sync_range(file, libc::SYNC_FILE_RANGE_WRITE)
    }

    /// Nothing must survive a crash, so neither the disk's own cache nor the file's data about
    /// itself is flushed; what counts is that the kernel can drop the pages, and that an error of
    /// the disk is seen now.
    fn flush(&self, file: &File) -> io::Result<()> {
        sync_range(
            file,
            libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | libc::SYNC_FILE_RANGE_WRITE
                | libc::SYNC_FILE_RANGE_WAIT_AFTER,
        )
    }

    fn view(&self, file: &File, bytes: usize) -> io::Result<View> {
        View::map(file, bytes)
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

fn sync_range(file: &File, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: a call on an open file that touches no memory of ours.
    let answer =
        unsafe { libc::sync_file_range(std::os::fd::AsRawFd::as_raw_fd(file), 0, 0, flags) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

/// Asks the kernel to drop what is clean of an already parked range. Written pages stay: unlike
/// `MADV_DONTNEED` this never loses one.
pub(crate) fn page_out(address: usize, bytes: usize) {
    // SAFETY: advice on a mapping that holds nothing but pages of a spill file and copies of
    // them; the kernel may write and drop them, and reads them back on touch.
    let _ = unsafe { libc::madvise(address as *mut libc::c_void, bytes, libc::MADV_PAGEOUT) };
}

pub(crate) fn inode(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.ino())
}

/// A file seen as memory.
#[derive(Debug)]
pub(crate) struct View {
    start: *mut libc::c_void,
    bytes: usize,
}

impl View {
    fn map(file: &File, bytes: usize) -> io::Result<Self> {
        // Pages are entered now, and not one by one while everybody waits.
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address the kernel chooses.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, ProtFlags::READ, flags, file, 0) }?;
        Ok(Self { start, bytes })
    }

    /// Whether memory holds what the file holds from `offset` on.
    ///
    /// # Safety
    /// The memory is mapped and readable, and nobody unmaps it meanwhile.
    pub(crate) unsafe fn equals(&self, offset: usize, address: usize, bytes: usize) -> bool {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return false;
        }
        // SAFETY: within the view, as just checked.
        let ours = unsafe { self.start.cast::<u8>().add(offset) };
        // SAFETY: the caller's promise for one side, the check above for the other. `memcmp`
        // instead of slices: memory that somebody writes must not be borrowed.
        unsafe { libc::memcmp(ours.cast(), address as *const libc::c_void, bytes) == 0 }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: made by `map` with this length, and nobody kept a pointer into it.
        let _ = unsafe { rustix::mm::munmap(self.start, self.bytes) };
    }
}
