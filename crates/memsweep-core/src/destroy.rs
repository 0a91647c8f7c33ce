//! Which tensors lose their memory, and what came of it.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::park::{Refused, refuse};
use crate::reason::Refusal;

/// Smaller tensors stay: destroying them risks errors and gains almost nothing.
pub const SMALLEST_BLOCK: Bytes = Bytes(1024 * 1024);

/// The owner of tensors that no module's global and no class leads to.
const UNKNOWN: &str = "unknown";

/// Memory that tensors share and that nobody protects, as it is asked before it is taken. `None` is an
/// answer that could not be had.
///
/// [`refusal`] asks in an order: where an earlier answer is a reason to stay, a later question might run
/// somebody's code. Tensors are numbered from 0.
pub trait Candidate {
    /// Whether a CUDA graph was met, which may hold the memory's bare address.
    fn is_in_reach_of_a_graph(&self) -> bool;
    /// Whether a driver has locked any page of it in place.
    fn is_page_locked(&self) -> bool;
    /// Whether an array shows any byte of it.
    fn is_shown_by_an_array(&self) -> bool;
    /// How many tensors share it.
    fn tensors(&self) -> usize;
    /// Whether the class of a tensor computes in Python.
    fn computes_in_python(&self, tensor: usize) -> Option<bool>;
    /// Whether torch allocated the memory.
    fn is_allocated_by_torch(&self, tensor: usize) -> Option<bool>;
    /// How many weak references to a tensor there are.
    fn weak_references(&self, tensor: usize) -> Option<usize>;
    /// How many owners a tensor has in C++, beside its Python object.
    fn owners(&self, tensor: usize) -> Option<usize>;
    /// How many of the tensors are views of this one: each is one of its owners.
    fn views(&self, tensor: usize) -> usize;
}

/// Whether memory of this size is worth taking.
#[must_use]
pub fn is_large(bytes: Bytes) -> bool {
    bytes >= SMALLEST_BLOCK
}

/// Why memory must stay. What is not known is a reason.
pub fn refusal(candidate: &dyn Candidate) -> Option<Refusal> {
    if candidate.is_in_reach_of_a_graph() {
        return Some(Refusal::CudaGraph);
    }
    if candidate.is_page_locked() {
        return Some(Refusal::PageLocked);
    }
    if candidate.is_shown_by_an_array() {
        return Some(Refusal::Arrays);
    }
    (0..candidate.tensors()).find_map(|tensor| refusal_for(candidate, tensor))
}

fn refusal_for(candidate: &dyn Candidate, tensor: usize) -> Option<Refusal> {
    if candidate.computes_in_python(tensor) != Some(false) {
        return Some(Refusal::PythonClass);
    }
    if candidate.is_allocated_by_torch(tensor) != Some(true) {
        return Some(Refusal::NotTorchs);
    }
    if candidate.weak_references(tensor) != Some(0) {
        return Some(Refusal::WeakReferences);
    }
    // A view holds the tensor it shows; any other owner would keep the memory.
    if candidate.owners(tensor) != Some(candidate.views(tensor)) {
        return Some(Refusal::UsedByTorch);
    }
    None
}

/// What came of destroying.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Destroyed {
    /// Tensors that lost their memory, by who held them.
    pub owners: Vec<Owner>,
    /// What stayed, by reason.
    pub refused: Vec<Refused>,
}

/// An owner of tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Owner {
    /// For people: a module's global, a class, or unknown.
    pub name: String,
    /// How many tensors.
    pub tensors: u64,
    /// Their memory.
    pub bytes: Bytes,
}

impl Destroyed {
    /// The memory of all of them.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.owners.iter().map(|owner| owner.bytes).sum()
    }

    /// Whether there was nothing to take and nothing to refuse.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.refused.is_empty()
    }

    /// Records tensors that shared memory and lost it. `None` is an owner without a name.
    pub fn add(&mut self, owner: Option<&str>, tensors: u64, bytes: Bytes) {
        let name = owner.unwrap_or(UNKNOWN);
        match self.owners.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.tensors = known.tensors.saturating_add(tensors);
                known.bytes = known.bytes.plus(bytes);
            }
            None => self.owners.push(Owner { name: name.to_owned(), tensors, bytes }),
        }
    }

    /// Records memory that stayed.
    pub fn refuse(&mut self, reason: Refusal, bytes: Bytes) {
        refuse(&mut self.refused, reason, 1, bytes);
    }

    /// The largest owners first.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.owners.sort_by_key(|owner| std::cmp::Reverse(owner.bytes));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python, torch's own, weak references, owners, views.
    type Tensor = (Option<bool>, Option<bool>, Option<usize>, Option<usize>, usize);

    /// A block that may go, but for what a test changes.
    #[derive(Clone)]
    struct Block {
        graph: bool,
        locked: bool,
        array: bool,
        tensors: Vec<Tensor>,
    }

    const IDLE: Tensor = (Some(false), Some(true), Some(0), Some(1), 1);

    impl Candidate for Block {
        fn is_in_reach_of_a_graph(&self) -> bool {
            self.graph
        }
        fn is_page_locked(&self) -> bool {
            self.locked
        }
        fn is_shown_by_an_array(&self) -> bool {
            self.array
        }
        fn tensors(&self) -> usize {
            self.tensors.len()
        }
        fn computes_in_python(&self, tensor: usize) -> Option<bool> {
            self.tensors[tensor].0
        }
        fn is_allocated_by_torch(&self, tensor: usize) -> Option<bool> {
            assert_eq!(self.tensors[tensor].0, Some(false), "it might run somebody's code");
            self.tensors[tensor].1
        }
        fn weak_references(&self, tensor: usize) -> Option<usize> {
            self.tensors[tensor].2
        }
        fn owners(&self, tensor: usize) -> Option<usize> {
            assert_eq!(self.tensors[tensor].1, Some(true), "it might be anything");
            self.tensors[tensor].3
        }
        fn views(&self, tensor: usize) -> usize {
            self.tensors[tensor].4
        }
    }

    #[test]
    fn only_what_is_known_to_be_idle_may_go() {
        let idle = Block { graph: false, locked: false, array: false, tensors: vec![IDLE; 2] };
        assert_eq!(refusal(&idle), None);
        assert_eq!(refusal(&Block { graph: true, ..idle.clone() }), Some(Refusal::CudaGraph));
        assert_eq!(refusal(&Block { locked: true, ..idle.clone() }), Some(Refusal::PageLocked));
        assert_eq!(refusal(&Block { array: true, ..idle.clone() }), Some(Refusal::Arrays));
        let (python, torch, weak, owners, views) = IDLE;
        for (tensor, reason) in [
            ((None, torch, weak, owners, views), Refusal::PythonClass),
            ((Some(true), None, weak, owners, views), Refusal::PythonClass),
            ((python, None, weak, None, views), Refusal::NotTorchs),
            ((python, Some(false), weak, owners, views), Refusal::NotTorchs),
            ((python, torch, None, owners, views), Refusal::WeakReferences),
            ((python, torch, Some(1), owners, views), Refusal::WeakReferences),
            ((python, torch, weak, None, views), Refusal::UsedByTorch),
            ((python, torch, weak, Some(2), views), Refusal::UsedByTorch),
            ((python, torch, weak, Some(0), views), Refusal::UsedByTorch),
        ] {
            // The second of two: every tensor is asked.
            let tensors = vec![IDLE, tensor];
            assert_eq!(refusal(&Block { tensors, ..idle.clone() }), Some(reason), "{tensor:?}");
        }
        assert!(is_large(SMALLEST_BLOCK) && !is_large(Bytes(SMALLEST_BLOCK.0 - 1)));
    }

    #[test]
    fn tensors_of_one_owner_are_one_row_and_the_largest_comes_first() {
        let mut destroyed = Destroyed::default();
        assert!(destroyed.is_empty());
        destroyed.add(Some("global A of a"), 1, Bytes(3));
        destroyed.add(None, 2, Bytes(4));
        destroyed.add(Some("global A of a"), 2, Bytes(2));
        destroyed.refuse(Refusal::Arrays, Bytes(7));
        let sorted = destroyed.sorted();
        let rows: Vec<_> =
            sorted.owners.iter().map(|owner| (owner.name.as_str(), owner.tensors)).collect();
        assert_eq!(rows, [("global A of a", 3), (UNKNOWN, 2)]);
        assert_eq!((sorted.bytes(), sorted.refused[0].blocks), (Bytes(9), 1));
    }
}
