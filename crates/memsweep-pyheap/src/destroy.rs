//! Takes the memory of tensors that somebody still holds.
//!
//! Found, proved and taken in one hold of the interpreter lock in which no Python code runs: a thread
//! that began to compute with a tensor in between would go on in memory that is somebody else's by
//! then. What a tensor becomes is an instance of the caller's class, whose every use raises.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use crate::bitmap::AddressSet;
use crate::foreign::{Memory, Tensors};
use crate::frames::Waiting;
use crate::hidden::{self, Pinned};
use crate::idle::counting;
use crate::object::{get, strong, type_of};
use crate::walk::{Bounds, Walk};
use crate::world::{World, addresses};

/// What a destroy may touch, and what becomes of it.
#[derive(Debug)]
pub struct Destroy<'a, 'py> {
    /// Classes of tensors and arrays.
    pub types: &'a Bound<'py, PyTuple>,
    /// Objects that stay, with all that they reach.
    pub protect: &'a Bound<'py, PyList>,
    /// Frames of the calling thread whose variables do not protect what they hold.
    pub frames: &'a Bound<'py, PyList>,
    /// Device and first byte of memory that stays.
    pub keep: &'a HashSet<(String, usize)>,
    /// Smaller memory stays.
    pub smallest: usize,
    /// A subclass of torch's tensor, which destroyed tensors become instances of. Each gets the device
    /// that it was on as `memsweep_device`.
    pub class: &'a Bound<'py, PyType>,
}

/// Memory that tensors share, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its device, as torch writes it.
    pub device: String,
    /// Its first byte on that device.
    pub address: usize,
    /// Its length.
    pub bytes: usize,
    /// How many tensors shared it.
    pub tensors: usize,
    /// Why it stayed; `None` when it was taken.
    pub refused: Option<Stays>,
}

/// Why memory stayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// A driver has locked it in place.
    PageLocked,
    /// A CUDA graph may hold its bare address.
    CudaGraph,
    /// A numpy array shows the same memory.
    Arrays,
    /// Its class computes in Python.
    PythonClass,
    /// Torch did not allocate it.
    NotTorchs,
    /// Weak references to it exist.
    WeakReferences,
    /// Torch's own code holds it.
    UsedByTorch,
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
/// `is_page_locked` is asked with a device and memory on it; it runs no Python code.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, `MemoryError` when the walk finds no memory.
/// Nothing was taken then.
pub fn destroy<'py>(
    asked: &Destroy<'_, 'py>,
    is_page_locked: &dyn Fn(&str, Memory) -> bool,
) -> PyResult<Vec<Taken>> {
    let world = counting(asked.types)?;
    let Some(tensors) = world.foreign.tensors() else { return Ok(Vec::new()) };
    let tools = Tools::find(&world, tensors)?;
    let waiting = Waiting::among(asked.frames)?;
    let arguments = [
        asked.types.as_ptr() as usize,
        asked.protect.as_ptr() as usize,
        asked.frames.as_ptr() as usize,
    ];
    // SAFETY: the lock is held, and the arguments are our caller's.
    let pinned = unsafe { hidden::pinned(&world, &waiting, &arguments)? };
    let mut walk = Walk::new(&world, AddressSet::new()?, Bounds::Reach)?.without_hits();
    // SAFETY: the list holds its elements, the lock is held and the collector is off.
    unsafe { walk.run(&addresses(asked.protect)?)? };
    hidden::spread(&pinned.storages, walk.marks_mut())?;

    let quiet = world.foreign.quiet();
    let (groups, shown) = groups(&world, tensors, &pinned, walk.marks(), asked);
    let mut taken = Vec::new();
    let mut swapped: Vec<Swapped<'_>> = Vec::new();
    for (number, group) in groups.into_iter().enumerate() {
        let captured = pinned.met_watched && group.device.starts_with("cuda");
        let refused = if captured {
            Some(Stays::CudaGraph)
        } else {
            is_page_locked(&group.device, group.memory)
                .then_some(Stays::PageLocked)
                .or_else(|| tools.refusal(tensors, &group, &shown))
                .or_else(|| tools.take(number, &group, asked.class, &mut swapped).err())
        };
        taken.push(Taken {
            device: group.device,
            address: group.memory.address,
            bytes: group.memory.bytes,
            tensors: group.tensors.len(),
            refused,
        });
    }
    // Until here no Python code ran. Setting a class raises an event, and nothing is in danger any
    // more: whoever computes with a swapped tensor before its class is set gets torch's own error.
    drop(quiet);
    drop(pinned);
    swapped.retain(|swapped| {
        if swapped.tensor.setattr("__class__", asked.class).is_ok() {
            return true;
        }
        // A hook forbade it. Without the class its use would be an error that says nothing.
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
                // Without it the tensor says what it is on now, which is no memory at all.
                drop(attributes.set_item("memsweep_device", device));
            }
        }
    }
    Ok(taken)
}

/// Groups of tensors that may go, and the ranges of memory that arrays show.
fn groups<'py>(
    world: &World<'py>,
    tensors: &Tensors<'py>,
    pinned: &Pinned<'py>,
    protected: &AddressSet,
    asked: &Destroy<'_, 'py>,
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
        let Some((device, memory)) = tensors.place(object) else { continue };
        if memory.bytes < asked.smallest || asked.keep.contains(&(device.clone(), memory.address)) {
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

/// What is looked up before the walk, so that nothing is looked up in the hold.
struct Tools<'py> {
    weak_references: Bound<'py, PyAny>,
    swap: Bound<'py, PyAny>,
    shape: Bound<'py, PyAny>,
    dtype: Bound<'py, PyAny>,
    make_device: Bound<'py, PyAny>,
    basic_size: Bound<'py, PyAny>,
    /// Asks for a tensor's dispatch keys, and whether they have the one of Python.
    keys: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
}

impl<'py> Tools<'py> {
    fn find(world: &World<'py>, tensors: &Tensors<'py>) -> PyResult<Self> {
        let py = world.py;
        let class = tensors.type_object();
        let type_of_types = py.get_type::<PyType>();
        let module = py.import("torch._C")?;
        let keys = module
            .getattr("_dispatch_keys")
            .and_then(|keys| Ok((keys, module.getattr("DispatchKey")?.getattr("Python")?)));
        Ok(Self {
            weak_references: py.import("_weakref")?.getattr("getweakrefcount")?,
            swap: module.getattr("_swap_tensor_impl")?,
            keys: keys.ok(),
            shape: class.getattr("shape")?,
            dtype: class.getattr("dtype")?,
            make_device: module.getattr("device")?,
            basic_size: type_of_types.getattr("__dict__")?.get_item("__basicsize__")?,
        })
    }

    /// Why a group must stay. Runs no Python code.
    fn refusal(
        &self,
        tensors: &Tensors<'py>,
        group: &Group<'py>,
        shown: &[Range<usize>],
    ) -> Option<Stays> {
        let end = group.memory.address.saturating_add(group.memory.bytes);
        let overlaps = |range: &Range<usize>| range.start < end && group.memory.address < range.end;
        if group.device == "cpu" && shown.iter().any(overlaps) {
            return Some(Stays::Arrays);
        }
        let bases: Vec<usize> = group
            .tensors
            .iter()
            .filter_map(|tensor| tensors.shown_by(tensor))
            .map(|base| base.as_ptr() as usize)
            .collect();
        for tensor in &group.tensors {
            if self.is_answered_in_python(tensor) != Some(false) {
                return Some(Stays::PythonClass);
            }
            if tensors.owns_memory(tensor) != Some(true) {
                return Some(Stays::NotTorchs);
            }
            let weak = self.weak_references.call1((tensor,)).and_then(|count| count.extract());
            if weak.map_or(true, |count: usize| count > 0) {
                return Some(Stays::WeakReferences);
            }
            let views = bases.iter().filter(|base| **base == tensor.as_ptr() as usize).count();
            // A view holds the tensor it shows; any other owner would keep the memory.
            if tensors.owners(tensor).owners != Some(views as u64) {
                return Some(Stays::UsedByTorch);
            }
        }
        None
    }

    /// Whether the tensor's class has operations, perhaps its shape and device too, written in Python.
    fn is_answered_in_python(&self, tensor: &Bound<'py, PyAny>) -> Option<bool> {
        let (keys, python) = self.keys.as_ref()?;
        let keys = keys.call1((tensor,)).ok()?;
        keys.call_method1("has", (python,)).ok()?.is_truthy().ok()
    }

    /// Gives the memory of a group to new tensors: of all or of none.
    fn take(
        &self,
        number: usize,
        group: &Group<'py>,
        class: &Bound<'py, PyType>,
        swapped: &mut Vec<Swapped<'py>>,
    ) -> Result<(), Stays> {
        let begin = swapped.len();
        for tensor in &group.tensors {
            let done = self.mark(tensor, class).and_then(|mark| {
                self.swap.call1((tensor, &mark)).ok()?;
                Some(mark)
            });
            let Some(mark) = done else {
                for Swapped { tensor, mark, .. } in swapped.drain(begin..).rev() {
                    // The same call with the same two tensors, which just went through.
                    drop(self.swap.call1((&tensor, &mark)));
                }
                return Err(Stays::UsedByTorch);
            };
            swapped.push(Swapped { group: number, tensor: tensor.clone(), mark });
        }
        Ok(())
    }

    /// A tensor without memory that looks like this one. `None` where the class could not be set.
    fn mark(
        &self,
        tensor: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> Option<Bound<'py, PyAny>> {
        let size =
            |class: &Bound<'py, PyAny>| get(&self.basic_size, class)?.extract::<usize>().ok();
        // SAFETY: a live object's type is alive.
        let of_tensor = unsafe { strong(tensor.py(), type_of(tensor.as_ptr() as usize)) };
        // A class with slots of its own cannot be exchanged.
        if size(&of_tensor)? != size(class.as_any())? {
            return None;
        }
        let options = PyDict::new(tensor.py());
        options.set_item("dtype", get(&self.dtype, tensor)?).ok()?;
        // On the device without memory: an assignment to another tensor's `data` asks nobody but torch,
        // which refuses that one. On any other it would compute with an address that is none.
        options.set_item("device", "meta").ok()?;
        let make = class.getattr("_make_wrapper_subclass").ok()?;
        make.call((class, get(&self.shape, tensor)?), Some(&options)).ok()
    }
}
