//! What differs between interpreters, found by looking once instead of in tables of versions.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::frames::FrameLayout;
use crate::object::{children, word};

/// Where the pointer to a made `__dict__` lies, in words from the object (3.11 to 3.13, measured).
pub(crate) const MANAGED_DICTIONARY_WORD: isize = -3;

/// What the walk must know about the running interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Attributes lie inside objects and their made dictionary is not visited (3.13 on).
    pub inline_attributes: bool,
    /// Position of the globals among the children that a function's traversal reports.
    pub function_globals: usize,
    /// A running frame reports its variables when it is traversed (3.10).
    pub frames_report_variables: bool,
    /// Where a frame keeps its references. `None` where that is not found: then they explain nothing.
    pub(crate) frames: Option<FrameLayout>,
}

impl Layout {
    /// Looks at a fresh object and a fresh function.
    pub(crate) fn of_interpreter(
        probe: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let version = probe.py().version_info();
        let inline_attributes = version >= (3, 13);
        let dictionary = probe.getattr("__dict__")?;
        if inline_attributes {
            // SAFETY: from 3.13 on, an instance of a plain Python class is preceded by two words of
            // the collector's and this one.
            let found = unsafe { word(probe.as_ptr() as usize, MANAGED_DICTIONARY_WORD) };
            if found != dictionary.as_ptr() as usize {
                return Err(PyRuntimeError::new_err(
                    "cannot walk this interpreter's heap: an object's dictionary is not where it should be",
                ));
            }
        }
        let globals = function.getattr("__globals__")?.as_ptr() as usize;
        let function_globals =
            children(function).iter().position(|&child| child == globals).ok_or_else(|| {
                PyRuntimeError::new_err(
                    "cannot walk this interpreter's heap: a function does not report its globals",
                )
            })?;
        Ok(Self {
            inline_attributes,
            function_globals,
            frames_report_variables: version < (3, 11),
            frames: None,
        })
    }

    /// Without the interpreter lock nothing holds the heap still.
    pub(crate) fn refuse_free_threaded(py: Python<'_>) -> PyResult<()> {
        let disabled = py
            .import("sysconfig")?
            .call_method1("get_config_var", ("Py_GIL_DISABLED",))?
            .is_truthy()?;
        if disabled {
            return Err(PyRuntimeError::new_err(
                "cannot walk the heap of a free-threaded Python: other threads would change it meanwhile",
            ));
        }
        Ok(())
    }
}
