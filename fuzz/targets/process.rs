//! `/proc/self/status`: each number is what a slower reader finds, or unknown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memsweep_fuzz::kibibytes;
use memsweep_os::fuzzing;

fuzz_target!(|content: &[u8]| {
    let memory = fuzzing::status(content);
    assert_eq!(memory.resident, kibibytes(content, "VmRSS"));
    assert_eq!(memory.anonymous, kibibytes(content, "RssAnon"));
    assert_eq!(memory.file_backed, kibibytes(content, "RssFile"));
    assert_eq!(memory.shared, kibibytes(content, "RssShmem"));
    assert_eq!(memory.swapped, kibibytes(content, "VmSwap"));
    let (locked, pinned) = (kibibytes(content, "VmLck"), kibibytes(content, "VmPin"));
    match memory.page_locked {
        Some(both) => {
            let sum = [locked, pinned].into_iter().flatten().map(|one| u128::from(one.0)).sum();
            assert_eq!(u128::from(both.0), u128::min(sum, u64::MAX.into()));
            assert!(locked.is_some() || pinned.is_some());
        }
        None => assert_eq!((locked, pinned), (None, None)),
    }
    assert_eq!(memory.heap_slack, None, "the file does not say it");
});
