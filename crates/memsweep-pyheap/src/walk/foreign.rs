//! What tensors and arrays hold beside their traversal.

use super::{Bounds, Walk};
use crate::bitmap::Marks;
use crate::foreign::{Edge, Foreign, Target};
use crate::object::strong;
use crate::table::{OutOfMemory, add};
use crate::visitor::Visitor;

impl<'py, M: Marks, V: Visitor> Walk<'_, 'py, M, V> {
    /// Follows what these objects hold; each was met in this walk.
    pub(super) fn enter_foreign(&mut self, batch: &[(usize, Foreign)]) -> Result<(), OutOfMemory> {
        let world = self.world;
        let _quiet = world.foreign.quiet();
        for &(address, kind) in batch {
            // SAFETY: the object was met in this walk; nothing died since.
            let owner = unsafe { strong(world.py, address) };
            if kind == Foreign::Tensor && self.bounds == Bounds::None {
                self.tensors.try_reserve(1)?;
                self.tensors.push(address);
            }
            self.sink.visitor.begin(address);
            world.foreign.edges(kind, &owner, &mut |edge| self.follow(edge))?;
        }
        Ok(())
    }

    fn follow(&mut self, Edge { via, target }: Edge<'py>) -> Result<(), OutOfMemory> {
        match target {
            Target::Reference(address) => self.sink.meet(address, via),
            Target::Reached(address) => self.sink.reach(address, via),
            Target::Silent(target) => {
                let address = target.as_ptr() as usize;
                self.held.try_reserve(1)?;
                self.held.push(target);
                add(&mut self.silent, address, 1)?;
                self.sink.reach(address, via)
            }
        }
    }
}
