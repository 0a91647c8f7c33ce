//! What roots reach, and what the whole heap holds.

use std::ops::ControlFlow;

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::bitmap::{AddressSet, Marks};
use crate::kinds::TypeTable;
use crate::object::{each_child, prefetch, strong, type_of};
use crate::table::{AddressHashSet, OutOfMemory};
use crate::walk::{Bounds, RING, Walk};
use crate::world::{CollectorOff, World, addresses};

/// Strong references to objects.
pub type Objects<'py> = Vec<Bound<'py, PyAny>>;

/// The objects of the wanted types that each group of roots reaches, roots included.
pub(crate) fn reached_by<'py>(
    world: &World<'py>,
    groups: &[Bound<'py, PyList>],
) -> PyResult<Vec<Objects<'py>>> {
    let _off = CollectorOff::new(world.py);
    let mut walk = Walk::new(world, OfGroup::new(&world.module_dictionaries)?, Bounds::Reach)?;
    let mut found = Vec::with_capacity(groups.len());
    for group in groups {
        // SAFETY: the list holds its elements, the lock is held and the collector is off.
        unsafe { walk.run(&addresses(group)?)? };
        found.push(std::mem::take(&mut walk.hits));
        walk.held.clear();
        walk.marks_mut().take_back();
    }
    Ok(found)
}

/// Marks of one group of roots, which can be taken back at the cost of their own number. An output of a node
/// reaches a handful of objects, and there may be hundreds of them.
struct OfGroup {
    set: AddressSet,
    added: Vec<usize>,
    /// What each group begins with: some thousand module dictionaries. In the other set each has a page to
    /// itself, and touching that many takes the kernel a millisecond.
    closed: AddressHashSet,
}

impl OfGroup {
    fn new(module_dictionaries: &[usize]) -> Result<Self, OutOfMemory> {
        let mut closed = AddressHashSet::default();
        closed.try_reserve(module_dictionaries.len())?;
        closed.extend(module_dictionaries);
        Ok(Self { set: AddressSet::new()?, added: Vec::new(), closed })
    }

    fn take_back(&mut self) {
        for address in self.added.drain(..) {
            self.set.remove(address);
        }
    }
}

impl Marks for OfGroup {
    #[inline]
    fn meet(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        self.mark(address)
    }

    #[inline]
    fn mark(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        if self.closed.contains(&address) {
            return Ok(false);
        }
        // Room first, so that nothing is marked that cannot be taken back.
        self.added.try_reserve(1)?;
        let is_new = self.set.insert(address)?;
        if is_new {
            self.added.push(address);
        }
        Ok(is_new)
    }
}

/// Every object of the wanted types in the heap, and how many objects were looked at.
pub(crate) fn instances<'py>(world: &World<'py>) -> PyResult<(Objects<'py>, usize)> {
    if !world.wanted_are_tracked()? {
        let mut tracked = world.tracked_objects()?;
        tracked.try_reserve(1).map_err(OutOfMemory::from)?;
        tracked.push(world.modules.as_ptr() as usize);
        let mut walk = Walk::new(world, AddressSet::new()?, Bounds::None)?;
        // SAFETY: tracked objects are alive; the lock is held and the collector is off.
        unsafe { walk.run(&tracked)? };
        return Ok((std::mem::take(&mut walk.hits), walk.entered));
    }
    let mut types = TypeTable::new()?;
    let mut found = Vec::new();
    let mut keep_wanted = |object: usize| {
        // SAFETY: the list below holds the object, and its type lives as long.
        if object == 0 || !unsafe { types.facts(type_of(object), world) }.wanted {
            return ControlFlow::Continue(());
        }
        if found.try_reserve(1).is_err() {
            return ControlFlow::Break(());
        }
        // SAFETY: as above.
        found.push(unsafe { strong(world.py, object) });
        ControlFlow::Continue(())
    };
    let list = world.tracked_list()?;
    // Each header is fetched a few objects before it is read.
    let mut ring = [0_usize; RING];
    let mut seen = 0;
    each_child(&list, |object| {
        prefetch(object);
        let earlier = std::mem::replace(&mut ring[seen % RING], object);
        seen += 1;
        keep_wanted(earlier)
    });
    if seen != list.len()? || ring.into_iter().any(|object| keep_wanted(object).is_break()) {
        return Err(OutOfMemory.into());
    }
    Ok((found, seen))
}
