//! Joins the walk, the choice and the operating system for parking. No policy here.
//!
//! The Python object of the sweep answers `parking(keep)` with an object that has: `types`, a
//! tuple of classes whose instances own memory; `folder`, where spill files go unless the settings say
//! otherwise; `meant(owner, address) -> bool`, whether memory is a candidate at all; `refused(owner)
//! -> str | None`, a reason to leave an object alone; and `progress(done, total)`, which raises when
//! the user cancelled.

use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::park::{ParkLimits, Refused, SMALLEST_BLOCK, choose, refuse};
use memsweep_os::{Block, Gate, Os, Stop};
use memsweep_pyheap as pyheap;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// Parks what is idle. `host` is held by the caller, like everything it reaches.
///
/// The second value is what the Python side raised on the way, such as a cancel; what was parked
/// until then stays parked, and the outcome tells it.
///
/// # Errors
/// What the Python side raised before anything was begun.
pub(crate) fn park(
    py: Python<'_>,
    os: &Os,
    host: &Bound<'_, PyAny>,
    keep: &[u32],
    limits: &ParkLimits,
) -> PyResult<(Outcome, Option<PyErr>)> {
    if !host.hasattr("parking")? {
        let reason = "this program has no parking".to_owned();
        return Ok((Outcome::Unsupported { reason }, None));
    }
    if let Some(reason) = os.parking_refused() {
        return Ok((Outcome::Unsupported { reason }, None));
    }
    let parking = host.call_method1("parking", (keep.to_vec(),))?;
    let folder = match &limits.folder {
        Some(folder) => folder.clone(),
        None => parking.getattr("folder")?.extract()?,
    };
    let found = find(py, os, host, &parking)?;
    if found.blocks.is_empty() {
        let reason = match found.refused.first() {
            Some(row) => format!("nothing of 1 MiB is idle and can move: {}", row.reason),
            None => "nothing of 1 MiB is idle".to_owned(),
        };
        return Ok((Outcome::NothingToDo { reason }, None));
    }
    let mut gate = PyGate {
        exempt: vec![
            host.clone().unbind(),
            parking.unbind(),
            found.owners.clone().into_any().unbind(),
        ],
        owners: found.owners.unbind(),
        blocks: &found.blocks,
        raised: None,
    };
    let carried_out = py.detach(|| {
        let survey = os.survey(Path::new(&folder), &found.blocks)?;
        let choice = choose(&survey.facts, &survey.room, limits);
        // SAFETY: the gate speaks of these blocks, and all were found to be chunks of glibc's heap.
        let mut parked = unsafe { survey.park(&choice.blocks, limits, &mut gate) };
        for row in found.refused.iter().chain(&choice.refused) {
            parked.refuse(&row.reason, row.blocks, row.bytes);
        }
        Ok(parked)
    });
    let outcome = match carried_out {
        Ok(parked) => Outcome::Parked(parked),
        Err(reason) => Outcome::Unsupported { reason },
    };
    Ok((outcome, gate.raised))
}

/// Idle memory that may move, as far as Python and the heap can tell.
struct Found<'py> {
    owners: Bound<'py, PyList>,
    blocks: Vec<Block>,
    refused: Vec<Refused>,
}

fn find<'py>(
    py: Python<'py>,
    os: &Os,
    host: &Bound<'py, PyAny>,
    parking: &Bound<'py, PyAny>,
) -> PyResult<Found<'py>> {
    let types = parking.getattr("types")?.cast_into::<PyTuple>()?;
    let smallest = usize::try_from(SMALLEST_BLOCK.0).unwrap_or(usize::MAX);
    let idle = pyheap::idle_memory(&types, &[host.clone(), parking.clone()], smallest)?;
    // Before any Python code runs: the allocations are alive as long as nobody else ran.
    let of_heap: Vec<bool> = idle
        .iter()
        .map(|found| os.is_heap_chunk(found.memory.start, block(found.memory)))
        .collect();
    let owners = PyList::empty(py);
    let (mut blocks, mut refused) = (Vec::new(), Vec::new());
    for (found, of_heap) in idle.into_iter().zip(of_heap) {
        let size = Bytes(found.memory.bytes as u64);
        let meant = parking.call_method1("meant", (&found.owner, found.memory.address))?;
        if !meant.is_truthy()? {
            continue;
        }
        let reason: Option<String> = parking.call_method1("refused", (&found.owner,))?.extract()?;
        match reason {
            Some(reason) => refuse(&mut refused, &reason, 1, size),
            None if !of_heap => refuse(&mut refused, "not of glibc's heap", 1, size),
            None => {
                owners.append(&found.owner)?;
                blocks.push(block(found.memory));
            }
        }
    }
    Ok(Found { owners, blocks, refused })
}

fn block(memory: pyheap::Memory) -> Block {
    Block { address: memory.address, bytes: memory.bytes }
}

/// Holds the interpreter lock while pages are swapped, and proves first that nobody uses them.
struct PyGate<'a> {
    /// What this call itself holds.
    exempt: Vec<Py<PyAny>>,
    owners: Py<PyList>,
    blocks: &'a [Block],
    raised: Option<PyErr>,
}

// SAFETY: `hold` swaps while this thread has the interpreter lock, and only blocks that were found
// again at the place that was surveyed, allocated, and referred to by nobody who could write to or
// free them without that lock.
unsafe impl Gate for PyGate<'_> {
    fn hold(&mut self, blocks: &[usize], swap: &mut dyn FnMut(usize)) -> Result<(), Stop> {
        let held = Python::attach(|py| self.try_hold(py, blocks, swap));
        self.told(held)
    }

    fn progress(&mut self, done: Bytes, total: Bytes) -> Result<(), Stop> {
        let told = Python::attach(|py| {
            self.exempt.get(1).map_or(Ok(()), |parking| {
                parking.call_method1(py, "progress", (done.0, total.0)).map(|_| ())
            })
        });
        self.told(told)
    }
}

impl PyGate<'_> {
    fn try_hold(
        &self,
        py: Python<'_>,
        blocks: &[usize],
        swap: &mut dyn FnMut(usize),
    ) -> PyResult<()> {
        let all = self.owners.bind(py);
        let owners = PyList::empty(py);
        let parking = &self.exempt[1];
        let mut page_locked = Vec::with_capacity(blocks.len());
        for &number in blocks {
            let owner = all.get_item(number)?;
            // Runs Python code, so it comes before the walk.
            page_locked.push(!parking.call_method1(py, "refused", (&owner,))?.is_none(py));
            owners.append(owner)?;
        }
        let exempt: Vec<_> = self.exempt.iter().map(|object| object.bind(py).clone()).collect();
        let places = pyheap::still_idle(&owners, &exempt)?;
        // From here on no Python code runs until everything is swapped.
        for (number, (place, locked)) in places.into_iter().zip(page_locked).enumerate() {
            let surveyed = blocks.get(number).and_then(|block| self.blocks.get(*block));
            if !locked && place.map(block).as_ref() == surveyed && surveyed.is_some() {
                swap(number);
            }
        }
        Ok(())
    }

    fn told(&mut self, result: PyResult<()>) -> Result<(), Stop> {
        result.map_err(|error| {
            let why = Stop(error.to_string());
            self.raised = Some(error);
            why
        })
    }
}
