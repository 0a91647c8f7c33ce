//! Which blocks of memory move to disk, and what came of it.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::reason::{Refusal, Stopped, Why};

/// Smaller blocks cost more in mappings than they give back in memory.
pub const SMALLEST_BLOCK: Bytes = Bytes(1024 * 1024);

/// How far parking may go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ParkLimits {
    /// Where the spill files go; `None` leaves the choice to the host.
    pub folder: Option<String>,
    /// The most that one sweep moves; `None` means as much as the disk allows.
    pub bytes: Option<Bytes>,
    /// After this many seconds nothing more is written; what was written by then still moves.
    pub seconds: f64,
}

impl Default for ParkLimits {
    fn default() -> Self {
        Self { folder: None, bytes: None, seconds: 60.0 }
    }
}

// Validated seconds are a plain number, never NaN.
impl Eq for ParkLimits {}

/// What is known of one block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BlockFact {
    /// Its size.
    pub bytes: Bytes,
    /// How much of it is in memory, in whole pages, and can be moved.
    pub movable: Bytes,
    /// In how many pieces.
    pub pieces: u64,
    /// How much of it is on disk already and has not been written to since.
    pub parked: Bytes,
    /// Why it must stay.
    pub refused: Option<Why<Refusal>>,
}

/// What the machine has to spare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Room {
    /// Free space on the disk of the spill folder.
    pub disk_free: Option<Bytes>,
    /// Mappings that can still be made.
    pub mappings: Option<u64>,
}

/// Blocks to move, and blocks that stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Numbers of the blocks, in the order to move them.
    pub blocks: Vec<u32>,
    /// What stays, by reason.
    pub refused: Vec<Refused>,
}

/// Blocks that stayed for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refused {
    /// Why.
    #[serde(flatten)]
    pub why: Why<Refusal>,
    /// How many.
    pub blocks: u64,
    /// Their size.
    pub bytes: Bytes,
}

/// What came of parking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Parked {
    /// What moved to disk in this step.
    pub bytes: Bytes,
    /// In how many pieces.
    pub regions: u64,
    /// What was on disk already and was not written again.
    pub already: Bytes,
    /// How much of all that is parked, in this step and earlier ones, is in memory again.
    pub in_memory: Option<Bytes>,
    /// The most that was in the page cache at once on its way to disk: the memory that parking
    /// itself takes. The process is not charged for it; its control group is, until it is written.
    pub in_flight: Option<Bytes>,
    /// Where the spill files are.
    pub folder: Option<String>,
    /// Why it ended early.
    pub stopped: Option<Why<Stopped>>,
    /// What stayed, by reason.
    pub refused: Vec<Refused>,
}

impl Parked {
    /// Records that something stayed.
    pub fn refuse(&mut self, reason: Refusal, blocks: u64, bytes: Bytes) {
        refuse(&mut self.refused, reason, blocks, bytes);
    }

    /// Adds what stayed before anything was moved.
    pub fn refuse_all(&mut self, rows: impl IntoIterator<Item = Refused>) {
        for Refused { why: Why(reason), blocks, bytes } in rows {
            self.refuse(reason, blocks, bytes);
        }
    }
}

/// Adds to what stayed for the same reason.
pub fn refuse(list: &mut Vec<Refused>, reason: Refusal, blocks: u64, bytes: Bytes) {
    match list.iter_mut().find(|known| known.why.0 == reason) {
        Some(known) => {
            known.blocks = known.blocks.saturating_add(blocks);
            known.bytes = known.bytes.plus(bytes);
        }
        None => list.push(Refused { why: Why(reason), blocks, bytes }),
    }
}

/// Chooses what moves: the largest blocks first, which give the most per mapping, within the
/// limits, half of the free disk space and the mappings that are left.
///
/// Blocks that are on disk already are chosen too, and cost nothing.
#[must_use]
pub fn choose(facts: &[BlockFact], room: &Room, limits: &ParkLimits) -> Choice {
    let mut choice = Choice::default();
    let mut order: Vec<u32> = (0u32..).take(facts.len()).collect();
    order.sort_by_key(|&number| std::cmp::Reverse(facts[number as usize].movable));
    let disk = room.disk_free.map(|free| Bytes(free.0 / 2));
    let (mut bytes, mut pieces) = (Bytes::ZERO, 0u64);
    for number in order {
        let fact = &facts[number as usize];
        let mut stays = |reason, size| refuse(&mut choice.refused, reason, 1, size);
        if let Some(Why(reason)) = &fact.refused {
            stays(reason.clone(), fact.bytes);
            continue;
        }
        if fact.movable == Bytes::ZERO && fact.parked == Bytes::ZERO {
            stays(Refusal::HardlyInMemory, fact.bytes);
            continue;
        }
        let (more, pieces_then) = (bytes.plus(fact.movable), pieces.saturating_add(fact.pieces));
        let exceeds = |limit: Option<Bytes>| limit.is_some_and(|limit| more > limit);
        if fact.movable > Bytes::ZERO && exceeds(limits.bytes) {
            stays(Refusal::ByteLimit, fact.movable);
        } else if fact.movable > Bytes::ZERO && exceeds(disk) {
            stays(Refusal::DiskLimit, fact.movable);
        } else if room.mappings.is_some_and(|left| pieces_then.saturating_mul(2) > left) {
            // A piece in the middle of a mapping turns one into three.
            stays(Refusal::MappingLimit, fact.movable);
        } else {
            (bytes, pieces) = (more, pieces_then);
            choice.blocks.push(number);
        }
    }
    choice
}
