//! Two readings of a quiet process agree on what the C heap keeps, however many free blocks it has.
//! Alone in its process, so that no other test allocates.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use memsweep_core::bytes::Bytes;
use memsweep_os::{Detail, Os};

#[test]
fn readings_of_a_quiet_process_agree_on_the_heaps_free_bytes() {
    const BLOCK: usize = 1500;
    const KEPT: usize = 100_000;
    // valgrind brings an allocator of its own, and glibc's heap is not asked then.
    if std::env::var("LD_PRELOAD").unwrap_or_default().contains("vgpreload") {
        return;
    }
    let mut blocks: Vec<Option<Vec<u8>>> = (0..2 * KEPT).map(|_| Some(vec![1; BLOCK])).collect();
    blocks.iter_mut().step_by(2).for_each(|block| drop(block.take()));

    let mut reader = Os::current().reader();
    let slack: Vec<Option<Bytes>> =
        (0..24).map(|_| reader.read(Detail::Full).process.heap_slack).collect();
    let freed = Some(Bytes((KEPT * BLOCK) as u64));
    assert!(slack.iter().all(|known| *known >= freed), "{slack:?}");
    // A thread keeps some blocks of each size that it used for itself, and glibc counts them as used:
    // the first readings fill this cache with theirs.
    let (first, last) = (slack[0].unwrap().0, slack[23].unwrap().0);
    assert!(first.abs_diff(last) < 256 * 1024, "{slack:?}");
    assert_eq!(slack[16..], vec![slack[16]; 8], "{slack:?}");
    assert_eq!(reader.read(Detail::Quick).process.heap_slack, None);
    drop(blocks);
}
