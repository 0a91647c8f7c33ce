//! Emptying our own working set. It frees nothing: the pages come back on the next touch.

use memsweep_core::action::Outcome;
use windows_sys::Win32::System::ProcessStatus::K32EmptyWorkingSet;
use windows_sys::Win32::System::Threading::GetCurrentProcess;

pub(crate) fn empty_working_set() -> Outcome {
    // SAFETY: the pseudo handle of our own process needs no closing and is always valid.
    if unsafe { K32EmptyWorkingSet(GetCurrentProcess()) } == 0 {
        let error = std::io::Error::last_os_error();
        return Outcome::Failed { error: format!("EmptyWorkingSet: {error}") };
    }
    Outcome::Done { claimed: None, detail: Some("paged out, not freed".to_owned()) }
}
