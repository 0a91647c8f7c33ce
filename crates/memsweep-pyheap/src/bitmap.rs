//! An exact set of object addresses: two levels, one bit per 16 bytes of address space.
//!
//! Two objects never begin within the same 16 bytes, because an object header is at least that long.
//! So a bit per 16-byte granule is exact for objects, also for static ones that are only 8-aligned.
//! Addresses that do not fit the scheme go to a hash set.

use crate::table::{AddressHashSet, OutOfMemory, zeroed};

/// Addresses below this many bits are held in the tables.
pub(crate) const ADDRESS_BITS: u32 = 47;
/// One region covers 64 MiB of address space.
pub(crate) const REGION_SHIFT: u32 = 26;
/// One granule is 16 bytes.
pub(crate) const GRANULE_SHIFT: u32 = 4;
/// Granules in a region.
pub(crate) const GRANULES: usize = 1 << (REGION_SHIFT - GRANULE_SHIFT);
/// Regions the top table can name.
pub(crate) const TOP: usize = 1 << (ADDRESS_BITS - REGION_SHIFT);

const WORDS: usize = GRANULES / 64;
/// One page of a region's bitmap; only touched pages are cleared by a reset.
const WORDS_PER_CHUNK: usize = 512;

/// Where walks record what they met.
pub trait Marks {
    /// Records one reference to the object at `address`; true when it was not known yet.
    fn meet(&mut self, address: usize) -> Result<bool, OutOfMemory>;
    /// Records the object without a reference to it; true when it was not known yet.
    fn mark(&mut self, address: usize) -> Result<bool, OutOfMemory>;
}

/// Whether the tables can hold this address.
#[inline]
pub(crate) fn fits(address: usize) -> bool {
    (address as u64) >> ADDRESS_BITS == 0 && address & 7 == 0
}

struct Region {
    words: Box<[u64; WORDS]>,
    touched: u128,
}

/// A set of object addresses.
pub struct AddressSet {
    top: Box<[u32; TOP]>,
    regions: Vec<Region>,
    elsewhere: AddressHashSet,
}

impl std::fmt::Debug for AddressSet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AddressSet")
            .field("regions", &self.regions.len())
            .field("elsewhere", &self.elsewhere.len())
            .finish_non_exhaustive()
    }
}

impl AddressSet {
    /// An empty set.
    pub fn new() -> Result<Self, OutOfMemory> {
        Ok(Self { top: zeroed()?, regions: Vec::new(), elsewhere: AddressHashSet::default() })
    }

    /// Adds an address; true when it was not there yet.
    #[inline]
    pub fn insert(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        if !fits(address) {
            return self.insert_elsewhere(address);
        }
        let named = self.top[address >> REGION_SHIFT];
        let index =
            if named == 0 { self.add_region(address >> REGION_SHIFT)? } else { named as usize - 1 };
        let region = &mut self.regions[index];
        let granule = (address >> GRANULE_SHIFT) & (GRANULES - 1);
        let word = &mut region.words[granule / 64];
        let bit = 1_u64 << (granule % 64);
        if *word & bit != 0 {
            return Ok(false);
        }
        if *word == 0 {
            region.touched |= 1 << (granule / 64 / WORDS_PER_CHUNK);
        }
        *word |= bit;
        Ok(true)
    }

    /// Whether the address is in the set.
    #[must_use]
    pub fn contains(&self, address: usize) -> bool {
        if !fits(address) {
            return self.elsewhere.contains(&address);
        }
        let named = self.top[address >> REGION_SHIFT];
        if named == 0 {
            return false;
        }
        let granule = (address >> GRANULE_SHIFT) & (GRANULES - 1);
        self.regions[named as usize - 1].words[granule / 64] & (1 << (granule % 64)) != 0
    }

    /// Empties the set and keeps its tables, at a cost of the pages that were used.
    pub fn reset(&mut self) {
        for region in &mut self.regions {
            for (index, chunk) in region.words.chunks_mut(WORDS_PER_CHUNK).enumerate() {
                if region.touched & (1 << index) != 0 {
                    chunk.fill(0);
                }
            }
            region.touched = 0;
        }
        self.elsewhere.clear();
    }

    #[cold]
    fn insert_elsewhere(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        self.elsewhere.try_reserve(1)?;
        Ok(self.elsewhere.insert(address))
    }

    #[cold]
    fn add_region(&mut self, top_index: usize) -> Result<usize, OutOfMemory> {
        self.regions.try_reserve(1)?;
        let index = self.regions.len();
        let name = u32::try_from(index + 1).map_err(|_| OutOfMemory)?;
        self.regions.push(Region { words: zeroed()?, touched: 0 });
        self.top[top_index] = name;
        Ok(index)
    }
}

impl Marks for AddressSet {
    #[inline]
    fn meet(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        self.insert(address)
    }

    #[inline]
    fn mark(&mut self, address: usize) -> Result<bool, OutOfMemory> {
        self.insert(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_address_is_new_once() {
        let mut set = AddressSet::new().unwrap();
        assert!(!set.contains(0x7f00_1234_5670));
        assert!(set.insert(0x7f00_1234_5670).unwrap());
        assert!(!set.insert(0x7f00_1234_5670).unwrap());
        assert!(set.contains(0x7f00_1234_5670));
        assert!(!set.contains(0x7f00_1234_5680));
        assert!(!set.contains(0x7f00_1234_5660));
    }

    #[test]
    fn addresses_outside_the_tables_are_kept_too() {
        let mut set = AddressSet::new().unwrap();
        for address in [usize::MAX & !7, 1 << 56, 0x1001, 3] {
            assert!(set.insert(address).unwrap(), "{address:#x}");
            assert!(!set.insert(address).unwrap(), "{address:#x}");
            assert!(set.contains(address), "{address:#x}");
        }
        assert!(!set.contains(0x1000));
    }

    #[test]
    fn a_reset_set_is_empty_and_usable() {
        let mut set = AddressSet::new().unwrap();
        let addresses: Vec<usize> =
            (0..5000).map(|index| 0x5550_0000_0000 + index * 4096 * 17).collect();
        for round in 0..3 {
            for &address in &addresses {
                assert!(set.insert(address).unwrap(), "round {round} {address:#x}");
            }
            set.insert(1 << 60).unwrap();
            set.reset();
            assert!(addresses.iter().all(|&address| !set.contains(address)));
            assert!(!set.contains(1 << 60));
        }
    }

    #[test]
    fn it_agrees_with_a_hash_set() {
        let mut set = AddressSet::new().unwrap();
        let mut oracle = HashSet::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // A narrow range, so that the same address comes up again.
            let address = 0x7f12_0000_0000 + ((state >> 40) as usize % 20_000) * 16 * 997;
            assert_eq!(set.insert(address).unwrap(), oracle.insert(address));
        }
        assert!(oracle.iter().all(|&address| set.contains(address)));
    }
}
