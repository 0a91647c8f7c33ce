//! Parking on real file systems: ext4 and xfs, an overlay on each, what must be refused, and
//! a disk that runs full while it writes.
//!
//! Each test runs in a child with mounts of its own. When that ends, however it ends, its mounts go,
//! and with them their loop devices; the images lose their names as soon as they are mounted. It
//! takes root, and says "not run" where a tool or a right is missing.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::park::Parked;
use memsweep_os::Os;

const MIB: usize = 1024 * 1024;
/// Set in the child.
const CHILD: &str = "MEMSWEEP_TEST_MOUNTS";
/// How a child says that it could not do its work here.
const NOT_RUN: &str = "not run: ";

/// Runs the test of this name again in a child whose mounts nobody else sees. `true` in the child.
fn is_child(name: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    // The loader's own allocator stands in the way under valgrind, as it does for all parking.
    if std::env::var("LD_PRELOAD").unwrap_or_default().contains("vgpreload") {
        return false;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let made = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, place.path())
        .output();
    let Ok(output) = made else {
        eprintln!("{NOT_RUN}unshare is missing");
        return false;
    };
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for line in text.lines().filter(|line| line.contains(NOT_RUN)) {
        eprintln!("{line}");
    }
    let refused = text.contains("unshare failed") && !output.status.success();
    if refused {
        eprintln!("{NOT_RUN}{}", text.trim());
    }
    assert!(refused || output.status.success(), "{}: {text}", output.status);
    false
}

fn place() -> PathBuf {
    PathBuf::from(std::env::var_os(CHILD).unwrap())
}

/// A command that may be missing or refused. `Err` says so.
fn run(command: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(command)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .map_err(|error| format!("{command}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command} {}: {}", arguments.join(" "), error.trim()))
}

/// Whether it can go on; says why not.
fn can(done: Result<PathBuf, String>) -> Option<PathBuf> {
    done.map_err(|why| eprintln!("{NOT_RUN}{why}")).ok()
}

/// A new file system in a sparse file of `mib` in `disk`, mounted. The file has no name any more.
fn file_system(kind: &str, disk: &Path, mib: usize) -> Result<PathBuf, String> {
    let image = disk.join(format!("{kind}.image"));
    let file = fs::File::create(&image).map_err(|error| error.to_string())?;
    file.set_len((mib * MIB) as u64).map_err(|error| error.to_string())?;
    let at = disk.join(format!("{kind}-{}", fs::read_dir(disk).unwrap().count()));
    fs::create_dir(&at).unwrap();
    let name = image.to_str().unwrap();
    let quiet: &[&str] = if kind == "ext4" { &["-q", "-E", "lazy_itable_init=0"] } else { &["-q"] };
    let made = run(&format!("mkfs.{kind}"), &[quiet, &[name]].concat())
        .and_then(|()| run("mount", &["-o", "loop", name, at.to_str().unwrap()]));
    fs::remove_file(&image).unwrap();
    made.map(|()| at)
}

/// An overlay whose upper layer is in `upper`, mounted.
fn overlay(upper: &Path, option: &str) -> Result<PathBuf, String> {
    for part in ["upper", "work", "lower", "merged"] {
        fs::create_dir_all(upper.join(part)).unwrap();
    }
    let at = upper.join("merged");
    let layer = |name: &str| format!("{name}dir={}/{name}", upper.display());
    let options = format!("{},{},{}{option}", layer("upper"), layer("work"), layer("lower"));
    run("mount", &["-t", "overlay", "overlay", "-o", &options, at.to_str().unwrap()])?;
    Ok(at)
}

fn memory_file_system() -> Result<PathBuf, String> {
    let at = place().join(format!("memory-{}", fs::read_dir(place()).unwrap().count()));
    fs::create_dir(&at).unwrap();
    run("mount", &["-t", "tmpfs", "tmpfs", at.to_str().unwrap()]).map(|()| at)
}

/// Different on every page.
fn content(number: usize, bytes: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; bytes];
    bytes.iter_mut().step_by(509).enumerate().for_each(|(at, byte)| *byte = (at * 31) as u8);
    bytes
}

fn blocks(count: usize) -> Vec<Vec<u8>> {
    // Large enough to be mappings of their own, whatever was freed before.
    (0..count).map(|number| content(number, 33 * MIB)).collect()
}

fn park(blocks: &mut [Vec<u8>], folder: &Path) -> Result<Parked, String> {
    match Os::current().park_lent(blocks, folder) {
        Outcome::Parked(parked) => Ok(parked),
        Outcome::Unsupported(why) => Err(why.to_string()),
        other => panic!("{other:?}"),
    }
}

/// Blocks that differ from what was put into them, also when their pages come from the disk.
fn wrong(blocks: &[Vec<u8>], folder: &Path) -> Vec<usize> {
    let mut wrong = Vec::new();
    for look in 0..2 {
        for (number, memory) in blocks.iter().enumerate() {
            if *memory != content(number, memory.len()) && !wrong.contains(&number) {
                wrong.push(number);
            }
        }
        if look == 0 {
            // What is still on its way goes its way, and then leaves memory.
            let folder = fs::File::open(folder).unwrap();
            // SAFETY: a call on an open folder.
            unsafe { libc::syncfs(folder.as_raw_fd()) };
            for memory in blocks {
                let page = memory.as_ptr() as usize & !4095;
                // SAFETY: whole pages that hold the vector; no content changes.
                unsafe { libc::madvise(page as *mut _, memory.len(), libc::MADV_PAGEOUT) };
            }
        }
    }
    wrong
}

fn parks_in_one_go(kind: &str) {
    let Some(disk) = can(file_system(kind, &place(), 2048)) else { return };
    let Some(merged) = can(overlay(&disk, "")) else { return };
    for folder in [disk, merged] {
        // More than moves in the first hold.
        let mut blocks = blocks(8);
        let parked = park(&mut blocks, &folder).unwrap();
        assert_eq!(parked.stopped, None, "{}", folder.display());
        assert!(parked.bytes > Bytes::from_mib(8 * 32), "{parked:?}");
        assert!(Os::current().read().process.parked >= Some(parked.bytes));
        assert_eq!(wrong(&blocks, &folder), [0; 0], "{}", folder.display());
        let again = park(&mut blocks, &folder).unwrap();
        assert_eq!((again.bytes, again.already), (Bytes::ZERO, parked.bytes));
    }
}

#[test]
fn ext4_and_an_overlay_on_it_take_all_in_one_go() {
    if is_child("ext4_and_an_overlay_on_it_take_all_in_one_go") {
        parks_in_one_go("ext4");
    }
}

#[test]
fn xfs_and_an_overlay_on_it_take_all_in_one_go() {
    if is_child("xfs_and_an_overlay_on_it_take_all_in_one_go") {
        parks_in_one_go("xfs");
    }
}

#[test]
fn btrfs_and_an_overlay_on_it_are_refused_by_name() {
    if !is_child("btrfs_and_an_overlay_on_it_are_refused_by_name") {
        return;
    }
    let Some(disk) = can(file_system("btrfs", &place(), 512)) else { return };
    let Some(merged) = can(overlay(&disk, "")) else { return };
    for (folder, name) in [(&disk, "is on btrfs, "), (&merged, "is on overlay over btrfs, ")] {
        let error = park(&mut blocks(1), folder).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn what_is_memory_beneath_is_refused_by_name() {
    if !is_child("what_is_memory_beneath_is_refused_by_name") {
        return;
    }
    let refused = |folder: &Path| park(&mut blocks(1), folder).unwrap_err();
    let Some(memory) = can(memory_file_system()) else { return };
    let Some(merged) = can(overlay(&memory, "")) else { return };
    let error = refused(&merged);
    assert!(error.contains("overlay over tmpfs, which is memory"), "{error}");

    // As in a container: the upper layer's name leads nowhere.
    let hidden = memory_file_system().and_then(|memory| overlay(&memory, ""));
    let Some(merged) = can(hidden) else { return };
    let open = fs::File::open(&merged).unwrap();
    let memory = merged.parent().unwrap().to_str().unwrap();
    run("mount", &["-t", "tmpfs", "tmpfs", memory]).unwrap();
    let error = refused(&PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())));
    assert!(error.contains("the overlay keeps what was written"), "{error}");

    let Some(memory) = can(memory_file_system()) else { return };
    let Some(disk) = can(file_system("ext4", &memory, 256)) else { return };
    // The image has no name any more, and its kind is asked by its name.
    let backing = memory.join("ext4.image (deleted)");
    fs::write(backing, "").unwrap();
    let error = refused(&disk);
    assert!(error.contains("a loop device over tmpfs, which is memory"), "{error}");
}

#[test]
fn an_overlay_that_never_writes_is_refused_by_name() {
    if !is_child("an_overlay_that_never_writes_is_refused_by_name") {
        return;
    }
    let Some(disk) = can(file_system("ext4", &place(), 256)) else { return };
    let Some(merged) = can(overlay(&disk, ",volatile")) else { return };
    let error = park(&mut blocks(1), &merged).unwrap_err();
    assert!(error.contains("an overlay mounted volatile"), "{error}");
}

/// A disk of 1 GiB, as it says itself, that takes `mib` and then answers with errors.
fn failing(kind: &str, mib: usize, run: usize) -> Result<PathBuf, String> {
    let holder = place().join(format!("{kind}-{run}"));
    fs::create_dir(&holder).unwrap();
    let small = file_system("ext4", &holder, mib)?;
    file_system(kind, &small, 1024)
}

fn loses_nothing(kind: &str) {
    let runs = if std::env::var_os("MEMSWEEP_LARGE").is_some() { 20 } else { 2 };
    for run in 0..runs {
        let Some(disk) = can(failing(kind, 200 + 7 * run, run)) else { return };
        let Some(merged) = can(overlay(&disk, "")) else { return };
        let folder = if run % 2 == 0 { merged } else { disk };
        let mut blocks = blocks(14);
        let parked = park(&mut blocks, &folder).unwrap();
        eprintln!("run {run}, {}: {} moved, {:?}", folder.display(), parked.bytes, parked.stopped);
        assert_eq!(wrong(&blocks, &folder), [0; 0], "run {run}, {}: {parked:?}", folder.display());
        let why = parked.stopped.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(why.contains("flushing") || why.contains("disk space"), "run {run}: {parked:?}");
    }
}

#[test]
fn an_ext4_disk_that_runs_full_spoils_no_block() {
    if is_child("an_ext4_disk_that_runs_full_spoils_no_block") {
        loses_nothing("ext4");
    }
}

#[test]
fn an_xfs_disk_that_runs_full_spoils_no_block() {
    if is_child("an_xfs_disk_that_runs_full_spoils_no_block") {
        loses_nothing("xfs");
    }
}
