//! What somebody may be writing to without the interpreter lock, from the objects that have unexplained
//! references; see [`crate::passive`].
//!
//! The walk goes no further at an object of the positive list, except where that object is what memory
//! belongs to: the base of an array, or what a view shows. C code that writes through a view holds the
//! view, and its owner may be of any kind. So what an owner reaches is walked as what is in use is.

use pyo3::ffi::PyModule_Type;
use pyo3::prelude::*;
use pyo3::types::PyModule;

use crate::bitmap::AddressSet;
use crate::object::{children, is_subtype, strong, type_of};
use crate::table::OutOfMemory;
use crate::visitor::{Via, Visitor};
use crate::walk::{Bounds, Walk};
use crate::world::World;

/// The set of what may be written to.
///
/// # Safety
/// The roots are live objects, the interpreter lock is held and the collector is off.
pub(crate) unsafe fn written_to(
    world: &World<'_>,
    roots: &[usize],
) -> Result<AddressSet, OutOfMemory> {
    let owners = Owners { world, is_view: false, found: Vec::new() };
    let mut walk = Walk::seen_by(world, AddressSet::new()?, Bounds::Write, owners)?.without_hits();
    // SAFETY: the caller's promise.
    unsafe { walk.run(roots)? };
    let owners = std::mem::take(&mut walk.visitor_mut().found);
    let mut written = std::mem::replace(walk.marks_mut(), AddressSet::new()?);
    drop(walk);
    // SAFETY: an object of the first walk refers to each, and nothing has died since.
    for address in unsafe { shown_by(world, owners)? } {
        written.insert(address)?;
    }
    Ok(written)
}

/// Memory's owners, and all that they lead to.
///
/// # Safety
/// The owners are live objects, the interpreter lock is held and the collector is off.
pub(crate) unsafe fn shown_by(
    world: &World<'_>,
    mut owners: Vec<usize>,
) -> Result<Vec<usize>, OutOfMemory> {
    for at in 0..owners.len() {
        // SAFETY: the caller's promise. An object of another type may be one that is kept for reuse, to which no
        // reference may be taken.
        let is_module = unsafe { is_subtype(type_of(owners[at]), &raw mut PyModule_Type as usize) };
        if !is_module {
            continue;
        }
        // No bounded walk enters a module; this one owns the memory that it shows.
        // SAFETY: as above.
        if let Ok(module) = unsafe { strong(world.py, owners[at]) }.cast::<PyModule>() {
            let content = children(module.dict().as_any());
            owners.try_reserve(content.len())?;
            owners.extend(content);
        }
    }
    let mut walk =
        Walk::seen_by(world, AddressSet::new()?, Bounds::Pin, Met(Vec::new()))?.without_hits();
    // SAFETY: the caller's promise, and what a module has.
    unsafe { walk.run(&owners)? };
    owners.append(&mut walk.visitor_mut().0);
    Ok(owners)
}

/// Notes what memory belongs to.
struct Owners<'w, 'py> {
    world: &'w World<'py>,
    is_view: bool,
    found: Vec<usize>,
}

impl Visitor for Owners<'_, '_> {
    fn begin(&mut self, parent: usize) -> usize {
        self.is_view = self.world.is_view(parent);
        parent
    }

    fn edge(&mut self, child: usize, via: Via) -> Result<(), OutOfMemory> {
        if self.is_view || via == Via::Base {
            self.found.try_reserve(1)?;
            self.found.push(child);
        }
        Ok(())
    }
}

/// Notes all that is met.
struct Met(Vec<usize>);

impl Visitor for Met {
    fn begin(&mut self, parent: usize) -> usize {
        parent
    }

    fn edge(&mut self, child: usize, _: Via) -> Result<(), OutOfMemory> {
        self.0.try_reserve(1)?;
        self.0.push(child);
        Ok(())
    }
}
