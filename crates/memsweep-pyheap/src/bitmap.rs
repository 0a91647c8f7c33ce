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

/// The word of a region, and the bit in it, that stand for an address.
#[inline]
fn place(address: usize) -> (usize, u64) {
    let granule = (address >> GRANULE_SHIFT) & (GRANULES - 1);
    (granule / 64, 1 << (granule % 64))
}

/// A set of object addresses.
pub struct AddressSet {
    top: Box<[u32; TOP]>,
    regions: Vec<Box<[u64; WORDS]>>,
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
        let (word, bit) = place(address);
        let word = &mut self.regions[index][word];
        if *word & bit != 0 {
            return Ok(false);
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
        let (word, bit) = place(address);
        self.regions[named as usize - 1][word] & bit != 0
    }

    /// Takes an address out again, and keeps the tables.
    pub fn remove(&mut self, address: usize) {
        if !fits(address) {
            self.elsewhere.remove(&address);
            return;
        }
        let named = self.top[address >> REGION_SHIFT];
        if named != 0 {
            let (word, bit) = place(address);
            self.regions[named as usize - 1][word] &= !bit;
        }
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
        self.regions.push(zeroed()?);
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
    fn it_agrees_with_a_hash_set() {
        let mut set = AddressSet::new().unwrap();
        let mut oracle = HashSet::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // A narrow range, so that the same address comes up again; one in 16 is outside the tables.
            let outside = if state >> 60 == 0 { 1 << 56 } else { 0 };
            let address = 0x7f12_0000_0000 + ((state >> 40) as usize % 20_000) * 16 * 997 + outside;
            if state >> 36 & 3 == 0 {
                set.remove(address);
                oracle.remove(&address);
            } else {
                assert_eq!(set.insert(address).unwrap(), oracle.insert(address));
            }
            assert_eq!(set.contains(address), oracle.contains(&address));
        }
        assert!(oracle.iter().all(|&address| set.contains(address)));
    }
}
