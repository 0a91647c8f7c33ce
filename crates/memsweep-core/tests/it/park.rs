//! Which blocks move to disk.

use memsweep_core::bytes::Bytes;
use memsweep_core::park::{BlockFact, Choice, ParkLimits, Room, choose};
use memsweep_core::reason::Refusal;

const MIB: u64 = 1 << 20;

fn block(mib: u64) -> BlockFact {
    BlockFact {
        bytes: Bytes(mib * MIB),
        movable: Bytes(mib * MIB),
        pieces: 1,
        ..BlockFact::default()
    }
}

fn roomy() -> Room {
    Room { disk_free: Some(Bytes(1 << 50)), mappings: Some(1000) }
}

fn stayed(choice: &Choice) -> Vec<(Refusal, u64, u64)> {
    choice.refused.iter().map(|row| (row.why.0.clone(), row.blocks, row.bytes.0 / MIB)).collect()
}

#[test]
fn the_largest_blocks_go_first_and_limits_hold() {
    let facts = [block(2), block(9), block(4), block(9)];
    let all = choose(&facts, &roomy(), &ParkLimits::default());
    assert_eq!((all.blocks, all.refused), (vec![1, 3, 2, 0], vec![]));

    let limits = ParkLimits { bytes: Some(Bytes(12 * MIB)), ..ParkLimits::default() };
    let some = choose(&facts, &roomy(), &limits);
    assert_eq!(some.blocks, [1, 0]);
    assert_eq!(stayed(&some), [(Refusal::ByteLimit, 2, 13)]);

    let room = Room { disk_free: Some(Bytes(30 * MIB)), ..roomy() };
    let half = choose(&facts, &room, &ParkLimits::default());
    assert_eq!(half.blocks, [1, 2, 0]);
    assert_eq!(stayed(&half), [(Refusal::DiskLimit, 1, 9)]);

    let room = Room { mappings: Some(5), ..roomy() };
    let few = choose(&facts, &room, &ParkLimits::default());
    assert_eq!(few.blocks, [1, 3]);
    assert_eq!(stayed(&few), [(Refusal::MappingLimit, 2, 6)]);
}

#[test]
fn what_cannot_move_says_why_and_what_is_parked_costs_nothing() {
    let refused = BlockFact { refused: Some(Refusal::PageLocked.into()), ..block(3) };
    let idle = BlockFact { movable: Bytes::ZERO, pieces: 0, ..block(5) };
    let parked = BlockFact { parked: Bytes(7 * MIB), ..idle.clone() };
    let limits = ParkLimits { bytes: Some(Bytes::ZERO), ..ParkLimits::default() };
    let room = Room { disk_free: Some(Bytes::ZERO), mappings: Some(0) };
    let choice = choose(&[refused, idle, parked, block(1)], &room, &limits);
    assert_eq!(choice.blocks, [2]);
    assert_eq!(
        stayed(&choice),
        [(Refusal::PageLocked, 1, 3), (Refusal::ByteLimit, 1, 1), (Refusal::HardlyInMemory, 1, 5),]
    );
}

#[test]
fn unknown_room_sets_no_limit() {
    let choice = choose(&[block(1)], &Room::default(), &ParkLimits::default());
    assert_eq!(choice.blocks, [0]);
}
