//! Who sees the references of a walk, and how each was found.

use crate::table::OutOfMemory;

/// How a parent was found to refer to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// Its traversal reported the child.
    Traversal,
    /// The child is its `__dict__`, which the traversal leaves out (3.13).
    Dictionary,
    /// The child is the `base` of an array.
    Base,
    /// The child is the `_base` of a tensor: what a view shows.
    View,
    /// The child is the `grad` of a tensor.
    Gradient,
    /// The child is an element of an array of objects.
    Element,
}

impl Via {
    /// The attribute of the parent that holds the child, where that is certain.
    pub(crate) fn attribute(self) -> Option<&'static str> {
        match self {
            Self::Traversal | Self::Element => None,
            Self::Dictionary => Some("__dict__"),
            Self::Base => Some("base"),
            Self::View => Some("_base"),
            Self::Gradient => Some("grad"),
        }
    }
}

/// Sees every reference that a walk follows, also those to objects it has met before.
///
/// A walk is compiled anew for each visitor. The one that sees nothing, `()`, costs nothing.
///
/// It is called from inside an object's traversal: it must not run Python code, change a reference
/// count or panic.
pub(crate) trait Visitor {
    /// The edges that follow begin at `parent`. Returns where those before began.
    fn begin(&mut self, parent: usize) -> usize;

    /// The parent refers to `child`.
    fn edge(&mut self, child: usize, via: Via) -> Result<(), OutOfMemory>;
}

impl Visitor for () {
    #[inline(always)]
    fn begin(&mut self, _: usize) -> usize {
        0
    }

    #[inline(always)]
    fn edge(&mut self, _: usize, _: Via) -> Result<(), OutOfMemory> {
        Ok(())
    }
}

impl<V: Visitor> Visitor for &mut V {
    #[inline(always)]
    fn begin(&mut self, parent: usize) -> usize {
        (**self).begin(parent)
    }

    #[inline(always)]
    fn edge(&mut self, child: usize, via: Via) -> Result<(), OutOfMemory> {
        (**self).edge(child, via)
    }
}
