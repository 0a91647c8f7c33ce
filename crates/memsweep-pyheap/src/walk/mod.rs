//! The walk itself: an explicit stack, marks, and a ring of prefetches.
//!
//! It runs no Python code and changes no reference count, except for the strong references it takes
//! to the objects that were asked for. Running out of memory ends it cleanly.

mod enter;
mod foreign;
mod visit;

use pyo3::prelude::*;

use self::visit::Sink;
use crate::bitmap::Marks;
use crate::foreign::Foreign;
use crate::kinds::TypeTable;
use crate::object::prefetch;
use crate::table::{AddressMap, OutOfMemory};
use crate::visitor::Visitor;
use crate::world::World;

/// How many objects are on their way into the cache at a time; 8 to 16 measured best.
pub(crate) const RING: usize = 16;

/// Where the walk stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Everything is entered, for counting references over the whole heap. Except running generators:
    /// what they hold is in use, not explained.
    None,
    /// What an object needs: types, modules, frames, code and globals are not entered.
    Reach,
    /// The same for what is in use. Running generators are not entered either: the references that they
    /// hold are unexplained by themselves.
    Pin,
    /// The same for what somebody may be writing to without the interpreter lock; see
    /// [`crate::passive`], whose objects are not entered.
    Write,
}

/// A walk over a set of marks, seen by a visitor.
pub(crate) struct Walk<'w, 'py, M, V = ()> {
    world: &'w World<'py>,
    bounds: Bounds,
    types: TypeTable,
    sink: Sink<M, V>,
    fresh: Vec<usize>,
    /// Objects entered whose traversal leaves references out; looked at afterwards.
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
    /// Whether an object of the watched type was met; see [`World::watched`].
    pub(crate) met_watched: bool,
}

impl<'w, 'py, M: Marks> Walk<'w, 'py, M> {
    /// A walk that has met nothing; module dictionaries are outside its bounds.
    pub(crate) fn new(
        world: &'w World<'py>,
        marks: M,
        bounds: Bounds,
    ) -> Result<Self, OutOfMemory> {
        Self::seen_by(world, marks, bounds, ())
    }
}

impl<'w, 'py, M: Marks, V: Visitor> Walk<'w, 'py, M, V> {
    /// The same, and a visitor sees its edges.
    pub(crate) fn seen_by(
        world: &'w World<'py>,
        marks: M,
        bounds: Bounds,
        visitor: V,
    ) -> Result<Self, OutOfMemory> {
        let mut walk = Self {
            world,
            bounds,
            types: TypeTable::new()?,
            sink: Sink {
                marks,
                visitor,
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

    /// Who saw the edges.
    pub(crate) fn visitor_mut(&mut self) -> &mut V {
        &mut self.sink.visitor
    }

    /// Counts module dictionaries as met, so that a bounded walk does not enter them.
    fn close_modules(&mut self) -> Result<(), OutOfMemory> {
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

    /// Enters the roots and what is on the stack, until neither is left.
    ///
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
}
