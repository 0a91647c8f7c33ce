//! Libraries that the program has loaded by itself. Nothing is ever loaded from here.

use std::ffi::c_void;
use std::ptr::NonNull;

/// A library of this process, kept from being unloaded until dropped.
#[derive(Debug)]
#[cfg_attr(not(any(target_os = "linux", windows)), allow(dead_code))]
pub(super) struct Loaded(NonNull<c_void>);

// SAFETY: the handle is a token that the loader itself locks around; it is only read, and given
// back once, by whoever drops the value.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::{CStr, CString, c_int, c_void};
    use std::ptr::NonNull;

    use super::Loaded;

    impl Loaded {
        /// The loaded libraries whose file name begins so. By the loader's own list: the name that a
        /// program loaded a library by need not be the one that we would ask for.
        pub(in super::super) fn named(beginning: &str) -> Vec<Self> {
            let mut search = Search { beginning, paths: Vec::new() };
            // SAFETY: `note` gets back the pointer passed here, to a value that outlives the call.
            unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut search).cast()) };
            let flags = libc::RTLD_NOLOAD | libc::RTLD_NOW;
            // SAFETY: a C string; with NOLOAD the loader only looks at what it has and runs nothing.
            let open = |path: CString| unsafe { libc::dlopen(path.as_ptr(), flags) };
            // One that is gone by now is not loaded any more.
            search.paths.into_iter().filter_map(|path| NonNull::new(open(path))).map(Self).collect()
        }

        pub(in super::super) fn function(&self, name: &CStr) -> Option<NonNull<c_void>> {
            // SAFETY: the handle is alive for as long as `self` is, and the name is a C string.
            NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
        }
    }

    impl Drop for Loaded {
        fn drop(&mut self) {
            // SAFETY: the handle came from `dlopen` and is given back this once.
            unsafe { libc::dlclose(self.0.as_ptr()) };
        }
    }

    struct Search<'a> {
        beginning: &'a str,
        paths: Vec<CString>,
    }

    /// # Safety
    /// `info` is the loader's entry, and `search` a [`Search`] that nobody else uses meanwhile.
    unsafe extern "C" fn note(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the caller's promise.
        let search = unsafe { &mut *search.cast::<Search<'_>>() };
        // SAFETY: the loader passes a valid entry; its name is a C string or null.
        let name = unsafe { (*info).dlpi_name };
        if !name.is_null() {
            // SAFETY: not null, and the loader keeps it for as long as its list is walked.
            let path = unsafe { CStr::from_ptr(name) };
            let file = path.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            if file.starts_with(search.beginning.as_bytes()) {
                search.paths.push(path.to_owned());
            }
        }
        0
    }
}

#[cfg(windows)]
mod system {
    use std::ffi::{CStr, c_void};
    use std::ptr::NonNull;

    use windows_sys::Win32::Foundation::FreeLibrary;
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleExA, GetProcAddress};

    use super::Loaded;

    impl Loaded {
        /// The loaded library of this file name, of which there is one at most.
        pub(in super::super) fn named(name: &CStr) -> Vec<Self> {
            let mut module = std::ptr::null_mut();
            // SAFETY: a C string and a place for the answer. Without flags the module's count rises,
            // so that it stays until it is given back.
            let found = unsafe { GetModuleHandleExA(0, name.as_ptr().cast(), &mut module) } != 0;
            NonNull::new(module).filter(|_| found).map(Self).into_iter().collect()
        }

        pub(in super::super) fn function(&self, name: &CStr) -> Option<NonNull<c_void>> {
            // SAFETY: the module is alive for as long as `self` is, and the name is a C string.
            let function = unsafe { GetProcAddress(self.0.as_ptr(), name.as_ptr().cast()) }?;
            NonNull::new(function as *mut c_void)
        }
    }

    impl Drop for Loaded {
        fn drop(&mut self) {
            // SAFETY: counted once when it was found, and given back this once.
            unsafe { FreeLibrary(self.0.as_ptr()) };
        }
    }
}

#[cfg(not(any(target_os = "linux", windows)))]
mod system {
    use std::ffi::{CStr, c_void};
    use std::ptr::NonNull;

    use super::Loaded;

    impl Loaded {
        pub(in super::super) fn function(&self, _name: &CStr) -> Option<NonNull<c_void>> {
            None
        }
    }
}
