//! Watching memory for writes, whoever writes: where the kernel can tell, which is Linux 6.7 and newer
//! unless a sandbox forbids it.
//!
//! A `userfaultfd` in its asynchronous mode protects pages against writing. The first write to a page
//! takes the protection away and goes on: nobody waits, and no other thread has to answer. What is still
//! protected was not written.
//!
//! It is a second net. References show who may be writing, but not somebody who was given nothing but an
//! address. What is left is the moment between the look at 2 MiB and their replacement, in the same hold,
//! and what a device stores without the processor, see `in_kernel`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::mm::{UserfaultfdFlags, userfaultfd};

use super::pieces::steps;
use super::{in_kernel, registry};

/// Ioctls and their arguments, as `linux/userfaultfd.h` and `linux/fs.h` define them.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_UNREGISTER: libc::c_ulong = 0x8010_aa01;
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
struct UffdioRange {
    start: u64,
    length: u64,
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
    /// Whose memory it watches: a forked child inherits the file.
    process: u32,
    /// What it watches: a forked child keeps the file open, and it would go on.
    ranges: Mutex<Vec<Range<usize>>>,
    /// Held while a range begins to be watched, which splits mappings.
    splitting: Mutex<()>,
}

/// The kernel lets one file watch a range, so threads that park at the same time share it.
static SHARED: Mutex<Weak<Watch>> = Mutex::new(Weak::new());

impl Watch {
    /// `None` where the kernel cannot tell. It may refuse all the same when it lacks memory.
    pub(crate) fn open(proc: &Path) -> Option<io::Result<Arc<Self>>> {
        is_available(proc).then(|| {
            let mut shared = registry::lock(&SHARED);
            if let Some(watch) = shared.as_ref().and_then(|shared| shared.upgrade())
                && watch.process == process::id()
            {
                return Ok(watch);
            }
            let watch = Arc::new(Self::try_open(proc)?);
            if let Some(shared) = &mut shared {
                **shared = Arc::downgrade(&watch);
            }
            Ok(watch)
        })
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
        let pagemap = File::open(proc.join("self/pagemap"))?;
        Ok(Self {
            userfaultfd,
            pagemap,
            process: process::id(),
            ranges: Mutex::default(),
            splitting: Mutex::default(),
        })
    }

    /// While this is alive, no range begins to be watched: who compares mappings finds them as they were.
    pub(super) fn steady(&self) -> MutexGuard<'_, ()> {
        self.splitting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches whole pages from now on, if they are not watched already. Safe for any address: no content
    /// changes, and a write goes on as before.
    pub(crate) fn begin(&self, range: &Range<usize>) -> io::Result<()> {
        let _splitting = self.steady();
        let was_watched = self.saw_a_write(range).is_ok();
        let (start, length) = (range.start as u64, range.len() as u64);
        let mode = UFFDIO_REGISTER_MODE_WP;
        let mut register = UffdioRegister { start, length, mode, ioctls: 0 };
        // SAFETY: the argument is what this call reads and writes. Nobody waits for an answer to a fault
        // in the asynchronous mode.
        unsafe { call(&self.userfaultfd, UFFDIO_REGISTER, &mut register) }?;
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner).push(range.clone());
        if was_watched {
            // Protecting them again would take away what another thread is about to look at.
            return Ok(());
        }
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

impl Drop for Watch {
    fn drop(&mut self) {
        if self.process != process::id() {
            return;
        }
        let ranges = self.ranges.get_mut().unwrap_or_else(PoisonError::into_inner);
        // The kernel refuses a range of which some was replaced by a file.
        for step in std::mem::take(ranges).iter().flat_map(steps) {
            let mut range = UffdioRange { start: step.start as u64, length: step.len() as u64 };
            // Fails for what is no longer there.
            // SAFETY: the argument is what this call reads.
            let _ = unsafe { call(&self.userfaultfd, UFFDIO_UNREGISTER, &mut range) };
        }
    }
}

/// Whether some memory of this process may be watched by us now.
pub(crate) fn is_watching() -> bool {
    registry::lock(&SHARED).is_some_and(|shared| shared.strong_count() > 0)
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
unsafe fn call<T>(
    file: &impl AsRawFd,
    number: libc::c_ulong,
    argument: &mut T,
) -> io::Result<usize> {
    // SAFETY: the caller's promise.
    let answer =
        unsafe { libc::ioctl(file.as_raw_fd(), number as _, std::ptr::from_mut(argument)) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Whether the kernel notices a write, tried once.
pub(crate) fn is_available(proc: &Path) -> bool {
    const YES: u8 = 1;
    const NO: u8 = 2;
    // Nobody waits for another's trial: a child forked meanwhile would wait for ever.
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let notices =
                notices_a_write(proc).unwrap_or(false) && in_kernel::addresses(proc).is_some();
            let answer = if notices { YES } else { NO };
            // The first answer counts: others may have relied on it.
            let known = KNOWN.compare_exchange(0, answer, Ordering::Relaxed, Ordering::Relaxed);
            known.err().unwrap_or(answer) == YES
        }
        known => known == YES,
    }
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

    /// Not the one that is shared: other tests park what lies where our memory did.
    fn watch() -> Option<Watch> {
        let proc = Path::new("/proc");
        if !is_available(proc) {
            eprintln!("not run: this kernel does not tell what was written");
            return None;
        }
        Some(Watch::try_open(proc).unwrap())
    }

    /// More than glibc ever takes from a heap that others use too.
    const MAPPED: usize = 64 << 20;

    fn pages(memory: &[u8]) -> Range<usize> {
        let page = rustix::param::page_size();
        let start = (memory.as_ptr() as usize).next_multiple_of(page);
        start..(memory.as_ptr() as usize + memory.len()) / page * page
    }

    #[test]
    fn one_byte_written_anywhere_is_seen() {
        let Some(watch) = watch() else { return };
        for at in [0, 1 << 20, MAPPED] {
            let mut memory = vec![7_u8; MAPPED];
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
        let mut memory = vec![0_u8; MAPPED];
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
        let memory = vec![0_u8; MAPPED];
        assert!(watch.saw_a_write(&pages(&memory)).is_err());
        assert!(watch.begin(&(0..4096)).is_err(), "nothing is mapped there");
    }

    #[test]
    fn watching_what_is_watched_already_forgets_no_write() {
        let Some(watch) = watch() else { return };
        let mut memory = vec![7_u8; MAPPED];
        let range = pages(&memory);
        watch.begin(&range).unwrap();
        memory[2 << 20] = 8;
        watch.begin(&range).unwrap();
        assert!(watch.saw_a_write(&range).unwrap());
    }

    #[test]
    fn what_somebody_else_watches_is_an_error() {
        let Some(watch) = watch() else { return };
        let other = Watch::try_open(Path::new("/proc")).unwrap();
        let memory = vec![7_u8; MAPPED];
        other.begin(&pages(&memory)).unwrap();
        assert!(watch.begin(&pages(&memory)).is_err());
    }

    #[test]
    fn afterwards_memory_is_as_before() {
        let Some(watch) = watch() else { return };
        let mut memory = vec![7_u8; MAPPED];
        watch.begin(&pages(&memory)).unwrap();
        drop(watch);
        memory.fill(9);
        assert!(memory.iter().all(|&byte| byte == 9));
    }
}
