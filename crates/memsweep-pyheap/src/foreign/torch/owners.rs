//! Who has a tensor or its memory beside Python: torch's use counts, and what they mean.

use pyo3::prelude::*;

use super::{Tensors, trial};
use crate::object::references;

/// How torch counts a tensor's owners, found by trying: torch has changed it, and may again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counting {
    /// The use counts of tensors and of storages rise with each owner in C++. Otherwise nobody knows
    /// who uses a tensor, and its memory is left alone.
    pub(super) owners_show: bool,
    /// C++ owners together hold one Python reference (torch 2.10 on).
    owners_hold_a_reference: bool,
}

/// Who has a tensor beside Python.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorUse {
    /// Owners in C++ other than the Python object. `None` where torch's count does not show them.
    pub(crate) owners: Option<u64>,
    /// They hold a Python reference together.
    pub(crate) hold_a_reference: bool,
}

/// A storage's C++ object, and who else has it.
pub(crate) struct StorageUse {
    pub(crate) address: usize,
    /// Owners in C++ other than the tensors that were met.
    pub(crate) strangers: u64,
    /// The storage's Python object.
    pub(crate) object: usize,
    /// References to that object other than ours.
    pub(crate) references: u64,
}

impl<'py> Tensors<'py> {
    /// Makes a tensor, an owner of it in C++ and one of its memory, and looks which counts grow.
    pub(super) fn try_counting(&self, torch: &Bound<'py, PyAny>) -> PyResult<Counting> {
        let tensor = trial(torch, 1)?;
        let (python, alone) = (references(&tensor), self.uses(&tensor));
        // A capsule for other libraries holds the tensor in C++ only. A view would do the same, but not
        // in inference mode, in which ComfyUI runs its nodes.
        let owner = torch.getattr("_C")?.getattr("_to_dlpack")?.call1((&tensor,))?;
        let (python_then, together) = (references(&tensor), self.uses(&tensor));
        drop(owner);
        let of_storage = |tensor| self.storages.as_ref()?.owners(tensor);
        let view = tensor.call_method1("view", (1,))?;
        let of_both = of_storage(&tensor);
        drop(view);
        let of_one = of_storage(&tensor);
        Ok(Counting {
            owners_show: alone == Some(1)
                && together == Some(2)
                && of_both.is_some()
                && of_both == of_one.map(|count| count + 1),
            owners_hold_a_reference: python.is_some()
                && python_then == python.map(|count| count + 1),
        })
    }

    /// How many references a storage's Python object has while we hold one.
    pub(super) fn try_storage_references(&self, torch: &Bound<'py, PyAny>) -> Option<u64> {
        // The tensor lives meanwhile: its storage has a reference for it.
        let tensor = trial(torch, 1).ok()?;
        references(&self.storages.as_ref()?.of_tensor.call1((&tensor,)).ok()?)
    }

    fn uses(&self, tensor: &Bound<'py, PyAny>) -> Option<u64> {
        self.use_count.call1((tensor,)).ok()?.extract().ok()
    }

    /// Who has a tensor beside Python.
    pub(crate) fn owners(&self, tensor: &Bound<'py, PyAny>) -> TensorUse {
        let owners = if self.counting.owners_show {
            self.uses(tensor).map(|count| count.saturating_sub(1))
        } else {
            None
        };
        TensorUse { owners, hold_a_reference: self.counting.owners_hold_a_reference }
    }

    /// The C++ object behind a tensor's memory, and who has it beside `known` tensors. `None` where
    /// there is none, or torch's count does not show it.
    pub(crate) fn storage(&self, tensor: &Bound<'py, PyAny>, known: u64) -> Option<StorageUse> {
        let storages = self.storages.as_ref()?;
        let storage = storages.of_tensor.call1((tensor,)).ok()?;
        let address = storages.object(&storage)?;
        let owners = storages.use_count.as_ref()?.call1((address,)).ok()?.extract::<u64>().ok()?;
        Some(StorageUse {
            address,
            // Torch has one Python object for each storage, which we hold just now.
            strangers: owners.saturating_sub(known + 1),
            object: storage.as_ptr() as usize,
            references: references(&storage)?.saturating_sub(storages.own_references),
        })
    }
}
