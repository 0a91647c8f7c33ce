//! Entering one object: by what its type is, its children are followed.

use super::visit::{visit, visit_but_one, visit_through_frame, visit_unexplained, visit_watching};
use super::{Bounds, Walk};
use crate::bitmap::Marks;
use crate::foreign::Foreign;
use crate::kinds::{Kind, TypeFacts};
use crate::layout::MANAGED_DICTIONARY_WORD;
use crate::object::{VisitProc, strong, type_of, word};
use crate::table::OutOfMemory;
use crate::visitor::{Via, Visitor};

impl<M: Marks, V: Visitor> Walk<'_, '_, M, V> {
    /// # Safety
    /// `object` is a live object.
    #[inline]
    pub(super) unsafe fn enter(&mut self, object: usize) -> Result<(), OutOfMemory> {
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
        if self.bounds == Bounds::Write && self.world.is_passive(object) {
            return Ok(());
        }
        self.met_watched |= facts.watched;
        self.sink.visitor.begin(object);
        match facts.kind {
            _ if !bounded && !facts.counts => {
                // SAFETY: the facts belong to the object's type.
                unsafe { self.traverse(object, &facts, visit_unexplained::<M, V>) };
                return self.checked();
            }
            Kind::Plain => {}
            Kind::Boundary if bounded => {
                // An array's memory may belong to a module.
                if self.bounds != Bounds::Write || !self.world.is_view(object) {
                    return Ok(());
                }
            }
            Kind::Function if bounded => {
                self.sink.leave_out = self.world.layout.function_globals + 1;
                // SAFETY: the facts belong to the object's type.
                unsafe { self.traverse(object, &facts, visit_but_one::<M, V>) };
                return self.checked();
            }
            Kind::Generator if self.bounds != Bounds::Reach && self.world.is_running(object) => {
                return Ok(());
            }
            Kind::Generator if bounded => {
                // SAFETY: the facts belong to the object's type.
                unsafe { self.traverse(object, &facts, visit_through_frame::<M, V>) };
                return self.checked();
            }
            Kind::InlineAttributes => {
                // SAFETY: the type's flags say that a dictionary pointer precedes the object, and
                // the self-test found it at this offset.
                self.sink.watched = unsafe { word(object, MANAGED_DICTIONARY_WORD) };
                self.sink.watched_seen = self.sink.watched == 0;
                // SAFETY: the facts belong to the object's type.
                unsafe { self.traverse(object, &facts, visit_watching::<M, V>) };
                if !self.sink.watched_seen {
                    let dictionary = self.sink.watched;
                    self.sink.meet(dictionary, Via::Dictionary)?;
                }
                return self.checked();
            }
            Kind::Boundary | Kind::Function | Kind::Generator => {}
        }
        // SAFETY: the facts belong to the object's type.
        unsafe { self.traverse(object, &facts, visit::<M, V>) };
        self.checked()
    }

    /// # Safety
    /// `object` is a live object and `facts` belong to its type.
    #[inline]
    unsafe fn traverse(&mut self, object: usize, facts: &TypeFacts, visitor: VisitProc) {
        if let Some(traversal) = &facts.traversal {
            // SAFETY: the caller's promise; the visitors take a `Sink<M, V>`, and nothing else uses it
            // meanwhile.
            unsafe { traversal.run(object, visitor, (&raw mut self.sink).cast()) };
        }
    }

    fn checked(&self) -> Result<(), OutOfMemory> {
        if self.sink.out_of_memory { Err(OutOfMemory) } else { Ok(()) }
    }
}
