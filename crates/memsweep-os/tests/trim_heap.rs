//! A trim really returns a fragmented heap. Alone in its process, so that no other test's
//! memory moves the numbers.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use memsweep_core::action::Outcome;
use memsweep_os::Os;

/// Measured here, not by the code under test.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_heap_with_two_percent_left_is_given_back() {
    const BLOCK: usize = 100 * 1000;
    const COUNT: usize = 2684;
    const TOTAL: u64 = (BLOCK * COUNT) as u64;

    let base = anonymous_bytes();
    let mut blocks: Vec<Option<Vec<u8>>> =
        (0..COUNT).map(|i| Some(vec![i as u8 | 1; BLOCK])).collect();
    let full = anonymous_bytes();
    assert!(full - base > TOTAL * 9 / 10, "the blocks must be in RAM: {base} {full}");

    let mut freed = 0;
    for (index, block) in blocks.iter_mut().enumerate() {
        if index % 50 != 0 {
            freed += block.take().map_or(0, |bytes| bytes.len() as u64);
        }
    }
    let kept_by_heap = anonymous_bytes();
    assert!(kept_by_heap > base + TOTAL / 2, "freeing alone must not have returned it");

    let outcome = Os::current().trim_heap();
    let after = anonymous_bytes();
    let Outcome::Done { claimed: None, detail: Some(detail) } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(detail.contains("glibc"), "{detail}");
    let returned = full.saturating_sub(after);
    assert!(returned >= freed * 9 / 10, "{returned} of {freed} returned");

    for (index, block) in blocks.iter().enumerate() {
        if let Some(block) = block {
            assert!(block.iter().all(|byte| *byte == index as u8 | 1), "kept blocks are intact");
        }
    }
}
