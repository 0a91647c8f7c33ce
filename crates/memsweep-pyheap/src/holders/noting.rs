//! What a walk over the whole heap notes of who refers to what.

use crate::foreign::Foreign;
use crate::object::{HAVE_GC, type_flags, type_of};
use crate::table::{AddressMap, OutOfMemory, Pairs};
use crate::visitor::{Via, Visitor};
use crate::world::World;

/// Notes references to what can lie between memory and whoever writes to it. A heap of three million
/// objects has about as many such references, 16 bytes each, for as long as the walk.
pub(crate) struct Noting<'w, 'py> {
    world: &'w World<'py>,
    parent: usize,
    /// By type; most references lead to a few types.
    leads_on: AddressMap<bool>,
    /// Child and parent.
    references: Pairs,
    /// Objects of the positive list that an array says its memory belongs to.
    shown: Vec<usize>,
}

impl<'w, 'py> Noting<'w, 'py> {
    pub(crate) fn new(world: &'w World<'py>) -> Self {
        Self {
            world,
            parent: 0,
            leads_on: AddressMap::default(),
            references: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Child and parent, with those of `more`, sorted; and objects of the positive list that an array says
    /// its memory belongs to.
    pub(super) fn into_parts(
        mut self,
        more: impl Iterator<Item = (usize, usize)>,
    ) -> Result<(Pairs, Vec<usize>), OutOfMemory> {
        for one in more {
            self.references.try_reserve(1)?;
            self.references.push(one);
        }
        self.references.sort_unstable();
        Ok((self.references, self.shown))
    }
}

impl Visitor for Noting<'_, '_> {
    fn begin(&mut self, parent: usize) -> usize {
        std::mem::replace(&mut self.parent, parent)
    }

    #[inline]
    fn edge(&mut self, child: usize, via: Via) -> Result<(), OutOfMemory> {
        // SAFETY: the walk reports live objects, whose types live as long.
        let class = unsafe { type_of(child) };
        let leads_on = match self.leads_on.get(&class) {
            Some(&known) => known,
            None => {
                self.leads_on.try_reserve(1)?;
                // SAFETY: as above.
                let answer = unsafe { leads_on(class, self.world) };
                self.leads_on.insert(class, answer);
                answer
            }
        };
        if leads_on {
            self.references.try_reserve(1)?;
            self.references.push((child, self.parent));
        } else if via == Via::Base {
            self.shown.try_reserve(1)?;
            self.shown.push(child);
        }
        Ok(())
    }
}

/// Whether a writer may get at memory through an object of this type: it is memory itself, or holds other
/// objects and is not of a type that always ends the search.
///
/// # Safety
/// `class` is a live type object and the interpreter lock is held.
unsafe fn leads_on(class: usize, world: &World<'_>) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if world.is_wanted(class) || world.foreign.of_type(class) != Foreign::Nothing {
            return true;
        }
        let holds = type_flags(class) & HAVE_GC != 0;
        holds && !world.is_boundary(class) && !world.is_always_passive(class)
    }
}
