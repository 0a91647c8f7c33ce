//! The three things that a reading asks about each card, in as few calls as possible.
//!
//! The wrapper makes two calls for a list, the first for its length, and does not know the older
//! call for memory. Everything else is used as the wrapper offers it.

use std::mem;
use std::os::raw::c_uint;

use memsweep_core::bytes::Bytes;
use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::struct_wrappers::device::{MemoryInfo, ProcessInfo};

use super::shares::Share;

/// The card fell off the bus or was unplugged: nothing that was known about it is true any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// Total and used bytes, where the driver reports them.
pub(super) fn memory(card: &Device<'_>) -> Result<(Option<Bytes>, Option<Bytes>), Lost> {
    match card.memory_info() {
        Ok(info) => Ok(totals(&info)),
        // Drivers before 510 have only the older call. It is not made after any other error: it
        // counts the driver's reserve as used, so numbers of the two must not be mixed.
        Err(NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => {
            Ok(known(older_memory(card))?.unwrap_or_default())
        }
        Err(error) => known(Err(error)).map(Option::unwrap_or_default),
    }
}

/// What programs can use, and what they use. The driver's own reserve is in neither, as in CUDA's
/// total, so total minus used is what the driver calls free.
fn totals(info: &MemoryInfo) -> (Option<Bytes>, Option<Bytes>) {
    (info.total.checked_sub(info.reserved).map(Bytes), Some(Bytes(info.used)))
}

/// Here the driver's reserve is in both, so total minus used is what it calls free here too.
fn older_memory(card: &Device<'_>) -> Result<(Option<Bytes>, Option<Bytes>), NvmlError> {
    let call = card.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref().map_err(missing)?;
    // SAFETY: three integers, of which any bytes are a value; the type is the call's own.
    let mut info = unsafe { mem::zeroed() };
    // SAFETY: the handle belongs to this library, which is never closed, and the driver writes one
    // structure of the type in its signature.
    nvml_try(unsafe { call(card.handle(), &mut info) })?;
    Ok((Some(Bytes(info.total)), Some(Bytes(info.used))))
}

/// The processes that compute. `None` when the driver does not list them, which is not "none".
pub(super) fn computing(card: &Device<'_>) -> Result<Option<Vec<Share>>, Lost> {
    let library = card.nvml().lib();
    let Ok(call) = &library.nvmlDeviceGetComputeRunningProcesses_v3 else { return Ok(None) };
    // SAFETY: the handle belongs to this library, which is never closed, and the driver writes at
    // most `count` entries, as `listed` requires.
    known(listed(|count, entries| unsafe { call(card.handle(), count, entries) }))
}

/// The processes that draw, likewise.
pub(super) fn drawing(card: &Device<'_>) -> Result<Option<Vec<Share>>, Lost> {
    let library = card.nvml().lib();
    let Ok(call) = &library.nvmlDeviceGetGraphicsRunningProcesses_v3 else { return Ok(None) };
    // SAFETY: as in `computing`.
    known(listed(|count, entries| unsafe { call(card.handle(), count, entries) }))
}

/// A list in one call, unless it is longer than expected. `call` fills in at most as many entries
/// as the count it is given, and sets the count to how many there are.
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
            // The count is what would have been needed; more processes may start before the next
            // call.
            Err(NvmlError::InsufficientSize(_)) if room < 16 * 1024 => {
                room = count.max(room).saturating_add(16).saturating_mul(2);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The answer, or `None` for any error but a lost card.
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
