//! Joins the walk, the choice and the operating system for parking. No policy here.
//!
//! The Python object of the sweep answers `parking()` with an object that has: `types`, a tuple of
//! classes whose instances own memory; `folder`, where spill files go unless the settings say
//! otherwise; `storages`, `None` or the numbers of the inventory; `only`, `None` or a pair: storages
//! and identities of the only things to park; `argument`, `None` or a list that the outermost caller
//! holds meanwhile; and `progress(done, total)`, which raises when the user cancelled. No Python code
//! runs between the look at the heap and the last of its facts, and nothing is held afterwards: what
//! was found is looked up again, by its place, before it moves.

use std::collections::HashSet;
use std::path::PathBuf;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::park::{ParkLimits, Parked, Refused, SMALLEST_BLOCK, refuse};
use memsweep_core::reason::{Missing, Nothing, Refusal};
use memsweep_os::{Block, Gate, Os, Parking, Stop};
use memsweep_pyheap::{self as pyheap, Busy, Holders, Idle};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::storages::{Place, Storages, places};

/// Parks what is idle. `host` is held by the caller, like everything it reaches.
///
/// The second value is what the Python side raised on the way, such as a cancel; what was parked by
/// then stays parked, and the outcome says so.
///
/// # Errors
/// What the Python side raised before anything began.
pub(crate) fn park(
    py: Python<'_>,
    os: &Os,
    host: &Bound<'_, PyAny>,
    keep: &[u32],
    limits: &ParkLimits,
) -> PyResult<(Outcome, Option<PyErr>)> {
    if let Some(reason) = os.parking_refused() {
        return Ok((Outcome::unsupported(reason), None));
    }
    let parking = host.call_method0("parking")?;
    if parking.is_none() {
        return Ok((Outcome::unsupported(Missing::NoParking), None));
    }
    // A folder's name need not be UTF-8.
    let folder: PathBuf = match &limits.folder {
        Some(folder) => folder.into(),
        None => parking.getattr("folder")?.extract()?,
    };
    let mut exempt = vec![host.clone(), parking.clone()];
    exempt.extend(parking.getattr("argument")?.cast_into::<PyList>().ok().map(Bound::into_any));
    let meant = Meant::of(&parking, keep)?;
    let found = find(os, &exempt, &parking, &meant)?;
    if found.idle.is_empty() && found.strangers.is_empty() {
        if found.refused.is_empty() {
            return Ok((Outcome::nothing(Nothing::NoIdleBlock), None));
        }
        let parked = Parked { refused: found.refused, ..Parked::default() };
        return Ok((Outcome::Parked(parked), None));
    }
    let blocks: Vec<Block> = found.idle.iter().map(|idle| block(idle.memory)).collect();
    let mut gate = PyGate {
        exempt: exempt.into_iter().map(Bound::unbind).collect(),
        parking: parking.unbind(),
        idle: &found.idle,
        holders: &found.holders,
        addresses_are_watched: os.notices_writes(),
        raised: None,
    };
    // SAFETY: until it is dropped, this thread is in `detach` below, or runs `progress` above its frames.
    let waits = unsafe { pyheap::WaitsHere::begin(py)? };
    let carried_out = py.detach(|| {
        let asked =
            Parking { folder: &folder, limits, blocks: &blocks, strangers: &found.strangers };
        // SAFETY: the gate answers for the blocks that were found idle, all of which were found to be
        // chunks of glibc's heap; those of strangers never move.
        let mut parked = unsafe { os.park(&asked, &mut gate) }?;
        parked.refuse_all(found.refused);
        Ok(parked)
    });
    drop(waits);
    let outcome = match carried_out {
        Ok(parked) => Outcome::Parked(parked),
        Err(reason) => Outcome::unsupported(reason),
    };
    Ok((outcome, gate.raised))
}

/// What the heap holds, among the memory to be parked.
#[derive(Default)]
struct Found {
    idle: Vec<Idle>,
    holders: Holders,
    /// Memory that its object does not own; it stays, and the system says what it is.
    strangers: Vec<Block>,
    refused: Vec<Refused>,
}

/// Which memory is to be parked.
struct Meant {
    keep: HashSet<usize>,
    only: Option<(HashSet<usize>, HashSet<usize>)>,
}

impl Meant {
    fn of(parking: &Bound<'_, PyAny>, keep: &[u32]) -> PyResult<Self> {
        let only = parking.getattr("only")?;
        let only: Option<(PyRef<'_, Storages>, HashSet<usize>)> = only.extract()?;
        Ok(Self {
            keep: in_ram(places(&parking.getattr("storages")?, keep)?),
            only: only.map(|(storages, objects)| (in_ram(storages.all_places()), objects)),
        })
    }

    fn holds(&self, idle: &Idle) -> bool {
        let address = idle.memory.address;
        !self.keep.contains(&address)
            && self.only.as_ref().is_none_or(|(addresses, objects)| {
                addresses.contains(&address) || objects.contains(&idle.owner)
            })
    }
}

fn in_ram(places: HashSet<Place>) -> HashSet<usize> {
    let in_ram = places.into_iter().filter(|(device, _)| device == "cpu");
    in_ram.map(|(_, address)| address).collect()
}

fn find<'py>(
    os: &Os,
    exempt: &[Bound<'py, PyAny>],
    parking: &Bound<'py, PyAny>,
    meant: &Meant,
) -> PyResult<Found> {
    let types = parking.getattr("types")?.cast_into::<PyTuple>()?;
    let smallest = usize::try_from(SMALLEST_BLOCK.0).unwrap_or(usize::MAX);
    let is_meant = |idle: &Idle| meant.holds(idle);
    let wanted = pyheap::Wanted { types: &types, smallest, is_meant: &is_meant };
    let mut seen = pyheap::idle_memory(&wanted, exempt, os.notices_writes())?;
    // No Python code runs until all is asked: the allocations are alive as long as nobody else ran.
    let mut found = Found { holders: std::mem::take(&mut seen.holders), ..Found::default() };
    for idle in std::mem::take(&mut seen.idle) {
        if os.is_heap_chunk(idle.memory.start, block(idle.memory)) {
            found.idle.push(idle);
        } else {
            found.strangers.push(block(idle.memory));
        }
    }
    for (busy, why) in std::mem::take(&mut seen.busy) {
        let size = Bytes(busy.memory.bytes as u64);
        match why {
            Busy::InUse => refuse(&mut found.refused, Refusal::InUse, 1, size),
            Busy::Foreign => found.strangers.push(block(busy.memory)),
        }
    }
    Ok(found)
}

fn block(memory: pyheap::Memory) -> Block {
    Block { address: memory.address, bytes: memory.bytes }
}

/// Holds the interpreter lock while pages are swapped, and proves first that nobody uses them.
struct PyGate<'a> {
    /// What this call itself holds.
    exempt: Vec<Py<PyAny>>,
    parking: Py<PyAny>,
    idle: &'a [Idle],
    holders: &'a Holders,
    addresses_are_watched: bool,
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
            self.parking.call_method1(py, "progress", (done.0, total.0)).map(drop)
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
        let hints = blocks.iter().map(|block| self.idle.get(*block).copied());
        let Some(hints) = hints.collect::<Option<Vec<Idle>>>() else {
            return Err(PyRuntimeError::new_err("a block was chosen that was not found idle"));
        };
        let exempt: Vec<_> = self.exempt.iter().map(|object| object.bind(py).clone()).collect();
        let watched = self.addresses_are_watched;
        pyheap::each_still_idle(py, &hints, self.holders, &exempt, watched, swap)
    }

    fn told(&mut self, result: PyResult<()>) -> Result<(), Stop> {
        result.map_err(|error| {
            let why = Stop(error.to_string());
            self.raised = Some(error);
            why
        })
    }
}
