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
use crate::object::{reference_count, strong, type_of};
use crate::table::{AddressHashSet, AddressMap, OutOfMemory, add};
use crate::tally::Tally;
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
    pub(crate) storages: Vec<(usize, usize)>,
    /// Whether an object of the watched type lives.
    pub(crate) met_watched: bool,
    /// Keeps what C++ alone holds alive as long as the answer is used.
    _held: Vec<Bound<'py, PyAny>>,
    /// Keeps what others dropped while we asked: freeing that may run any code, and must wait until
    /// nobody relies on the answer.
    _list: Option<Bound<'py, PyAny>>,
    /// The collector stays off as long.
    _off: CollectorOff<'py>,
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

/// An object with references that nothing explains.
struct Root {
    address: usize,
    left: u64,
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
    let mut walk = Walk::new(world, tally, Bounds::None)?;
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
    explain_silent(world, &walk.silent, &mut roots);
    let tensors = std::mem::take(&mut walk.tensors);
    let Users { storages, used, known } =
        used_by_strangers(world, walk.marks(), &tensors, &walk.silent)?;
    // C++ holds a reference to it, which is no user's.
    roots.retain(|root| !known.contains(&root.address));

    let hits = std::mem::take(&mut walk.hits);
    let held = std::mem::take(&mut walk.held);
    let met_watched = walk.met_watched;
    let met = std::mem::replace(walk.marks_mut(), Tally::new()?);
    drop(walk);
    let addresses: Vec<usize> = roots.iter().map(|root| root.address).chain(used).collect();
    // SAFETY: the roots were met above and what only we held is still held.
    let mut set = unsafe {
        match rule {
            Rule::Use => used_from(world, &addresses)?,
            Rule::Write => written_to(world, &addresses)?,
        }
    };
    spread(&storages, &mut set)?;
    Ok(Pinned { set, met, hits, storages, met_watched, _held: held, _list: list, _off: off })
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
        let left = match unsafe { reference_count(address) } {
            Some(count) if count > met => {
                (count - met).saturating_sub(explained.get(&address).copied().unwrap_or(0))
            }
            Some(count) => met - count,
            // Nobody counts its users. A text refers to nothing, and there are many.
            // SAFETY: as above.
            None => u64::from(unsafe { type_of(address) } != world.text),
        };
        if left > 0 {
            roots.try_reserve(1)?;
            roots.push(Root { address, left });
        }
        Ok(())
    })?;
    Ok(roots)
}

/// Takes away the one reference that C++ owners hold together, where all of them are known.
fn explain_silent(world: &World<'_>, silent: &AddressMap<u64>, roots: &mut Vec<Root>) {
    let Some(tensors) = world.foreign.tensors() else { return };
    roots.retain_mut(|root| {
        if let Some(&known) = silent.get(&root.address) {
            // SAFETY: the walk met the object, and nothing has died since.
            let found = tensors.owners(&unsafe { strong(world.py, root.address) });
            root.left -= u64::from(found.hold_a_reference && found.owners == Some(known));
        }
        root.left > 0
    });
}

/// What C++ knows of the tensors.
#[derive(Default)]
struct Users {
    /// As in [`Pinned`].
    storages: Vec<(usize, usize)>,
    /// Tensors in use.
    used: Vec<usize>,
    /// Python objects of storages, all of whose references are known.
    known: AddressHashSet,
}

/// The storage of each tensor, and the tensors with a user that only C++ knows: an owner of the tensor
/// other than its views and the tensor whose gradient it is, or an owner of its memory other than the
/// tensors that the walk met, such as what autograd saves of an operation's result. A reference to the
/// storage's Python object that the walk did not meet is a user too, and whoever has that object has the
/// memory.
fn used_by_strangers(
    world: &World<'_>,
    tally: &Tally,
    tensors: &[usize],
    silent: &AddressMap<u64>,
) -> Result<Users, OutOfMemory> {
    let Some(getters) = world.foreign.tensors() else { return Ok(Users::default()) };
    let (mut storages, mut used) = (Vec::new(), Vec::new());
    let _quiet = world.foreign.quiet();
    for &address in tensors {
        // SAFETY: the walk met the tensor, and nothing has died since.
        let tensor = unsafe { strong(world.py, address) };
        let known = silent.get(&address).copied().unwrap_or(0);
        if getters.owners(&tensor).owners.is_none_or(|owners| owners > known) {
            used.try_reserve(1)?;
            used.push(address);
        }
        if let Some(storage) = getters.storage(&tensor, 0) {
            storages.try_reserve(1)?;
            storages.push((storage.address, address));
        }
    }
    storages.sort_unstable();
    let (mut objects, mut known) = (Vec::new(), AddressHashSet::default());
    for group in storages.chunk_by(|one, other| one.0 == other.0) {
        // SAFETY: as above.
        let tensor = unsafe { strong(world.py, group[0].1) };
        let Some(storage) = getters.storage(&tensor, group.len() as u64) else { continue };
        if storage.strangers > 0 || storage.references != tally.met(storage.object).unwrap_or(0) {
            used.try_reserve(group.len())?;
            used.extend(group.iter().map(|(_, tensor)| *tensor));
        } else {
            known.try_reserve(1)?;
            known.insert(storage.object);
        }
        // One that nobody has was made for us just now, and is gone.
        if storage.references > 0 {
            objects.try_reserve(1)?;
            objects.push((storage.address, storage.object));
        }
    }
    storages.try_reserve(objects.len())?;
    storages.append(&mut objects);
    storages.sort_unstable();
    Ok(Users { storages, used, known })
}
