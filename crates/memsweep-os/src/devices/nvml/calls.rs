//! The three questions that a reading asks of each card, in as few calls as they need.
//!
//! The wrapper asks twice for a list, once for its length, and knows no older form of the memory
//! question; what it offers otherwise is used as it is.

use std::mem;
use std::os::raw::c_uint;

use memsweep_core::bytes::Bytes;
use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::struct_wrappers::device::{MemoryInfo, ProcessInfo};

use super::shares::Share;

/// The card fell off the bus or was pulled out: nothing it said before is true of it now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// Total and used bytes. Unknown where the driver does not say.
pub(super) fn memory(card: &Device<'_>) -> Result<(Option<Bytes>, Option<Bytes>), Lost> {
    match card.memory_info() {
        Ok(info) => Ok(totals(&info)),
        // Drivers before 510 have the older question alone. After any other error it is not
        // asked: it counts the driver's reserve as used, and a difference of the two is nobody's.
        Err(NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => {
            Ok(known(older_memory(card))?.unwrap_or_default())
        }
        Err(error) => known(Err(error)).map(Option::unwrap_or_default),
    }
}

/// What programs can have, and what they have. The driver's own reserve is in neither, as in
/// CUDA's own total, so that total less used is what the driver calls free.
fn totals(info: &MemoryInfo) -> (Option<Bytes>, Option<Bytes>) {
    (info.total.checked_sub(info.reserved).map(Bytes), Some(Bytes(info.used)))
}

/// Here the driver's reserve is in both; total less used is what it calls free here too.
fn older_memory(card: &Device<'_>) -> Result<(Option<Bytes>, Option<Bytes>), NvmlError> {
    let call = card.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref().map_err(missing)?;
    // SAFETY: three integers, of which any bytes are a value; the type is the call's own.
    let mut info = unsafe { mem::zeroed() };
    // SAFETY: the handle is of the library that is asked, which is never closed, and the driver
    // writes one structure of the type that its own signature names.
    nvml_try(unsafe { call(card.handle(), &mut info) })?;
    Ok((Some(Bytes(info.total)), Some(Bytes(info.used))))
}

/// The processes that compute. `None` when the driver does not say, which is not "none".
pub(super) fn computing(card: &Device<'_>) -> Result<Option<Vec<Share>>, Lost> {
    let library = card.nvml().lib();
    let Ok(call) = &library.nvmlDeviceGetComputeRunningProcesses_v3 else { return Ok(None) };
    // SAFETY: as `listed` asks: the handle is of this library, which is never closed, and the
    // driver writes at most as many entries as it is told that there is room for.
    known(listed(|count, entries| unsafe { call(card.handle(), count, entries) }))
}

/// The processes that draw, in the same way.
pub(super) fn drawing(card: &Device<'_>) -> Result<Option<Vec<Share>>, Lost> {
    let library = card.nvml().lib();
    let Ok(call) = &library.nvmlDeviceGetGraphicsRunningProcesses_v3 else { return Ok(None) };
    // SAFETY: as in `computing`.
    known(listed(|count, entries| unsafe { call(card.handle(), count, entries) }))
}

/// A list in one call, unless it is longer than expected. `call` fills in the entries, at most
/// as many as the count that it is given, and says in the count how many there are.
fn listed<Entry: Copy>(
    mut call: impl FnMut(*mut c_uint, *mut Entry) -> c_uint,
) -> Result<Vec<Share>, NvmlError>
where
    ProcessInfo: From<Entry>,
{
    let mut room: c_uint = 64;
    loop {
        // SAFETY: four integers, of which any bytes are a value.
        let mut entries: Vec<Entry> = vec![unsafe { mem::zeroed() }; room as usize];
        let mut count = room;
        match nvml_try(call(&mut count, entries.as_mut_ptr())) {
            Ok(()) => {
                entries.truncate(count as usize);
                let infos = entries.into_iter().map(ProcessInfo::from);
                return Ok(infos.map(|info| Share::from(&info)).collect());
            }
            // Processes may start between two calls; the count is what there was room needed for.
            Err(NvmlError::InsufficientSize(_)) if room < 16 * 1024 => {
                room = count.max(room).saturating_add(16).saturating_mul(2);
            }
            Err(error) => return Err(error),
        }
    }
}

/// An answer, or none; a lost card is told apart.
fn known<Answer>(answer: Result<Answer, NvmlError>) -> Result<Option<Answer>, Lost> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(NvmlError::GpuLost) => Err(Lost),
        Err(_) => Ok(None),
    }
}

fn missing(error: &impl ToString) -> NvmlError {
    NvmlError::FailedToLoadSymbol(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_reserve_is_nobodys_memory() {
        let info = MemoryInfo { free: 60, reserved: 10, total: 100, used: 30, version: 2 };
        assert_eq!(totals(&info), (Some(Bytes(90)), Some(Bytes(30))));
        let impossible = MemoryInfo { reserved: 101, ..info };
        assert_eq!(totals(&impossible).0, None);
    }

    #[test]
    fn a_lost_card_is_no_unknown_number() {
        assert_eq!(known(Err::<(), _>(NvmlError::GpuLost)), Err(Lost));
        assert_eq!(known(Err::<(), _>(NvmlError::NoPermission)), Ok(None));
    }
}
