//! JSON from Python.
//!
//! A Python string may hold half of a surrogate pair: a file name that is not UTF-8, a node id from
//! somebody's JSON. `json.dumps` writes it as an escape that no Rust string can hold. One such name
//! must not cost the sweep its facts, so it becomes the text of its own escape.

use std::borrow::Cow;

use pyo3::PyResult;
use serde::de::DeserializeOwned;

use crate::error;

/// The value of JSON text; `part` names it in the error.
pub(crate) fn parse<T: DeserializeOwned>(part: &str, text: &str) -> PyResult<T> {
    serde_json::from_str(&readable(text)).map_err(|error| error::json(part, error))
}

/// JSON in which every half of a surrogate pair is the text of its escape. Only then is a backslash
/// that was really there doubled, so that two different names stay different.
fn readable(text: &str) -> Cow<'_, str> {
    let (mut whole, mut halves) = (String::new(), false);
    let mut rest = text;
    while let Some((run, escape, after)) = next_escape(rest) {
        whole.push_str(run);
        if escape == r"\\" {
            whole.push_str(escape);
        } else if is_half(escape) {
            halves = true;
            whole.push('\\');
        }
        whole.push_str(escape);
        rest = after;
    }
    whole.push_str(rest);
    if halves { Cow::Owned(whole) } else { Cow::Borrowed(text) }
}

/// What stands before the first escape, the escape, and what stands after it. A whole pair of
/// surrogates is one escape.
fn next_escape(text: &str) -> Option<(&str, &str, &str)> {
    let (run, rest) = text.split_at(text.find('\\')?);
    let length = if high(rest) && rest.get(6..).is_some_and(low) {
        12
    } else if unit(rest).is_some() {
        6
    } else {
        rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at)
    };
    let (escape, after) = rest.split_at_checked(length)?;
    Some((run, escape, after))
}

/// The code unit of an escape at the beginning.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix(r"\u")?.get(..4)?, 16).ok()
}

fn high(text: &str) -> bool {
    unit(text).is_some_and(|unit| (0xd800..0xdc00).contains(&unit))
}

fn low(text: &str) -> bool {
    unit(text).is_some_and(|unit| (0xdc00..0xe000).contains(&unit))
}

fn is_half(escape: &str) -> bool {
    escape.len() == 6 && (high(escape) || low(escape))
}
