//! Counts the references met for every object of the heap, two bytes per 16 bytes of address space.
//!
//! A cell holds: seen (1 bit), whether the address is an odd multiple of 8 (1 bit, which the position
//! leaves open), and the count (14 bits). Larger counts continue in a small map: only a few shared
//! singletons have them.

use crate::bitmap::{GRANULE_SHIFT, GRANULES, Marks, REGION_SHIFT, TOP, fits};
use crate::table::{AddressMap, OutOfMemory, add, zeroed};

const SEEN: u16 = 1 << 15;
const ODD_EIGHT: u16 = 1 << 14;
const COUNT: u16 = ODD_EIGHT - 1;
/// One page of cells; untouched pages are never read.
const CELLS_PER_CHUNK: usize = 2048;
const CHUNKS: usize = GRANULES / CELLS_PER_CHUNK;

struct Region {
    base: usize,
    cells: Box<[u16; GRANULES]>,
    touched: [u64; CHUNKS / 64],
}

/// The number of references met, per object.
pub struct Tally {
    top: Box<[u32; TOP]>,
    regions: Vec<Region>,
    beyond: AddressMap<u64>,
    elsewhere: AddressMap<u64>,
    seen: usize,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tally").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Tally {
    /// A tally that has seen nothing.
    pub fn new() -> Result<Self, OutOfMemory> {
        Ok(Self {
            top: zeroed()?,
            regions: Vec::new(),
            beyond: AddressMap::default(),
            elsewhere: AddressMap::default(),
            seen: 0,
        })
    }

    /// How many objects were seen.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// How often an object was met; `None` for one that was not seen. Roots, and what C++ alone holds,
    /// may be seen without being met.
    #[must_use]
    pub fn met(&self, address: usize) -> Option<u64> {
        if !fits(address) {
            return self.elsewhere.get(&address).copied();
        }
        let named = self.top[address >> REGION_SHIFT];
        let region = self.regions.get((named as usize).checked_sub(1)?)?;
        let cell = region.cells[(address >> GRANULE_SHIFT) & (GRANULES - 1)];
        let odd = if address & 8 == 0 { 0 } else { ODD_EIGHT };
        (cell & SEEN != 0 && cell & ODD_EIGHT == odd).then(|| self.full_count(cell, address))
    }

    /// Calls `each(address, references)` for every object seen, by address.
    ///
    /// # Errors
    /// Stops at the first error of `each`.
    pub fn for_each<E>(&self, mut each: impl FnMut(usize, u64) -> Result<(), E>) -> Result<(), E> {
        for region in &self.regions {
            for (index, cells) in region.cells.chunks(CELLS_PER_CHUNK).enumerate() {
                if region.touched[index / 64] & (1 << (index % 64)) == 0 {
                    continue;
                }
                for (offset, &cell) in cells.iter().enumerate() {
                    if cell & SEEN == 0 {
                        continue;
                    }
                    let granule = index * CELLS_PER_CHUNK + offset;
                    let odd = if cell & ODD_EIGHT == 0 { 0 } else { 8 };
                    let address = region.base | granule << GRANULE_SHIFT | odd;
                    each(address, self.full_count(cell, address))?;
                }
            }
        }
        for (&address, &count) in &self.elsewhere {
            each(address, count)?;
        }
        Ok(())
    }

    fn full_count(&self, cell: u16, address: usize) -> u64 {
        let count = u64::from(cell & COUNT);
        if cell & COUNT == COUNT {
            count + self.beyond.get(&address).copied().unwrap_or(0)
        } else {
            count
        }
    }

    #[inline]
    fn record(&mut self, address: usize, reference: u16) -> Result<bool, OutOfMemory> {
        if !fits(address) {
            return self.record_elsewhere(address, reference);
        }
        let named = self.top[address >> REGION_SHIFT];
        let index =
            if named == 0 { self.add_region(address >> REGION_SHIFT)? } else { named as usize - 1 };
        let region = &mut self.regions[index];
        let granule = (address >> GRANULE_SHIFT) & (GRANULES - 1);
        let cell = &mut region.cells[granule];
        if *cell & SEEN != 0 {
            if *cell & COUNT == COUNT {
                add(&mut self.beyond, address, u64::from(reference))?;
            } else {
                *cell += reference;
            }
            return Ok(false);
        }
        let odd = if address & 8 == 0 { 0 } else { ODD_EIGHT };
        *cell = SEEN | odd | reference;
        let chunk = granule / CELLS_PER_CHUNK;
        region.touched[chunk / 64] |= 1 << (chunk % 64);
        self.seen += 1;
        Ok(true)
    }

    #[cold]
    fn record_elsewhere(&mut self, address: usize, reference: u16) -> Result<bool, OutOfMemory> {
        let new = !self.elsewhere.contains_key(&address);
        add(&mut self.elsewhere, address, u64::from(reference))?;
        self.seen += usize::from(new);
        Ok(new)
    }

    #[cold]
    fn add_region(&mut self, top_index: usize) -> Result<usize, OutOfMemory> {
        self.regions.try_reserve(1)?;
        let index = self.regions.len();
        let name = u32::try_from(index + 1).map_err(|_| OutOfMemory)?;
        self.regions.push(Region {
            base: top_index << REGION_SHIFT,
            cells: zeroed()?,
            touched: [0; CHUNKS / 64],
        });
        self.top[top_index] = name;
        Ok(index)
    }
}

impl Marks for Tally {
    #[inline]
    fn meet(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        self.record(address, 1)
    }

    #[inline]
    fn mark(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        self.record(address, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn all(tally: &Tally) -> BTreeMap<usize, u64> {
        let mut found = BTreeMap::new();
        tally
            .for_each(|address, count| {
                assert!(found.insert(address, count).is_none(), "{address:#x} came twice");
                Ok::<(), ()>(())
            })
            .unwrap();
        found
    }

    #[test]
    fn references_are_counted_and_roots_are_not() {
        let mut tally = Tally::new().unwrap();
        assert!(tally.mark(0x7f00_0000_0010).unwrap());
        assert!(!tally.meet(0x7f00_0000_0010).unwrap());
        assert!(tally.meet(0x7f00_0000_0028).unwrap());
        assert!(!tally.mark(0x7f00_0000_0028).unwrap());
        assert_eq!(tally.seen(), 2);
        tally.mark(0x7f00_0000_0040).unwrap();
        assert_eq!(tally.met(0x7f00_0000_0040), Some(0), "seen, by no reference");
        assert_eq!(tally.met(0x7f00_0000_0048), None, "its neighbour was not");
        assert_eq!(
            all(&tally),
            BTreeMap::from([(0x7f00_0000_0010, 1), (0x7f00_0000_0028, 1), (0x7f00_0000_0040, 0)])
        );
    }

    #[test]
    fn counts_go_on_beyond_the_cell() {
        let mut tally = Tally::new().unwrap();
        for _ in 0..100_000 {
            tally.meet(0x5600_0000_0008).unwrap();
        }
        for _ in 0..16_383 {
            tally.meet(0x5600_0000_0020).unwrap();
        }
        tally.mark(0x5600_0000_0008).unwrap();
        assert_eq!(
            all(&tally),
            BTreeMap::from([(0x5600_0000_0008, 100_000), (0x5600_0000_0020, 16_383)])
        );
    }

    #[test]
    fn it_agrees_with_a_map_also_outside_the_tables() {
        let mut tally = Tally::new().unwrap();
        let mut oracle = BTreeMap::new();
        assert_eq!(tally.met(0x7f55_0000_0000), None);
        let mut state = 42_u64;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (state >> 33) as usize % 3000;
            let address = if pick.is_multiple_of(100) {
                (1 << 60) + pick
            } else {
                0x7f55_0000_0000 + pick * 16 * 1013
            };
            tally.meet(address).unwrap();
            *oracle.entry(address).or_insert(0) += 1;
        }
        assert_eq!(tally.seen(), oracle.len());
        assert!(oracle.iter().all(|(&address, &count)| tally.met(address) == Some(count)));
        assert_eq!(all(&tally), oracle);
    }
}
