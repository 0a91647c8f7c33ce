//! What a reading costs, printed and not judged:
//! `cargo test --release -p memsweep-os --test reader_cost -- --ignored --nocapture`.
#![cfg(target_os = "linux")]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[allow(dead_code, reason = "it is also the machine of tests")]
mod tree;

use std::time::{Duration, Instant};

use memsweep_os::{Detail, Os};

use self::tree::{Tree, amd_tree};

/// The median and the longest of many readings.
fn show(name: &str, os: &Os, detail: Detail) {
    const TIMES: usize = 201;
    let mut reader = os.reader();
    let _ = reader.read(detail);
    let mut took: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let begun = Instant::now();
            let _ = reader.read(detail);
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    let (median, most) = (took[TIMES / 2].as_micros(), took[TIMES - 1].as_micros());
    println!("{name:40} {detail:?}: median {median:6} us, longest {most:6} us");
}

fn show_both(name: &str, os: &Os) {
    show(name, os, Detail::Quick);
    show(name, os, Detail::Full);
}

/// A container host: thousands of mounts, six levels of groups, a card, many descriptors.
fn crowded() -> Tree {
    let tree = amd_tree();
    let other =
        "77 31 0:50 / /var/lib/containers/a/merged rw shared:1 - overlay o rw,upperdir=/b\n";
    let mounts = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    tree.write("proc/self/mountinfo", (other.repeat(5000) + mounts).as_bytes());
    tree.write("proc/self/cgroup", b"0::/a/b/c/d/e/f\n");
    for level in ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "a/b/c/d/e/f"] {
        tree.write(&format!("sys/fs/cgroup/{level}/memory.max"), b"500\n");
        tree.write(&format!("sys/fs/cgroup/{level}/memory.current"), b"400\n");
    }
    for descriptor in 10..500 {
        tree.write(&format!("proc/self/fdinfo/{descriptor}"), b"pos:\t0\n");
        tree.link(&format!("proc/self/fd/{descriptor}"), "/models/some.file");
    }
    tree
}

#[test]
#[ignore = "prints numbers"]
fn what_a_reading_costs() {
    show_both("this machine", &Os::current());
    show_both("recorded files of a container host", &crowded().os());
    let mut blocks: Vec<Option<Vec<u8>>> = (0..200_000).map(|_| Some(vec![1; 1500])).collect();
    blocks.iter_mut().step_by(2).for_each(|block| drop(block.take()));
    show_both("this machine, 100 000 free blocks", &Os::current());
    drop(blocks);
}
