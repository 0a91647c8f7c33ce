//! Who uses an object, when it is known how often a walk met each: references that nothing explains, and
//! owners that only C++ knows.

use crate::object::{reference_count, strong, type_of};
use crate::table::{AddressHashSet, AddressMap, OutOfMemory, Pairs};
use crate::world::World;

/// An object with references that nothing explains.
pub(crate) struct Root {
    pub(crate) address: usize,
    pub(crate) left: u64,
}

/// What a walk that counts references met.
pub(crate) struct Met<'a> {
    /// As in [`Walk`].
    pub(crate) silent: &'a AddressMap<u64>,
    pub(crate) tensors: &'a [usize],
    /// How often it met an object.
    pub(crate) count: &'a dyn Fn(usize) -> u64,
}

/// How many references to an object are not explained, when it was met so often.
///
/// # Safety
/// `address` is a live object and the interpreter lock is held.
pub(crate) unsafe fn left(
    world: &World<'_>,
    address: usize,
    met: u64,
    explained: &AddressMap<u64>,
) -> u64 {
    // SAFETY: the caller's promise.
    match unsafe { reference_count(address) } {
        Some(count) if count > met => {
            (count - met).saturating_sub(explained.get(&address).copied().unwrap_or(0))
        }
        Some(count) => met - count,
        // Nobody counts its users. A text refers to nothing, and there are many.
        // SAFETY: as above.
        None => u64::from(unsafe { type_of(address) } != world.text),
    }
}

/// The objects in use by themselves: those of the roots whose references C++ does not explain either, and
/// tensors with a user that only C++ knows. With them what [`Pinned`] says of storages.
///
/// # Safety
/// The walk met them all, and nothing has died since.
pub(crate) unsafe fn used(
    world: &World<'_>,
    mut roots: Vec<Root>,
    met: &Met<'_>,
) -> Result<(Vec<usize>, Pairs), OutOfMemory> {
    explain_silent(world, met.silent, &mut roots);
    let Users { storages, mut used, known } = used_by_strangers(world, met)?;
    // C++ holds a reference to it, which is no user's.
    roots.retain(|root| !known.contains(&root.address));
    used.try_reserve(roots.len())?;
    used.extend(roots.iter().map(|root| root.address));
    Ok((used, storages))
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
    storages: Pairs,
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
fn used_by_strangers(world: &World<'_>, met: &Met<'_>) -> Result<Users, OutOfMemory> {
    let Some(getters) = world.foreign.tensors() else { return Ok(Users::default()) };
    let (mut storages, mut used) = (Vec::new(), Vec::new());
    let _quiet = world.foreign.quiet();
    for &address in met.tensors {
        // SAFETY: the walk met the tensor, and nothing has died since.
        let tensor = unsafe { strong(world.py, address) };
        let known = met.silent.get(&address).copied().unwrap_or(0);
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
        if storage.strangers > 0 || storage.references != (met.count)(storage.object) {
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
