#![forbid(unsafe_code)]
//! The extension module.
