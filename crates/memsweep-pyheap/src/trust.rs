//! Whose traversals count references.
//!
//! An extension may report a pointer that it only borrows; for an object that the collector does not
//! track, that does no harm. Counted as a reference, such a report would explain one that somebody
//! else holds, and hide a use. So only the traversals of the interpreter, its own extension modules,
//! torch, numpy and this library are counted. What other types report is reached, and explains nothing.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::path::Path;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyModule};

use crate::library::library_of;
use crate::object::slot;

/// The libraries whose traversals are known.
pub(crate) struct Trust {
    /// By their base addresses.
    libraries: HashSet<usize>,
    /// Folders of the interpreter's own extension modules.
    folders: HashSet<String>,
    /// Answers by function: asking the loader is slow.
    asked: RefCell<HashMap<usize, bool>>,
}

impl Trust {
    pub(crate) fn of(modules: &Bound<'_, PyDict>) -> PyResult<Self> {
        let py = modules.py();
        let mut libraries = HashSet::new();
        let mut trust = |function: *const c_void| {
            libraries.extend(library_of(function).map(|(base, _)| base));
        };
        // SAFETY: `type` is alive, and every type may be asked for this slot.
        trust(unsafe { slot(&raw mut ffi::PyType_Type as usize, ffi::Py_tp_traverse) });
        trust(library_of as *const c_void);
        for (module, class) in [("torch._C", "TensorBase"), ("numpy", "ndarray")] {
            let Some(module) = modules.get_item(module)? else { continue };
            let Ok(class) = module.getattr(class) else { continue };
            for kind in [ffi::Py_tp_traverse, ffi::Py_tp_dealloc] {
                // SAFETY: both are classes, held by their modules.
                let function = unsafe { slot(class.as_ptr() as usize, kind) };
                // A class without one inherits the interpreter's.
                if !function.is_null() {
                    trust(function);
                }
            }
        }
        let names = py.import("sys")?.getattr("stdlib_module_names")?;
        let names = names.cast_into::<PyFrozenSet>()?;
        let mut folders = HashSet::new();
        for (name, module) in modules.iter() {
            // Only a module's own dictionary is looked into: it runs no Python code.
            let Ok(module) = module.cast::<PyModule>() else { continue };
            if !names.contains(&name)? {
                continue;
            }
            let Some(file) = module.dict().get_item("__file__")? else { continue };
            let Ok(file) = file.extract::<String>() else { continue };
            let extension = Path::new(&file).extension().and_then(|text| text.to_str());
            if matches!(extension, Some("so" | "pyd")) {
                folders.extend(folder(&file));
            }
        }
        Ok(Self { libraries, folders, asked: RefCell::default() })
    }

    /// Whether every child that an instance's traversal reports is one reference that it holds.
    ///
    /// # Safety
    /// `class` is a live type object and the interpreter lock is held.
    pub(crate) unsafe fn counts(&self, class: usize) -> bool {
        let mut class = class;
        // A Python class has the interpreter's traversal, which calls that of its base.
        while class != 0 {
            // SAFETY: the caller's promise; a type's base lives as long as the type.
            let traverse = unsafe { slot(class, ffi::Py_tp_traverse) };
            if !traverse.is_null() && !self.knows(traverse) {
                return false;
            }
            // SAFETY: as above.
            class = unsafe { slot(class, ffi::Py_tp_base) } as usize;
        }
        true
    }

    fn knows(&self, function: *const c_void) -> bool {
        *self.asked.borrow_mut().entry(function as usize).or_insert_with(|| {
            library_of(function).is_some_and(|(base, file)| {
                self.libraries.contains(&base)
                    || folder(&file).is_some_and(|folder| self.folders.contains(&folder))
            })
        })
    }
}

/// The folder of a file, without links.
fn folder(file: &str) -> Option<String> {
    let path = Path::new(file);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Some(path.parent()?.to_string_lossy().into_owned())
}
