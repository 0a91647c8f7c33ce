//! What can be parked of given blocks, before any of them are chosen.

use std::path::{Path, PathBuf};

use memsweep_core::bytes::Bytes;
use memsweep_core::park::{BlockFact, ParkLimits, Parked, Room};
use memsweep_core::reason::{Missing, Refusal, Stopped, Why};

use super::areas::{self, Area};
use super::carry_out;
use super::pieces::{self, Examined};
use super::registry::{self, Spills};
use super::spill::{self, Folder};
use super::watch::{self, Watch};
use crate::linux::{mapping, maps, process};
use crate::{Block, Gate, PageLocks, Roots};

/// One in this many of the mappings that the kernel allows is left to the rest of the program.
const MAPPINGS_LEFT: u64 = 4;

/// What was found out about the blocks.
#[derive(Debug)]
pub(crate) struct Survey {
    proc: PathBuf,
    examined: Vec<Examined>,
    folder: Folder,
}

/// Looks at the blocks, the folder and the kernel's limits. `Err` says why nothing can be parked.
pub(crate) fn survey(
    roots: &Roots,
    folder: &Path,
    blocks: &[Block],
) -> Result<crate::Survey, Missing> {
    if let Some(reason) = super::refused() {
        return Err(reason);
    }
    let proc = &roots.proc;
    let folder = Folder::open(roots, folder)?;
    if process::driver_locked(proc) {
        return Err(Missing::PageLockUnknown);
    }
    let (count, limit) =
        maps::count(proc).zip(maps::limit(proc)).ok_or(Missing::MappingsUnknown)?;
    let left = (limit - limit / MAPPINGS_LEFT).saturating_sub(count);
    if left == 0 {
        return Err(Missing::MappingsUsedUp { count, limit });
    }
    let areas = areas::read(proc).ok_or(Missing::MappingsUnknown)?;
    let spills = registry::known().ok_or(Missing::SpillFilesUnknown)?;
    let examined = examine_all(blocks, &areas, &spills, watch::is_watching());
    let facts = blocks.iter().zip(&examined).map(|(block, found)| fact(block, found)).collect();
    let room = Room { disk_free: folder.free(), mappings: Some(left) };
    let inner = Survey { proc: proc.to_owned(), examined, folder };
    Ok(crate::Survey { facts, room, inner })
}

/// `watched` as for [`Area::refusal`].
pub(super) fn examine_all(
    blocks: &[Block],
    areas: &[Area],
    spills: &Spills,
    watched: bool,
) -> Vec<Examined> {
    let page = rustix::param::page_size();
    let mut resident = mapping::resident;
    let locks = PageLocks::now();
    let examine = |block: &Block| {
        let range = block.address..block.address.saturating_add(block.bytes);
        if locks.is_locked(range.clone()) {
            return Examined::refuse(Refusal::PageLockedByDriver);
        }
        pieces::examine(&range, page, areas, spills, watched, &mut resident)
    };
    blocks.iter().map(examine).collect()
}

fn fact(block: &Block, examined: &Examined) -> BlockFact {
    BlockFact {
        bytes: Bytes(block.bytes as u64),
        movable: examined.bytes(),
        pieces: examined.pieces.len() as u64,
        parked: examined.parked.iter().map(|range| Bytes(range.len() as u64)).sum(),
        refused: examined.refused.clone().map(Why),
    }
}

impl Survey {
    /// Parks the chosen blocks, batch by batch.
    ///
    /// # Safety
    /// As for [`crate::Survey::park`].
    pub(crate) unsafe fn park(
        self,
        chosen: &[u32],
        limits: &ParkLimits,
        gate: &mut dyn Gate,
    ) -> Parked {
        let mut already = Bytes::ZERO;
        for index in chosen {
            for range in self.examined.get(*index as usize).map_or(&[][..], |found| &found.parked) {
                spill::page_out(range.start, range.len());
                already = already.plus(Bytes(range.len() as u64));
            }
        }
        let pieces = chosen.iter().flat_map(|&index| {
            let found = self.examined.get(index as usize).map_or(&[][..], |found| &found.pieces);
            found.iter().map(move |range| (index as usize, range.clone()))
        });
        let files = pieces::pack(pieces);
        let watch = match Watch::open(&self.proc).transpose() {
            Ok(watch) => watch,
            Err(error) => {
                let why = Stopped::from(format!("watching for writes: {error}"));
                return Parked { already, stopped: Some(Why(why)), ..Parked::default() };
            }
        };
        let (proc, folder) = (&self.proc, &self.folder);
        // SAFETY: the pieces lie inside the caller's blocks.
        let mut parked = unsafe { carry_out(proc, watch.as_deref(), folder, &files, limits, gate) };
        parked.already = already;
        parked.in_memory =
            areas::read(&self.proc).and_then(|areas| registry::back_in_memory(&areas));
        parked.folder = Some(self.folder.to_string());
        parked
    }
}
