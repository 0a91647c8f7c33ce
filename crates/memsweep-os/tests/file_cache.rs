//! Dropping real files' cached pages, checked by a page count that shares no code with it.
#![cfg(target_os = "linux")]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reason::{Nothing, Why};
use memsweep_os::{Os, Roots};
use tempfile::TempDir;

const PAGES: usize = 512;

fn page_bytes() -> usize {
    // SAFETY: takes a constant, has no other effect.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
}

/// In the build folder: a temporary folder can be on tmpfs, whose pages cannot be dropped.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A file whose pages are on disk and in the cache.
fn cached_file(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    let mut file = File::create(&path).unwrap();
    file.write_all(&content()).unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), content());
    path
}

fn content() -> Vec<u8> {
    (0..PAGES * page_bytes()).map(|i| (i % 251) as u8).collect()
}

/// A mapping of a whole file, unmapped when dropped.
struct Mapping {
    start: *mut libc::c_void,
    bytes: usize,
}

impl Mapping {
    fn of(path: &Path, protection: i32, flags: i32) -> Self {
        let file = File::open(path).unwrap();
        let bytes = usize::try_from(file.metadata().unwrap().len()).unwrap();
        // SAFETY: a new mapping at an address the kernel chooses.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Self { start, bytes }
    }

    fn cached_pages(&self) -> usize {
        let mut flags = vec![0u8; self.bytes.div_ceil(page_bytes())];
        // SAFETY: the range is mapped and there is a flag for each page.
        assert_eq!(unsafe { libc::mincore(self.start, self.bytes, flags.as_mut_ptr()) }, 0);
        flags.iter().filter(|flag| **flag & 1 == 1).count()
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped, private and writable where a test asks for this, and borrowed from us.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `of` with this length.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
}

fn cached_pages(path: &Path) -> usize {
    Mapping::of(path, libc::PROT_READ, libc::MAP_SHARED).cached_pages()
}

fn drop_cache(paths: &[&Path]) -> Outcome {
    let names: Vec<String> = paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    Os::current().drop_file_cache(&names)
}

#[test]
fn an_unmapped_file_leaves_the_cache_and_the_claim_is_what_left() {
    let folder = folder();
    let path = cached_file(&folder, "model");
    let before = cached_pages(&path);
    assert!(before > PAGES / 2, "the file must be cached first");
    let outcome = drop_cache(&[&path]);
    let after = cached_pages(&path);
    assert!(after < PAGES / 50, "{after} of {PAGES} pages stayed");
    let Outcome::Done { claimed: Some(claimed), .. } = outcome else { panic!("{outcome:?}") };
    let left = ((before - after) * page_bytes()) as u64;
    assert_eq!(claimed, Bytes(left));
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[test]
fn a_mapped_file_is_named_and_nothing_is_dropped() {
    let folder = folder();
    let path = cached_file(&folder, "mapped model");
    let mapping = Mapping::of(&path, libc::PROT_READ, libc::MAP_SHARED);
    let before = mapping.cached_pages();
    let outcome = drop_cache(&[&path]);
    let Outcome::NothingToDo(Why(Nothing::Other { text: reason })) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.contains("still mapped by this process"), "{reason}");
    assert!(reason.contains("mapped model"), "{reason}");
    assert_eq!(mapping.cached_pages(), before);
}

#[test]
fn a_file_mapped_under_another_name_is_still_mapped() {
    let folder = folder();
    let path = cached_file(&folder, "blob");
    let (hard, soft) = (folder.path().join("hard"), folder.path().join("soft"));
    fs::hard_link(&path, &hard).unwrap();
    std::os::unix::fs::symlink(&path, &soft).unwrap();
    let _mapping = Mapping::of(&path, libc::PROT_READ, libc::MAP_SHARED);
    for name in [&hard, &soft] {
        let outcome = drop_cache(&[name]);
        let Outcome::NothingToDo(Why(Nothing::Other { text: reason })) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(reason.contains("still mapped"), "{reason}");
    }
}

#[test]
fn private_writes_to_a_mapping_survive() {
    let folder = folder();
    let path = cached_file(&folder, "patched model");
    let mut mapping = Mapping::of(&path, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
    mapping.bytes().fill(7);
    let _ = drop_cache(&[&path]);
    // Even when the table of mappings cannot be read and the kernel is asked.
    let blind = Os::at(Roots { proc: folder.path().join("none"), sys: folder.path().join("none") });
    let _ = blind.drop_file_cache(&[path.to_str().unwrap().to_owned()]);
    assert!(mapping.bytes().iter().all(|byte| *byte == 7));
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[test]
fn each_file_has_its_own_fate() {
    let folder = folder();
    let (free, held) = (cached_file(&folder, "free"), cached_file(&folder, "held"));
    let missing = folder.path().join("missing");
    let empty = folder.path().join("empty");
    File::create(&empty).unwrap();
    let _mapping = Mapping::of(&held, libc::PROT_READ, libc::MAP_SHARED);
    let outcome = drop_cache(&[&free, &held, &missing, &empty, folder.path()]);
    let Outcome::Done { claimed: Some(_), detail: Some(detail) } = outcome else {
        panic!("{outcome:?}")
    };
    for part in [
        "page cache of 1 file dropped",
        "1 file not cached",
        "still mapped by this process: ",
        "missing: ",
        "not a regular file",
    ] {
        assert!(detail.contains(part), "{part:?} in {detail}");
    }
    assert!(cached_pages(&free) < PAGES / 50);
}

#[test]
fn nothing_named_and_nothing_there() {
    assert!(matches!(drop_cache(&[]), Outcome::NothingToDo { .. }));
    let outcome = drop_cache(&[Path::new("/memsweep/no/such/file")]);
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
}

#[test]
fn our_own_program_is_among_the_mapped_files() {
    let own = std::env::current_exe().unwrap().canonicalize().unwrap();
    let mapped = Os::current().mapped_files(&[Path::new("/")], &[]);
    assert!(mapped.contains(&own.to_str().unwrap().to_owned()), "{mapped:?}");
    let mut sorted = mapped.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(mapped, sorted);
}
