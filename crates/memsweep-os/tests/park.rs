//! Parking real memory of this process: what it gives back, and what it must leave alone.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, ptr, slice};

use memsweep_core::bytes::Bytes;
use memsweep_core::park::{ParkLimits, Parked, choose};
use memsweep_os::{Block, Detail, Gate, Os, Stop};

const MIB: usize = 1024 * 1024;

/// The tests look at the memory of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// `None` under valgrind, whose own allocator takes the place of glibc's: nothing is parked there.
fn alone() -> Option<MutexGuard<'static, ()>> {
    let preloaded = std::env::var("LD_PRELOAD").unwrap_or_default();
    if preloaded.contains("vgpreload") {
        return None;
    }
    Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

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

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn block(memory: &[u8]) -> Block {
    Block { address: memory.as_ptr() as usize, bytes: memory.len() }
}

/// Parks what can be parked of these blocks.
fn park(blocks: &[Block]) -> Parked {
    let limits = ParkLimits::default();
    let survey = Os::current().survey(&folder(), blocks).unwrap();
    let choice = choose(&survey.facts, &survey.room, &limits);
    // SAFETY: chunks of glibc's heap or mappings of the test's own, which only the test knows.
    let mut parked = unsafe { survey.park(&choice.blocks, &limits, &mut Open) };
    parked.refused.extend(choice.refused);
    parked
}

fn anonymous() -> u64 {
    Os::current().read().process.anonymous.unwrap().0
}

fn content(number: usize, bytes: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; bytes];
    bytes.iter_mut().step_by(509).enumerate().for_each(|(at, byte)| *byte = (at * 31) as u8);
    bytes
}

#[test]
fn pages_leave_and_every_use_of_the_memory_goes_on() {
    let Some(_alone) = alone() else { return };
    let mut blocks: Vec<Vec<u8>> = (0..60).map(|n| content(n, MIB + n * 12_345)).collect();
    let before = anonymous();
    let parked = park(&blocks.iter().map(|memory| block(memory)).collect::<Vec<_>>());
    let fallen = before - anonymous();
    let all: usize = blocks.iter().map(Vec::len).sum();
    assert!(parked.bytes.plus(parked.already).0 as usize > all * 99 / 100, "{parked:?}");
    assert!(fallen > parked.bytes.0 * 95 / 100, "{fallen} of {}", parked.bytes.0);
    assert_eq!((parked.stopped, parked.refused), (None, Vec::new()));
    assert_eq!(Os::current().read().process.parked, Some(Bytes(spilled() as u64)));
    assert_eq!(Os::current().reader().read(Detail::Quick).process.parked, None, "it costs a look");

    for (number, memory) in blocks.iter().enumerate() {
        assert!(*memory == content(number, memory.len()), "block {number}");
    }
    blocks.iter_mut().for_each(|memory| memory.fill(7));
    assert!(blocks.iter().all(|memory| memory.iter().all(|byte| *byte == 7)));
    blocks.iter_mut().for_each(|memory| memory.extend_from_slice(&[8; 4096]));
    assert!(blocks.iter().all(|memory| memory.ends_with(&[7, 8][1..])));
    drop(blocks);
    let zeroed: Vec<Vec<u8>> = (0..200).map(|n| vec![0; 300_000 + n * 4097]).collect();
    assert!(zeroed.iter().all(|memory| memory.iter().all(|byte| *byte == 0)));
    drop(zeroed);
    let _ = Os::current().trim_heap();
    let again: Vec<Vec<u8>> = (0..200).map(|n| vec![0; 300_000 + n * 4097]).collect();
    assert!(again.iter().all(|memory| memory.iter().all(|byte| *byte == 0)));
}

#[test]
fn what_is_parked_and_clean_is_not_written_again() {
    let Some(_alone) = alone() else { return };
    let mut memory = content(1, 40 * MIB);
    let first = park(&[block(&memory)]);
    assert!(memory.iter().map(|byte| u64::from(*byte)).sum::<u64>() > 0);
    let second = park(&[block(&memory)]);
    assert_eq!((second.bytes, second.regions), (Bytes::ZERO, 0));
    assert_eq!(second.already, first.bytes);
    // Most of what was read above is gone again.
    assert!(second.in_memory.unwrap() < Bytes(first.in_memory.unwrap().0 + 2 * MIB as u64));
    // A little written stays in memory; much of it is written again.
    memory[10 * MIB] ^= 1;
    assert_eq!(park(&[block(&memory)]).bytes, Bytes::ZERO);
    memory[..20 * MIB].iter_mut().step_by(4096).for_each(|byte| *byte ^= 2);
    let third = park(&[block(&memory)]);
    assert!(third.bytes > Bytes::from_mib(19) && third.bytes <= first.bytes, "{third:?}");
    let mut expected = content(1, 40 * MIB);
    expected[10 * MIB] ^= 1;
    expected[..20 * MIB].iter_mut().step_by(4096).for_each(|byte| *byte ^= 2);
    assert!(memory == expected);
}

/// Bytes that the process's mappings of nameless files take on disk.
fn spilled() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let lines = maps.lines().filter(|line| line.ends_with("(deleted)") && line.contains("/#"));
    lines
        .map(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split_once(' ').unwrap().0;
            usize::from_str_radix(end, 16).unwrap() - usize::from_str_radix(start, 16).unwrap()
        })
        .sum()
}

#[test]
fn disk_space_comes_back_when_the_memory_is_freed() {
    let Some(_alone) = alone() else { return };
    let before = spilled();
    // Large chunks are freed by unmapping them.
    let memory = content(3, 200 * MIB);
    let parked = park(&[block(&memory)]);
    assert!(parked.bytes > Bytes::from_mib(199), "{parked:?}");
    drop(memory);
    // Less, where heap that other tests parked went as well.
    let after = spilled();
    assert!(after <= before, "{after} {before}");
    let parked = Os::current().read().process.parked.unwrap();
    assert_eq!(parked.0 as usize, after);
}

#[test]
fn freed_heap_leaves_its_files_when_it_is_trimmed() {
    let Some(_alone) = alone() else { return };
    // From now on blocks of this size are not mapped one by one, but come from the heap.
    drop(vec![1_u8; 31 * MIB]);
    let mut blocks: Vec<Vec<u8>> = (0..30).map(|n| content(n, 3 * MIB + n * 8192)).collect();
    // Something that stays, so that neither the heap ends before it nor all chunks become one.
    let kept: Vec<Vec<u8>> = blocks.iter_mut().skip(2).step_by(3).map(std::mem::take).collect();
    let _last = content(0, 100_000);
    let all = blocks.iter().chain(&kept).filter(|memory| !memory.is_empty());
    let parked = park(&all.map(|memory| block(memory)).collect::<Vec<_>>());
    assert!(parked.bytes > Bytes::from_mib(90), "{parked:?}");
    let freed: usize = blocks.iter().map(Vec::len).sum();
    drop(blocks);
    let tied = spilled();
    let _ = Os::current().trim_heap();
    // All but the end of a heap, which is in no list of free chunks.
    assert!(spilled() + freed <= tied + 4 * MIB, "{freed} freed, {tied} before, {}", spilled());
    for (number, memory) in kept.iter().enumerate() {
        assert!(*memory == content(3 * number + 2, memory.len()), "block {number}");
    }
    let mut again: Vec<Vec<u8>> = (0..20).map(|n| vec![0; 3 * MIB + n * 8192]).collect();
    assert!(again.iter().all(|memory| memory.iter().all(|byte| *byte == 0)));
    again.iter_mut().for_each(|memory| memory.fill(1));
}

/// Memory that did not come from the heap.
struct Mapping(*mut libc::c_void, usize);

impl Mapping {
    fn new(bytes: usize, flags: libc::c_int) -> Option<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_ANONYMOUS | flags, -1, 0)
        };
        (start != libc::MAP_FAILED).then_some(Self(start, bytes))
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped, and borrowed through us.
        unsafe { slice::from_raw_parts_mut(self.0.cast(), self.1) }
    }

    fn block(&self) -> Block {
        Block { address: self.0 as usize, bytes: self.1 }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this length.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

fn refused(mapping: &mut Mapping) -> String {
    mapping.bytes().fill(5);
    let parked = park(&[mapping.block()]);
    assert_eq!(parked.bytes, Bytes::ZERO);
    assert!(mapping.bytes().iter().all(|byte| *byte == 5));
    parked.refused.into_iter().map(|row| row.why.to_string()).collect()
}

#[test]
fn special_memory_is_left_alone() {
    let Some(_alone) = alone() else { return };
    let mut shared = Mapping::new(4 * MIB, libc::MAP_SHARED).unwrap();
    assert_eq!(refused(&mut shared), "shared with other processes");

    let mut locked = Mapping::new(2 * MIB, libc::MAP_PRIVATE).unwrap();
    // SAFETY: our own mapping.
    assert_eq!(unsafe { libc::mlock(locked.0, MIB) }, 0);
    assert_eq!(refused(&mut locked), "page-locked");

    let mut kept = Mapping::new(2 * MIB, libc::MAP_PRIVATE).unwrap();
    // SAFETY: our own mapping; children will not see it.
    assert_eq!(unsafe { libc::madvise(kept.0, 2 * MIB, libc::MADV_DONTFORK) }, 0);
    assert_eq!(refused(&mut kept), "mapped in a special way");

    // A machine has such pages only when its owner set them aside.
    if let Some(mut huge) = Mapping::new(4 * MIB, libc::MAP_PRIVATE | libc::MAP_HUGETLB) {
        let reason = refused(&mut huge);
        assert!(reason.contains("huge pages"), "{reason}");
    }
}

/// Does something to the memory when it is about to be swapped.
struct Meanwhile<F>(F);

// SAFETY: nobody but the test's own thread knows the blocks.
unsafe impl<F: FnMut()> Gate for Meanwhile<F> {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        (self.0)();
        (0..blocks.len()).for_each(swap);
        Ok(())
    }

    fn progress(&mut self, _: Bytes, _: Bytes) -> Result<(), Stop> {
        Ok(())
    }
}

#[test]
fn memory_that_becomes_special_after_the_survey_is_left_alone() {
    let Some(_alone) = alone() else { return };
    let advise = |at, advice| {
        // SAFETY: advice on a mapping of the test's own; no content changes.
        unsafe { libc::madvise(at, MIB, advice) }
    };
    let cases: [(&dyn Fn(*mut libc::c_void) -> libc::c_int, &str); 4] = [
        // SAFETY: a mapping of the test's own; no content changes.
        (&|at| unsafe { libc::mlock(at, MIB) }, "page-locked"),
        (&|at| advise(at, libc::MADV_DONTFORK), "mapped in a special way"),
        (&|at| advise(at, libc::MADV_WIPEONFORK), "mapped in a special way"),
        // SAFETY: a mapping of the test's own, which is only read from here on.
        (&|at| unsafe { libc::mprotect(at, MIB, libc::PROT_READ) }, "not writable"),
    ];
    for (act, reason) in cases {
        let mut mapping = Mapping::new(4 * MIB, libc::MAP_PRIVATE).unwrap();
        mapping.bytes().fill(5);
        let limits = ParkLimits::default();
        let survey = Os::current().survey(&folder(), &[mapping.block()]).unwrap();
        let inside = mapping.0.wrapping_byte_add(2 * MIB);
        let mut gate = Meanwhile(|| assert_eq!(act(inside), 0));
        // SAFETY: a mapping of the test's own, which only the test knows.
        let parked = unsafe { survey.park(&[0], &limits, &mut gate) };
        assert_eq!((parked.bytes, parked.regions), (Bytes::ZERO, 0), "{reason}");
        assert_eq!(parked.refused[0].why.to_string(), reason);
        assert!(mapping.bytes().iter().all(|byte| *byte == 5));
    }
}

/// Records what it is called with.
#[derive(Default)]
struct Telling(Vec<String>);

// SAFETY: nobody but the test's own thread knows the blocks.
unsafe impl Gate for Telling {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        self.0.push("hold".to_owned());
        (0..blocks.len()).for_each(swap);
        Ok(())
    }

    fn progress(&mut self, done: Bytes, total: Bytes) -> Result<(), Stop> {
        self.0.push(format!("{}", done.0 * 100 / total.0));
        Ok(())
    }
}

#[test]
fn progress_is_reported_before_the_first_hold_and_after_each() {
    let Some(_alone) = alone() else { return };
    let memory = content(1, 8 * MIB);
    let survey = Os::current().survey(&folder(), &[block(&memory)]).unwrap();
    let mut gate = Telling::default();
    // SAFETY: a chunk of glibc's heap, which only this test knows.
    let parked = unsafe { survey.park(&[0], &ParkLimits::default(), &mut gate) };
    assert_eq!(gate.0, ["0", "hold", "100"]);
    // What was on the way at once is all there is, or less.
    assert!(parked.in_flight >= Some(parked.bytes) && parked.in_flight <= Some(Bytes::from_mib(8)));
}

#[test]
fn blocks_that_are_gone_when_they_are_surveyed_or_written_do_no_harm() {
    let Some(_alone) = alone() else { return };
    let mapping = Mapping::new(4 * MIB, libc::MAP_PRIVATE).unwrap();
    let gone = mapping.block();
    drop(mapping);
    assert!(!Os::current().is_heap_chunk(gone.address, gone));
    let parked = park(&[gone]);
    assert_eq!((parked.bytes, &*parked.refused[0].why.to_string()), (Bytes::ZERO, "not mapped"));
    // Parked already, and unmapped before it is asked to leave memory again.
    let mut mapping = Mapping::new(4 * MIB, libc::MAP_PRIVATE).unwrap();
    mapping.bytes().fill(1);
    assert!(park(&[mapping.block()]).bytes > Bytes::ZERO);
    let survey = Os::current().survey(&folder(), &[mapping.block()]).unwrap();
    drop(mapping);
    // SAFETY: nothing is swapped, as all of it was parked before.
    let parked = unsafe { survey.park(&[0], &ParkLimits::default(), &mut Open) };
    assert_eq!(parked.bytes, Bytes::ZERO);
}

#[test]
fn transparent_huge_pages_are_split() {
    let Some(_alone) = alone() else { return };
    let mut mapping = Mapping::new(64 * MIB, libc::MAP_PRIVATE).unwrap();
    // SAFETY: our own mapping.
    unsafe { libc::madvise(mapping.0, 64 * MIB, libc::MADV_HUGEPAGE) };
    mapping.bytes().fill(9);
    // Begins and ends inside a huge page.
    let inside = Block { address: mapping.0 as usize + 12_288, bytes: 40 * MIB + 4096 };
    let parked = park(&[inside]);
    assert_eq!(parked.bytes.0 as usize, inside.bytes, "{parked:?}");
    assert!(mapping.bytes().iter().all(|byte| *byte == 9));
}

#[test]
fn a_large_reservation_costs_nothing() {
    let Some(_alone) = alone() else { return };
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let mut mapping = Mapping::new(64 * 1024 * MIB, flags).unwrap();
    mapping.bytes()[32 * 1024 * MIB..][..40 * MIB].fill(3);
    let parked = park(&[mapping.block()]);
    assert!(
        parked.bytes >= Bytes::from_mib(32) && parked.bytes <= Bytes::from_mib(96),
        "{parked:?}"
    );
    assert!(mapping.bytes()[32 * 1024 * MIB..][..40 * MIB].iter().all(|byte| *byte == 3));
    assert_eq!(mapping.bytes()[5 * 1024 * MIB], 0);
}

#[test]
fn a_process_with_many_mappings_parks_a_few_blocks_or_none() {
    let Some(_alone) = alone() else { return };
    let memory = content(1, 8 * MIB);
    let limit: usize =
        fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let mappings = |share: usize| {
        // Every second page has other rights, so that none joins its neighbour.
        let pages = (limit * share / 100).min(200_000);
        let mapping = Mapping::new(pages * 4096, libc::MAP_PRIVATE).unwrap();
        for page in (0..pages).step_by(2) {
            let at = mapping.0 as usize + page * 4096;
            // SAFETY: our own mapping, and nobody reads it.
            unsafe { libc::mprotect(at as *mut libc::c_void, 4096, libc::PROT_READ) };
        }
        mapping
    };
    if limit > 200_000 {
        return;
    }
    {
        let _many = mappings(60);
        assert!(park(&[block(&memory)]).bytes > Bytes::from_mib(7));
    }
    {
        let _nearly_all = mappings(92);
        let memory = content(2, 8 * MIB);
        let error = Os::current().survey(&folder(), &[block(&memory)]).unwrap_err();
        assert!(error.to_string().contains("max_map_count"), "{error}");
        assert!(memory == content(2, 8 * MIB));
    }
    assert!(memory == content(1, 8 * MIB));
}

#[test]
fn a_forked_child_keeps_its_own_view() {
    let Some(_alone) = alone() else { return };
    let mut memory = content(6, 16 * MIB);
    park(&[block(&memory)]);
    let mut ends = [0; 2];
    // SAFETY: two new descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child below only reads memory, a pipe, and exits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut go = 0_u8;
        // SAFETY: one byte of our own; the parent has changed and freed its memory by then.
        unsafe { libc::read(ends[0], (&raw mut go).cast(), 1) };
        let same = memory.iter().step_by(4096).enumerate().all(|(page, byte)| {
            let at = page * 4096;
            *byte == if at % 509 == 0 { (at / 509 * 31) as u8 } else { 6 }
        });
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(if same { 0 } else { 1 }) };
    }
    memory.fill(0);
    drop(memory);
    let other = content(9, 16 * MIB);
    park(&[block(&other)]);
    // SAFETY: one byte of our own.
    unsafe { libc::write(ends[1], [1_u8].as_ptr().cast(), 1) };
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 0);
    assert!(other == content(9, 16 * MIB));
}

#[test]
fn a_spill_folder_that_is_removed_takes_nothing_with_it() {
    let Some(_alone) = alone() else { return };
    let place = folder().join(format!("spill-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    let memory = content(4, 8 * MIB);
    let limits = ParkLimits::default();
    let survey = Os::current().survey(&place, &[block(&memory)]).unwrap();
    // SAFETY: a chunk of glibc's heap, which only this test knows.
    let parked = unsafe { survey.park(&[0], &limits, &mut Open) };
    assert!(parked.bytes > Bytes::from_mib(7));
    fs::remove_dir(&place).unwrap();
    assert!(memory == content(4, 8 * MIB));
    let error = Os::current().survey(&place, &[block(&memory)]).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn only_chunks_of_the_c_heap_are_recognised() {
    let Some(_alone) = alone() else { return };
    let os = Os::current();
    for bytes in [MIB, 3 * MIB + 77, 64 * MIB] {
        let memory = content(1, bytes);
        assert!(os.is_heap_chunk(memory.as_ptr() as usize, block(&memory)), "{bytes}");
        let inside = Block { address: memory.as_ptr() as usize + 48, bytes: bytes - 48 };
        assert!(os.is_heap_chunk(memory.as_ptr() as usize, inside));
        assert!(!os.is_heap_chunk(inside.address, inside));
    }
    let mut mapping = Mapping::new(4 * MIB, libc::MAP_PRIVATE).unwrap();
    mapping.bytes().fill(1);
    assert!(!os.is_heap_chunk(mapping.0 as usize, mapping.block()));
    let inside = Block { address: mapping.0 as usize + 4096, bytes: MIB };
    assert!(!os.is_heap_chunk(inside.address, inside));
    // Behind a guard page, as allocators that look for overruns lay out their blocks.
    // SAFETY: our own mapping, and nobody reads its first page.
    assert_eq!(unsafe { libc::mprotect(mapping.0, 4096, libc::PROT_NONE) }, 0);
    assert!(!os.is_heap_chunk(inside.address, inside));
}

/// Another allocator is recognised by its functions; a small one is built here.
#[test]
fn under_another_allocator_nothing_is_parked() {
    const CHILD: &str = "MEMSWEEP_TEST_PRELOADED";
    if std::env::var_os(CHILD).is_some() {
        let memory = content(1, 2 * MIB);
        let error = Os::current().survey(&folder(), &[block(&memory)]).unwrap_err();
        assert!(error.to_string().contains("cannot be parked"), "{error}");
        return;
    }
    let source = folder().join("other-malloc.c");
    let library = folder().join("other-malloc.so");
    fs::write(&source, "extern void *__libc_malloc(unsigned long);\nvoid *malloc(unsigned long n) { return __libc_malloc(n); }\n").unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library as &Path, &source])
        .status()
        .unwrap();
    assert!(made.success());
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "under_another_allocator_nothing_is_parked"])
        .env(CHILD, "1")
        .env("LD_PRELOAD", &library)
        .status()
        .unwrap();
    assert!(status.success());
}
