//! Takes the memory of tensors that somebody still holds.
//!
//! Tensors are found, proved unused and emptied in one hold of the interpreter lock in which no Python
//! code runs: a thread that began to compute with one in between would go on in memory that belongs to
//! somebody else by then. An emptied tensor becomes an instance of the caller's class, whose every use
//! raises.

mod candidate;
mod tools;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use crate::bitmap::AddressSet;
use crate::foreign::{Memory, Tensors};
use crate::frames::Waiting;
use crate::hidden::{self, Pinned, Rule};
use crate::selftest::counting_world;
use crate::walk::{Bounds, Walk};
use crate::world::{World, addresses};

pub use self::candidate::Candidate;
use self::tools::{NotSwapped, Tools};

/// What may be emptied, and what it becomes.
#[derive(Debug)]
pub struct Destroy<'a, 'py> {
    /// Classes of tensors and arrays.
    pub types: &'a Bound<'py, PyTuple>,
    /// Objects that stay, with all that they reach.
    pub protect: &'a Bound<'py, PyList>,
    /// Frames of the calling thread whose variables do not protect what they hold.
    pub frames: &'a Bound<'py, PyList>,
    /// The subclass of torch's tensor that emptied tensors become instances of. Each gets the device
    /// it was on as `memsweep_device`.
    pub class: &'a Bound<'py, PyType>,
}

/// Memory that tensors share, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<R> {
    /// Its device, as torch writes it.
    pub device: String,
    /// Its first byte on that device.
    pub address: usize,
    /// Its length.
    pub bytes: usize,
    /// How many tensors shared it.
    pub tensors: usize,
    /// Why it stayed; `None` when it was taken.
    pub refused: Option<Stays<R>>,
}

/// Why memory stayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays<R> {
    /// It was judged that it must.
    Judged(R),
    /// Torch would not exchange its tensors.
    NotSwapped,
    /// The class that says it was destroyed could not be set.
    ClassNotSet,
}

/// All tensors that share memory.
struct Group<'py> {
    device: String,
    memory: Memory,
    tensors: Vec<Bound<'py, PyAny>>,
}

/// A tensor that lost its memory.
struct Swapped<'py> {
    group: usize,
    tensor: Bound<'py, PyAny>,
    /// Has the memory now, and gives it back when it is dropped.
    mark: Bound<'py, PyAny>,
}

/// Takes the memory of every tensor that is neither protected nor in use.
///
/// `is_meant` says whether memory on a device may go at all, `refusal` why it must stay all the same.
/// Neither runs Python code.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, `MemoryError` when the walk finds no memory.
/// Nothing was taken then.
pub fn destroy<'py, R>(
    asked: &Destroy<'_, 'py>,
    is_meant: &dyn Fn(&str, Memory) -> bool,
    refusal: &dyn Fn(&Candidate<'_, 'py>) -> Option<R>,
) -> PyResult<Vec<Taken<R>>> {
    let world = counting_world(asked.types)?;
    let Some(tensors) = world.foreign.tensors() else { return Ok(Vec::new()) };
    let tools = Tools::find(&world, tensors)?;
    let waiting = Waiting::among(asked.frames)?;
    let arguments = [
        asked.types.as_ptr() as usize,
        asked.protect.as_ptr() as usize,
        asked.frames.as_ptr() as usize,
    ];
    // SAFETY: the lock is held, and the arguments are our caller's.
    let pinned = unsafe { hidden::pinned(&world, &waiting, &arguments, Rule::Use)? };
    let mut walk = Walk::new(&world, AddressSet::new()?, Bounds::Reach)?.without_hits();
    // SAFETY: the list holds its elements, the lock is held and the collector is off.
    unsafe { walk.run(&addresses(asked.protect)?)? };
    hidden::spread(&pinned.storages, walk.marks_mut())?;

    let quiet = world.foreign.quiet();
    let (groups, shown) = groups(&world, tensors, &pinned, walk.marks(), is_meant);
    let mut taken = Vec::new();
    let mut swapped: Vec<Swapped<'_>> = Vec::new();
    for (number, group) in groups.into_iter().enumerate() {
        let candidate = Candidate {
            group: &group,
            tools: &tools,
            getters: tensors,
            shown_by_arrays: &shown,
            met_a_graph: pinned.met_watched,
            bases: OnceCell::new(),
        };
        let refused = match refusal(&candidate) {
            Some(reason) => Some(Stays::Judged(reason)),
            None => match tools.take(number, &group, asked.class, &mut swapped) {
                Ok(()) => None,
                Err(NotSwapped) => Some(Stays::NotSwapped),
            },
        };
        taken.push(Taken {
            device: group.device,
            address: group.memory.address,
            bytes: group.memory.bytes,
            tensors: group.tensors.len(),
            refused,
        });
    }
    // No Python code ran until here. Setting a class raises an audit event, and nothing is in danger any
    // more: computing with a swapped tensor before its class is set is torch's own error.
    drop(quiet);
    drop(pinned);
    swapped.retain(|swapped| {
        if swapped.tensor.setattr("__class__", asked.class).is_ok() {
            return true;
        }
        // A hook forbade it. Without the class, a use would raise an error that explains nothing.
        let is_back = tools.swap.call1((&swapped.tensor, &swapped.mark)).is_ok();
        if let Some(row) = taken.get_mut(swapped.group).filter(|_| is_back) {
            row.refused = Some(Stays::ClassNotSet);
        }
        !is_back
    });
    for Swapped { tensor, group, .. } in &swapped {
        // What was stored on the tensor may hold memory too.
        if let Ok(attributes) = tensor.getattr("__dict__")
            && let Ok(attributes) = attributes.cast::<PyDict>()
        {
            attributes.clear();
            let device =
                taken.get(*group).and_then(|row| tools.make_device.call1((&row.device,)).ok());
            if let Some(device) = device {
                // Without it the tensor names the device that it is on now, which has no memory.
                drop(attributes.set_item("memsweep_device", device));
            }
        }
    }
    Ok(taken)
}

/// Groups of tensors that may be emptied, and the ranges of memory that arrays show.
fn groups<'py>(
    world: &World<'py>,
    tensors: &Tensors<'py>,
    pinned: &Pinned<'py>,
    protected: &AddressSet,
    is_meant: &dyn Fn(&str, Memory) -> bool,
) -> (Vec<Group<'py>>, Vec<Range<usize>>) {
    let mut groups: HashMap<(String, usize), Group<'py>> = HashMap::new();
    let mut shown = Vec::new();
    for object in &pinned.hits {
        if let Some(range) = world.foreign.shown_by_array(object) {
            shown.push(range);
            continue;
        }
        let address = object.as_ptr() as usize;
        if protected.contains(address) || pinned.set.contains(address) {
            continue;
        }
        let Ok(Some((device, memory))) = tensors.place(object) else { continue };
        if !is_meant(&device, memory) {
            continue;
        }
        groups
            .entry((device.clone(), memory.address))
            .or_insert_with(|| Group { device, memory, tensors: Vec::new() })
            .tensors
            .push(object.clone());
    }
    let mut groups: Vec<Group<'py>> = groups.into_values().collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.memory.bytes), group.memory.address));
    (groups, shown)
}
