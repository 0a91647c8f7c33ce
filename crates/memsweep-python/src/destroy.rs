//! The destroy step: names first; then tensors are found, proved idle and taken under one hold of
//! the interpreter lock.

use std::collections::{HashMap, HashSet};

use memsweep_core::action::{Destroyed, Outcome};
use memsweep_core::bytes::Bytes;
use memsweep_core::destroy::SMALLEST_BLOCK;
use memsweep_core::reason::{Missing, Nothing, Refusal};
use memsweep_os::PageLocks;
use memsweep_pyheap::{self as pyheap, Stays};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyType};

/// Device and first byte of memory.
type Place = (String, usize);

/// Destroys what nobody protects, and answers with the outcome. `keep` are storages that stay.
///
/// # Errors
/// What the Python side raised; nothing was taken then.
pub(crate) fn destroy(host: &Bound<'_, PyAny>, keep: &[u32]) -> PyResult<Outcome> {
    let destroying = host.call_method1("destroying", (keep.to_vec(),))?;
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
    let keep: HashSet<Place> = destroying.getattr("keep")?.extract()?;
    let asked = pyheap::Destroy {
        types: &destroying.getattr("types")?.cast_into::<PyTuple>()?,
        protect: &destroying.getattr("constants")?.cast_into::<PyList>()?,
        frames: &destroying.getattr("frames")?.cast_into::<PyList>()?,
        keep: &keep,
        smallest,
        class: &class.cast_into::<PyType>()?,
    };
    drop(destroying);
    let locks = PageLocks::now();
    let rows = pyheap::destroy(&asked, &|device, memory| {
        let range = memory.address..memory.address.saturating_add(memory.bytes);
        device == "cpu" && locks.is_locked(range)
    })?;
    let mut destroyed = Destroyed::default();
    for row in rows {
        let bytes = Bytes(row.bytes as u64);
        match row.refused {
            Some(reason) => destroyed.refuse(refusal(reason), bytes),
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

fn refusal(reason: Stays) -> Refusal {
    match reason {
        Stays::PageLocked => Refusal::PageLocked,
        Stays::CudaGraph => Refusal::CudaGraph,
        Stays::Arrays => Refusal::Arrays,
        Stays::PythonClass => Refusal::PythonClass,
        Stays::NotTorchs => Refusal::NotTorchs,
        Stays::WeakReferences => Refusal::WeakReferences,
        Stays::UsedByTorch => Refusal::UsedByTorch,
        Stays::ClassNotSet => Refusal::ClassNotSet,
    }
}
