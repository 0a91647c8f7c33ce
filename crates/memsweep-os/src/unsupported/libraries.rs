//! No GPU driver's library is known here, so none is looked for.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

pub(crate) const CUDA: Option<&str> = None;
pub(crate) const ROCM: Option<&str> = None;

/// Cannot exist: none is looked for.
#[derive(Debug)]
pub(crate) enum Library {}

impl Library {
    pub(crate) fn named(_: &str) -> Vec<Self> {
        Vec::new()
    }

    pub(crate) fn function(&self, _: &CStr) -> Option<NonNull<c_void>> {
        match *self {}
    }
}
