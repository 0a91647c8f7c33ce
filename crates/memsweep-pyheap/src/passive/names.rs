//! Names in a dictionary, looked at without comparing them.

use pyo3::prelude::*;
use pyo3::types::PyString;

/// A key of a dictionary, as far as it is a name.
pub(super) enum Text {
    Exact(String),
    /// Of a class derived from that of texts, whose comparison may be anybody's code.
    Derived,
    No,
}

pub(super) fn text(name: &Bound<'_, PyAny>) -> Text {
    match name.cast::<PyString>() {
        Ok(name) if name.is_exact_instance_of::<PyString>() => {
            Text::Exact(name.to_string_lossy().into_owned())
        }
        Ok(_) => Text::Derived,
        Err(_) => Text::No,
    }
}
