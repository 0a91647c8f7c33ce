//! Linux: everything comes from small kernel files beneath two roots, and from the C library.

mod allocator;
mod cgroup;
mod children;
#[cfg(fuzzing)]
pub mod fuzzing;
mod heap;
pub(crate) mod libraries;
mod machine;
mod mapping;
mod maps;
mod page_cache;
mod park;
mod process;
mod system_wide;
pub(crate) mod text;

use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{MachineMemory, ProcessMemory};
use memsweep_core::reason::Missing;
use memsweep_core::rest::Child;
pub(crate) use rustix::param::page_size;

use self::cgroup::Groups;
pub(crate) use self::park::Survey;
use crate::devices::own_pid::own_pid;
use crate::devices::view::DriverCard;
use crate::devices::{amdgpu, nvml};
use crate::park::Block;
use crate::platform::Platform;
use crate::{Detail, Roots};

#[derive(Clone, Debug)]
pub(crate) struct Host {
    roots: Roots,
    /// Whether `roots` are those of this machine. Only then may a reading contain what does not
    /// come from files: the C heap's free bytes and the devices of NVIDIA's library.
    live: bool,
}

impl Host {
    pub(crate) fn current() -> Self {
        Self { roots: Roots::default(), live: true }
    }

    pub(crate) fn at(roots: Roots) -> Self {
        Self { roots, live: false }
    }
}

/// What was last looked up.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    groups: Option<Groups>,
    nvidia: nvml::Cards,
    amd: amdgpu::Cards,
}

impl Platform for Host {
    type Kept = Kept;

    fn process(&self, detail: Detail) -> ProcessMemory {
        let mut memory = process::read(&self.roots.proc);
        if self.live {
            memory.heap_slack = match detail {
                Detail::Quick => None,
                Detail::Full => heap::slack(),
            };
            memory.parked = park::parked(&self.roots.proc, detail);
        }
        memory
    }

    fn machine(&self, detail: Detail, kept: &mut Kept) -> MachineMemory {
        let mut memory = machine::read(&self.roots.proc);
        kept.groups = match kept.groups.take() {
            Some(groups) if detail == Detail::Quick && groups.still_hold(&self.roots) => {
                Some(groups)
            }
            _ => Groups::find(&self.roots, self.live),
        };
        if let Some(tightest) = kept.groups.as_ref().and_then(Groups::tightest) {
            memory.cgroup_limit = Some(tightest.limit);
            memory.cgroup_used = tightest.used;
        }
        memory
    }

    fn devices(&self, detail: Detail, kept: &mut Kept) -> Vec<DriverCard> {
        let mut views = Vec::new();
        if self.live {
            views = kept.nvidia.read(detail, || own_pid(&self.roots.proc));
        }
        views.extend(kept.amd.read(&self.roots, detail));
        views
    }

    fn trim_heap(&self) -> Outcome {
        let outcome = heap::trim();
        // A trim first merges free chunks, so that there are as few as possible.
        park::release_freed(&self.roots.proc);
        outcome
    }

    fn drop_file_cache(&self, files: &[String]) -> Outcome {
        page_cache::drop_files(&self.roots.proc, files)
    }

    fn cached(&self, file: &Path) -> Option<Bytes> {
        let file = std::fs::File::open(file).ok()?;
        page_cache::cached_bytes(&file, &file.metadata().ok()?)
    }

    fn children(&self) -> Vec<Child> {
        children::read(&self.roots.proc)
    }

    fn mapped_files(&self, below: &[&Path], except: &[&Path]) -> Vec<String> {
        maps::regular_files(&self.roots.proc, below, except)
    }

    fn parking_refused(&self) -> Option<Missing> {
        park::refused()
    }

    fn notices_writes(&self) -> bool {
        park::notices_writes(&self.roots.proc)
    }

    fn survey(&self, folder: &Path, blocks: &[Block]) -> Result<crate::Survey, Missing> {
        park::survey(&self.roots, folder, blocks)
    }

    fn is_heap_chunk(&self, start: usize, block: Block) -> bool {
        park::is_chunk(start, block)
    }

    fn drop_system_caches(&self) -> Outcome {
        system_wide::drop_caches(&self.roots.proc, rustix::fs::sync)
    }
}
