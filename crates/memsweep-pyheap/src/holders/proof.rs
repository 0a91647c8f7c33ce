//! The proof that nobody writes to memory, from the holders that were noted.
//!
//! It is the rule of [`crate::hidden`] and [`crate::writers`], applied to the noted holders alone. A walk
//! begins at the stops, at what waiting frames hold and at what the call itself holds, and enters links
//! only. Then, for each link that it met:
//!
//! - its count is what was met, and what is known to hold it beside; a reference that anybody took since,
//!   or took over from a noted holder, is one that nothing explains;
//! - a tensor and a storage have no owner in C++ beside those that were met;
//! - it shows no memory by a buffer, which C code can use without a reference.
//!
//! A link that does not satisfy this, and what the links lead to from it, may be written to. So may a link
//! that was not met any more: then nothing is known of who holds it.
//!
//! What this does not see, and the walk over the whole heap does: an object of the positive list that
//! became the base of an array since the first walk, and no longer shows memory by itself. Where the kernel
//! tells what was written, that is noticed; elsewhere only modules, coroutines and futures are on the list.

use pyo3::prelude::*;

use crate::bitmap::{AddressSet, Marks};
use crate::hidden::spread;
use crate::table::{AddressHashSet, AddressMap, OutOfMemory, add};
use crate::users::{Met, Root, left, used};
use crate::visitor::{Via, Visitor};
use crate::walk::{Bounds, Walk};
use crate::world::World;

use super::Holders;

/// References that the caller itself explains.
pub(crate) struct Ours<'a> {
    /// How many to each object: those of waiting frames, and of the caller.
    pub(crate) explained: AddressMap<u64>,
    /// Objects that the call holds, which pins nothing.
    pub(crate) arguments: &'a [usize],
    /// A list of the collector's, whose references are met like any others.
    pub(crate) list: Option<usize>,
    /// Frames that run: what they report is in use.
    pub(crate) running: &'a AddressHashSet,
}

/// Which objects nobody writes to.
pub(crate) struct Proof<'py> {
    met: Links,
    written: AddressSet,
    /// Keeps what C++ alone holds alive as long as the answer is used.
    _held: Vec<Bound<'py, PyAny>>,
}

impl Proof<'_> {
    /// Whether the object was met, and nobody writes to what it owns.
    pub(crate) fn holds_for(&self, object: usize) -> bool {
        self.met.count(object).is_some() && !self.written.contains(object)
    }
}

/// Proves what it can for some of the objects that these are the holders of.
///
/// # Safety
/// The interpreter lock is held, the collector is off, and what is explained is alive, as are the arguments
/// and the list.
pub(crate) unsafe fn prove<'py>(
    world: &World<'py>,
    holders: &Holders,
    objects: impl Iterator<Item = usize>,
    ours: Ours<'_>,
) -> Result<Proof<'py>, OutOfMemory> {
    let Ours { mut explained, arguments, list, running } = ours;
    let leading = holders.leading_to(objects)?;
    let mut links = Links::default();
    links.known.try_reserve(leading.links.len() + leading.stops.len() + 1)?;
    links.known.extend(leading.links.iter().map(|&link| (link, Link::default())));
    let mut roots = Vec::new();
    roots.try_reserve(leading.stops.len() + arguments.len() + explained.len() + 1)?;
    for &stop in &leading.stops {
        // One that can be written through by now shows nothing, so that its links have too few holders.
        // SAFETY: the stop is held.
        if !running.contains(&stop) && unsafe { world.ends_writing(stop) } {
            links.known.insert(stop, Link::default());
            roots.push(stop);
        }
    }
    if let Some(list) = list {
        links.known.insert(list, Link::default());
        roots.push(list);
    }
    roots.extend(explained.keys().chain(arguments).filter(|held| leading.links.contains(held)));
    let between = Between { links: &leading.links, parent: 0, found: Vec::new() };
    let mut walk = Walk::seen_by(world, links, Bounds::None, between)?.without_hits();
    // SAFETY: the caller's promise; the stops are held, and the walk meets what they and what it met show.
    unsafe { walk.run(&roots)? };

    for object in &walk.held {
        add(&mut explained, object.as_ptr() as usize, 1)?;
    }
    let exempt: AddressHashSet = arguments.iter().copied().chain(list).collect();
    let links = std::mem::take(walk.marks_mut());
    let met = Met {
        silent: &walk.silent,
        tensors: &walk.tensors,
        count: &|object| links.count(object).unwrap_or(0),
    };
    let mut roots = Vec::new();
    for (&address, link) in links.known.iter().filter(|(_, link)| link.is_met) {
        if !leading.links.contains(&address) || exempt.contains(&address) {
            continue;
        }
        // SAFETY: the walk met the link, and nothing has died since.
        let mut left = unsafe { left(world, address, link.references, &explained) };
        // SAFETY: as above.
        if unsafe { world.is_buffer(address) } {
            left = u64::MAX;
        }
        if left > 0 {
            roots.try_reserve(1)?;
            roots.push(Root { address, left });
        }
    }
    // SAFETY: as above.
    let (used, storages) = unsafe { used(world, roots, &met)? };
    let mut between = std::mem::take(&mut walk.visitor_mut().found);
    between.sort_unstable();
    let mut written = AddressSet::new()?;
    let mut next = used;
    while let Some(link) = next.pop() {
        if !written.insert(link)? {
            continue;
        }
        let first = between.partition_point(|(parent, _)| *parent < link);
        let children = between[first..].iter().take_while(|(parent, _)| *parent == link);
        for &(_, child) in children {
            next.try_reserve(1)?;
            next.push(child);
        }
    }
    spread(&storages, &mut written)?;
    Ok(Proof { met: links, written, _held: std::mem::take(&mut walk.held) })
}

/// Whether a link was met, and how often.
#[derive(Default)]
struct Link {
    is_met: bool,
    references: u64,
}

/// The marks of a walk that enters links alone.
#[derive(Default)]
struct Links {
    known: AddressMap<Link>,
}

impl Links {
    fn count(&self, object: usize) -> Option<u64> {
        self.known.get(&object).filter(|link| link.is_met).map(|link| link.references)
    }

    fn record(&mut self, address: usize, reference: u64) -> bool {
        let Some(link) = self.known.get_mut(&address) else { return false };
        link.references += reference;
        !std::mem::replace(&mut link.is_met, true)
    }
}

impl Marks for Links {
    #[inline]
    fn meet(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        Ok(self.record(address, 1))
    }

    #[inline]
    fn mark(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        Ok(self.record(address, 0))
    }
}

/// The references between links.
struct Between<'a> {
    links: &'a AddressHashSet,
    parent: usize,
    /// Parent and child.
    found: Vec<(usize, usize)>,
}

impl Visitor for Between<'_> {
    fn begin(&mut self, parent: usize) -> usize {
        std::mem::replace(&mut self.parent, parent)
    }

    fn edge(&mut self, child: usize, _: Via) -> Result<(), OutOfMemory> {
        if self.links.contains(&child) && self.links.contains(&self.parent) {
            self.found.try_reserve(1)?;
            self.found.push((self.parent, child));
        }
        Ok(())
    }
}
