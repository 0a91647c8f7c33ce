//! Reasons: why something is released, kept, left alone, not done or worth knowing.
//!
//! Each is an enum, and its English text is made here and nowhere else. In JSON a reason is both:
//! `because` for programs, such as a front-end that speaks another language, and `reason` for people.

mod holder;
mod keep;
mod note;
mod refusal;
mod release;
mod undone;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use holder::Holder;
pub use keep::Keep;
pub use note::Note;
pub use refusal::{Refusal, Stopped};
pub use release::Release;
pub use undone::{Missing, Nothing, Skip};

/// What [`Why`] needs of a reason.
pub trait Reason: fmt::Display + Serialize {
    /// The reason for a text that somebody else worded. `None` where all the words are ours.
    #[must_use]
    fn other(text: String) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = text;
        None
    }
}

/// A reason as it appears in JSON: `because`, and `reason` for the same in words.
///
/// When read from JSON, `because` counts. A host may also give a text alone: `reason`, or a bare
/// string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why<T>(pub T);

impl<T: fmt::Display> fmt::Display for Why<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> From<T> for Why<T> {
    fn from(reason: T) -> Self {
        Self(reason)
    }
}

#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Why{T}"))]
struct Written<'a, T> {
    /// For programs.
    because: &'a T,
    /// The same in words, in English.
    reason: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Read<T> {
    Because { because: T },
    Reason { reason: String },
    Text(String),
}

impl<T: Reason> Serialize for Why<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { because: &self.0, reason: self.0.to_string() }.serialize(serializer)
    }
}

/// What is read may also be a text alone; what is written is always both.
#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Why<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Written::<T>::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::<T>::json_schema(generator)
    }
}

impl<'de, T: Reason + Deserialize<'de>> Deserialize<'de> for Why<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Read::deserialize(deserializer)? {
            Read::Because { because } => return Ok(Self(because)),
            Read::Reason { reason: text } | Read::Text(text) => text,
        };
        let nobodys = || serde::de::Error::custom(format!("`{text}` is not a known reason"));
        T::other(text.clone()).map(Self).ok_or_else(nobodys)
    }
}

/// Marks an enum whose `Other` holds a text that somebody else worded.
macro_rules! has_other {
    ($name:ident) => {
        impl super::Reason for $name {
            fn other(text: String) -> Option<Self> {
                Some(Self::Other { text })
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::Other { text }
            }
        }
    };
}
use has_other;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_written_for_programs_and_for_people() {
        let why = Why(Skip::DryRun);
        let json = serde_json::json!({"because": {"kind": "dry_run"}, "reason": "dry run"});
        assert_eq!(serde_json::to_value(&why).unwrap(), json);
        assert_eq!(serde_json::from_value::<Why<Skip>>(json).unwrap(), why);
    }

    #[test]
    fn a_text_from_outside_is_a_reason_where_others_are_allowed() {
        let other = Why(Nothing::Other { text: "all done".to_owned() });
        for json in [r#"{"reason": "all done"}"#, r#""all done""#] {
            assert_eq!(serde_json::from_str::<Why<Nothing>>(json).unwrap(), other);
            let error = serde_json::from_str::<Why<Keep>>(json).unwrap_err();
            assert!(error.to_string().contains("all done"), "{error}");
        }
    }
}
