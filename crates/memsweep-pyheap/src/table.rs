//! Zero-filled tables that cost memory only where they are touched, maps keyed by address, and the error
//! of having no memory for them.

use std::alloc::{Layout, alloc_zeroed};
use std::hash::{BuildHasherDefault, Hasher};

/// The process has no memory left for the tables of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory left for the tables of the heap walk")]
pub struct OutOfMemory;

impl From<std::collections::TryReserveError> for OutOfMemory {
    fn from(_: std::collections::TryReserveError) -> Self {
        Self
    }
}

/// An integer for which all-zero bytes are the value zero.
pub trait Cell: Copy + sealed::Sealed {}

mod sealed {
    /// Keeps [`super::Cell`] to the integers below.
    pub trait Sealed {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

impl Cell for u16 {}
impl Cell for u32 {}
impl Cell for u64 {}

/// Allocates a zeroed array on the heap.
///
/// The system hands out large zeroed blocks lazily, so the untouched part of a table costs address space only.
pub fn zeroed<T: Cell, const LENGTH: usize>() -> Result<Box<[T; LENGTH]>, OutOfMemory> {
    let layout = Layout::new::<[T; LENGTH]>();
    if layout.size() == 0 {
        return Err(OutOfMemory);
    }
    // SAFETY: the layout has a size greater than zero, checked above.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        return Err(OutOfMemory);
    }
    // SAFETY: the block was allocated by the global allocator with exactly this layout, and all-zero
    // bytes are a valid value of every `Cell`.
    Ok(unsafe { Box::from_raw(memory.cast::<[T; LENGTH]>()) })
}

/// Hashes addresses by one multiplication: they are well spread and nobody chooses them to collide.
#[derive(Debug, Default, Clone, Copy)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        // The table uses the low bits, the multiplication mixes best into the high ones.
        self.0.rotate_left(26)
    }
}

/// A set of few addresses, or of such that the bitmap cannot hold.
pub type AddressHashSet = std::collections::HashSet<usize, BuildHasherDefault<AddressHasher>>;

/// A map keyed by address.
pub type AddressMap<V> = std::collections::HashMap<usize, V, BuildHasherDefault<AddressHasher>>;

/// Pairs of addresses.
pub type Pairs = Vec<(usize, usize)>;

/// Adds to the number kept for an address.
pub fn add(map: &mut AddressMap<u64>, address: usize, amount: u64) -> Result<(), OutOfMemory> {
    map.try_reserve(1)?;
    let entry = map.entry(address).or_insert(0);
    *entry = entry.saturating_add(amount);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_table_is_zero_everywhere() {
        let table = zeroed::<u16, 4096>().unwrap();
        assert!(table.iter().all(|&cell| cell == 0));
    }

    #[test]
    fn numbers_kept_for_an_address_add_up() {
        let mut map = AddressMap::default();
        add(&mut map, 0x1000, 2).unwrap();
        add(&mut map, 0x1000, 3).unwrap();
        add(&mut map, 0x2000, u64::MAX).unwrap();
        add(&mut map, 0x2000, 1).unwrap();
        assert_eq!(map.get(&0x1000), Some(&5));
        assert_eq!(map.get(&0x2000), Some(&u64::MAX));
    }

    #[test]
    fn the_hasher_spreads_neighbours() {
        let mut low_bits = std::collections::HashSet::new();
        for index in 0..1024_usize {
            let mut hasher = AddressHasher::default();
            hasher.write_usize(0x7f00_0000_0000 + index * 16);
            low_bits.insert(hasher.finish() & 0x3ff);
        }
        assert!(low_bits.len() > 400, "only {} buckets of 1024", low_bits.len());
    }
}
