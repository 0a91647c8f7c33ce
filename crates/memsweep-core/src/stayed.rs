//! The largest thing that a sweep did not free, and what would free it.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::reason::{Keep, Why};
use crate::report::KeptRow;

/// Less is not worth a sentence.
const LEAST: Bytes = Bytes(1024 * 1024);

/// What a report says first, before its list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stayed {
    /// What it is.
    pub what: String,
    /// Its size.
    pub bytes: Bytes,
    /// Why it stayed.
    #[serde(flatten)]
    pub why: Why<Keep>,
    /// What would free it, in words.
    pub advice: String,
}

impl Stayed {
    /// The largest of these rows about which something can be done.
    #[must_use]
    pub fn among(kept: &[KeptRow]) -> Option<Self> {
        let candidates = kept.iter().filter_map(|row| {
            let bytes = row.bytes.filter(|bytes| *bytes >= LEAST)?;
            let advice = row.why.0.advice()?;
            Some(Self { what: row.what.clone(), bytes, why: row.why.clone(), advice })
        });
        // The first of equals, so that the same report always says the same.
        candidates.reduce(|largest, next| if next.bytes > largest.bytes { next } else { largest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(what: &str, mib: Option<u64>, because: Keep) -> KeptRow {
        KeptRow { what: what.to_owned(), bytes: mib.map(Bytes::from_mib), why: Why(because) }
    }

    #[test]
    fn the_largest_that_something_can_be_done_about_is_named() {
        let needed = || Keep::NeededBy { node: "#8 VAE Decode".to_owned() };
        let rows = [
            row("small", Some(0), Keep::Connected),
            row("unknown", None, Keep::Connected),
            row("shared", Some(900), Keep::NothingToGain),
            row("the VAE", Some(300), needed()),
            row("as large", Some(300), Keep::Connected),
            row("an image", Some(12), Keep::OutputNode),
        ];
        let found = Stayed::among(&rows).unwrap();
        assert_eq!((found.what.as_str(), found.bytes), ("the VAE", Bytes::from_mib(300)));
        assert_eq!(found.advice, "a sweep after #8 VAE Decode can free it");
        assert_eq!(Stayed::among(&rows[..3]), None);
    }
}
