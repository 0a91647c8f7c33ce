//! Numbers for blocks of memory: the same block gets the same number, and the number says where it is.

use std::collections::HashMap;

use crate::table::OutOfMemory;

/// Where a block of memory is. The address holds as long as somebody keeps the block alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its device, as torch writes it.
    pub device: &'a str,
    /// Its first byte on that device.
    pub address: usize,
    /// Its length when it was first numbered.
    pub bytes: usize,
}

/// Blocks of memory in the order in which they were numbered, from 0. Holds no object.
#[derive(Debug, Default)]
pub struct Numbering {
    /// Devices are few; a block names its own by index.
    devices: Vec<String>,
    blocks: Vec<(usize, usize, usize)>,
    numbers: HashMap<(usize, usize), u32>,
}

impl Numbering {
    /// The number of a block, a new one if it has none yet.
    pub fn number(&mut self, place: Place<'_>) -> Result<u32, OutOfMemory> {
        let Place { device, address, bytes } = place;
        let device = match self.devices.iter().position(|known| known == device) {
            Some(index) => index,
            None => {
                self.devices.try_reserve(1)?;
                self.devices.push(device.to_owned());
                self.devices.len() - 1
            }
        };
        if let Some(&number) = self.numbers.get(&(device, address)) {
            return Ok(number);
        }
        let number = u32::try_from(self.blocks.len()).map_err(|_| OutOfMemory)?;
        self.numbers.try_reserve(1)?;
        self.blocks.try_reserve(1)?;
        self.numbers.insert((device, address), number);
        self.blocks.push((device, address, bytes));
        Ok(number)
    }

    /// The block with this number; `None` for a number that was never given.
    #[must_use]
    pub fn place(&self, number: u32) -> Option<Place<'_>> {
        let &(device, address, bytes) = self.blocks.get(number as usize)?;
        Some(Place { device: self.devices.get(device)?, address, bytes })
    }

    /// All blocks, by number.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        (0..).map_while(|number| self.place(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(address: usize, bytes: usize) -> Place<'static> {
        Place { device: "cpu", address, bytes }
    }

    #[test]
    fn a_block_has_one_number_and_keeps_its_first_size() {
        let mut numbering = Numbering::default();
        assert_eq!(numbering.number(cpu(4096, 64)).unwrap(), 0);
        assert_eq!(numbering.number(cpu(8192, 32)).unwrap(), 1);
        assert_eq!(numbering.number(cpu(4096, 16)).unwrap(), 0);
        assert_eq!(numbering.place(0), Some(cpu(4096, 64)));
        assert_eq!(numbering.place(2), None);
        assert_eq!(numbering.place(u32::MAX), None);
    }

    #[test]
    fn the_same_address_on_another_device_is_another_block() {
        let mut numbering = Numbering::default();
        let places = [cpu(4096, 1), Place { device: "cuda:0", ..cpu(4096, 2) }, cpu(8192, 3)];
        for (number, place) in (0..).zip(places) {
            assert_eq!(numbering.number(place).unwrap(), number);
        }
        assert_eq!(numbering.number(places[1]).unwrap(), 1);
        assert_eq!(numbering.places().collect::<Vec<_>>(), places);
    }
}
