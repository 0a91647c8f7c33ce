//! Giving the heaps' free pages back. Windows does not report how much that was.

use std::ffi::{CStr, c_void};
use std::mem;
use std::ptr::{self, NonNull};

use memsweep_core::action::Outcome;
use windows_sys::Win32::System::Memory::{
    GetProcessHeap, HEAP_NONE, HeapCompact, HeapOptimizeResources, HeapSetInformation,
};
use windows_sys::Win32::System::SystemServices::{
    HEAP_OPTIMIZE_RESOURCES_CURRENT_VERSION, HEAP_OPTIMIZE_RESOURCES_INFORMATION,
};

use super::libraries::Library;

pub(crate) fn trim() -> Outcome {
    let mut done = Vec::new();
    if optimize_all_heaps() {
        done.push("HeapOptimizeResources");
    }
    // Only the default heap, which the C runtime allocates from: the owner of another heap may
    // destroy it at any moment, or may have made it without a lock. SAFETY: the default heap exists
    // as long as the process and is serialized.
    unsafe { HeapCompact(GetProcessHeap(), HEAP_NONE) };
    done.push("HeapCompact");
    if minimize_c_runtime() {
        done.push("_heapmin");
    }
    if collect_mimalloc() {
        done.push("mimalloc");
    }
    Outcome::Done { claimed: None, detail: Some(format!("called {}", done.join(", "))) }
}

/// Decommits the caches of all low-fragmentation heaps. Windows 8.1 and later.
fn optimize_all_heaps() -> bool {
    let information = HEAP_OPTIMIZE_RESOURCES_INFORMATION {
        Version: HEAP_OPTIMIZE_RESOURCES_CURRENT_VERSION,
        Flags: 0,
    };
    // SAFETY: for this class a null heap means all heaps; the structure outlives the call and its
    // size is passed along.
    let answer = unsafe {
        HeapSetInformation(
            ptr::null_mut(),
            HeapOptimizeResources,
            (&raw const information).cast(),
            mem::size_of_val(&information),
        )
    };
    answer != 0
}

fn minimize_c_runtime() -> bool {
    let Some((_library, heapmin)) = function("ucrtbase.dll", c"_heapmin") else { return false };
    // SAFETY: `int _heapmin(void)` in the universal C runtime, which stays loaded during the call.
    let heapmin: extern "C" fn() -> i32 = unsafe { mem::transmute(heapmin) };
    heapmin() == 0
}

fn collect_mimalloc() -> bool {
    let Some((_library, mi_collect)) = function("mimalloc.dll", c"mi_collect") else {
        return false;
    };
    // SAFETY: `void mi_collect(bool)` in every version of mimalloc, which stays loaded during the
    // call.
    let mi_collect: extern "C" fn(bool) = unsafe { mem::transmute(mi_collect) };
    mi_collect(true);
    true
}

/// A function of a library that is already loaded, and what keeps it loaded.
fn function(library: &str, name: &CStr) -> Option<(Library, NonNull<c_void>)> {
    let library = Library::named(library).pop()?;
    let function = library.function(name)?;
    Some((library, function))
}
