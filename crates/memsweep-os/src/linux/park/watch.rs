//! Watching memory for writes, whoever writes: where the kernel can tell, which is Linux 6.7 and newer
//! unless a sandbox forbids it.
//!
//! A `userfaultfd` in its asynchronous mode protects pages against writing. The first write to a page
//! takes the protection away and goes on: nobody waits, and no other thread has to answer. What is still
//! protected was not written.
//!
//! It is a second net. References show who may be writing, but not somebody who was given nothing but an
//! address. What is left is the moment between the look at a page and its replacement, in the same hold.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::mm::{UserfaultfdFlags, userfaultfd};

/// Ioctls and their arguments, as `linux/userfaultfd.h` and `linux/fs.h` define them.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;

const UFFD_API: u64 = 0xaa;
const UFFD_FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
const PM_SCAN_WP_MATCHING: u64 = 1 << 0;
const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;
const PAGE_IS_WRITTEN: u64 = 1 << 1;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_length: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Default)]
struct PageRegion {
    _start: u64,
    _end: u64,
    _categories: u64,
}

/// Memory is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    userfaultfd: OwnedFd,
    pagemap: File,
}

impl Watch {
    /// `None` where the kernel cannot tell. It may refuse all the same when it lacks memory.
    pub(crate) fn open(proc: &Path) -> Option<io::Result<Self>> {
        is_available(proc).then(|| Self::try_open(proc))
    }

    fn try_open(proc: &Path) -> io::Result<Self> {
        // What the kernel itself writes on the program's behalf is noted too, and needs no privilege:
        // nothing is asked of us.
        let flags = UserfaultfdFlags::CLOEXEC
            | UserfaultfdFlags::NONBLOCK
            | UserfaultfdFlags::from_bits_retain(1 /* UFFD_USER_MODE_ONLY */);
        // SAFETY: it touches no memory until a range is registered.
        let userfaultfd = unsafe { userfaultfd(flags) }?;
        let features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED;
        let mut api = UffdioApi { api: UFFD_API, features, ioctls: 0 };
        // SAFETY: the argument is what this call reads and writes.
        unsafe { call(&userfaultfd, UFFDIO_API, &mut api) }?;
        Ok(Self { userfaultfd, pagemap: File::open(proc.join("self/pagemap"))? })
    }

    /// Watches whole pages from now on. Safe for any address: no content changes, and a write goes on as
    /// before.
    pub(crate) fn begin(&self, range: &Range<usize>) -> io::Result<()> {
        let (start, length) = (range.start as u64, range.len() as u64);
        let mode = UFFDIO_REGISTER_MODE_WP;
        let mut register = UffdioRegister { start, length, mode, ioctls: 0 };
        // SAFETY: the argument is what this call reads and writes. Nobody waits for an answer to a fault
        // in the asynchronous mode.
        unsafe { call(&self.userfaultfd, UFFDIO_REGISTER, &mut register) }?;
        let flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
        self.scan(PmScanArg { flags, ..over(range) }).map(drop)
    }

    /// Whether anything was written since. An error means that it was not watched all the time.
    pub(crate) fn saw_a_write(&self, range: &Range<usize>) -> io::Result<bool> {
        let mut found = PageRegion::default();
        let scan = PmScanArg {
            flags: PM_SCAN_CHECK_WPASYNC,
            regions: &raw mut found as u64,
            regions_length: 1,
            max_pages: 1,
            ..over(range)
        };
        Ok(self.scan(scan)? > 0)
    }

    /// How many regions have pages that were written.
    fn scan(&self, mut scan: PmScanArg) -> io::Result<usize> {
        // SAFETY: the argument is what this call reads and writes, and holds a place for as many regions
        // as it says.
        let found = unsafe { call(&self.pagemap, PAGEMAP_SCAN, &mut scan) }?;
        if found == 0 && scan.walk_end != scan.end {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(found)
    }
}

fn over(range: &Range<usize>) -> PmScanArg {
    PmScanArg {
        size: size_of::<PmScanArg>() as u64,
        start: range.start as u64,
        end: range.end as u64,
        category_mask: PAGE_IS_WRITTEN,
        return_mask: PAGE_IS_WRITTEN,
        ..PmScanArg::default()
    }
}

/// # Safety
/// The argument is of the type that this call on this file takes, and what it points to is alive.
unsafe fn call<T>(file: &impl AsRawFd, number: libc::c_ulong, argument: &mut T) -> io::Result<usize> {
    // SAFETY: the caller's promise.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), number as _, std::ptr::from_mut(argument)) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Whether the kernel notices a write, tried once.
pub(crate) fn is_available(proc: &Path) -> bool {
    static TRIED: OnceLock<bool> = OnceLock::new();
    *TRIED.get_or_init(|| notices_a_write(proc).unwrap_or(false))
}

fn notices_a_write(proc: &Path) -> io::Result<bool> {
    let page = rustix::param::page_size();
    let mut memory = vec![1_u8; 3 * page];
    let first = memory.as_ptr().align_offset(page);
    let start = memory.as_ptr() as usize + first;
    let range = start..start + page;
    let watch = Watch::try_open(proc)?;
    watch.begin(&range)?;
    let before = watch.saw_a_write(&range)?;
    memory[first] = 2;
    std::hint::black_box(&memory);
    Ok(!before && watch.saw_a_write(&range)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Option<Watch> {
        let watch = Watch::open(Path::new("/proc"));
        if watch.is_none() {
            eprintln!("not run: this kernel does not tell what was written");
        }
        watch.map(Result::unwrap)
    }

    fn pages(memory: &[u8]) -> Range<usize> {
        let page = rustix::param::page_size();
        let start = (memory.as_ptr() as usize).next_multiple_of(page);
        start..(memory.as_ptr() as usize + memory.len()) / page * page
    }

    #[test]
    fn one_byte_written_anywhere_is_seen() {
        let Some(watch) = watch() else { return };
        for at in [0, 1 << 20, (4 << 20) - 1] {
            let mut memory = vec![7_u8; (4 << 20) + 8192];
            let range = pages(&memory);
            let first = range.start - memory.as_ptr() as usize;
            watch.begin(&range).unwrap();
            assert!(memory.iter().all(|&byte| byte == 7), "reading is no write");
            assert!(!watch.saw_a_write(&range).unwrap());
            let last = range.len() - 1;
            memory[first + at.min(last)] = 8;
            assert!(watch.saw_a_write(&range).unwrap());
        }
    }

    #[test]
    fn memory_that_was_never_touched_is_watched_too() {
        let Some(watch) = watch() else { return };
        let mut memory = vec![0_u8; 64 << 20];
        let range = pages(&memory);
        watch.begin(&range).unwrap();
        assert!(!watch.saw_a_write(&range).unwrap());
        let middle = memory.len() / 2;
        memory[middle] = 1;
        assert!(watch.saw_a_write(&range).unwrap());
    }

    #[test]
    fn what_is_not_watched_is_an_error() {
        let Some(watch) = watch() else { return };
        let memory = vec![0_u8; 1 << 20];
        assert!(watch.saw_a_write(&pages(&memory)).is_err());
        assert!(watch.begin(&(0..4096)).is_err(), "nothing is mapped there");
    }

    #[test]
    fn afterwards_memory_is_as_before() {
        let Some(watch) = watch() else { return };
        let mut memory = vec![7_u8; 4 << 20];
        watch.begin(&pages(&memory)).unwrap();
        drop(watch);
        memory.fill(9);
        assert!(memory.iter().all(|&byte| byte == 9));
    }
}
