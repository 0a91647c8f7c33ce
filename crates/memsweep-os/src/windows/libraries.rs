//! Libraries that the program has loaded, and their functions. Nothing is ever loaded from here.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};

use windows_sys::Win32::Foundation::FreeLibrary;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleExA, GetProcAddress};

/// The file name of NVIDIA's driver library.
pub(crate) const CUDA: Option<&str> = Some("nvcuda.dll");
/// No way to ask ROCm is known here.
pub(crate) const ROCM: Option<&str> = None;

/// A library of this process, kept from being unloaded until dropped.
#[derive(Debug)]
pub(crate) struct Library(NonNull<c_void>);

// SAFETY: the handle is a token for calls that take the loader's own lock. It is only read, and
// closed once, when the value is dropped.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// The loaded library of this file name; there is at most one.
    pub(crate) fn named(name: &str) -> Vec<Self> {
        let Ok(name) = CString::new(name) else { return Vec::new() };
        let mut module = ptr::null_mut();
        // SAFETY: a C string and a place for the answer. Without flags the module's reference count
        // rises, so that it stays loaded until it is freed.
        let found = unsafe { GetModuleHandleExA(0, name.as_ptr().cast(), &mut module) } != 0;
        NonNull::new(module).filter(|_| found).map(Self).into_iter().collect()
    }

    pub(crate) fn function(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the module is alive for as long as `self` is, and the name is a C string.
        let function = unsafe { GetProcAddress(self.0.as_ptr(), name.as_ptr().cast()) }?;
        NonNull::new(function as *mut c_void)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: its count was raised once when it was found, and is lowered only here.
        unsafe { FreeLibrary(self.0.as_ptr()) };
    }
}
