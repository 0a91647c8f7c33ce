//! Which library's `malloc` the process uses: glibc's, or that of a preloaded library.
//!
//! Everything is found by name at run time. So a musl build links, and a preloaded allocator
//! (people run ComfyUI under jemalloc, mimalloc and tcmalloc) is recognised.

use std::ffi::{c_int, c_void};
use std::{mem, ptr};

use super::libraries::{Library, base_of, loaded, name_of, symbol};

/// Whether it is glibc's.
pub(crate) fn is_glibc() -> bool {
    let base = base();
    base.is_some() && base == symbol(c"gnu_get_libc_version").and_then(base_of)
}

/// What to call an allocator that is not glibc's.
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

/// The base address of the library whose `malloc` is used.
///
/// In a program that is linked to a fixed address, as Debian's Python is, the symbol is an entry of
/// the program that jumps to the function: the dynamic linker uses it as the function's address
/// everywhere, so that function pointers compare equal. The function itself is then that of the
/// first library with a `malloc` of its own, in the linker's search order: preloaded ones come
/// first.
pub(crate) fn base() -> Option<*mut c_void> {
    let malloc = symbol(c"malloc")?;
    let owner = base_of(malloc)?;
    if !is_jump(malloc) {
        return Some(owner);
    }
    loaded(|_| true).iter().find_map(|name| {
        let library = Library::open(name)?;
        let address = library.function(c"malloc")?.as_ptr();
        // The linker also searches the libraries that this one needs.
        (name_of(address)? == *name).then(|| base_of(address))?
    })
}

/// Whether the address of a symbol is only a jump to it: the table of the object that it lies in
/// lists the symbol as undefined.
fn is_jump(address: *mut c_void) -> bool {
    #[cfg(target_pointer_width = "64")]
    type Symbol = libc::Elf64_Sym;
    #[cfg(target_pointer_width = "32")]
    type Symbol = libc::Elf32_Sym;
    type Dladdr1 =
        unsafe extern "C" fn(*const c_void, *mut libc::Dl_info, *mut *mut c_void, c_int) -> c_int;
    const RTLD_DL_SYMENT: c_int = 1;
    // musl does not have it. Nothing that depends on the answer exists there either.
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
