//! Which tensors lose their memory, and what came of it.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::park::{Refused, refuse};
use crate::reason::Refusal;

/// Smaller tensors stay: destroying them risks errors and gains almost nothing.
pub const SMALLEST_BLOCK: Bytes = Bytes(1024 * 1024);

/// The owner of tensors that no module's global and no class leads to.
const UNKNOWN: &str = "unknown";

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
