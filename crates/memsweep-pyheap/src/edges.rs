//! Who refers to whom among the objects that some roots reach, and by which name.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::bitmap::AddressSet;
use crate::labels::{Label, Labels};
use crate::object::strong;
use crate::selftest::world;
use crate::table::{AddressMap, OutOfMemory};
use crate::visitor::{Via, Visitor};
use crate::walk::{Bounds, Walk};
use crate::world::{CollectorOff, World, addresses};

/// One reference from a parent to a child.
#[derive(Debug)]
pub struct Edge<'py> {
    /// Who refers.
    pub parent: Bound<'py, PyAny>,
    /// What is referred to.
    pub child: Bound<'py, PyAny>,
    /// The name under which the parent holds the child, where it is cheap to tell.
    pub label: Option<Label<'py>>,
}

/// Writes every edge down.
#[derive(Default)]
struct Edges {
    parent: usize,
    found: Vec<(usize, usize, Via)>,
}

impl Visitor for Edges {
    fn begin(&mut self, parent: usize) -> usize {
        std::mem::replace(&mut self.parent, parent)
    }

    fn edge(&mut self, child: usize, via: Via) -> Result<(), OutOfMemory> {
        self.found.try_reserve(1)?;
        self.found.push((self.parent, child, via));
        Ok(())
    }
}

/// The references that a walk from the roots follows, in its order: an object that holds another one
/// twice has two edges to it.
///
/// The labels are asked for after the walk, which may raise audit events.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, `MemoryError` when there is no memory for
/// the walk.
pub fn edges<'py>(roots: &Bound<'py, PyList>) -> PyResult<Vec<Edge<'py>>> {
    let world = world(&PyTuple::empty(roots.py()))?;
    let held = held_edges(&world, roots)?;
    let mut children: AddressMap<Vec<usize>> = AddressMap::default();
    for (parent, child, via) in &held {
        if *via == Via::Traversal {
            children.entry(address(parent)).or_default().push(address(child));
        }
    }
    let mut labels = Labels::new(world.py, world.layout)?;
    // A parent may be a part of another one, which is learned from that.
    let mut parents: AddressMap<&Bound<'py, PyAny>> = AddressMap::default();
    for (parent, _, _) in &held {
        if parents.insert(address(parent), parent).is_none() {
            labels.learn(parent, children.get(&address(parent)).map_or(&[], Vec::as_slice))?;
        }
    }
    let mut names = AddressMap::default();
    for (address, parent) in parents {
        let children = children.get(&address).map_or(&[] as &[usize], Vec::as_slice);
        names.insert(address, labels.of(parent, children)?);
    }
    Ok(held
        .into_iter()
        .map(|(parent, child, via)| {
            let label = match via {
                Via::Traversal => names
                    .get_mut(&address(&parent))
                    .and_then(|names| names.get_mut(&address(&child))?.pop_front()),
                other => other.attribute().map(|name| Label::Attribute(name.to_owned())),
            };
            Edge { parent, child, label }
        })
        .collect())
}

fn address(object: &Bound<'_, PyAny>) -> usize {
    object.as_ptr() as usize
}

/// A parent, a child, and how the walk found that the one refers to the other.
type Held<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Via);

fn held_edges<'py>(world: &World<'py>, roots: &Bound<'py, PyList>) -> PyResult<Vec<Held<'py>>> {
    let _off = CollectorOff::new(world.py);
    let mut walk = Walk::seen_by(world, AddressSet::new()?, Bounds::Reach, Edges::default())?;
    // SAFETY: the list holds its elements, the lock is held and the collector is off.
    unsafe { walk.run(&addresses(roots)?)? };
    let found = std::mem::take(&mut walk.visitor_mut().found);
    let mut held = Vec::new();
    held.try_reserve_exact(found.len()).map_err(OutOfMemory::from)?;
    held.extend(found.into_iter().map(|(parent, child, via)| {
        // SAFETY: the walk met both, and nothing has died since: what only a getter of ours kept alive
        // is held by the walk.
        unsafe { (strong(world.py, parent), strong(world.py, child), via) }
    }));
    Ok(held)
}
