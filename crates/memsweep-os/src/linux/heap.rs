//! The C heap: how much it keeps for itself, and giving that back.
//!
//! Every function is found by name at run time. So a musl build links, and a preloaded allocator is
//! trimmed in its own way.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::{mem, ptr};

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reason::{Missing, Nothing};

use super::allocator;
use super::libraries::{base_of, symbol};

/// glibc's `struct mallinfo2`, written out because musl's headers have none.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Mallinfo2 {
    arena: usize,
    ordblks: usize,
    smblks: usize,
    hblks: usize,
    hblkhd: usize,
    usmblks: usize,
    fsmblks: usize,
    uordblks: usize,
    fordblks: usize,
    keepcost: usize,
}

/// Free bytes that the heap keeps. An upper bound of what a trim gives back: pages that were given
/// back and not touched since still count.
///
/// Counted each time, so that two readings agree while nothing is allocated. The count visits every
/// free block with its arena locked. A block takes 0.006 us where the lists are in the order of the
/// memory and 0.2 us where they are scattered: 0.1 s for 500 thousand blocks, as long as a trim
/// that finds nothing. So only full readings count. While other threads allocate, the sum is not
/// one of a single moment, since the arenas are counted one after the other. Blocks in a thread's
/// own cache count as used.
///
/// `None` when another allocator is in use: under a preloaded jemalloc, glibc would truthfully
/// report 0 for its own unused heap.
pub(crate) fn slack() -> Option<Bytes> {
    let mallinfo2 = symbol(c"mallinfo2")?;
    if base_of(mallinfo2)? != allocator::base()? {
        return None;
    }
    // SAFETY: the C library documents `mallinfo2` with exactly this signature, and the layout
    // above is its public structure.
    let mallinfo2: extern "C" fn() -> Mallinfo2 = unsafe { mem::transmute(mallinfo2) };
    Some(Bytes(mallinfo2().fordblks as u64))
}

/// Trims every allocator that is loaded. Each call is harmless when its allocator is not in use.
pub(crate) fn trim() -> Outcome {
    let asked: Vec<Answer> =
        [trim_glibc(), purge_jemalloc(), collect_mimalloc(), release_tcmalloc()]
            .into_iter()
            .flatten()
            .collect();
    if asked.is_empty() {
        return Outcome::unsupported(Missing::NoHeapCall);
    }
    let names = |wanted: fn(&Answer) -> bool| {
        let chosen: Vec<&str> = asked.iter().filter(|a| wanted(a)).map(|a| a.name).collect();
        (!chosen.is_empty()).then(|| chosen.join(", "))
    };
    let refused = names(|answer| matches!(answer.result, Asked::Refused));
    match (names(|answer| matches!(answer.result, Asked::Trimmed)), refused) {
        (Some(trimmed), None) => done(format!("trimmed {trimmed}")),
        (Some(trimmed), Some(refused)) => done(format!("trimmed {trimmed}; refused by {refused}")),
        (None, Some(refused)) => Outcome::Failed { error: format!("trim refused by {refused}") },
        (None, None) => Outcome::nothing(Nothing::HeapInUse),
    }
}

fn done(detail: String) -> Outcome {
    Outcome::Done { claimed: None, detail: Some(detail) }
}

struct Answer {
    name: &'static str,
    result: Asked,
}

enum Asked {
    Trimmed,
    NothingFree,
    Refused,
}

/// Trims all arenas since glibc 2.8. About 70 ms per GB released, and a visit to each free block.
fn trim_glibc() -> Option<Answer> {
    let malloc_trim = symbol(c"malloc_trim")?;
    // SAFETY: `int malloc_trim(size_t)` in every C library that has it.
    let malloc_trim: extern "C" fn(usize) -> c_int = unsafe { mem::transmute(malloc_trim) };
    let result = if malloc_trim(0) == 0 { Asked::NothingFree } else { Asked::Trimmed };
    Some(Answer { name: "glibc", result })
}

type Mallctl =
    unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;

fn purge_jemalloc() -> Option<Answer> {
    let mallctl = symbol(c"mallctl").or_else(|| symbol(c"je_mallctl"))?;
    // SAFETY: jemalloc documents `mallctl` with exactly this signature.
    let mallctl: Mallctl = unsafe { mem::transmute(mallctl) };
    let command = |name: &CStr| {
        // SAFETY: the name is a C string; a command without input or output takes null pointers.
        unsafe { mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0) }
    };
    // Only the calling thread's cache. Fails when thread caches are off, and then there is none.
    let _ = command(c"thread.tcache.flush");
    // 4096 means all arenas since jemalloc 5.
    let result = if command(c"arena.4096.purge") == 0 { Asked::Trimmed } else { Asked::Refused };
    Some(Answer { name: "jemalloc", result })
}

/// Collects the calling thread's heap and abandoned pages.
fn collect_mimalloc() -> Option<Answer> {
    let mi_collect = symbol(c"mi_collect")?;
    // SAFETY: `void mi_collect(bool)` in every version of mimalloc.
    let mi_collect: extern "C" fn(bool) = unsafe { mem::transmute(mi_collect) };
    mi_collect(true);
    Some(Answer { name: "mimalloc", result: Asked::Trimmed })
}

fn release_tcmalloc() -> Option<Answer> {
    let release = symbol(c"MallocExtension_ReleaseFreeMemory")?;
    // SAFETY: `void MallocExtension_ReleaseFreeMemory(void)` in gperftools' C interface.
    let release: extern "C" fn() = unsafe { mem::transmute(release) };
    release();
    Some(Answer { name: "tcmalloc", result: Asked::Trimmed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_env = "gnu")]
    fn freed_small_blocks_show_up_as_slack() {
        let blocks: Vec<Vec<u8>> = (0..4096).map(|_| vec![1; 4096]).collect();
        // Every second block is kept, so that the heap cannot shrink from its end.
        let kept: Vec<Vec<u8>> = blocks.into_iter().step_by(2).collect();
        let slack = slack().unwrap();
        assert!(slack >= Bytes(2047 * 4096), "{slack}");
        assert!(slack < Bytes(1 << 32), "{slack}");
        drop(kept);
    }
}
