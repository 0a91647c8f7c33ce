//! Page-locked memory, as Python asks about it.

use memsweep_os::PageLocks;
use pyo3::prelude::*;

/// Whether a GPU driver has locked any page of this memory in place, or gives no clear answer.
/// Loads no driver and starts none.
#[pyfunction]
fn page_locked(address: usize, bytes: usize) -> bool {
    PageLocks::now().is_locked(address..address.saturating_add(bytes))
}

/// Adds the function.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(page_locked, module)?)
}
