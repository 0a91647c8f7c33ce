//! How much of a card each process uses, from the driver's lists of processes.

use memsweep_core::bytes::Bytes;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

/// One process on one device, or on one slice of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pid: u32,
    slice: (Option<u32>, Option<u32>),
    used: Option<u64>,
}

impl From<&ProcessInfo> for Share {
    fn from(info: &ProcessInfo) -> Self {
        let used = match info.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            // Always so under Windows' display driver model.
            UsedGpuMemory::Unavailable => None,
        };
        Self { pid: info.pid, slice: (info.gpu_instance_id, info.compute_instance_id), used }
    }
}

/// Our bytes, and those of all other processes. A list is `None` where the driver did not give it:
/// we may still be in the other one, but what others use is unknown then.
///
/// Both are unknown when we are in no list, because a driver does not list every process in every
/// mode. Both are also unknown when `own_pid` is: the process listed under our id may then be
/// another one.
pub(super) fn split(
    compute: Option<&[Share]>,
    graphics: Option<&[Share]>,
    own_pid: Option<u32>,
) -> (Option<Bytes>, Option<Bytes>) {
    let complete = compute.is_some() && graphics.is_some();
    // A process that both computes and draws is listed twice with the same bytes.
    let mut distinct: Vec<Share> = Vec::new();
    for share in compute.into_iter().chain(graphics).flatten() {
        if !distinct.iter().any(|seen| seen.pid == share.pid && seen.slice == share.slice) {
            distinct.push(*share);
        }
    }
    if !distinct.iter().any(|share| Some(share.pid) == own_pid) {
        return (None, None);
    }
    let (own, others): (Vec<Share>, Vec<Share>) =
        distinct.into_iter().partition(|share| Some(share.pid) == own_pid);
    (sum(&own), sum(&others).filter(|_| complete))
}

fn sum(shares: &[Share]) -> Option<Bytes> {
    shares.iter().map(|share| share.used.map(Bytes)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(pid: u32, used: Option<u64>) -> Share {
        Share { pid, slice: (None, None), used }
    }

    #[test]
    fn our_share_is_known_only_when_we_are_listed() {
        for (shares, own, others) in [
            (vec![], None, None),
            (vec![share(7, Some(5))], None, None),
            (vec![share(1, Some(5))], Some(5), Some(0)),
            (vec![share(1, Some(5)), share(7, Some(2)), share(8, Some(3))], Some(5), Some(5)),
            (vec![share(1, None), share(7, Some(2))], None, Some(2)),
            (vec![share(1, Some(5)), share(7, None), share(8, Some(3))], Some(5), None),
        ] {
            let answer = split(Some(&shares), Some(&[]), Some(1));
            assert_eq!(answer, (own.map(Bytes), others.map(Bytes)), "{shares:?}");
        }
    }

    #[test]
    fn a_process_that_computes_and_draws_counts_once() {
        let compute = [share(1, Some(5)), share(7, Some(2))];
        let answer = split(Some(&compute), Some(&[share(1, Some(5))]), Some(1));
        assert_eq!(answer, (Some(Bytes(5)), Some(Bytes(2))));
    }

    #[test]
    fn a_list_that_the_driver_did_not_give_is_not_an_empty_one() {
        let ours = [share(1, Some(5)), share(7, Some(2))];
        assert_eq!(split(Some(&ours), None, Some(1)), (Some(Bytes(5)), None));
        assert_eq!(split(None, Some(&ours), Some(1)), (Some(Bytes(5)), None));
        assert_eq!(split(None, Some(&[]), Some(1)), (None, None));
        assert_eq!(split(None, None, Some(1)), (None, None));
    }

    #[test]
    fn nobody_is_us_while_our_own_number_is_unknown() {
        assert_eq!(split(Some(&[share(1, Some(5))]), Some(&[]), None), (None, None));
    }

    #[test]
    fn slices_of_one_device_add_up() {
        let slice = |instance, compute| Share {
            pid: 1,
            slice: (Some(instance), Some(compute)),
            used: Some(4),
        };
        let shares = [slice(1, 0), slice(2, 0), slice(2, 1)];
        assert_eq!(split(Some(&shares), Some(&[]), Some(1)).0, Some(Bytes(12)));
    }
}
