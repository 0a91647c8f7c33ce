//! Sizes and numbers for the system's calls. A call that fails, or an impossible 0, is unknown.

use std::mem;

use memsweep_core::bytes::Bytes;

/// A running process or system never has 0 of these: compatibility layers that do not know a number
/// return 0.
pub(super) fn nonzero(bytes: usize) -> Option<Bytes> {
    (bytes != 0).then_some(Bytes(bytes as u64))
}

/// The size of a small structure, in the type that these calls take.
pub(super) const fn size<T>() -> u32 {
    mem::size_of::<T>() as u32
}
