//! torch's tensors and storages, asked by their C getters.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyString, PyType};

use super::{Edge, Holding, Memory};
use crate::object::{get, references, word};
use crate::table::OutOfMemory;

pub(crate) struct Tensors<'py> {
    class: Bound<'py, PyType>,
    gradient: Bound<'py, PyAny>,
    base: Bound<'py, PyAny>,
    is_leaf: Bound<'py, PyAny>,
    retains_gradient: Bound<'py, PyAny>,
    use_count: Bound<'py, PyAny>,
    quiet: Option<Bound<'py, PyAny>>,
    storages: Option<Storages<'py>>,
    counting: Counting,
}

/// How torch counts a tensor's owners, found by trying: torch changed it, and may again.
#[derive(Debug, Clone, Copy, Default)]
struct Counting {
    /// The use counts of tensors and of storages rise with each owner in C++. Otherwise nobody knows
    /// who uses a tensor, and its memory is left alone.
    owners_show: bool,
    /// C++ owners together hold one Python reference (torch 2.10 on).
    owners_hold_a_reference: bool,
}

/// How a tensor's memory is asked for its owners, and for its place.
struct Storages<'py> {
    of_tensor: Bound<'py, PyAny>,
    address: Bound<'py, PyAny>,
    use_count: Bound<'py, PyAny>,
    /// A tensor must not be asked: its class may answer for it, in Python.
    device: Bound<'py, PyAny>,
    device_type: Bound<'py, PyAny>,
    is_lazy_copy: Option<Bound<'py, PyAny>>,
    resizable: Bound<'py, PyAny>,
    data: Bound<'py, PyAny>,
    bytes: Bound<'py, PyAny>,
    /// References to a storage's Python object that nobody but we explains; known by trying.
    own_references: u64,
    /// What frees memory that torch's own allocator gave; known by trying, `None` where a trial failed.
    own_deleter: Option<usize>,
}

/// Where a storage keeps its memory, its deleter, and what it passes to that, in words from
/// its start: after the table of virtual functions and the reference counts.
const MEMORY_WORD: isize = 2;
const DELETER_WORD: isize = 3;
const CONTEXT_WORD: isize = 4;

/// Who has a tensor beside Python.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorUse {
    /// Owners in C++, the Python object aside. `None` where torch does not tell.
    pub(crate) owners: Option<u64>,
    /// They hold a Python reference together.
    pub(crate) hold_a_reference: bool,
}

/// A storage's C++ object, and who else has it.
pub(crate) struct StorageUse {
    pub(crate) address: usize,
    /// Owners in C++ beside the tensors that were met.
    pub(crate) strangers: u64,
    /// The storage's Python object.
    pub(crate) object: usize,
    /// References to that object beside ours.
    pub(crate) references: u64,
}

/// Ends the guard's scope when dropped.
pub(crate) struct Quiet<'py>(Bound<'py, PyAny>);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let py = self.0.py();
        // Nothing can be done about a guard that does not close, and it holds no memory.
        drop(self.0.call_method1("__exit__", (py.None(), py.None(), py.None())));
    }
}

impl<'py> Tensors<'py> {
    pub(super) fn find(modules: &Bound<'py, PyDict>) -> PyResult<Option<Self>> {
        let Some(module) = modules.get_item("torch._C")? else {
            return Ok(None);
        };
        // Some tests put a stand-in for torch among the modules, which has no tensors.
        let Ok(class) = module.getattr("TensorBase")?.cast_into::<PyType>() else {
            return Ok(None);
        };
        Ok(Some(Self {
            gradient: class.getattr("grad")?,
            base: class.getattr("_base")?,
            is_leaf: class.getattr("is_leaf")?,
            retains_gradient: class.getattr("retains_grad")?,
            use_count: class.getattr("_use_count")?,
            // The first also keeps modes out, such as a default device's; not every torch has it.
            quiet: module
                .getattr("DisableTorchFunction")
                .or_else(|_| module.getattr("DisableTorchFunctionSubclass"))
                .ok(),
            storages: Storages::find(&module, &class).ok(),
            counting: Counting::default(),
            class,
        }))
    }

    pub(super) fn class(&self) -> usize {
        self.class.as_ptr() as usize
    }

    /// The class that has the C getters.
    pub(crate) fn type_object(&self) -> &Bound<'py, PyType> {
        &self.class
    }

    pub(super) fn quiet(&self) -> Option<Quiet<'py>> {
        let guard = self.quiet.as_ref()?.call0().ok()?;
        guard.call_method0("__enter__").ok()?;
        Some(Quiet(guard))
    }

    /// Tries all that is assumed about counts and memory on tensors of our own.
    pub(super) fn try_owners(&mut self, modules: &Bound<'py, PyDict>) {
        let Some(torch) = modules.get_item("torch").ok().flatten() else { return };
        self.counting = self.try_counting(&torch).unwrap_or_default();
        let own_references = self.try_storage_references(&torch).unwrap_or(1);
        if let Some(storages) = &mut self.storages {
            storages.own_references = own_references;
            storages.own_deleter = storages.try_deleter(&torch).ok().flatten();
        }
    }

    /// Makes a tensor, an owner of it in C++ and one of its memory, and looks which counts grow.
    fn try_counting(&self, torch: &Bound<'py, PyAny>) -> PyResult<Counting> {
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
    fn try_storage_references(&self, torch: &Bound<'py, PyAny>) -> Option<u64> {
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

    /// The C++ object behind a tensor's memory, and who has it beside `known` tensors. `None`
    /// where there is none, or torch does not tell.
    pub(crate) fn storage(&self, tensor: &Bound<'py, PyAny>, known: u64) -> Option<StorageUse> {
        let storages = self.storages.as_ref()?;
        let storage = storages.of_tensor.call1((tensor,)).ok()?;
        let address = get(&storages.address, &storage)?.extract::<usize>().ok()?;
        let owners = storages.use_count.call1((address,)).ok()?.extract::<u64>().ok()?;
        Some(StorageUse {
            address,
            // Torch has one Python object for each storage, which we hold just now.
            strangers: owners.saturating_sub(known + 1),
            object: storage.as_ptr() as usize,
            references: references(&storage)?.saturating_sub(storages.own_references),
        })
    }

    /// The tensor that a view shows.
    pub(crate) fn shown_by(&self, view: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        get(&self.base, view).filter(|base| !base.is_none())
    }

    /// Device and memory of a tensor on any device. `None` for one without memory of its own.
    pub(crate) fn place(&self, tensor: &Bound<'py, PyAny>) -> Option<(String, Memory)> {
        let storages = self.storages.as_ref()?;
        if storages.is_lazy(tensor)? {
            return None;
        }
        let storage = storages.of_tensor.call1((tensor,)).ok()?;
        let memory = storages.place(&storage)?;
        Some((get(&storages.device, &storage)?.str().ok()?.to_string(), memory))
    }

    /// Whether torch allocated the tensor's memory and alone frees it.
    pub(crate) fn owns_memory(&self, tensor: &Bound<'py, PyAny>) -> Option<bool> {
        let storages = self.storages.as_ref()?;
        let storage = storages.of_tensor.call1((tensor,)).ok()?;
        let memory = storages.place(&storage)?;
        storages.is_own(&storage, memory.address, storages.is_on_cpu(&storage)?)
    }

    pub(super) fn memory(&self, tensor: &Bound<'py, PyAny>) -> Option<Holding> {
        if !self.counting.owners_show {
            return None;
        }
        self.storages.as_ref()?.memory(tensor)
    }

    pub(super) fn edges(
        &self,
        owner: &Bound<'py, PyAny>,
        each: &mut dyn FnMut(Edge<'py>) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        if let Some(base) = self.shown_by(owner) {
            each(Edge::Silent(base))?;
        }
        // The gradient of an inner node of the graph is asked for only where one was kept: else torch warns.
        let yes =
            |getter| get(getter, owner).is_some_and(|value| value.is_truthy().unwrap_or(false));
        if (yes(&self.is_leaf) || yes(&self.retains_gradient))
            && let Some(gradient) = get(&self.gradient, owner).filter(|value| !value.is_none())
        {
            each(Edge::Silent(gradient))?;
        }
        Ok(())
    }
}

/// A tensor to try things on. Its device is named: a default device must not be touched by looking.
fn trial<'py>(torch: &Bound<'py, PyAny>, elements: usize) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(torch.py());
    options.set_item("device", "cpu")?;
    torch.getattr("empty")?.call((elements,), Some(&options))
}

impl<'py> Storages<'py> {
    fn find(module: &Bound<'py, PyAny>, class: &Bound<'py, PyType>) -> PyResult<Self> {
        let storage = module.getattr("StorageBase")?;
        Ok(Self {
            of_tensor: class.getattr("untyped_storage")?,
            address: storage.getattr("_cdata")?,
            use_count: module.getattr("_storage_Use_Count")?,
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

    fn owners(&self, tensor: &Bound<'py, PyAny>) -> Option<u64> {
        let storage = self.of_tensor.call1((tensor,)).ok()?;
        let address = get(&self.address, &storage)?.extract::<usize>().ok()?;
        self.use_count.call1((address,)).ok()?.extract().ok()
    }

    /// Asking a lazy copy for its address would make the copy.
    fn is_lazy(&self, tensor: &Bound<'py, PyAny>) -> Option<bool> {
        match &self.is_lazy_copy {
            Some(is_lazy_copy) => is_lazy_copy.call1((tensor,)).ok()?.is_truthy().ok(),
            None => Some(false),
        }
    }

    fn is_on_cpu(&self, storage: &Bound<'py, PyAny>) -> Option<bool> {
        let kind = get(&self.device_type, &get(&self.device, storage)?)?;
        Some(kind.cast::<PyString>().ok()?.to_str().ok()? == "cpu")
    }

    fn place(&self, storage: &Bound<'py, PyAny>) -> Option<Memory> {
        let number = |getter: &Bound<'py, PyAny>| getter.call1((storage,)).ok()?.extract().ok();
        let address: usize = number(&self.data)?;
        (address != 0).then_some(Memory { address, bytes: number(&self.bytes)?, start: address })
    }

    fn memory(&self, tensor: &Bound<'py, PyAny>) -> Option<Holding> {
        let storage = self.of_tensor.call1((tensor,)).ok()?;
        if !self.is_on_cpu(&storage)? || self.is_lazy(tensor)? {
            return None;
        }
        let memory = self.place(&storage)?;
        // What torch did not allocate is left alone: files, and arrays whose owner no walk sees.
        let own = self.is_own(&storage, memory.address, true)?;
        Some(if own { Holding::Own(memory) } else { Holding::Foreign(memory) })
    }

    fn is_own(&self, storage: &Bound<'py, PyAny>, address: usize, on_cpu: bool) -> Option<bool> {
        match self.own_deleter {
            Some(own) if on_cpu => Some(self.deleter(storage, address)? == own),
            // A tensor that was ever shown as an array is not resizable either.
            _ => self.resizable.call1((storage,)).ok()?.is_truthy().ok(),
        }
    }

    /// What frees the storage's memory, if it is handed that memory itself, as `free` would be.
    fn deleter(&self, storage: &Bound<'py, PyAny>, address: usize) -> Option<usize> {
        let object = get(&self.address, storage)?.extract::<usize>().ok()?;
        // SAFETY: the C++ object behind a live storage has more words than these.
        let word = |at| unsafe { word(object, at) };
        let plain = word(MEMORY_WORD) == address && word(CONTEXT_WORD) == address;
        Some(if plain { word(DELETER_WORD) } else { 0 })
    }

    /// The deleter of memory that torch allocates, if the words that say it are where they were.
    fn try_deleter(&self, torch: &Bound<'py, PyAny>) -> PyResult<Option<usize>> {
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
