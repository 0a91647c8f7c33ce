//! A reading whose rows add up to what the system or the driver says.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::reading::{DeviceMemory, ProcessMemory, Reading};

/// One total and its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BalanceSheet {
    /// What is added up: `process` or a device id.
    pub title: String,
    /// The total as the system or driver says.
    pub total: Option<Bytes>,
    /// The parts; the last is the remainder.
    pub parts: Vec<Part>,
}

/// One part of a balance sheet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Part {
    /// What it is.
    pub name: String,
    /// Its size; `None` when unknown. The remainder is unknown as soon as any other part is, or
    /// when the parts exceed the total (they were read a moment apart).
    pub bytes: Option<Bytes>,
}

/// The sheets of a reading: the process, then each device.
#[must_use]
pub fn balance(reading: &Reading) -> Vec<BalanceSheet> {
    std::iter::once(process(&reading.process)).chain(reading.devices.iter().map(device)).collect()
}

fn process(memory: &ProcessMemory) -> BalanceSheet {
    sheet(
        "process",
        memory.resident,
        vec![
            ("anonymous", memory.anonymous),
            ("mapped files", memory.file_backed),
            ("shared", memory.shared),
        ],
        "other",
    )
}

fn device(memory: &DeviceMemory) -> BalanceSheet {
    let mut parts = vec![("tensors", memory.torch.allocated)];
    parts.push(("free in torch's cache", cache_of(memory)));
    if memory.comfyui.paged.is_some() {
        parts.push(("paged by ComfyUI", memory.comfyui.paged));
    }
    if memory.driver.others.is_some() {
        parts.push(("other processes", memory.driver.others));
    }
    // Where the driver does not report other processes, the remainder includes them.
    let rest =
        if memory.driver.others.is_some() { "context and libraries" } else { "context and others" };
    sheet(&memory.id, memory.driver.used, parts, rest)
}

fn cache_of(memory: &DeviceMemory) -> Option<Bytes> {
    memory.torch.reserved?.0.checked_sub(memory.torch.allocated?.0).map(Bytes)
}

fn sheet(
    title: &str,
    total: Option<Bytes>,
    known: Vec<(&str, Option<Bytes>)>,
    rest: &str,
) -> BalanceSheet {
    let sum: Option<Bytes> = known.iter().map(|(_, bytes)| *bytes).sum();
    let left = match (total, sum) {
        (Some(total), Some(sum)) => total.0.checked_sub(sum.0).map(Bytes),
        _ => None,
    };
    let parts = known
        .into_iter()
        .chain([(rest, left)])
        .map(|(name, bytes)| Part { name: name.to_owned(), bytes })
        .collect();
    BalanceSheet { title: title.to_owned(), total, parts }
}
