//! The walk itself: an explicit stack, a visitor that only marks and pushes, and a ring of prefetches.
//!
//! It calls no Python code and changes no reference count, except for the strong references it
//! takes to what was asked for.
//! Running out of memory stops it cleanly.

use pyo3::prelude::*;

use crate::bitmap::Marks;
use crate::foreign::Edge;
use crate::kinds::{Foreign, Kind, TypeFacts, TypeTable};
use crate::object::{Visitor, prefetch, strong, type_of, word};
use crate::table::{AddressMap, OutOfMemory, add};
use crate::visit::{
    Sink, visit, visit_but_one, visit_through_frame, visit_unexplained, visit_watching,
};
use crate::world::World;

/// How many objects are on their way into the cache at a time; 8 to 16 measured best.
pub(crate) const RING: usize = 16;

/// Where the walk stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Everything is entered: for counting references over the whole heap.
    /// Running generators are not: what they hold is in use, not explained.
    None,
    /// What an object needs: types, modules, frames, code and globals are not entered.
    Reach,
    /// The same for what is in use: running generators are not entered, their frames speak for them.
    Pin,
}

/// A walk over a set of marks.
pub(crate) struct Walk<'w, 'py, M> {
    world: &'w World<'py>,
    bounds: Bounds,
    types: TypeTable,
    sink: Sink<M>,
    fresh: Vec<usize>,
    foreign: Vec<(usize, Foreign)>,
    collects: bool,
    /// How many objects were entered.
    pub(crate) entered: usize,
    /// Strong references to every object met whose type was asked for.
    pub(crate) hits: Vec<Bound<'py, PyAny>>,
    /// Objects that a getter gave us: each holds one reference of ours.
    pub(crate) held: Vec<Bound<'py, PyAny>>,
    /// How often an object was met through C++ only, where no Python reference stands for it.
    pub(crate) silent: AddressMap<u64>,
    /// Tensors met while counting.
    pub(crate) tensors: Vec<usize>,
    /// Whether an object of one of the watched types was met; see [`World::watched`].
    pub(crate) met_watched: bool,
}

impl<'w, 'py, M: Marks> Walk<'w, 'py, M> {
    /// A walk that has met nothing; module dictionaries are outside its bounds.
    pub(crate) fn new(
        world: &'w World<'py>,
        marks: M,
        bounds: Bounds,
    ) -> Result<Self, OutOfMemory> {
        let mut walk = Self {
            world,
            bounds,
            types: TypeTable::new()?,
            sink: Sink {
                marks,
                stack: Vec::new(),
                leave_out: 0,
                watched: 0,
                watched_seen: false,
                frame_type: world.frame,
                out_of_memory: false,
            },
            fresh: Vec::new(),
            foreign: Vec::new(),
            collects: true,
            entered: 0,
            hits: Vec::new(),
            held: Vec::new(),
            silent: AddressMap::default(),
            tensors: Vec::new(),
            met_watched: false,
        };
        walk.close_modules()?;
        Ok(walk)
    }

    /// The same walk, taking no references to what was asked for.
    pub(crate) fn without_hits(mut self) -> Self {
        self.collects = false;
        self
    }

    /// What was met.
    pub(crate) fn marks(&self) -> &M {
        &self.sink.marks
    }

    /// The marks, to begin again with.
    pub(crate) fn marks_mut(&mut self) -> &mut M {
        &mut self.sink.marks
    }

    /// Counts module dictionaries as met, so that a bounded walk does not enter them.
    pub(crate) fn close_modules(&mut self) -> Result<(), OutOfMemory> {
        if self.bounds != Bounds::None {
            for &dictionary in &self.world.module_dictionaries {
                self.sink.marks.mark(dictionary)?;
            }
        }
        Ok(())
    }

    /// Walks from the roots, then from what tensors and arrays hold beside their traversal.
    ///
    /// All roots are marked first and entered in their order. Where the roots are the interpreter's
    /// own lists, that is nearly the order of addresses, which takes a third of the time that
    /// following references across a fragmented heap takes.
    ///
    /// # Safety
    /// The roots are live objects, the interpreter lock is held and the collector is off.
    pub(crate) unsafe fn run(&mut self, roots: &[usize]) -> Result<(), OutOfMemory> {
        self.fresh.clear();
        for &root in roots {
            if self.sink.marks.mark(root)? {
                self.fresh.try_reserve(1)?;
                self.fresh.push(root);
            }
        }
        let fresh = std::mem::take(&mut self.fresh);
        // SAFETY: the caller's promise.
        unsafe { self.drain(&fresh)? };
        self.fresh = fresh;
        while !self.foreign.is_empty() {
            let batch = std::mem::take(&mut self.foreign);
            self.enter_foreign(&batch)?;
            // SAFETY: what the getters returned is held, so it is alive.
            unsafe { self.drain(&[])? };
        }
        Ok(())
    }

    /// # Safety
    /// As for [`Walk::run`].
    unsafe fn drain(&mut self, roots: &[usize]) -> Result<(), OutOfMemory> {
        let mut ring = [0_usize; RING];
        let (mut place, mut waiting) = (0, 0);
        let mut roots = roots.iter();
        loop {
            let next = match self.sink.stack.pop() {
                Some(address) => address,
                None => roots.next().copied().unwrap_or(0),
            };
            if next != 0 {
                prefetch(next);
                waiting += 1;
            }
            let object = std::mem::replace(&mut ring[place], next);
            place = (place + 1) % RING;
            if object != 0 {
                waiting -= 1;
                // SAFETY: the object is a root or was reported by a live parent, so it is alive.
                unsafe { self.enter(object)? };
            } else if waiting == 0 {
                return Ok(());
            }
        }
    }

    /// # Safety
    /// `object` is a live object.
    #[inline]
    unsafe fn enter(&mut self, object: usize) -> Result<(), OutOfMemory> {
        // SAFETY: the caller's promise; an object's type lives as long as the object.
        let facts = unsafe { self.types.facts(type_of(object), self.world) };
        self.entered += 1;
        if facts.wanted && self.collects {
            self.hits.try_reserve(1)?;
            // SAFETY: the caller's promise.
            self.hits.push(unsafe { strong(self.world.py, object) });
        }
        if facts.foreign != Foreign::Nothing {
            self.foreign.try_reserve(1)?;
            self.foreign.push((object, facts.foreign));
        }
        let bounded = self.bounds != Bounds::None;
        self.met_watched |= facts.watched;
        match facts.kind {
            _ if !bounded && !facts.counts => {
                // SAFETY: the facts belong to the object's type.
                unsafe { self.traverse(object, &facts, visit_unexplained::<M>) };
                return self.checked();
            }
            Kind::Plain => {}
            Kind::Boundary if bounded => return Ok(()),
            Kind::Function if bounded => {
                self.sink.leave_out = self.world.layout.function_globals + 1;
                // SAFETY: the facts belong to the object's type.
                unsafe { self.traverse(object, &facts, visit_but_one::<M>) };
                return self.checked();
            }
            Kind::Generator if self.bounds != Bounds::Reach && self.world.is_running(object) => {
                return Ok(());
            }
            Kind::Generator if bounded => {
                // SAFETY: the facts belong to the object's type.
                unsafe { self.traverse(object, &facts, visit_through_frame::<M>) };
                return self.checked();
            }
            Kind::InlineAttributes => {
                // SAFETY: the type's flags say that a dictionary pointer precedes the object, and
                // the self-test found it at this offset.
                self.sink.watched = unsafe { word(object, crate::layout::MANAGED_DICTIONARY_WORD) };
                self.sink.watched_seen = self.sink.watched == 0;
                // SAFETY: the facts belong to the object's type.
                unsafe { self.traverse(object, &facts, visit_watching::<M>) };
                if !self.sink.watched_seen {
                    let dictionary = self.sink.watched;
                    self.meet(dictionary)?;
                }
                return self.checked();
            }
            Kind::Boundary | Kind::Function | Kind::Generator => {}
        }
        // SAFETY: the facts belong to the object's type.
        unsafe { self.traverse(object, &facts, visit::<M>) };
        self.checked()
    }

    /// # Safety
    /// `object` is a live object and `facts` belong to its type.
    #[inline]
    unsafe fn traverse(&mut self, object: usize, facts: &TypeFacts, visitor: Visitor) {
        if let Some(traversal) = &facts.traversal {
            // SAFETY: the caller's promise; the visitors take a `Sink<M>`, and nothing else uses it meanwhile.
            unsafe { traversal.run(object, visitor, (&raw mut self.sink).cast()) };
        }
    }

    fn checked(&self) -> Result<(), OutOfMemory> {
        if self.sink.out_of_memory { Err(OutOfMemory) } else { Ok(()) }
    }

    fn meet(&mut self, address: usize) -> Result<(), OutOfMemory> {
        if self.sink.marks.meet(address)? {
            self.sink.push(address)?;
        }
        Ok(())
    }

    fn enter_foreign(&mut self, batch: &[(usize, Foreign)]) -> Result<(), OutOfMemory> {
        let world = self.world;
        let _quiet = world.foreign.quiet();
        for &(address, foreign) in batch {
            // SAFETY: the object was met in this walk; nothing died since.
            let owner = unsafe { strong(world.py, address) };
            match foreign {
                Foreign::Nothing => {}
                Foreign::Array => world.foreign.array_edges(&owner, &mut |edge| self.edge(edge))?,
                Foreign::Tensor => {
                    if self.bounds == Bounds::None {
                        self.tensors.try_reserve(1)?;
                        self.tensors.push(address);
                    }
                    world.foreign.tensor_edges(&owner, &mut |edge| self.edge(edge))?;
                }
            }
        }
        Ok(())
    }

    fn edge(&mut self, edge: Edge<'py>) -> Result<(), OutOfMemory> {
        match edge {
            Edge::Reference(address) => self.meet(address),
            Edge::Reached(address) => self.reach(address),
            Edge::Silent(target) => {
                let address = target.as_ptr() as usize;
                self.held.try_reserve(1)?;
                self.held.push(target);
                add(&mut self.silent, address, 1)?;
                self.reach(address)
            }
        }
    }

    fn reach(&mut self, address: usize) -> Result<(), OutOfMemory> {
        if self.sink.marks.mark(address)? {
            self.sink.push(address)?;
        }
        Ok(())
    }
}
