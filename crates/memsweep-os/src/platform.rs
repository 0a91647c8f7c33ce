//! What an operating system may offer. Each platform overrides what it can do; the defaults say
//! that it cannot.

use std::fmt::Debug;
use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{MachineMemory, ProcessMemory};

use crate::Detail;
use crate::devices::view::DriverView;
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

    fn devices(&self, _detail: Detail, _kept: &mut Self::Kept) -> Vec<DriverView> {
        Vec::new()
    }

    fn trim_heap(&self) -> Outcome {
        unsupported("the C heap of this platform cannot be told to give free pages back")
    }

    fn drop_file_cache(&self, _files: &[String]) -> Outcome {
        unsupported("this platform has no call that drops the cached pages of one file")
    }

    fn cached(&self, _file: &Path) -> Option<Bytes> {
        None
    }

    fn mapped_files(&self) -> Vec<String> {
        Vec::new()
    }

    fn parking_refused(&self) -> Option<String> {
        Some("parking needs Linux; elsewhere the system pages idle memory out by itself".to_owned())
    }

    fn survey(&self, _folder: &Path, _blocks: &[Block]) -> Result<Survey, String> {
        Err(self.parking_refused().unwrap_or_default())
    }

    fn is_heap_chunk(&self, _start: usize, _block: Block) -> bool {
        false
    }

    /// What the `system_wide` switch means here.
    fn system_wide(&self) -> Outcome {
        self.drop_system_caches()
    }

    fn drop_system_caches(&self) -> Outcome {
        unsupported("only Linux can drop the page cache of the machine")
    }

    fn empty_working_set(&self) -> Outcome {
        unsupported("only Windows has a working set that can be emptied")
    }
}

pub(crate) fn unsupported(reason: &str) -> Outcome {
    Outcome::Unsupported { reason: reason.to_owned() }
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) fn nothing_to_do(reason: &str) -> Outcome {
    Outcome::NothingToDo { reason: reason.to_owned() }
}
