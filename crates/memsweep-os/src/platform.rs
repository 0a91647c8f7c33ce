//! What an operating system can be asked for. Each platform overrides what it can do; the
//! defaults say honestly that it cannot.

use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{DeviceMemory, MachineMemory, ProcessMemory};
use memsweep_core::reason::Missing;

use crate::park::{Block, Survey};

pub(crate) trait Platform {
    fn process(&self) -> ProcessMemory {
        ProcessMemory::default()
    }

    fn machine(&self) -> MachineMemory {
        MachineMemory::default()
    }

    fn devices(&self) -> Vec<DeviceMemory> {
        Vec::new()
    }

    fn trim_heap(&self) -> Outcome {
        Outcome::unsupported(Missing::NoTrim)
    }

    fn drop_file_cache(&self, _files: &[String]) -> Outcome {
        Outcome::unsupported(Missing::NoFileCache)
    }

    fn cached(&self, _file: &Path) -> Option<Bytes> {
        None
    }

    fn mapped_files(&self) -> Vec<String> {
        Vec::new()
    }

    fn parking_refused(&self) -> Option<Missing> {
        Some(Missing::ParkingNeedsLinux)
    }

    fn survey(&self, _folder: &Path, _blocks: &[Block]) -> Result<Survey, Missing> {
        Err(self.parking_refused().unwrap_or(Missing::ParkingNeedsLinux))
    }

    fn is_heap_chunk(&self, _start: usize, _block: Block) -> bool {
        false
    }

    fn drop_system_caches(&self) -> Outcome {
        Outcome::unsupported(Missing::SystemCacheNeedsLinux)
    }

    fn empty_working_set(&self) -> Outcome {
        Outcome::unsupported(Missing::WorkingSetNeedsWindows)
    }
}

pub(crate) fn unsupported(reason: &str) -> Outcome {
    Outcome::unsupported(Missing::from(reason.to_owned()))
}
