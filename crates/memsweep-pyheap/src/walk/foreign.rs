//! What tensors and arrays hold beside their traversal.

use super::{Bounds, Walk};
use crate::bitmap::Marks;
use crate::foreign::{Edge, Foreign};
use crate::object::strong;
use crate::table::{OutOfMemory, add};

impl<'py, M: Marks> Walk<'_, 'py, M> {
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
            world.foreign.edges(kind, &owner, &mut |edge| self.follow(edge))?;
        }
        Ok(())
    }

    fn follow(&mut self, edge: Edge<'py>) -> Result<(), OutOfMemory> {
        match edge {
            Edge::Reference(address) => self.sink.meet(address),
            Edge::Reached(address) => self.sink.reach(address),
            Edge::Silent(target) => {
                let address = target.as_ptr() as usize;
                self.held.try_reserve(1)?;
                self.held.push(target);
                add(&mut self.silent, address, 1)?;
                self.sink.reach(address)
            }
        }
    }
}
