//! Which loaded library a function belongs to.

use std::ffi::c_void;

/// The base address of the library that contains `address`, and the file it came from.
#[cfg(unix)]
pub(crate) fn library_of(address: *const c_void) -> Option<(usize, String)> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `dladdr` reads no memory behind `address` and fills `info` when it returns non-zero.
    let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0;
    // SAFETY: all-zero bytes are a valid `Dl_info`, and a success has filled it.
    let info = unsafe { info.assume_init() };
    if !found || info.dli_fbase.is_null() {
        return None;
    }
    let name = if info.dli_fname.is_null() {
        String::new()
    } else {
        // SAFETY: the loader's own text, which lives as long as the library; that is loaded, as
        // somebody just gave us the address of a function in it.
        unsafe { std::ffi::CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned()
    };
    Some((info.dli_fbase as usize, name))
}

/// The base address of the library that contains `address`, and the file it came from.
#[cfg(windows)]
pub(crate) fn library_of(address: *const c_void) -> Option<(usize, String)> {
    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
        GetModuleFileNameW, GetModuleHandleExW,
    };
    let mut module = std::ptr::null_mut();
    let flags =
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    // SAFETY: with these flags the second argument is an address, which is not read.
    if unsafe { GetModuleHandleExW(flags, address.cast(), &raw mut module) } == 0 {
        return None;
    }
    let mut name = [0_u16; 1024];
    // SAFETY: the buffer is as long as is said, and the module is loaded.
    let length = unsafe { GetModuleFileNameW(module, name.as_mut_ptr(), name.len() as u32) };
    let name = String::from_utf16_lossy(name.get(..length as usize).unwrap_or_default());
    Some((module as usize, name))
}
