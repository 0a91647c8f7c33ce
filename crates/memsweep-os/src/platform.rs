//! What an operating system may offer. Each platform overrides what it can do; the defaults say
//! that it cannot.

use std::fmt::Debug;
use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{MachineMemory, ProcessMemory};
use memsweep_core::reason::Missing;
use memsweep_core::rest::Child;

use crate::Detail;
use crate::devices::view::DriverCard;
use crate::park::{Block, Survey};

pub(crate) trait Platform {
    /// What a reader keeps between readings.
    type Kept: Debug + Default + Send;

    fn process(&self, _detail: Detail) -> ProcessMemory {
        ProcessMemory::default()
    }

    fn machine(&self, _detail: Detail, _kept: &mut Self::Kept) -> MachineMemory {
        MachineMemory::default()
    }

    fn devices(&self, _detail: Detail, _kept: &mut Self::Kept) -> Vec<DriverCard> {
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

    fn children(&self) -> Vec<Child> {
        Vec::new()
    }

    fn mapped_files(&self, _below: &[&Path], _except: &[&Path]) -> Vec<String> {
        Vec::new()
    }

    fn parking_refused(&self) -> Option<Missing> {
        Some(Missing::ParkingNeedsLinux)
    }

    fn notices_writes(&self) -> bool {
        false
    }

    fn survey(&self, _folder: &Path, _blocks: &[Block]) -> Result<Survey, Missing> {
        Err(self.parking_refused().unwrap_or(Missing::ParkingNeedsLinux))
    }

    fn is_heap_chunk(&self, _start: usize, _block: Block) -> bool {
        false
    }

    /// What the `system_wide` switch means here.
    fn system_wide(&self) -> Outcome {
        self.drop_system_caches()
    }

    fn drop_system_caches(&self) -> Outcome {
        Outcome::unsupported(Missing::SystemCacheNeedsLinux)
    }

    fn empty_working_set(&self) -> Outcome {
        Outcome::unsupported(Missing::WorkingSetNeedsWindows)
    }
}
