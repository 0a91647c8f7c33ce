//! A tensor's memory: where it is, how much, and who frees it.

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyType};

use super::trial;
use crate::foreign::{Holding, Memory};
use crate::object::{get, word};

/// How a tensor's memory is asked for its owners, and for its place.
pub(super) struct StorageGetters<'py> {
    pub(super) of_tensor: Bound<'py, PyAny>,
    address: Bound<'py, PyAny>,
    /// Not every torch can count; it has places all the same.
    pub(super) use_count: Option<Bound<'py, PyAny>>,
    /// The tensor must not be asked: its class may answer for it, in Python.
    device: Bound<'py, PyAny>,
    device_type: Bound<'py, PyAny>,
    is_lazy_copy: Option<Bound<'py, PyAny>>,
    resizable: Bound<'py, PyAny>,
    data: Bound<'py, PyAny>,
    bytes: Bound<'py, PyAny>,
    /// References to a storage's Python object that nobody but we explains; known by trying.
    pub(super) own_references: u64,
    /// What frees memory that torch's own allocator gave; known by trying, `None` where a trial failed.
    pub(super) own_deleter: Option<usize>,
}

/// An error is an answer: there is none. But for `MemoryError`, after which there may well be one.
fn answer<T>(py: Python<'_>, result: PyResult<T>) -> PyResult<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_instance_of::<PyMemoryError>(py) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Where a storage keeps its memory, its deleter, and the argument for that, in words from its start:
/// after the table of virtual functions and the reference counts.
const MEMORY_WORD: isize = 2;
const DELETER_WORD: isize = 3;
const CONTEXT_WORD: isize = 4;

impl<'py> StorageGetters<'py> {
    pub(super) fn find(module: &Bound<'py, PyAny>, class: &Bound<'py, PyType>) -> PyResult<Self> {
        let storage = module.getattr("StorageBase")?;
        Ok(Self {
            of_tensor: class.getattr("untyped_storage")?,
            address: storage.getattr("_cdata")?,
            use_count: module.getattr("_storage_Use_Count").ok(),
            device: storage.getattr("device")?,
            device_type: module.getattr("device")?.getattr("type")?,
            is_lazy_copy: module.getattr("_is_cow_tensor").ok(),
            resizable: storage.getattr("resizable")?,
            data: storage.getattr("data_ptr")?,
            bytes: storage.getattr("nbytes")?,
            own_references: 1,
            own_deleter: None,
        })
    }

    /// The address of the storage's C++ object.
    pub(super) fn object(&self, storage: &Bound<'py, PyAny>) -> Option<usize> {
        get(&self.address, storage)?.extract().ok()
    }

    pub(super) fn owners(&self, tensor: &Bound<'py, PyAny>) -> Option<u64> {
        let storage = self.of_tensor.call1((tensor,)).ok()?;
        self.use_count.as_ref()?.call1((self.object(&storage)?,)).ok()?.extract().ok()
    }

    /// Device and memory of a tensor on any device that has memory; `None` for one that has none.
    ///
    /// # Errors
    /// `MemoryError`: then it may well have memory.
    pub(super) fn place_of(
        &self,
        tensor: &Bound<'py, PyAny>,
    ) -> PyResult<Option<(String, Memory)>> {
        let py = tensor.py();
        if let Some(is_lazy_copy) = &self.is_lazy_copy {
            let is_lazy = answer(py, is_lazy_copy.call1((tensor,)))?;
            if is_lazy.is_none_or(|lazy| lazy.is_truthy().unwrap_or(true)) {
                return Ok(None);
            }
        }
        let Some(storage) = answer(py, self.of_tensor.call1((tensor,)))? else { return Ok(None) };
        let unanswered = || PyMemoryError::new_err("a storage could not be asked for its device");
        let device = get(&self.device, &storage).ok_or_else(unanswered)?;
        // A fake tensor is there too: asked for its address, torch warns, which runs Python code.
        if self.kind(&device).ok_or_else(unanswered)? == "meta" {
            return Ok(None);
        }
        let Some(address) = answer(py, self.data.call1((&storage,)))? else { return Ok(None) };
        let (address, bytes) = (address.extract()?, self.bytes.call1((&storage,))?.extract()?);
        let memory = (address != 0).then_some(Memory { address, bytes, start: address });
        let name = device.str()?.to_str()?.to_owned();
        Ok(memory.map(|memory| (name, memory)))
    }

    pub(super) fn owns_memory(&self, tensor: &Bound<'py, PyAny>) -> Option<bool> {
        let storage = self.of_tensor.call1((tensor,)).ok()?;
        let memory = self.place(&storage)?;
        self.is_own(&storage, memory.address, self.is_on_cpu(&storage)?)
    }

    /// Memory of a tensor in RAM.
    pub(super) fn memory(&self, tensor: &Bound<'py, PyAny>) -> Option<Holding> {
        let storage = self.of_tensor.call1((tensor,)).ok()?;
        if !self.is_on_cpu(&storage)? || self.is_lazy(tensor)? {
            return None;
        }
        let memory = self.place(&storage)?;
        // What torch did not allocate is left alone: files, and arrays whose owner no walk sees.
        let own = self.is_own(&storage, memory.address, true)?;
        Some(if own { Holding::Own(memory) } else { Holding::Foreign(memory) })
    }

    /// Asking a lazy copy for its address would make the copy.
    fn is_lazy(&self, tensor: &Bound<'py, PyAny>) -> Option<bool> {
        match &self.is_lazy_copy {
            Some(is_lazy_copy) => is_lazy_copy.call1((tensor,)).ok()?.is_truthy().ok(),
            None => Some(false),
        }
    }

    fn is_on_cpu(&self, storage: &Bound<'py, PyAny>) -> Option<bool> {
        Some(self.kind(&get(&self.device, storage)?)? == "cpu")
    }

    fn kind(&self, device: &Bound<'py, PyAny>) -> Option<String> {
        get(&self.device_type, device)?.extract().ok()
    }

    fn place(&self, storage: &Bound<'py, PyAny>) -> Option<Memory> {
        let number = |getter: &Bound<'py, PyAny>| getter.call1((storage,)).ok()?.extract().ok();
        let address: usize = number(&self.data)?;
        (address != 0).then_some(Memory { address, bytes: number(&self.bytes)?, start: address })
    }

    fn is_own(&self, storage: &Bound<'py, PyAny>, address: usize, on_cpu: bool) -> Option<bool> {
        match self.own_deleter {
            Some(own) if on_cpu => Some(self.deleter(storage, address)? == own),
            // A tensor that was ever shown as an array is not resizable either.
            _ => self.resizable.call1((storage,)).ok()?.is_truthy().ok(),
        }
    }

    /// What frees the storage's memory, if it is given that memory itself, as `free` would be.
    fn deleter(&self, storage: &Bound<'py, PyAny>, address: usize) -> Option<usize> {
        let object = self.object(storage)?;
        // SAFETY: the C++ object behind a live storage has more words than these.
        let word = |at| unsafe { word(object, at) };
        let plain = word(MEMORY_WORD) == address && word(CONTEXT_WORD) == address;
        Some(if plain { word(DELETER_WORD) } else { 0 })
    }

    /// The deleter of memory that torch allocates, if the words that name it are where they were.
    pub(super) fn try_deleter(&self, torch: &Bound<'py, PyAny>) -> PyResult<Option<usize>> {
        let py = torch.py();
        let ask = |tensor: &Bound<'py, PyAny>| -> PyResult<Option<usize>> {
            let storage = self.of_tensor.call1((tensor,))?;
            Ok(self.deleter(&storage, self.data.call1((&storage,))?.extract()?))
        };
        let mut own = Vec::new();
        for elements in [1, 4099] {
            own.push(ask(&trial(torch, elements)?)?);
        }
        // Memory of somebody else.
        let options = PyDict::new(py);
        options.set_item("dtype", torch.getattr("uint8")?)?;
        let borrowed =
            torch.getattr("frombuffer")?.call((PyByteArray::new(py, &[0; 64]),), Some(&options))?;
        let foreign = ask(&borrowed)?;
        Ok(own[0].filter(|first| *first != 0 && own[1] == own[0] && foreign != own[0]))
    }
}
