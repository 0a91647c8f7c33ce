//! The C heap: what it keeps for itself, and giving it back.
//!
//! Everything is found by name at run time. So a musl build links, and an allocator that was
//! preloaded (people run ComfyUI under jemalloc, mimalloc and tcmalloc) is asked in its own way.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{mem, ptr};

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reason::{Missing, Nothing};

use crate::park::Block;
use crate::platform::unsupported;

/// The C library's `struct mallinfo2`, written out because musl's headers have none.
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

/// Free bytes the heap keeps. An upper bound of what a trim returns: pages that were given back
/// and not touched since still count.
///
/// `None` when the allocator in use is not the one that answers: under a preloaded jemalloc,
/// glibc would truthfully say 0 about a heap that nobody uses. Also `None` for a while after a
/// count that was expensive, see [`rest_after`].
pub(crate) fn slack() -> Option<Bytes> {
    // Milliseconds of our clock. Not a lock: a forked child would inherit it locked.
    static RESTS_UNTIL: AtomicU64 = AtomicU64::new(0);
    let now = (crate::seconds() * 1000.0) as u64;
    if now < RESTS_UNTIL.load(Ordering::Relaxed) {
        return None;
    }
    let mallinfo2 = symbol(c"mallinfo2")?;
    if object_of(mallinfo2)? != allocator()? {
        return None;
    }
    // SAFETY: the C library documents `mallinfo2` with exactly this signature, and the layout
    // above is its public structure.
    let mallinfo2: extern "C" fn() -> Mallinfo2 = unsafe { mem::transmute(mallinfo2) };
    let info = mallinfo2();
    RESTS_UNTIL.store(now.saturating_add(rest_after(info.ordblks)), Ordering::Relaxed);
    Some(Bytes(info.fordblks as u64))
}

/// For how many milliseconds not to count again after a count that met so many free blocks.
///
/// Every block is visited with its arena locked: 0.16 ms for 50 thousand neighbouring blocks,
/// 10 ms for 500 thousand scattered ones. Up to 25 thousand fit into a reading of 1 ms. Beyond,
/// 4 us a block keep a monitor below 0.5 % of a core.
fn rest_after(free_blocks: usize) -> u64 {
    if free_blocks <= 25_000 { 0 } else { free_blocks as u64 / 250 }
}

/// Why memory of this process's allocator cannot be parked; `None` for glibc's.
///
/// A parked page that its allocator gives back to the kernel shows the file again, not zeros. Of
/// 360 arrays handed out as zeroed after parking, freeing and trimming, 323 were wrong under jemalloc.
pub(crate) fn parking_refused() -> Option<Missing> {
    let owner = allocator();
    if owner.is_some() && owner == symbol(c"gnu_get_libc_version").and_then(object_of) {
        return None;
    }
    let known = [
        (c"mallctl", "jemalloc"),
        (c"je_mallctl", "jemalloc"),
        (c"mi_collect", "mimalloc"),
        (c"MallocExtension_ReleaseFreeMemory", "tcmalloc"),
    ];
    let name = known.iter().find(|(name, _)| symbol(name).is_some());
    let name = name.map_or("an allocator other than glibc's", |(_, name)| name);
    Some(Missing::Allocator { name: name.to_owned() })
}

/// The flags in the low bits of a chunk's size.
const CHUNK_FLAGS: usize = 7;
/// What a chunk may have beyond what was asked for: alignment, pages, huge pages.
const CHUNK_SLACK: usize = 4 * 1024 * 1024;

/// Whether glibc's own bookkeeping stands before the allocation. Libraries bring allocators of
/// their own: torch has mimalloc built in on some platforms.
///
/// Safe to ask of any address.
pub(crate) fn is_chunk(start: usize, block: Block) -> bool {
    let word = size_of::<usize>();
    if !start.is_multiple_of(2 * word) || start > block.address || start < 2 * word {
        return false;
    }
    // An allocation at the start of a page has its bookkeeping on the page before, which may be
    // missing or guarded if the allocation is not glibc's.
    let before = start - 2 * word;
    let Some(size) = word_at(start - word).map(|size| size & !CHUNK_FLAGS) else { return false };
    let needed = block.address.saturating_add(block.bytes).saturating_sub(before);
    size.saturating_add(word) >= needed && size <= needed.saturating_add(CHUNK_SLACK)
}

/// A word of memory; `None` where it cannot be read. The kernel reads it, as it does for everybody
/// who writes to a pipe: nothing can fault, and no sandbox forbids it.
fn word_at(address: usize) -> Option<usize> {
    let (mut reader, writer) = std::io::pipe().ok()?;
    let mut word = [0; size_of::<usize>()];
    // SAFETY: the kernel reads the memory; where it cannot, the call fails with EFAULT.
    let written = unsafe { libc::write(writer.as_raw_fd(), address as *const c_void, word.len()) };
    (written == word.len() as isize).then_some(())?;
    reader.read_exact(&mut word).ok()?;
    Some(usize::from_ne_bytes(word))
}

/// Asks every allocator that can be found. Each call is harmless when its allocator serves nothing.
pub(crate) fn trim() -> Outcome {
    let asked: Vec<Answer> =
        [trim_glibc(), purge_jemalloc(), collect_mimalloc(), release_tcmalloc()]
            .into_iter()
            .flatten()
            .collect();
    if asked.is_empty() {
        return unsupported(
            "this C library (musl?) has no call that returns free heap pages, and no other \
             allocator was found; start the program with jemalloc or mimalloc preloaded",
        );
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

/// All arenas since glibc 2.8; about 70 ms per GB released, nearly nothing otherwise.
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
    // Only the calling thread's cache; refused when thread caches are off, which is as good.
    let _ = command(c"thread.tcache.flush");
    // 4096 stands for all arenas since jemalloc 5.
    let result = if command(c"arena.4096.purge") == 0 { Asked::Trimmed } else { Asked::Refused };
    Some(Answer { name: "jemalloc", result })
}

/// The calling thread's heap and abandoned pages.
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

/// The base address of the library that serves everybody's `malloc`.
///
/// In a program that is linked to a fixed address, as Debian's own Python is, the name leads to an
/// entry of the program that jumps on: the dynamic linker gives it out as the function's address, so
/// that all compare equal. Then the first library that has a `malloc` of its own serves it, in the
/// order in which the linker looks: preloaded ones come first.
fn allocator() -> Option<*mut c_void> {
    let malloc = symbol(c"malloc")?;
    let owner = object_of(malloc)?;
    if !is_jump(malloc) {
        return Some(owner);
    }
    libraries().iter().find_map(|name| {
        let library = Library::loaded(name)?;
        let address = library.symbol(c"malloc")?;
        // Asked of a library, the linker also looks through those that it needs.
        (file_of(address)? == *name).then(|| object_of(address))?
    })
}

/// Whether an address that goes by a symbol's name is not the symbol but a jump to it: its own
/// object's table says that the symbol is not defined there.
fn is_jump(address: *mut c_void) -> bool {
    #[cfg(target_pointer_width = "64")]
    type Symbol = libc::Elf64_Sym;
    #[cfg(target_pointer_width = "32")]
    type Symbol = libc::Elf32_Sym;
    type Dladdr1 =
        unsafe extern "C" fn(*const c_void, *mut libc::Dl_info, *mut *mut c_void, c_int) -> c_int;
    const RTLD_DL_SYMENT: c_int = 1;
    // musl has none, and no such jumps either where anything is asked that depends on it.
    let Some(dladdr1) = symbol(c"dladdr1") else { return false };
    // SAFETY: glibc documents `dladdr1` with exactly this signature.
    let dladdr1: Dladdr1 = unsafe { mem::transmute(dladdr1) };
    let mut info = mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let mut entry = ptr::null_mut();
    // SAFETY: it reads no memory behind `address` and fills what it is given.
    let found = unsafe { dladdr1(address, info.as_mut_ptr(), &raw mut entry, RTLD_DL_SYMENT) } != 0;
    // SAFETY: with this flag the entry is a symbol of a loaded object's table, which stays loaded:
    // it is the program's, or serves `malloc`.
    found && !entry.is_null() && unsafe { (*entry.cast::<Symbol>()).st_shndx } == 0
}

/// The names of all loaded objects but the program, in the order in which the linker looks.
fn libraries() -> Vec<CString> {
    /// # Safety
    /// For the linker's own walk alone, with a vector of names.
    unsafe extern "C" fn add(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        names: *mut c_void,
    ) -> c_int {
        // SAFETY: `names` is the vector below, which lives through the walk; `info` and its name are
        // the linker's, valid during this call.
        unsafe {
            let names = &mut *names.cast::<Vec<CString>>();
            if !(*info).dlpi_name.is_null() {
                names.push(CStr::from_ptr((*info).dlpi_name).to_owned());
            }
        }
        0
    }
    let mut names: Vec<CString> = Vec::new();
    // SAFETY: `add` takes what this passes to it.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut names).cast()) };
    names.retain(|name| !name.is_empty());
    names
}

/// A library that was loaded before, kept loaded while this lives.
struct Library(*mut c_void);

impl Library {
    fn loaded(name: &CStr) -> Option<Self> {
        // SAFETY: the name is a C string; nothing is loaded, so no initialiser runs.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        (!handle.is_null()).then_some(Self(handle))
    }

    fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the name is a C string and the handle is open.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: opened by `loaded`, closed once.
        unsafe { libc::dlclose(self.0) };
    }
}

/// The address of a function that some loaded library exports to everybody.
pub(super) fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string and the default handle is always valid.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// The base address of the library that contains `address`.
fn object_of(address: *mut c_void) -> Option<*mut c_void> {
    let base = object(address)?.dli_fbase;
    (!base.is_null()).then_some(base)
}

/// The name under which that library is loaded.
fn file_of(address: *mut c_void) -> Option<CString> {
    let name = object(address)?.dli_fname;
    // SAFETY: a C string of the linker's, valid while the library is loaded, which the caller sees to.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_owned())
}

fn object(address: *mut c_void) -> Option<libc::Dl_info> {
    let mut info = mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `dladdr` reads no memory behind `address` and fills `info` when it returns non-zero.
    let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0;
    // SAFETY: all-zero bytes are a valid `Dl_info`, and a success has filled it.
    found.then(|| unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_nobody_exports_is_not_found() {
        assert!(symbol(c"memsweep_no_such_function").is_none());
    }

    #[test]
    fn only_an_expensive_count_is_rested_from() {
        for (free_blocks, milliseconds) in [(0, 0), (25_000, 0), (50_000, 200), (500_000, 2000)] {
            assert_eq!(rest_after(free_blocks), milliseconds, "{free_blocks}");
        }
    }

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
