//! Every step failing, lying and ending the process: nothing is lost and nothing stays behind.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memsweep_core::bytes::Bytes;
use memsweep_core::park::{ParkLimits, Parked};
use memsweep_core::reason::{Refusal, Stopped, Why};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::areas;
use super::batches::FEWEST_FILES;
use super::pieces::{self, Piece};
use super::registry;
use super::spill::{Disk, Folder};
use super::survey::examine_all;
use super::watch::Watch;
use crate::{Block, Gate, Roots, Stop};

const MIB: usize = 1024 * 1024;

/// A folder on the disk that the tests were built on.
fn folder() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

fn open(folder: &Path) -> Result<Folder, String> {
    Folder::open(&Roots::default(), folder)
}

/// The blocks of these tests are vectors, and nobody but the test knows them.
fn carry_out(
    disk: &(impl Disk + Sync),
    files: &[Vec<Piece>],
    limits: &ParkLimits,
    gate: &mut dyn Gate,
) -> Parked {
    // SAFETY: chunks of glibc's heap, and the gates of these tests speak of them.
    unsafe { super::carry_out(Path::new("/proc"), None, disk, files, limits, gate) }
}

/// What happens at a given step.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Error(i32),
    Kill,
}

/// The real disk, whose `step`-th call fails.
struct Faulty {
    inner: Folder,
    step: usize,
    fault: Fault,
    calls: AtomicUsize,
}

impl Faulty {
    fn new(step: usize, fault: Fault) -> Self {
        Self { inner: open(&folder()).unwrap(), step, fault, calls: AtomicUsize::new(0) }
    }

    fn tick(&self) -> io::Result<()> {
        if self.calls.fetch_add(1, Ordering::Relaxed) != self.step {
            return Ok(());
        }
        match self.fault {
            Fault::Error(code) => Err(io::Error::from_raw_os_error(code)),
            // SAFETY: ends this process, which the test started for that.
            Fault::Kill => unsafe { libc::kill(libc::getpid(), libc::SIGKILL) }.then_never(),
        }
    }
}

trait Never {
    fn then_never(self) -> io::Result<()>;
}

impl Never for i32 {
    fn then_never(self) -> io::Result<()> {
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    }
}

impl Disk for Faulty {
    fn create(&self, bytes: usize) -> io::Result<File> {
        self.tick()?;
        self.inner.create(bytes)
    }

    fn write(&self, file: &File, offset: usize, address: usize, bytes: usize) -> io::Result<()> {
        self.tick()?;
        self.inner.write(file, offset, address, bytes)
    }

    fn start_flush(&self, file: &File) -> io::Result<()> {
        self.tick()?;
        self.inner.start_flush(file)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        self.tick()?;
        self.inner.flush(file)
    }

    // SAFETY: the contract is the trait's.
    unsafe fn holds(
        &self,
        file: &File,
        offset: usize,
        memory: &Range<usize>,
        copy: &mut [u8],
    ) -> io::Result<bool> {
        self.tick()?;
        // SAFETY: the caller's promise.
        unsafe { self.inner.holds(file, offset, memory, copy) }
    }

    // SAFETY: the contract is the trait's.
    unsafe fn swap(
        &self,
        file: &File,
        offset: usize,
        address: usize,
        bytes: usize,
    ) -> io::Result<()> {
        self.tick()?;
        // SAFETY: the caller's promise.
        unsafe { self.inner.swap(file, offset, address, bytes) }
    }

    fn drop_cache(&self, file: &File) -> io::Result<()> {
        self.tick()?;
        self.inner.drop_cache(file)
    }
}

/// Lets everything pass; nobody else knows the blocks.
struct Open;

// SAFETY: nobody but the test's own thread knows the blocks.
unsafe impl Gate for Open {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        (0..blocks.len()).for_each(swap);
        Ok(())
    }

    fn progress(&mut self, _: Bytes, _: Bytes) -> Result<(), Stop> {
        Ok(())
    }
}

/// Different on every page.
fn content(number: usize, bytes: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; bytes];
    bytes.iter_mut().step_by(509).enumerate().for_each(|(at, byte)| *byte = (at * 31) as u8);
    bytes
}

fn pieces_of<T: Deref<Target = [u8]>>(blocks: &[T]) -> Vec<Vec<Piece>> {
    let areas = areas::read(Path::new("/proc")).unwrap();
    let ours: Vec<Block> = blocks
        .iter()
        .map(|block| Block { address: block.as_ptr() as usize, bytes: block.len() })
        .collect();
    let examined = examine_all(&ours, &areas, &registry::known().unwrap(), false);
    // A file for each two blocks, so that small blocks make several batches.
    let pieces: Vec<(usize, Range<usize>)> = examined
        .iter()
        .enumerate()
        .flat_map(|(number, found)| {
            assert_eq!(found.refused, None);
            found.pieces.iter().map(move |range| (number, range.clone()))
        })
        .collect();
    pieces.chunks(2).flat_map(|two| pieces::pack(two.iter().cloned())).collect()
}

/// A mapping of the test's own, in one piece. A chunk of the heap comes in several where it holds what
/// another test parked and freed, and is then written and held in several goes.
struct Mapped(ptr::NonNull<[u8]>);

impl Mapped {
    fn new(content: &[u8]) -> Self {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let address =
            unsafe { mmap_anonymous(ptr::null_mut(), content.len(), protection, flags) }.unwrap();
        let bytes = ptr::slice_from_raw_parts_mut(address.cast::<u8>(), content.len());
        let mut mapped = Self(ptr::NonNull::new(bytes).unwrap());
        // SAFETY: nobody else knows the mapping yet.
        unsafe { mapped.0.as_mut() }.copy_from_slice(content);
        mapped
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped until it is dropped; a test that writes by address does so in between.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever borrowed it is done.
        unsafe { munmap(self.0.as_ptr().cast(), self.0.len()) }.unwrap();
    }
}

/// Two batches of several files each.
fn blocks() -> Vec<Vec<u8>> {
    (0..11).map(|number| content(number, MIB + 4321 * number)).collect()
}

fn total(files: &[Vec<Piece>]) -> Bytes {
    files.iter().flatten().map(|piece| Bytes(piece.range.len() as u64)).sum()
}

fn of_block(files: &[Vec<Piece>], block: usize) -> Bytes {
    let pieces = files.iter().flatten().filter(|piece| piece.block == block);
    pieces.map(|piece| Bytes(piece.range.len() as u64)).sum()
}

fn assert_untouched<T: Deref<Target = [u8]>>(blocks: &[T], step: usize) {
    for (number, block) in blocks.iter().enumerate() {
        assert!(**block == *content(number, block.len()), "block {number} differs, step {step}");
    }
}

#[test]
fn an_error_at_any_step_loses_nothing_and_is_reported() {
    let mut blocks = blocks();
    let steps = {
        let disk = Faulty::new(usize::MAX, Fault::Error(0));
        let files = pieces_of(&blocks);
        let parked = carry_out(&disk, &files, &ParkLimits::default(), &mut Open);
        assert_eq!(parked.stopped, None);
        assert_eq!(parked.bytes, total(&files));
        disk.calls.into_inner()
    };
    assert!(steps > 30, "{steps}");
    for step in 0..steps {
        blocks = self::blocks();
        let files = pieces_of(&blocks);
        let code = [libc::EIO, libc::ENOSPC, libc::EDQUOT][step % 3];
        let disk = Faulty::new(step, Fault::Error(code));
        let parked = carry_out(&disk, &files, &ParkLimits::default(), &mut Open);
        assert_untouched(&blocks, step);
        let whole = parked.bytes == total(&files);
        assert_eq!(parked.stopped.is_none(), whole, "step {step}: {parked:?}");
        if let Some(why) = &parked.stopped {
            let error = io::Error::from_raw_os_error(code).to_string();
            assert!(why.to_string().contains(&error), "step {step}: {why}");
        }
        // Every byte can be written, and every block freed and used again.
        for block in &mut blocks {
            block.iter_mut().step_by(4096).for_each(|byte| *byte = byte.wrapping_add(1));
        }
    }
    drop(blocks);
}

#[test]
fn a_process_killed_at_any_step_leaves_no_file_behind() {
    const STEP: &str = "MEMSWEEP_TEST_KILL_AT";
    if let Ok(step) = std::env::var(STEP) {
        let blocks = [content(0, 2 * MIB), content(1, 3 * MIB)];
        let files = pieces_of(&blocks);
        let disk = Faulty::new(step.parse().unwrap(), Fault::Kill);
        carry_out(&disk, &files, &ParkLimits::default(), &mut Open);
        return;
    }
    let before = listing();
    let mut killed = 0;
    loop {
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "linux::park::tests::a_process_killed_at_any_step_leaves_no_file_behind",
            ])
            .env(STEP, killed.to_string())
            .output()
            .unwrap()
            .status;
        if status.signal() != Some(libc::SIGKILL) {
            assert!(status.success(), "{status}");
            break;
        }
        killed += 1;
    }
    assert!(killed >= 8, "{killed}");
    assert_eq!(listing(), before);
}

fn listing() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_spill_file_has_no_name_and_no_descriptor() {
    // Not in our own folder, which another test lists.
    let place = tempfile::tempdir_in(folder().parent().unwrap()).unwrap();
    let blocks = [content(0, 8 * MIB)];
    let files = pieces_of(&blocks);
    let disk = open(place.path()).unwrap();
    let parked = carry_out(&disk, &files, &ParkLimits::default(), &mut Open);
    assert_eq!(parked.bytes, total(&files));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut linked = descriptors.filter_map(|one| std::fs::read_link(one.path()).ok());
    assert_eq!(linked.find(|file| file.starts_with(place.path())), None);
    assert_untouched(&blocks, 0);
}

/// Calls back before each hold, with the addresses of what is to be swapped.
struct Meddling<F>(F);

// SAFETY: nobody but the test's own thread knows the blocks.
unsafe impl<F: FnMut(&[usize]) -> Vec<usize>> Gate for Meddling<F> {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        for number in (self.0)(blocks) {
            swap(number);
        }
        Ok(())
    }

    fn progress(&mut self, _: Bytes, _: Bytes) -> Result<(), Stop> {
        Ok(())
    }
}

#[test]
fn what_is_written_after_the_copy_stays_where_it_is() {
    let blocks = [Mapped::new(&content(0, 8 * MIB)), Mapped::new(&content(1, 8 * MIB))];
    let files = pieces_of(&blocks);
    let disk = open(&folder()).unwrap();
    let last = blocks[0].len() / 2;
    let address = blocks[0].as_ptr() as usize + last;
    let mut gate = Meddling(|numbers: &[usize]| {
        // SAFETY: inside the first block, which nobody else uses here.
        unsafe { *(address as *mut u8) ^= 0xff };
        (0..numbers.len()).collect()
    });
    let parked = carry_out(&disk, &files, &ParkLimits::default(), &mut gate);
    assert_eq!((parked.bytes, parked.refused.len()), (of_block(&files, 1), 1));
    assert_eq!(parked.refused[0].why.0, Refusal::WrittenMeanwhile);
    let mut expected = content(0, 8 * MIB);
    expected[last] ^= 0xff;
    assert!(*blocks[0] == expected);
    assert!(*blocks[1] == content(1, 8 * MIB));
}

/// It ends as what was copied, so comparing sees nothing.
#[test]
fn what_is_written_and_written_back_stays_where_the_kernel_tells() {
    let Some(watch) = Watch::open(Path::new("/proc")).map(Result::unwrap) else {
        eprintln!("not run: this kernel does not tell what was written");
        return;
    };
    let blocks = [Mapped::new(&content(0, 40 * MIB)), Mapped::new(&content(1, 40 * MIB))];
    let files = pieces_of(&blocks);
    let disk = open(&folder()).unwrap();
    let address = blocks[0].as_ptr() as usize + blocks[0].len() / 2;
    let mut gate = Meddling(|numbers: &[usize]| {
        let byte = address as *mut u8;
        // SAFETY: inside the first block, which nobody else uses here.
        unsafe { byte.write_volatile(byte.read_volatile()) };
        (0..numbers.len()).collect()
    });
    let limits = ParkLimits::default();
    // SAFETY: chunks of glibc's heap that only this test knows.
    let parked = unsafe {
        super::carry_out(Path::new("/proc"), Some(&watch), &disk, &files, &limits, &mut gate)
    };
    assert_eq!(parked.refused[0].why.0, Refusal::WrittenMeanwhile);
    assert!(parked.bytes >= of_block(&files, 1) && parked.bytes < total(&files), "{parked:?}");
    assert_untouched(&blocks, 0);
}

#[test]
fn what_the_gate_holds_back_is_not_touched() {
    let blocks = [Mapped::new(&content(0, 8 * MIB)), Mapped::new(&content(1, 8 * MIB))];
    let files = pieces_of(&blocks);
    let disk = open(&folder()).unwrap();
    let mut gate = Meddling(|_: &[usize]| vec![1]);
    let parked = carry_out(&disk, &files, &ParkLimits::default(), &mut gate);
    assert_eq!((parked.bytes, parked.refused.len()), (of_block(&files, 1), 1));
    assert_eq!(parked.refused[0].why.0, Refusal::InUseMeanwhile);
    assert_eq!(parked.refused[0].bytes, of_block(&files, 0));
    assert_untouched(&blocks, 0);
}

#[test]
fn memory_that_is_gone_when_it_is_written_is_no_fault() {
    let page = rustix::param::page_size();
    let piece = Piece { block: 0, range: page..2 * page, offset: 0 };
    let disk = open(&folder()).unwrap();
    let mut gate = Meddling(|_: &[usize]| Vec::new());
    let parked = carry_out(&disk, &[vec![piece]], &ParkLimits::default(), &mut gate);
    assert_eq!((parked.regions, parked.refused[0].blocks), (0, 1));
}

/// Cancels after the first batch, while the next files are written or wait.
struct Cancelling;

// SAFETY: nobody but the test's own thread knows the blocks.
unsafe impl Gate for Cancelling {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        (0..blocks.len()).for_each(swap);
        Ok(())
    }

    fn progress(&mut self, done: Bytes, _: Bytes) -> Result<(), Stop> {
        if done == Bytes::ZERO { Ok(()) } else { Err(Stop("the user cancelled".to_owned())) }
    }
}

#[test]
fn a_cancel_leaves_what_was_written_ahead_as_it_was() {
    let blocks = blocks();
    let files = pieces_of(&blocks);
    let disk = open(&folder()).unwrap();
    let parked = carry_out(&disk, &files, &ParkLimits::default(), &mut Cancelling);
    assert_eq!(parked.stopped, Some(Why(Stopped::Cancelled)));
    assert_eq!(parked.bytes, total(&files[..FEWEST_FILES]));
    assert_untouched(&blocks, 0);
}

#[test]
fn no_time_means_nothing_is_begun() {
    let blocks = [content(0, 8 * MIB)];
    let files = pieces_of(&blocks);
    let limits = ParkLimits { seconds: 0.0, ..ParkLimits::default() };
    let disk = Faulty::new(0, Fault::Error(libc::EIO));
    let parked = carry_out(&disk, &files, &limits, &mut Open);
    assert_eq!((parked.bytes, disk.calls.into_inner()), (Bytes::ZERO, 0));
    assert_eq!(parked.stopped, Some(Why(Stopped::Time { seconds: 0.0 })));
}

#[test]
fn a_folder_that_cannot_take_spill_files_says_what_would_help() {
    for (path, word) in [
        ("/dev/shm", "tmpfs"),
        ("/no/such/folder", "No such file"),
        ("/proc/self/status", "not a folder"),
        ("/proc", "not known to keep files on a disk"),
    ] {
        let error = open(Path::new(path)).unwrap_err();
        assert!(error.contains(word) && error.contains(path), "{error}");
    }
}
