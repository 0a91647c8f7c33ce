//! The destroy step: names first; then tensors are found, proved idle and taken under one hold of
//! the interpreter lock.

use std::collections::HashMap;

use memsweep_core::action::{Destroyed, Outcome};
use memsweep_core::bytes::Bytes;
use memsweep_core::destroy::{self, Candidate, SMALLEST_BLOCK, is_large};
use memsweep_core::reason::{Missing, Nothing, Refusal};
use memsweep_os::PageLocks;
use memsweep_pyheap::{self as pyheap, Stays};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyType};

use crate::storages::{Place, places};

/// Destroys what nobody protects, and answers with the outcome. `keep` are storages that stay.
///
/// # Errors
/// What the Python side raised; nothing was taken then.
pub(crate) fn destroy(host: &Bound<'_, PyAny>, keep: &[u32]) -> PyResult<Outcome> {
    let destroying = host.call_method0("destroying")?;
    if destroying.is_none() {
        return Ok(Outcome::unsupported(Missing::NotThisProgram));
    }
    let class = destroying.getattr("destroyed_class")?;
    if class.is_none() {
        return Ok(Outcome::nothing(Nothing::NoTorch));
    }
    // Finding names takes seconds, and other threads run meanwhile. So what goes is looked for
    // again afterwards; a name that no longer fits anything does no harm.
    let smallest = usize::try_from(SMALLEST_BLOCK.0).unwrap_or(usize::MAX);
    let names: HashMap<Place, String> =
        destroying.call_method1("owner_names", (smallest,))?.extract()?;
    let keep = places(&destroying.getattr("storages")?, keep)?;
    let asked = pyheap::Destroy {
        types: &destroying.getattr("types")?.cast_into::<PyTuple>()?,
        protect: &destroying.getattr("constants")?.cast_into::<PyList>()?,
        frames: &destroying.getattr("frames")?.cast_into::<PyList>()?,
        class: &class.cast_into::<PyType>()?,
    };
    drop(destroying);
    let locks = PageLocks::now();
    let is_meant = |device: &str, memory: pyheap::Memory| {
        is_large(Bytes(memory.bytes as u64)) && !keep.contains(&(device.to_owned(), memory.address))
    };
    let refusal =
        |found: &pyheap::Candidate<'_, '_>| destroy::refusal(&Asked { found, locks: &locks });
    let rows = pyheap::destroy(&asked, &is_meant, &refusal)?;
    let mut destroyed = Destroyed::default();
    for row in rows {
        let bytes = Bytes(row.bytes as u64);
        match row.refused {
            Some(stays) => destroyed.refuse(reason(stays), bytes),
            None => {
                let name = names.get(&(row.device, row.address));
                destroyed.add(name.map(String::as_str), row.tensors as u64, bytes);
            }
        }
    }
    Ok(if destroyed.is_empty() {
        Outcome::nothing(Nothing::NoTensor)
    } else {
        Outcome::Destroyed(destroyed.sorted())
    })
}

fn reason(stays: Stays<Refusal>) -> Refusal {
    match stays {
        Stays::Judged(reason) => reason,
        Stays::NotSwapped => Refusal::UsedByTorch,
        Stays::ClassNotSet => Refusal::ClassNotSet,
    }
}

/// Asks the heap and the drivers what the core wants to know.
struct Asked<'a, 'py> {
    found: &'a pyheap::Candidate<'a, 'py>,
    locks: &'a PageLocks,
}

impl Candidate for Asked<'_, '_> {
    fn is_in_reach_of_a_graph(&self) -> bool {
        self.found.is_in_reach_of_a_graph()
    }

    fn is_page_locked(&self) -> bool {
        let pyheap::Memory { address, bytes, .. } = self.found.memory();
        self.found.device() == "cpu" && self.locks.is_locked(address..address.saturating_add(bytes))
    }

    fn is_shown_by_an_array(&self) -> bool {
        self.found.is_shown_by_an_array()
    }

    fn tensors(&self) -> usize {
        self.found.tensors()
    }

    fn computes_in_python(&self, tensor: usize) -> Option<bool> {
        self.found.is_answered_in_python(tensor)
    }

    fn is_allocated_by_torch(&self, tensor: usize) -> Option<bool> {
        self.found.is_allocated_by_torch(tensor)
    }

    fn weak_references(&self, tensor: usize) -> Option<usize> {
        self.found.weak_references(tensor)
    }

    fn owners(&self, tensor: usize) -> Option<usize> {
        self.found.owners(tensor)
    }

    fn views(&self, tensor: usize) -> usize {
        self.found.views(tensor)
    }
}
