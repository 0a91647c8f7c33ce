//! What the frames of our own thread hold: they wait for us, so their references are explained.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::object::references;
use crate::table::{AddressHashSet, AddressMap, add};
use crate::world::chain;

const OPTIMIZED: u32 = 1;

/// References that are explained, by what they point at.
#[derive(Debug, Default)]
pub(crate) struct Explained {
    /// Held directly.
    pub(crate) objects: AddressMap<u64>,
    /// Contents of cells that a frame holds; the cell itself cannot be asked for.
    pub(crate) cell_contents: AddressMap<u64>,
    /// Code that is running; from 3.11 on its frame holds the function.
    pub(crate) running_code: AddressMap<u64>,
}

impl Explained {
    /// Reads the variables of the given frames, as far as they are waiting on this thread.
    pub(crate) fn by_frames(frames: &Bound<'_, PyList>) -> PyResult<Self> {
        let mut explained = Self::default();
        if frames.is_empty() {
            return Ok(explained);
        }
        let py = frames.py();
        let mut own = AddressHashSet::default();
        chain(py.import("sys")?.call_method0("_getframe")?, &mut own)?;
        for frame in frames {
            // A frame given twice holds its variables once; one of another thread is not waiting for us.
            if own.remove(&(frame.as_ptr() as usize)) {
                explained.read(&frame)?;
            }
        }
        Ok(explained)
    }

    fn read(&mut self, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        let code = frame.getattr("f_code")?;
        if frame.py().version_info() >= (3, 11) {
            add(&mut self.running_code, address(&code), 1)?;
        }
        if code.getattr("co_flags")?.extract::<u32>()? & OPTIMIZED == 0 {
            // A module's or class body's variables lie in a dictionary that the walk sees; the frame
            // holds that dictionary.
            return self.explain(&frame.getattr("f_locals")?);
        }
        let in_cells = code.getattr("co_cellvars")?.add(code.getattr("co_freevars")?)?;
        let plain = code.getattr("co_varnames")?;
        let variables = frame.getattr("f_locals")?;
        let items = variables.call_method0("items")?.try_iter()?;
        for item in items {
            let (name, value) = item?.extract::<(Bound<'_, PyString>, Bound<'_, PyAny>)>()?;
            if in_cells.contains(&name)? {
                add(&mut self.cell_contents, address(&value), 1)?;
            } else if plain.contains(&name)? {
                self.explain(&value)?;
            }
        }
        self.forget(variables)
    }

    /// Before 3.13 a frame keeps the dictionary that was made for us, and with it every variable.
    fn forget(&mut self, variables: Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(dictionary) = variables.cast::<PyDict>() else {
            return Ok(());
        };
        self.explain(dictionary)?;
        // One reference is the frame's and one is ours: nobody else can see it emptied.
        if references(dictionary).is_some_and(|count| count <= 2) {
            dictionary.clear();
        }
        Ok(())
    }

    fn explain(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(add(&mut self.objects, address(object), 1)?)
    }
}

fn address(object: &Bound<'_, PyAny>) -> usize {
    object.as_ptr() as usize
}

/// Takes up to `amount` of what is kept for an address.
pub(crate) fn take(map: &mut AddressMap<u64>, address: usize, amount: u64) -> u64 {
    match map.get_mut(&address) {
        Some(left) => {
            let taken = amount.min(*left);
            *left -= taken;
            taken
        }
        None => 0,
    }
}
