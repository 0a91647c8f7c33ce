//! Hidden references: an object's reference count, less the references met in a walk over the whole heap.
//!
//! What is left is held by something that no traversal shows: a running frame, C code on the stack, a
//! C++ library. Such an object is in use, with everything that it reaches: it is pinned. So is an
//! object without a count (an immortal one), and one that was met more often than it is counted:
//! something reports references that do not exist.
//!
//! After the last step that raises an audit event, no Python code runs until the answer is dropped, not
//! even that of a hook, which could give up the interpreter lock. What other threads did during an
//! earlier event is seen: only types and frames are looked at before.

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::bitmap::{AddressSet, Marks};
use crate::frames::Waiting;
use crate::table::{AddressHashSet, AddressMap, OutOfMemory, Pairs, add};
use crate::tally::Tally;
use crate::users::{Met, Root, left, used};
use crate::visitor::Visitor;
use crate::walk::{Bounds, Walk};
use crate::world::{CollectorOff, World, addresses, listed};
use crate::writers::written_to;

/// What the pass over the whole heap found.
pub(crate) struct Pinned<'py> {
    /// Objects in use, and what they reach.
    pub(crate) set: AddressSet,
    /// How often each object was met.
    pub(crate) met: Tally,
    /// Every object of the wanted types.
    pub(crate) hits: Vec<Bound<'py, PyAny>>,
    /// The C++ object behind each tensor's memory, and the tensor or the storage's Python object; sorted.
    pub(crate) storages: Pairs,
    /// Whether an object of the watched type lives.
    pub(crate) met_watched: bool,
    /// Frames that run and report their variables.
    pub(crate) running: AddressHashSet,
    /// Keeps what C++ alone holds alive as long as the answer is used.
    held: Vec<Bound<'py, PyAny>>,
    /// Keeps what others dropped while we asked: freeing that may run any code, and must wait until
    /// nobody relies on the answer.
    list: Option<Bound<'py, PyAny>>,
    /// The collector stays off as long.
    _off: CollectorOff<'py>,
}

impl Pinned<'_> {
    /// The objects to each of which the answer holds a reference, and the collector's list, which holds one
    /// to every object.
    pub(crate) fn holds(&self) -> (impl Iterator<Item = usize>, Option<usize>) {
        let address = |object: &Bound<'_, PyAny>| object.as_ptr() as usize;
        (self.hits.iter().chain(&self.held).map(address), self.list.as_ref().map(address))
    }

    /// Each of these objects, with each that shares its memory, and with the Python object of that memory.
    pub(crate) fn sharing<'a>(
        &'a self,
        objects: &'a AddressHashSet,
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        let groups = self.storages.chunk_by(|one, other| one.0 == other.0);
        groups.flat_map(|group| {
            let members = group.iter().map(|(_, object)| *object);
            let asked = members.clone().filter(|object| objects.contains(object));
            asked.flat_map(move |one| members.clone().map(move |other| (one, other)))
        })
    }
}

/// Tensors that share memory are in the set together: where one is, or their storage, all are.
pub(crate) fn spread(storages: &[(usize, usize)], set: &mut AddressSet) -> Result<(), OutOfMemory> {
    for group in storages.chunk_by(|one, other| one.0 == other.0) {
        if group.iter().any(|(_, object)| set.contains(*object)) {
            for (_, object) in group {
                set.insert(*object)?;
            }
        }
    }
    Ok(())
}

/// What an unexplained reference pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// All that it leads to: somebody may use it.
    Use,
    /// What somebody may be writing to; see [`crate::writers`].
    Write,
}

/// Counts every reference of the heap and walks on from what is not explained.
///
/// `arguments` are the containers our caller passed: the call holds them, which pins nothing.
///
/// # Safety
/// The interpreter lock is held, and `arguments` are live objects.
pub(crate) unsafe fn pinned<'py>(
    world: &World<'py>,
    waiting: &Waiting<'py>,
    arguments: &[usize],
    rule: Rule,
) -> PyResult<Pinned<'py>> {
    // SAFETY: the caller's promise.
    unsafe { pinned_seen_by(world, waiting, arguments, rule, &mut ()) }
}

/// The same, and a visitor sees the references that were counted.
///
/// # Safety
/// As for [`pinned`].
pub(crate) unsafe fn pinned_seen_by<'py, V: Visitor>(
    world: &World<'py>,
    waiting: &Waiting<'py>,
    arguments: &[usize],
    rule: Rule,
    visitor: &mut V,
) -> PyResult<Pinned<'py>> {
    // A collection would run finalizers.
    let off = CollectorOff::new(world.py);
    let list = world.tracked_list()?;
    // The list raises the last event, except where running frames must be asked for: then others may
    // run once more. The list keeps what they drop, and is kept as long as the answer.
    let running = world.reporting_frames()?;
    let mut explained = waiting.explain(world.layout.frames.as_ref())?;
    let mut tracked = listed(&list)?;
    tracked.try_reserve(2).map_err(OutOfMemory::from)?;
    let list = world.layout.frames_report_variables.then_some(list);
    // Its references count like any other, and we alone hold it.
    tracked.extend(list.as_ref().map(|list| list.as_ptr() as usize));
    // Frozen objects are not listed, and nearly all of them hang on the modules.
    tracked.push(world.modules.as_ptr() as usize);

    let mut tally = Tally::new()?;
    for &frame in &running {
        // Met and never entered: what a running frame holds is in use, not explained.
        tally.mark(frame)?;
    }
    let mut walk = Walk::seen_by(world, tally, Bounds::None, visitor)?;
    // SAFETY: tracked objects are alive and stay so; the rest is the caller's promise.
    unsafe { walk.run(&tracked)? };
    drop(tracked);

    for object in walk.hits.iter().chain(&walk.held) {
        add(&mut explained, object.as_ptr() as usize, 1)?;
    }
    let mut roots = unexplained(world, walk.marks(), &explained)?;
    let ours = list.as_ref().map(|list| list.as_ptr() as usize);
    let exempt: AddressHashSet = arguments.iter().copied().chain(ours).collect();
    roots.retain(|root| !exempt.contains(&root.address));
    let met = Met {
        silent: &walk.silent,
        tensors: &walk.tensors,
        count: &|object| walk.marks().met(object).unwrap_or(0),
    };
    // SAFETY: the walk met them all, and nothing has died since.
    let (used, storages) = unsafe { used(world, roots, &met)? };

    let hits = std::mem::take(&mut walk.hits);
    let held = std::mem::take(&mut walk.held);
    let met_watched = walk.met_watched;
    let met = std::mem::replace(walk.marks_mut(), Tally::new()?);
    drop(walk);
    // SAFETY: they were met above and what only we held is still held.
    let mut set = unsafe {
        match rule {
            Rule::Use => used_from(world, &used)?,
            Rule::Write => written_to(world, &used)?,
        }
    };
    spread(&storages, &mut set)?;
    Ok(Pinned { set, met, hits, storages, met_watched, running, held, list, _off: off })
}

/// # Safety
/// The roots are live objects, the interpreter lock is held and the collector is off.
unsafe fn used_from(world: &World<'_>, roots: &[usize]) -> Result<AddressSet, OutOfMemory> {
    let mut walk = Walk::new(world, AddressSet::new()?, Bounds::Pin)?.without_hits();
    // SAFETY: the caller's promise.
    unsafe { walk.run(roots)? };
    Ok(std::mem::replace(walk.marks_mut(), AddressSet::new()?))
}

/// Whether each object is in use; `exempt` is an object that the call holds.
pub(crate) fn are_pinned<'py>(
    world: &World<'py>,
    objects: &Bound<'py, PyList>,
    waiting: &Waiting<'py>,
    exempt: usize,
) -> PyResult<Vec<bool>> {
    // SAFETY: the lock is held, and the arguments are our caller's.
    let pinned =
        unsafe { pinned(world, waiting, &[objects.as_ptr() as usize, exempt], Rule::Use)? };
    Ok(addresses(objects)?.into_iter().map(|object| pinned.set.contains(object)).collect())
}

/// Objects with more references than were met or explained, or with fewer, or with no count.
fn unexplained(
    world: &World<'_>,
    tally: &Tally,
    explained: &AddressMap<u64>,
) -> Result<Vec<Root>, OutOfMemory> {
    let mut roots = Vec::new();
    tally.for_each(|address, met| -> Result<(), OutOfMemory> {
        // SAFETY: the walk met the object, and nothing has died since.
        let left = unsafe { left(world, address, met, explained) };
        if left > 0 {
            roots.try_reserve(1)?;
            roots.push(Root { address, left });
        }
        Ok(())
    })?;
    Ok(roots)
}
