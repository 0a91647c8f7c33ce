//! What holds the memory that is still in use, as far as it is known.
//!
//! Nothing here is an estimate: a row is left out where a number that it is made of is unknown, and
//! where its parts exceed the whole, because they were read a moment apart.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::device::DeviceMemory;
use crate::reading::Reading;
use crate::reason::{Holder, Note, Why};

/// Less is not worth a line.
const LEAST: Bytes = Bytes(1024 * 1024);
/// The most rows of one kind: ComfyUI keeps reports.
const MOST: usize = 8;

/// A process that this one has started, or that such a one has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its number.
    pub pid: u32,
    /// What the system calls it.
    pub name: String,
    /// Its RAM, with all that it shares with others.
    pub resident: Bytes,
    /// Its RAM, where what several processes have is shared out among them. Linux `Pss`.
    pub proportional: Option<Bytes>,
}

/// Memory that is still in use, and what holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rest {
    /// Its size where known.
    pub bytes: Option<Bytes>,
    /// What holds it.
    #[serde(flatten)]
    pub why: Why<Holder>,
}

impl Rest {
    /// A row, where the size is known.
    pub(crate) fn known(bytes: Option<Bytes>, holder: Holder) -> Option<Self> {
        bytes.map(|_| Self { bytes, why: Why(holder) })
    }

    /// What errors keep on devices.
    pub(crate) fn of_errors(notes: &[Why<Note>]) -> Vec<Self> {
        let kept = notes.iter().filter_map(|note| match &note.0 {
            Note::KeptByLastError { devices, .. } | Note::KeptByHandledError { devices, .. } => {
                Some(devices)
            }
            _ => None,
        });
        let row = |(device, bytes): (&String, &Bytes)| {
            Self::known(Some(*bytes), Holder::Error { device: device.clone() })
        };
        kept.flatten().filter_map(row).collect()
    }

    /// What a reading tells, and what is known beside it. Of what is known, a device that the reading
    /// does not have says nothing.
    #[must_use]
    pub fn of(reading: &Reading, children: Vec<Child>, known: &[Self]) -> Vec<Self> {
        let mut rows = Vec::new();
        for device in &reading.devices {
            rows.extend(of_device(device));
            let there =
                known.iter().filter(|row| row.why.0.device() == Some(device.id.as_str())).cloned();
            rows.extend(largest(there.collect()).0);
        }
        let graphs = known.iter().filter(|row| matches!(row.why.0, Holder::Graph { .. }));
        rows.extend(graphs.take(MOST).cloned());
        let process = &reading.process;
        rows.extend(Self::known(process.shared, Holder::SharedMemory));
        rows.extend(Self::known(process.file_backed, Holder::MappedFiles));
        rows.extend(of_children(children));
        rows.retain(|row| row.bytes.is_none_or(|bytes| bytes >= LEAST));
        rows
    }
}

fn of_device(memory: &DeviceMemory) -> impl Iterator<Item = Rest> {
    let device = || memory.id.clone();
    let unexplained = less(memory.torch.allocated, memory.comfyui.models);
    // Torch does not count what ComfyUI pages. Unknown means none, or that a model does not say: then
    // its pages are outside torch like the rest of this.
    let paged = memory.comfyui.paged.unwrap_or_default();
    let outside_torch = less(less(memory.driver.process, memory.torch.reserved), Some(paged));
    [
        Rest::known(unexplained, Holder::Unexplained { device: device() }),
        Rest::known(outside_torch, Holder::OutsideTorch { device: device() }),
    ]
    .into_iter()
    .flatten()
}

fn less(whole: Option<Bytes>, part: Option<Bytes>) -> Option<Bytes> {
    whole?.0.checked_sub(part?.0).map(Bytes)
}

fn of_children(children: Vec<Child>) -> Vec<Rest> {
    let rows = children.into_iter().map(|Child { pid, name, resident, proportional }| {
        let at_most = proportional.is_none();
        let bytes = Some(proportional.unwrap_or(resident));
        Rest { bytes, why: Why(Holder::Child { pid, name, at_most }) }
    });
    let (mut rows, others) = largest(rows.collect());
    if !others.is_empty() {
        let bytes = others.iter().filter_map(|row| row.bytes).sum();
        let count = others.len() as u64;
        rows.push(Rest { bytes: Some(bytes), why: Why(Holder::MoreChildren { count }) });
    }
    rows
}

/// The largest, and the others.
fn largest(mut rows: Vec<Rest>) -> (Vec<Rest>, Vec<Rest>) {
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    let others = rows.split_off(MOST.min(rows.len()));
    (rows, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{ComfyView, DriverView, ProcessMemory, TorchView};

    fn mib(mib: u64) -> Option<Bytes> {
        Some(Bytes::from_mib(mib))
    }

    /// What the driver says of this process, what torch holds and has allocated, what ComfyUI's models
    /// have there, and what it pages.
    fn device(numbers: [Option<Bytes>; 5]) -> DeviceMemory {
        let [process, reserved, allocated, models, paged] = numbers;
        DeviceMemory {
            id: "cuda:0".to_owned(),
            driver: DriverView { process, ..DriverView::default() },
            torch: TorchView { allocated, reserved },
            comfyui: ComfyView { paged, models },
            ..DeviceMemory::default()
        }
    }

    /// Bytes that no model explains, and those outside torch.
    fn of(numbers: [Option<Bytes>; 5]) -> [Option<Bytes>; 2] {
        let reading = Reading { devices: vec![device(numbers)], ..Reading::default() };
        let rows = Rest::of(&reading, Vec::new(), &[]);
        let find = |wanted: Holder| rows.iter().find(|row| row.why.0 == wanted)?.bytes;
        let device = || "cuda:0".to_owned();
        [
            find(Holder::Unexplained { device: device() }),
            find(Holder::OutsideTorch { device: device() }),
        ]
    }

    #[test]
    fn what_no_model_explains_is_known_only_where_both_numbers_are() {
        for (numbers, expected) in [
            ([mib(900), mib(500), mib(400), mib(300), None], [mib(100), mib(400)]),
            ([mib(900), mib(500), mib(400), mib(0), mib(150)], [mib(400), mib(250)]),
            // Either number unknown.
            ([None, mib(500), mib(400), None, None], [None, None]),
            ([mib(900), None, None, mib(300), None], [None, None]),
            // The parts exceed the whole: never less than nothing, and not nothing either.
            ([mib(400), mib(500), mib(200), mib(300), None], [None, None]),
            // Explained.
            ([mib(500), mib(500), mib(300), mib(300), None], [None, None]),
        ] {
            assert_eq!(of(numbers), expected, "{numbers:?}");
        }
    }

    #[test]
    fn holders_are_shown_with_their_device_the_largest_first() {
        let output = |device: &str, what: &str, mib| Rest {
            bytes: Some(Bytes::from_mib(mib)),
            why: Why(Holder::Output { device: device.to_owned(), what: what.to_owned() }),
        };
        let mut known = vec![output("cuda:1", "elsewhere", 9), output("cuda:0", "tiny", 0)];
        known.extend((1..12).map(|number| output("cuda:0", "#8 Decode", number)));
        let reading = Reading { devices: vec![device([None; 5])], ..Reading::default() };
        let rows = Rest::of(&reading, Vec::new(), &known);
        let sizes: Vec<_> = rows.iter().map(|row| row.bytes).collect();
        assert_eq!(sizes, (4..12).rev().map(mib).collect::<Vec<_>>());
    }

    #[test]
    fn shared_memory_and_mapped_files_are_told_apart_and_nothing_is_made_up() {
        let rows = |shared, file_backed| {
            let process = ProcessMemory { shared, file_backed, ..ProcessMemory::default() };
            let reading = Reading { process, ..Reading::default() };
            Rest::of(&reading, Vec::new(), &[])
        };
        let row = |bytes, holder| Rest { bytes, why: Why(holder) };
        let expected = [row(mib(3), Holder::SharedMemory), row(mib(5), Holder::MappedFiles)];
        assert_eq!(rows(mib(3), mib(5)), expected);
        assert_eq!(rows(None, mib(5)), expected[1..]);
        assert_eq!(rows(mib(0), None), []);
    }

    #[test]
    fn what_children_share_is_shared_out_where_that_is_known() {
        let child = |pid, proportional| Child {
            pid,
            name: "worker".to_owned(),
            resident: Bytes::from_mib(u64::from(pid)),
            proportional,
        };
        let mut children = vec![child(30, None), child(60, mib(20)), child(50, Some(Bytes(9)))];
        let text = |children: &[Child]| {
            let rows = Rest::of(&Reading::default(), children.to_vec(), &[]);
            rows.iter()
                .map(|row| format!("{}: {}", row.why, row.bytes.unwrap()))
                .collect::<Vec<_>>()
        };
        let two = [
            "RAM of child process 30 (worker), at most: 30.0 MiB",
            "RAM of child process 60 (worker): 20.0 MiB",
        ];
        assert_eq!(text(&children), two);
        children.extend((1..9).map(|pid| child(pid, None)));
        let many = text(&children);
        assert_eq!(many.len(), MOST + 1);
        assert_eq!(many[MOST], "RAM of 3 more child processes, at most: 3.0 MiB");
    }
}
