//! What the walk must know about a type, asked once per type and call.

use crate::foreign::Foreign;
use crate::object::{Traversal, is_subtype, type_flags};
use crate::table::OutOfMemory;
use crate::world::World;

/// How an object of a type is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its traversal reports all that it holds.
    Plain,
    /// A type, module, frame or code object: never entered within the boundary.
    Boundary,
    /// A function: its globals stay outside the boundary.
    Function,
    /// A generator, coroutine or asynchronous generator.
    Generator,
    /// Attributes lie inside the object, and its dictionary, once made, is not visited (3.13).
    InlineAttributes,
}

/// Facts about one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TypeFacts {
    pub(crate) traversal: Option<Traversal>,
    pub(crate) kind: Kind,
    pub(crate) foreign: Foreign,
    /// The walk takes a reference to each one that it meets.
    pub(crate) wanted: bool,
    /// Each child that the traversal reports is one reference that the object holds.
    pub(crate) counts: bool,
    /// The walk notes that it met one, and takes no reference.
    pub(crate) watched: bool,
}

const SLOT_BITS: u32 = 12;
const SLOTS: usize = 1 << SLOT_BITS;
const MANAGED_DICT: u64 = 1 << 4;
const INLINE_VALUES: u64 = 1 << 2;

/// A small cache: types are few, and asking again is cheap as long as it is rare.
pub(crate) struct TypeTable {
    slots: Vec<(usize, TypeFacts)>,
}

impl TypeTable {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        let empty = TypeFacts {
            traversal: None,
            kind: Kind::Plain,
            foreign: Foreign::Nothing,
            wanted: false,
            counts: false,
            watched: false,
        };
        let mut slots = Vec::new();
        slots.try_reserve_exact(SLOTS)?;
        slots.resize(SLOTS, (0, empty));
        Ok(Self { slots })
    }

    /// The facts about a type.
    ///
    /// # Safety
    /// `class` is a live type object and the interpreter lock is held.
    #[inline]
    pub(crate) unsafe fn facts(&mut self, class: usize, world: &World<'_>) -> TypeFacts {
        // Two places per type: the few types that make up a heap must not push each other out.
        let spread = (class as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (spread >> (64 - SLOT_BITS)) as usize & !1;
        if self.slots[place].0 == class {
            return self.slots[place].1;
        }
        if self.slots[place + 1].0 != class {
            self.slots[place + 1] = self.slots[place];
            // SAFETY: the caller's promise.
            self.slots[place] = (class, unsafe { ask(class, world) });
            return self.slots[place].1;
        }
        self.slots[place + 1].1
    }
}

/// # Safety
/// `class` is a live type object and the interpreter lock is held.
#[cold]
unsafe fn ask(class: usize, world: &World<'_>) -> TypeFacts {
    // SAFETY: `class` is the caller's promise; the bases are types that `world` keeps alive.
    let below = |base: usize| unsafe { is_subtype(class, base) };
    // SAFETY: the caller's promise.
    let flags = unsafe { type_flags(class) };
    let inline = MANAGED_DICT | INLINE_VALUES;
    // SAFETY: the caller's promise.
    let kind = if unsafe { world.is_boundary(class) } {
        Kind::Boundary
    } else if class == world.function {
        Kind::Function
    } else if world.generators.contains(&class) {
        Kind::Generator
    } else if world.layout.inline_attributes && flags & inline == inline {
        Kind::InlineAttributes
    } else {
        Kind::Plain
    };
    TypeFacts {
        // SAFETY: the caller's promise.
        traversal: unsafe { Traversal::of(class) },
        kind,
        // SAFETY: the caller's promise.
        foreign: unsafe { world.foreign.of_type(class) },
        // SAFETY: the caller's promise.
        wanted: unsafe { world.is_wanted(class) },
        // SAFETY: the caller's promise.
        counts: world.trust.as_ref().is_none_or(|trust| unsafe { trust.counts(class) }),
        watched: world.watched.is_some_and(below),
    }
}
