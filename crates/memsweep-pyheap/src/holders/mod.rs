//! Who holds memory, noted in one walk over the heap, and proved again without another one.
//!
//! A walk over a large heap takes longer than other threads should wait, and moving memory must prove
//! again and again that nobody writes to it. So the first walk notes the holders of the memory, and their
//! holders, up to what no writer goes through: an object of the positive list, a module's dictionary, what
//! a bounded walk never enters. These *stops* are kept alive. What lies between them and the memory, the
//! *links*, is not: it is found again from the stops, and only what is found there is looked at.
//!
//! The notes are hints. The proof counts what the stops and links show at that moment: a link whose count
//! is larger is held by somebody new, and what it leads to stays. See [`proof`].

mod noting;
mod proof;

use pyo3::prelude::*;

use crate::object::strong;
use crate::table::{AddressHashSet, AddressMap, OutOfMemory, Pairs};
use crate::world::World;
use crate::writers::shown_by;

pub(crate) use self::noting::Noting;
pub(crate) use self::proof::{Ours, Proof, prove};

/// Who holds some memory, up to what keeps it alive for a proof.
#[derive(Debug, Default)]
pub struct Holders {
    /// Through these nobody writes. By their addresses.
    stops: AddressMap<Py<PyAny>>,
    /// Links, each with what holds it: a link or a stop. Sorted. Addresses alone: they stand for no object until a
    /// proof has met one there.
    held_by: Pairs,
}

/// What leads to some objects.
#[derive(Debug, Default)]
struct Leading {
    stops: Vec<usize>,
    links: AddressHashSet,
}

impl Holders {
    /// From the references that a walk noted: the holders of these objects, their holders, and so on.
    /// `sharing` are pairs of such an object and one that has the same memory, which is as good a holder.
    ///
    /// Nothing is noted for what an array shows through an object of the positive list: whoever writes
    /// there holds the array, which is no holder of the memory's object.
    ///
    /// # Safety
    /// What was noted is alive, as it is right after the walk.
    pub(crate) unsafe fn of<'py>(
        world: &World<'py>,
        noting: Noting<'_, 'py>,
        objects: &AddressHashSet,
        sharing: impl Iterator<Item = (usize, usize)>,
    ) -> Result<Self, OutOfMemory> {
        let (references, shown) = noting.into_parts(sharing)?;
        // SAFETY: the caller's promise.
        let shown: AddressHashSet = unsafe { shown_by(world, shown)? }.into_iter().collect();
        let mut found = Self::default();
        let mut seen = AddressHashSet::default();
        let mut next: Vec<usize> = objects.iter().copied().collect();
        next.retain(|object| !shown.contains(object));
        while let Some(link) = next.pop() {
            seen.try_reserve(1)?;
            if !seen.insert(link) {
                continue;
            }
            let holders = of(&references, link);
            found.held_by.try_reserve(holders.len())?;
            found.held_by.extend(holders);
            for &(_, holder) in holders {
                if found.stops.contains_key(&holder) || seen.contains(&holder) {
                    continue;
                }
                // SAFETY: the caller's promise.
                if unsafe { world.ends_writing(holder) } {
                    found.stops.try_reserve(1)?;
                    // SAFETY: as above.
                    let stop = unsafe { strong(world.py, holder) };
                    found.stops.insert(holder, stop.unbind());
                } else {
                    next.try_reserve(1)?;
                    next.push(holder);
                }
            }
        }
        found.held_by.sort_unstable();
        found.held_by.dedup();
        Ok(found)
    }

    /// What leads to these objects, as it was noted.
    fn leading_to(&self, objects: impl Iterator<Item = usize>) -> Result<Leading, OutOfMemory> {
        let mut found = Leading::default();
        let mut seen = AddressHashSet::default();
        let mut next: Vec<usize> = objects.collect();
        while let Some(object) = next.pop() {
            seen.try_reserve(1)?;
            if !seen.insert(object) {
                continue;
            }
            if self.stops.contains_key(&object) {
                found.stops.try_reserve(1)?;
                found.stops.push(object);
                continue;
            }
            found.links.try_reserve(1)?;
            found.links.insert(object);
            let holders = of(&self.held_by, object);
            next.try_reserve(holders.len())?;
            next.extend(holders.iter().map(|(_, holder)| *holder));
        }
        Ok(found)
    }
}

/// The pairs that begin with an object, of sorted ones.
fn of(references: &[(usize, usize)], object: usize) -> &[(usize, usize)] {
    let first = references.partition_point(|(child, _)| *child < object);
    let count = references[first..].partition_point(|(child, _)| *child == object);
    &references[first..first + count]
}
