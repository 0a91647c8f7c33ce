//! What is asked of memory that tensors share, before it is taken. Nothing here runs Python code.

use std::cell::OnceCell;
use std::fmt;
use std::ops::Range;

use pyo3::prelude::*;

use super::Group;
use super::tools::Tools;
use crate::foreign::{Memory, Tensors};

/// Memory that nobody protects, and the tensors that share it, numbered from 0.
pub struct Candidate<'a, 'py> {
    pub(super) group: &'a Group<'py>,
    pub(super) tools: &'a Tools<'py>,
    pub(super) getters: &'a Tensors<'py>,
    pub(super) shown_by_arrays: &'a [Range<usize>],
    pub(super) met_a_graph: bool,
    /// What the tensors that are views show, asked for once.
    pub(super) bases: OnceCell<Vec<usize>>,
}

impl fmt::Debug for Candidate<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("memory", &self.group.memory).finish_non_exhaustive()
    }
}

impl<'py> Candidate<'_, 'py> {
    /// The device, as torch writes it.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.group.device
    }

    /// Where the memory is on that device.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.group.memory
    }

    /// Whether a CUDA graph was met, which may hold the memory's bare address.
    #[must_use]
    pub fn is_in_reach_of_a_graph(&self) -> bool {
        self.met_a_graph && self.group.device.starts_with("cuda")
    }

    /// Whether an array shows any byte of the memory.
    #[must_use]
    pub fn is_shown_by_an_array(&self) -> bool {
        let Memory { address, bytes, .. } = self.group.memory;
        let end = address.saturating_add(bytes);
        self.group.device == "cpu"
            && self.shown_by_arrays.iter().any(|range| range.start < end && address < range.end)
    }

    /// How many tensors share the memory.
    #[must_use]
    pub fn tensors(&self) -> usize {
        self.group.tensors.len()
    }

    /// Whether a tensor's class answers in Python. Nothing that follows is asked of one that does.
    #[must_use]
    pub fn is_answered_in_python(&self, tensor: usize) -> Option<bool> {
        self.tools.is_answered_in_python(self.tensor(tensor)?)
    }

    /// Whether torch allocated the memory.
    #[must_use]
    pub fn is_allocated_by_torch(&self, tensor: usize) -> Option<bool> {
        self.getters.owns_memory(self.tensor(tensor)?)
    }

    /// How many weak references to a tensor there are.
    #[must_use]
    pub fn weak_references(&self, tensor: usize) -> Option<usize> {
        self.tools.weak_references(self.tensor(tensor)?)
    }

    /// How many owners a tensor has in C++, beside its Python object.
    #[must_use]
    pub fn owners(&self, tensor: usize) -> Option<usize> {
        usize::try_from(self.getters.owners(self.tensor(tensor)?).owners?).ok()
    }

    /// How many of the tensors are views of this one.
    #[must_use]
    pub fn views(&self, tensor: usize) -> usize {
        let Some(shown) = self.tensor(tensor) else { return 0 };
        let bases = self.bases.get_or_init(|| {
            let bases = self.group.tensors.iter().filter_map(|view| self.getters.shown_by(view));
            bases.map(|base| base.as_ptr() as usize).collect()
        });
        bases.iter().filter(|base| **base == shown.as_ptr() as usize).count()
    }

    fn tensor(&self, number: usize) -> Option<&Bound<'py, PyAny>> {
        self.group.tensors.get(number)
    }
}
