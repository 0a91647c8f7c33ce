//! Which library serves everybody's `malloc`: glibc, or one that was preloaded.
//!
//! Everything is found by name at run time. So a musl build links, and an allocator that was
//! preloaded (people run ComfyUI under jemalloc, mimalloc and tcmalloc) is recognised.

use std::ffi::{c_int, c_void};
use std::{mem, ptr};

use super::libraries::{Library, base_of, loaded, name_of, symbol};

/// Whether glibc serves it.
pub(crate) fn is_glibc() -> bool {
    let base = base();
    base.is_some() && base == symbol(c"gnu_get_libc_version").and_then(base_of)
}

/// What people call an allocator that is not glibc's.
pub(crate) fn name() -> &'static str {
    let known = [
        (c"mallctl", "jemalloc"),
        (c"je_mallctl", "jemalloc"),
        (c"mi_collect", "mimalloc"),
        (c"MallocExtension_ReleaseFreeMemory", "tcmalloc"),
    ];
    let name = known.iter().find(|(function, _)| symbol(function).is_some());
    name.map_or("an allocator other than glibc's", |(_, name)| name)
}

/// The base address of the library that serves everybody's `malloc`.
///
/// In a program that is linked to a fixed address, as Debian's own Python is, the name leads to an
/// entry of the program that jumps on: the dynamic linker gives it out as the function's address, so
/// that all compare equal. Then the first library that has a `malloc` of its own serves it, in the
/// order in which the linker looks: preloaded ones come first.
pub(crate) fn base() -> Option<*mut c_void> {
    let malloc = symbol(c"malloc")?;
    let owner = base_of(malloc)?;
    if !is_jump(malloc) {
        return Some(owner);
    }
    loaded(|_| true).iter().find_map(|name| {
        let library = Library::open(name)?;
        let address = library.function(c"malloc")?.as_ptr();
        // Asked of a library, the linker also looks through those that it needs.
        (name_of(address)? == *name).then(|| base_of(address))?
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
