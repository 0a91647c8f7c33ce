//! From blocks of memory to the pieces that move: whole pages, each piece inside one mapping.

use std::ops::Range;

use memsweep_core::bytes::Bytes;
use memsweep_core::reason::Refusal;

use super::areas::Area;
use super::registry::Spills;

/// The most that one spill file holds. A file's disk space is only freed when nothing of it is
/// mapped any more, in this process and in its children, so files stay small. Larger ones save
/// nothing.
pub(crate) const FILE_BYTES: usize = 32 * 1024 * 1024;

/// A parked mapping is worth writing again when this many bytes of it were written since, or more
/// than one in `SHARE_WRITTEN_AGAIN` of a small one. Memory that was freed and used again spans
/// several mappings.
const WRITTEN_AGAIN: Bytes = Bytes(1024 * 1024);
const SHARE_WRITTEN_AGAIN: u64 = 4;

/// What can be done for one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Examined {
    /// What to write and map over; each lies in one mapping and spans whole pages.
    pub(crate) pieces: Vec<Range<usize>>,
    /// What is parked already and was not written since.
    pub(crate) parked: Vec<Range<usize>>,
    /// Why nothing of the block may move.
    pub(crate) refused: Option<Refusal>,
}

impl Examined {
    pub(super) fn refuse(reason: Refusal) -> Self {
        Self { refused: Some(reason), ..Self::default() }
    }

    /// How much would be written.
    pub(crate) fn bytes(&self) -> Bytes {
        self.pieces.iter().map(|piece| Bytes(piece.len() as u64)).sum()
    }
}

/// Looks at the whole pages inside `block`. `resident` says how many bytes of a range are in
/// memory; `watched` is as for [`Area::refusal`].
pub(crate) fn examine(
    block: &Range<usize>,
    page: usize,
    areas: &[Area],
    spills: &Spills,
    watched: bool,
    resident: &mut dyn FnMut(&Range<usize>) -> usize,
) -> Examined {
    let start = block.start.next_multiple_of(page);
    let end = block.end & !(page - 1);
    let mut examined = Examined::default();
    if start >= end {
        return Examined::refuse(Refusal::SmallerThanPage);
    }
    let covering = match covering(&(start..end), areas, spills, watched) {
        Ok(areas) => areas,
        Err(reason) => return Examined::refuse(reason),
    };
    for area in covering {
        let range = area.start.max(start)..area.end.min(end);
        if spills.contains(area) && !is_written_again(area) {
            examined.parked.push(range);
        } else {
            add_pieces(&range, resident, &mut examined.pieces);
        }
    }
    examined
}

/// The areas that a range lies in, without a gap. `Err` says why the range must not be replaced.
/// `watched` as for [`Area::refusal`].
pub(crate) fn covering<'a>(
    range: &Range<usize>,
    areas: &'a [Area],
    spills: &Spills,
    watched: bool,
) -> Result<&'a [Area], Refusal> {
    let first = areas.partition_point(|area| area.end <= range.start);
    let mut at = range.start;
    for (count, area) in areas[first..].iter().enumerate() {
        if area.start > at {
            break;
        }
        let foreign = if spills.contains(area) { None } else { area.foreign() };
        if let Some(reason) = area.refusal(watched).or(foreign) {
            return Err(reason);
        }
        at = area.end;
        if at >= range.end {
            return Ok(&areas[first..=first + count]);
        }
    }
    Err(Refusal::NotMapped)
}

fn is_written_again(area: &Area) -> bool {
    let size = (area.end - area.start) as u64;
    area.anonymous >= WRITTEN_AGAIN || area.anonymous.0 * SHARE_WRITTEN_AGAIN > size
}

/// Cuts a range into pieces, without those that are hardly in memory: what was never touched or is
/// swapped out would only cost disk space. A reservation of 64 GB costs a look at its pages.
fn add_pieces(
    range: &Range<usize>,
    resident: &mut dyn FnMut(&Range<usize>) -> usize,
    pieces: &mut Vec<Range<usize>>,
) {
    let mut at = range.start;
    while at < range.end {
        let piece = at..range.end.min(at + FILE_BYTES);
        at = piece.end;
        if resident(&piece) * 4 > piece.len() {
            pieces.push(piece);
        }
    }
}

/// A piece is replaced in steps, so that little time passes between the look at a page and its
/// replacement. Mappings of the same file side by side are one to the kernel.
pub(super) fn steps(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    const STEP: usize = 2 * 1024 * 1024;
    range.clone().step_by(STEP).map(|start| start..range.end.min(start + STEP))
}

/// A piece of a block on its way to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) block: usize,
    pub(crate) range: Range<usize>,
    /// Where it lies in its file.
    pub(crate) offset: usize,
}

/// Distributes pieces over files, in order.
pub(crate) fn pack(pieces: impl Iterator<Item = (usize, Range<usize>)>) -> Vec<Vec<Piece>> {
    let mut files: Vec<Vec<Piece>> = Vec::new();
    let mut room = 0;
    for (block, range) in pieces {
        if range.len() > room {
            files.push(Vec::new());
            room = FILE_BYTES;
        }
        if let Some(file) = files.last_mut() {
            let offset = FILE_BYTES - room;
            room = room.saturating_sub(range.len());
            file.push(Piece { block, range, offset });
        }
    }
    files
}

/// The length of a file.
pub(crate) fn length(file: &[Piece]) -> usize {
    file.last().map_or(0, |piece| piece.offset + piece.range.len())
}

#[cfg(test)]
mod tests {
    use super::super::areas::parse;
    use super::*;

    const PAGE: usize = 0x1000;

    fn areas(lines: &[&str]) -> Vec<Area> {
        let table: String = lines
            .iter()
            .map(|line| format!("{line}\nAnonymous: 0 kB\nVmFlags: rd wr mr mw me ac\n"))
            .collect();
        parse(table.as_bytes())
    }

    fn shown(ranges: &[Range<usize>]) -> String {
        let texts = ranges.iter().map(|range| format!("{:x}..{:x}", range.start, range.end));
        texts.collect::<Vec<_>>().join(" ")
    }

    fn look(block: Range<usize>, areas: &[Area]) -> Examined {
        let spills = Spills::of(&[7]);
        examine(&block, PAGE, areas, &spills, false, &mut |range| range.len())
    }

    #[test]
    fn only_whole_pages_inside_a_block_move() {
        let areas = areas(&["10000-20000 rw-p 00000000 00:00 0 "]);
        assert_eq!(shown(&look(0x10010..0x14fff, &areas).pieces), "11000..14000");
        assert_eq!(shown(&look(0x10000..0x20000, &areas).pieces), "10000..20000");
        assert_eq!(look(0x10010..0x11fff, &areas).refused, Some(Refusal::SmallerThanPage));
    }

    #[test]
    fn a_block_that_leaves_its_mapping_is_refused() {
        let areas = areas(&["10000-20000 rw-p 00000000 00:00 0 "]);
        assert_eq!(look(0x1f000..0x22000, &areas).refused, Some(Refusal::NotMapped));
        assert_eq!(look(0x8000..0x12000, &areas).refused, Some(Refusal::NotMapped));
        assert_eq!(look(0x30000..0x32000, &areas).refused, Some(Refusal::NotMapped));
    }

    #[test]
    fn one_page_that_must_stay_keeps_the_whole_block() {
        let areas = areas(&[
            "10000-11000 rw-p 00000000 00:00 0 ",
            "11000-12000 rw-p 00000000 fe:00 9 /models/a",
            "12000-13000 rw-p 00000000 00:00 0 ",
        ]);
        assert_eq!(look(0x10000..0x13000, &areas), Examined::refuse(Refusal::MappedFile));
    }

    #[test]
    fn what_is_parked_already_is_not_written_again() {
        let areas = areas(&[
            "10000-11000 rw-p 00000000 00:00 0 ",
            "11000-12000 rw-p 00000000 fe:00 7 /var/tmp/#7 (deleted)",
            "12000-13000 rw-p 00000000 00:00 0 ",
        ]);
        let found = look(0x10000..0x13000, &areas);
        assert_eq!(shown(&found.pieces), "10000..11000 12000..13000");
        assert_eq!(shown(&found.parked), "11000..12000");
    }

    #[test]
    fn what_was_written_since_moves_again() {
        let table = "10000-11000 rw-p 00000000 fe:00 7 /var/tmp/#7 (deleted)\n\
            Anonymous: 2048 kB\nVmFlags: rd wr\n";
        let found = look(0x10000..0x11000, &parse(table.as_bytes()));
        assert_eq!((shown(&found.pieces).as_str(), found.parked.len()), ("10000..11000", 0));
    }

    #[test]
    fn a_small_mapping_that_was_written_whole_moves_again() {
        let table = "10000-14000 rw-p 00000000 fe:00 7 /var/tmp/#7 (deleted)\n\
            Anonymous: 16 kB\nVmFlags: rd wr\n\
            14000-18000 rw-p 00000000 fe:00 7 /var/tmp/#7 (deleted)\n\
            Anonymous: 4 kB\nVmFlags: rd wr\n";
        let found = look(0x10000..0x18000, &parse(table.as_bytes()));
        assert_eq!(shown(&found.pieces), "10000..14000");
        assert_eq!(shown(&found.parked), "14000..18000");
    }

    #[test]
    fn memory_that_was_never_touched_stays() {
        let areas = areas(&["10000-9010000 rw-p 00000000 00:00 0 "]);
        let mut asked = Vec::new();
        let found =
            examine(&(0x10000..0x0901_0000), PAGE, &areas, &Spills::of(&[]), false, &mut |range| {
                asked.push(range.clone());
                if asked.len() == 2 { range.len() / 2 } else { range.len() / 8 }
            });
        assert_eq!(found.pieces, [asked[1].clone()]);
    }

    #[test]
    fn files_are_filled_in_order_and_never_overfilled() {
        let piece = |mib: usize| 0..mib << 20;
        let sizes = [20, 12, 1, 32, 5].map(piece);
        let files = pack(sizes.into_iter().enumerate());
        let shape: Vec<Vec<(usize, usize)>> = files
            .iter()
            .map(|file| file.iter().map(|piece| (piece.block, piece.offset >> 20)).collect())
            .collect();
        assert_eq!(shape, [vec![(0, 0), (1, 20)], vec![(2, 0)], vec![(3, 0)], vec![(4, 0)]]);
        assert!(files.iter().all(|file| length(file) <= FILE_BYTES));
    }
}
