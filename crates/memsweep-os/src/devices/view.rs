//! A card as its driver describes it, and how it becomes a row of a reading.

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{self, DeviceMemory, Source};

/// Which card it is. Does not change while the card stays where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The driver and its number for the card, such as `nvml:0`.
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) pci: Option<String>,
    pub(crate) uuid: Option<String>,
}

/// The card's memory, as the driver reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: Option<Bytes>,
    /// By all programs.
    pub(crate) used: Option<Bytes>,
    /// By this process. Not asked for in a quick reading.
    pub(crate) process: Option<Bytes>,
    /// By other processes. Not asked for in a quick reading.
    pub(crate) others: Option<Bytes>,
}

/// A card as its driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DriverCard {
    pub(crate) identity: Identity,
    pub(crate) memory: Memory,
    /// Where the numbers come from.
    pub(crate) source: Source,
}

impl From<DriverCard> for DeviceMemory {
    fn from(view: DriverCard) -> Self {
        let DriverCard { identity, memory, source } = view;
        Self {
            id: identity.id,
            name: identity.name,
            pci: identity.pci,
            uuid: identity.uuid,
            total: memory.total,
            driver: reading::DriverView {
                used: memory.used,
                process: memory.process,
                others: memory.others,
            },
            source: Some(source),
            ..Self::default()
        }
    }
}

/// One row for each card. Of two views of one card the first is taken: while a card is being
/// unplugged, the indices of the others may move up.
pub(crate) fn rows(views: Vec<DriverCard>) -> Vec<DeviceMemory> {
    let mut rows: Vec<DeviceMemory> = Vec::with_capacity(views.len());
    for row in views.into_iter().map(DeviceMemory::from) {
        if !rows.iter().any(|other| other.is_same_card(&row)) {
            rows.push(row);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: &str, pci: Option<&str>) -> DriverCard {
        let pci = pci.map(str::to_owned);
        let identity = Identity { id: id.to_owned(), pci, ..Identity::default() };
        DriverCard { identity, memory: Memory::default(), source: Source::Other }
    }

    #[test]
    fn a_card_that_is_seen_twice_is_one_row() {
        let seen = [
            view("a:0", Some("0000:01:00.0")),
            view("a:1", Some("0000:02:00.0")),
            view("a:2", Some("0000:02:00.0")),
            view("a:3", None),
            view("a:4", None),
        ];
        let ids: Vec<String> = rows(seen.to_vec()).into_iter().map(|row| row.id).collect();
        assert_eq!(ids, ["a:0", "a:1", "a:3", "a:4"]);
    }

    #[test]
    fn nothing_that_the_driver_said_is_lost() {
        let identity = Identity {
            id: "nvml:3".to_owned(),
            name: Some("H100".to_owned()),
            pci: Some("0000:01:00.0".to_owned()),
            uuid: Some("aa".to_owned()),
        };
        let number = |value| Some(Bytes(value));
        let memory =
            Memory { total: number(9), used: number(8), process: number(7), others: number(1) };
        let row = DeviceMemory::from(DriverCard { identity, memory, source: Source::Nvml });
        let expected = DeviceMemory {
            id: "nvml:3".to_owned(),
            name: Some("H100".to_owned()),
            pci: Some("0000:01:00.0".to_owned()),
            uuid: Some("aa".to_owned()),
            total: Some(Bytes(9)),
            driver: reading::DriverView { used: number(8), process: number(7), others: number(1) },
            source: Some(Source::Nvml),
            ..DeviceMemory::default()
        };
        assert_eq!(row, expected);
    }
}
