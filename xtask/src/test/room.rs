//! Whether this machine has the memory that the full-size tests need.

use memsweep_os::Os;

/// They load 2 GB of weights, which grow to about 5 GB.
const FULL_NEEDS_BYTES: u64 = 8 << 30;

/// Unknown counts as enough: the tests say themselves when it was not.
pub(super) fn full_fits() -> bool {
    Os::current().read().ram_available().is_none_or(|bytes| bytes.0 >= FULL_NEEDS_BYTES)
}
