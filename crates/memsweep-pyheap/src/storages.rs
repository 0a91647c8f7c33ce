//! The blocks of memory behind tensors and arrays, numbered: what objects share is one number.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::foreign::{Block, Getters};
use crate::numbering::{Numbering, Place};
use crate::table::OutOfMemory;
use crate::world::CollectorOff;

/// The numbers of one inventory. Keeps addresses and sizes, never objects.
#[derive(Debug, Default)]
pub struct Storages {
    numbering: Mutex<Numbering>,
}

impl Storages {
    /// The numbers of the blocks behind these objects: sorted, each once.
    ///
    /// # Errors
    /// `RuntimeError` when numpy's arrays are not laid out as documented, `MemoryError` when there is
    /// no memory for the numbers.
    pub fn numbers(&self, objects: &[Bound<'_, PyAny>]) -> PyResult<Vec<u32>> {
        let blocks = blocks(objects)?;
        let mut numbering = self.lock();
        let numbers = blocks.iter().flatten().map(|Block { device, address, bytes }| {
            numbering.number(Place { device, address: *address, bytes: *bytes })
        });
        let mut numbers = numbers.collect::<Result<Vec<u32>, OutOfMemory>>()?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// Device and address of the blocks with these numbers, valid while their owners are held. `None`
    /// if one of them was never given: they are another inventory's.
    pub fn places(&self, numbers: &[u32]) -> Option<HashSet<(String, usize)>> {
        let numbering = self.lock();
        let places = numbers.iter().map(|number| numbering.place(*number));
        places.map(|place| place.map(|place| (place.device.to_owned(), place.address))).collect()
    }

    /// Device and address of every block.
    pub fn all_places(&self) -> HashSet<(String, usize)> {
        let numbering = self.lock();
        numbering.places().map(|place| (place.device.to_owned(), place.address)).collect()
    }

    /// Size and device of every block, by number.
    pub fn facts(&self) -> Vec<(usize, String)> {
        self.lock().places().map(|place| (place.bytes, place.device.to_owned())).collect()
    }

    /// Held only while numbers are looked up, which runs no Python code: a thread that has the
    /// interpreter lock never waits for one that needs it.
    fn lock(&self) -> MutexGuard<'_, Numbering> {
        self.numbering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The types whose instances have large memory: what to look for in a walk.
///
/// # Errors
/// What the interpreter raised.
pub fn memory_types(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    let modules = loaded(py)?;
    let class = |module: &str, name: &str| {
        let module = modules.get_item(module).ok()??;
        // Some tests put a stand-in among the modules.
        module.getattr(name).ok()?.cast_into::<PyType>().ok()
    };
    let torch = class("torch", "Tensor").filter(|_| class("torch._C", "TensorBase").is_some());
    let classes: Vec<_> = torch.into_iter().chain(class("numpy", "ndarray")).collect();
    PyTuple::new(py, classes)
}

/// The block behind each of these objects. An object without memory of its own has none: one on the
/// meta device, a sparse or wrapped tensor (the walk reaches what is inside), an empty one.
///
/// # Errors
/// As for [`Storages::numbers`].
pub fn blocks(objects: &[Bound<'_, PyAny>]) -> PyResult<Vec<Option<Block>>> {
    let Some(first) = objects.first() else { return Ok(Vec::new()) };
    let getters = Getters::find(&loaded(first.py())?)?;
    // A collection would run finalizers, with torch's functions switched off.
    let _off = CollectorOff::new(first.py());
    let quiet = getters.quiet();
    let found = objects.iter().map(|object| getters.block(object)).collect();
    drop(quiet);
    found
}

fn loaded(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    Ok(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?)
}
