//! The blocks of memory behind tensors and arrays, numbered: what objects share is one number.

use std::collections::{BTreeSet, HashSet};
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
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    numbering: Numbering,
    /// Blocks of tensors that autograd recorded.
    graphs: BTreeSet<u32>,
}

/// A block as an inventory describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageFact {
    /// Its length.
    pub bytes: usize,
    /// Its device, as torch writes it.
    pub device: String,
    /// A tensor in it has an autograd graph.
    pub graph: bool,
}

impl Storages {
    /// The numbers of the blocks behind these objects: sorted, each once.
    ///
    /// # Errors
    /// `RuntimeError` when numpy's arrays are not laid out as documented, `MemoryError` when there is
    /// no memory for the numbers.
    pub fn numbers(&self, objects: &[Bound<'_, PyAny>]) -> PyResult<Vec<u32>> {
        let asked = asked(objects, |getters, object| {
            Ok(getters.block(object)?.map(|block| (block, getters.has_graph(object))))
        })?;
        let mut known = self.lock();
        let numbers = asked.iter().flatten().map(|(Block { device, address, bytes }, graph)| {
            let place = Place { device, address: *address, bytes: *bytes };
            let number = known.numbering.number(place)?;
            if *graph {
                known.graphs.insert(number);
            }
            Ok(number)
        });
        let mut numbers = numbers.collect::<Result<Vec<u32>, OutOfMemory>>()?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// Device and address of the blocks with these numbers, valid while their owners are held. `None`
    /// if one of them was never given: they are another inventory's.
    pub fn places(&self, numbers: &[u32]) -> Option<HashSet<(String, usize)>> {
        let known = self.lock();
        let places = numbers.iter().map(|number| known.numbering.place(*number));
        places.map(|place| place.map(|place| (place.device.to_owned(), place.address))).collect()
    }

    /// Device and address of every block.
    pub fn all_places(&self) -> HashSet<(String, usize)> {
        let known = self.lock();
        known.numbering.places().map(|place| (place.device.to_owned(), place.address)).collect()
    }

    /// Every block, by number.
    pub fn facts(&self) -> Vec<StorageFact> {
        let known = self.lock();
        let fact = |(number, place): (u32, Place<'_>)| StorageFact {
            bytes: place.bytes,
            device: place.device.to_owned(),
            graph: known.graphs.contains(&number),
        };
        (0..).zip(known.numbering.places()).map(fact).collect()
    }

    /// Held only while numbers are looked up, which runs no Python code: a thread that has the
    /// interpreter lock never waits for one that needs it.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
    asked(objects, Getters::block)
}

/// What the getters answer for each of these objects.
fn asked<'py, T>(
    objects: &[Bound<'py, PyAny>],
    ask: impl Fn(&Getters<'py>, &Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let Some(first) = objects.first() else { return Ok(Vec::new()) };
    let getters = Getters::find(&loaded(first.py())?)?;
    // A collection would run finalizers, with torch's functions switched off.
    let _off = CollectorOff::new(first.py());
    let quiet = getters.quiet();
    let found = objects.iter().map(|object| ask(&getters, object)).collect();
    drop(quiet);
    found
}

fn loaded(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    Ok(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?)
}
