//! What the system's calls take and answer. A call that fails, or an impossible 0, is unknown.

use std::mem;

use memsweep_core::bytes::Bytes;

/// A live process and a running system never have 0 of these: compatibility layers that do not
/// know a number answer 0.
pub(super) fn nonzero(bytes: usize) -> Option<Bytes> {
    (bytes != 0).then_some(Bytes(bytes as u64))
}

/// The size of a small structure, in the type these calls take.
pub(super) const fn size<T>() -> u32 {
    mem::size_of::<T>() as u32
}
