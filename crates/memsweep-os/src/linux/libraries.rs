//! Libraries that the program has loaded, and their functions. Nothing is ever loaded from here.

use std::ffi::{CStr, CString, c_int, c_void};
use std::mem;
use std::ptr::NonNull;

/// How the file name of NVIDIA's driver library begins.
pub(crate) const CUDA: Option<&str> = Some("libcuda.so");
/// How the file name of ROCm's runtime begins, the one below HIP.
pub(crate) const ROCM: Option<&str> = Some("libhsa-runtime64.so");

/// A library of this process, kept from being unloaded until dropped.
#[derive(Debug)]
pub(crate) struct Library(NonNull<c_void>);

// SAFETY: the handle is a token for calls that take the loader's own lock. It is only read, and
// closed once, when the value is dropped.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// The loaded libraries whose file name begins like this, from the loader's own list: the
    /// program may have loaded a library under another name than the one we would ask for.
    pub(crate) fn named(beginning: &str) -> Vec<Self> {
        let paths = loaded(|path| {
            let file = path.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            file.starts_with(beginning.as_bytes())
        });
        // One that was unloaded since is left out.
        paths.iter().filter_map(|path| Self::open(path)).collect()
    }

    /// The library that is loaded under this name.
    pub(crate) fn open(name: &CStr) -> Option<Self> {
        let flags = libc::RTLD_NOLOAD | libc::RTLD_LAZY;
        // SAFETY: a C string; with NOLOAD the loader only looks at what is loaded and runs nothing.
        NonNull::new(unsafe { libc::dlopen(name.as_ptr(), flags) }).map(Self)
    }

    /// A function of this library or of one that it needs.
    pub(crate) fn function(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle is alive for as long as `self` is, and the name is a C string.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle came from `dlopen` and is closed only here.
        unsafe { libc::dlclose(self.0.as_ptr()) };
    }
}

/// The names of the wanted ones among the loaded objects, without the program itself, in the
/// loader's search order.
pub(crate) fn loaded(wanted: impl FnMut(&CStr) -> bool) -> Vec<CString> {
    let mut search = Search { wanted, names: Vec::new() };
    let visit = visit(&search);
    // SAFETY: `visit` takes a search of this very type, and the search outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.names
}

struct Search<Wanted> {
    wanted: Wanted,
    names: Vec<CString>,
}

type Visit = unsafe extern "C" fn(*mut libc::dl_phdr_info, usize, *mut c_void) -> c_int;

/// The callback for a search of this type.
fn visit<Wanted: FnMut(&CStr) -> bool>(_: &Search<Wanted>) -> Visit {
    note::<Wanted>
}

/// # Safety
/// `info` is the loader's entry, and `search` points to a [`Search`] with this `Wanted` that
/// nothing else uses during the call.
unsafe extern "C" fn note<Wanted: FnMut(&CStr) -> bool>(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    search: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    let search = unsafe { &mut *search.cast::<Search<Wanted>>() };
    // SAFETY: the loader passes a valid entry; its name is a C string or null.
    let name = unsafe { (*info).dlpi_name };
    if !name.is_null() {
        // SAFETY: not null, and the loader keeps it for as long as its list is walked.
        let name = unsafe { CStr::from_ptr(name) };
        // The program's own name is empty.
        if !name.is_empty() && (search.wanted)(name) {
            search.names.push(name.to_owned());
        }
    }
    0
}

/// The address of a function that some loaded library exports to everybody.
pub(crate) fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string and the default handle is always valid.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// The base address of the library that contains `address`.
pub(crate) fn base_of(address: *mut c_void) -> Option<*mut c_void> {
    let base = object(address)?.dli_fbase;
    (!base.is_null()).then_some(base)
}

/// The name under which that library is loaded.
pub(crate) fn name_of(address: *mut c_void) -> Option<CString> {
    let name = object(address)?.dli_fname;
    // SAFETY: a C string of the loader's, valid while the library is loaded, as the caller ensures.
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
    #[cfg(target_env = "gnu")]
    fn a_loaded_library_is_found_by_the_beginning_of_its_file_name() {
        let [library] = &Library::named("libc.so")[..] else { panic!("the C library is loaded") };
        assert!(library.function(c"malloc").is_some());
        assert!(library.function(c"memsweep_no_such_function").is_none());
        // The beginning of the file's name, and not of its path or within it.
        assert!(Library::named("c.so").is_empty() && Library::named("/").is_empty());
        assert!(Library::open(c"libmemsweep-no-such-library.so").is_none());
        assert!(loaded(|_| true).iter().all(|name| !name.is_empty()));
    }
}
