//! References that `tp_traverse` does not report: gradients and bases of tensors, bases and elements of arrays.
//!
//! torch and numpy are never imported here; when they are loaded, their C-level getters are called
//! after the walk. A getter that fails is an edge less, never an error.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyType};

use crate::kinds::Foreign;
use crate::object::{get, is_subtype, references, type_of, word};
use crate::table::OutOfMemory;

/// What stands behind an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The owner holds one Python reference.
    Reference,
    /// The owner holds the C++ object only.
    Silent,
}

struct Tensors<'py> {
    class: Bound<'py, PyType>,
    gradient: Bound<'py, PyAny>,
    base: Bound<'py, PyAny>,
    is_leaf: Bound<'py, PyAny>,
    retains_gradient: Bound<'py, PyAny>,
    use_count: Bound<'py, PyAny>,
    quiet: Option<Bound<'py, PyAny>>,
    storages: Option<Storages<'py>>,
    /// C++ owners together hold one Python reference; known by trying, torch changed it.
    owners_hold_a_reference: bool,
}

/// How a tensor's memory is asked for its owners, and for its place.
struct Storages<'py> {
    of_tensor: Bound<'py, PyAny>,
    address: Bound<'py, PyAny>,
    use_count: Bound<'py, PyAny>,
    on_cpu: Bound<'py, PyAny>,
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

/// Memory that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Its first byte.
    pub address: usize,
    /// Its length.
    pub bytes: usize,
    /// Where the allocation begins that it lies in.
    pub start: usize,
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

struct Arrays<'py> {
    class: Bound<'py, PyType>,
    base: Bound<'py, PyAny>,
    dtype: Bound<'py, PyAny>,
    dimensions: Bound<'py, PyAny>,
    flags: Bound<'py, PyAny>,
    interface: Bound<'py, PyAny>,
    bytes: Bound<'py, PyAny>,
    to_list: Bound<'py, PyAny>,
}

/// The getters of the loaded libraries.
pub(crate) struct Getters<'py> {
    tensors: Option<Tensors<'py>>,
    arrays: Option<Arrays<'py>>,
}

impl<'py> Getters<'py> {
    /// Looks for the libraries among the loaded modules.
    pub(crate) fn find(modules: &Bound<'py, PyDict>) -> Self {
        Self {
            tensors: Tensors::find(modules).ok().flatten(),
            arrays: Arrays::find(modules).ok().flatten(),
        }
    }

    /// Finds out how torch counts its C++ owners, for those who look at reference counts.
    pub(crate) fn try_owners(&mut self, modules: &Bound<'py, PyDict>) {
        let _quiet = self.quiet();
        if let Some(tensors) = &mut self.tensors {
            let tried = tensors.try_owners(modules).unwrap_or((false, 1));
            tensors.owners_hold_a_reference = tried.0;
            let torch = modules.get_item("torch").ok().flatten();
            if let Some(storages) = &mut tensors.storages {
                storages.own_references = tried.1;
                storages.own_deleter =
                    torch.and_then(|torch| storages.try_deleter(&torch).ok().flatten());
            }
        }
    }

    pub(crate) fn tensor_type(&self) -> Option<usize> {
        self.tensors.as_ref().map(|tensors| tensors.class.as_ptr() as usize)
    }

    pub(crate) fn array_type(&self) -> Option<usize> {
        self.arrays.as_ref().map(|arrays| arrays.class.as_ptr() as usize)
    }

    /// While this is alive, getters do not call into Python subclasses of tensors.
    pub(crate) fn quiet(&self) -> Option<Quiet<'py>> {
        let class = self.tensors.as_ref()?.quiet.as_ref()?;
        let guard = class.call0().ok()?;
        guard.call_method0("__enter__").ok()?;
        Some(Quiet(guard))
    }

    /// Adds what the owner holds beside what its traversal reports.
    pub(crate) fn edges(
        &self,
        owner: &Bound<'py, PyAny>,
        foreign: Foreign,
        found: &mut Vec<(Bound<'py, PyAny>, Edge)>,
    ) -> Result<(), OutOfMemory> {
        match (foreign, &self.tensors, &self.arrays) {
            (Foreign::Tensor, Some(tensors), _) => tensors.edges(owner, found),
            (Foreign::Array, _, Some(arrays)) => arrays.edges(owner, found),
            _ => Ok(()),
        }
    }

    /// The C++ object behind a tensor's memory, and who has it beside `known` tensors. `None`
    /// where there is none, or torch does not tell.
    pub(crate) fn storage(&self, tensor: &Bound<'py, PyAny>, known: u64) -> Option<StorageUse> {
        let storages = self.tensors.as_ref()?.storages.as_ref()?;
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

    /// The memory that an object owns alone, whatever views there are of it. `None` for what owns
    /// none, and for what cannot be asked without running Python code.
    ///
    /// Asks C getters only: the interpreter lock is not given up between a walk and this.
    pub(crate) fn memory(&self, object: &Bound<'py, PyAny>) -> Option<Memory> {
        // SAFETY: a bound object is alive, and so is its type.
        let class = unsafe { type_of(object.as_ptr() as usize) };
        // SAFETY: both are live types.
        let is = |base: Option<usize>| base.is_some_and(|base| unsafe { is_subtype(class, base) });
        if is(self.tensor_type()) {
            self.tensors.as_ref()?.storages.as_ref()?.memory(object)
        } else if is(self.array_type()) {
            self.arrays.as_ref()?.memory(object)
        } else {
            plain_memory(object)
        }
    }

    /// Whether `known` C++ owners are all there are, and together hold a Python reference.
    pub(crate) fn owners_explain_a_reference(
        &self,
        tensor: &Bound<'py, PyAny>,
        known: u64,
    ) -> bool {
        let Some(tensors) = &self.tensors else {
            return false;
        };
        tensors.owners_hold_a_reference
            && tensors
                .use_count
                .call1((tensor,))
                .and_then(|count| count.extract::<u64>())
                .is_ok_and(|count| count == known + 1)
    }
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
    fn find(modules: &Bound<'py, PyDict>) -> PyResult<Option<Self>> {
        let Some(module) = modules.get_item("torch._C")? else {
            return Ok(None);
        };
        let class = module.getattr("TensorBase")?.cast_into::<PyType>()?;
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
            owners_hold_a_reference: false,
            class,
        }))
    }

    /// Makes a tensor and a view of it, and looks whether the tensor's reference count grew; and how
    /// many references its storage's object has while we hold one.
    fn try_owners(&self, modules: &Bound<'py, PyDict>) -> PyResult<(bool, u64)> {
        let Some(torch) = modules.get_item("torch")? else {
            return Ok((false, 1));
        };
        // Named explicitly: a default device must not be touched by looking.
        let options = PyDict::new(modules.py());
        options.set_item("device", "cpu")?;
        let tensor = torch.getattr("empty")?.call((1,), Some(&options))?;
        let count = |tensor: &Bound<'py, PyAny>| references(tensor).unwrap_or(0);
        let before = count(&tensor);
        let view = tensor.call_method1("view", (1,))?;
        let after = count(&tensor);
        drop(view);
        let of_storage = match &self.storages {
            Some(storages) => count(&storages.of_tensor.call1((&tensor,))?),
            None => 1,
        };
        Ok((after == before + 1, of_storage))
    }

    fn edges(
        &self,
        owner: &Bound<'py, PyAny>,
        found: &mut Vec<(Bound<'py, PyAny>, Edge)>,
    ) -> Result<(), OutOfMemory> {
        found.try_reserve(2)?;
        let mut keep = |value: Option<Bound<'py, PyAny>>| {
            if let Some(value) = value.filter(|value| !value.is_none()) {
                found.push((value, Edge::Silent));
            }
        };
        keep(get(&self.base, owner));
        // The gradient of an inner node of the graph is asked for only where one was kept: else torch warns.
        let yes =
            |getter| get(getter, owner).is_some_and(|value| value.is_truthy().unwrap_or(false));
        if yes(&self.is_leaf) || yes(&self.retains_gradient) {
            keep(get(&self.gradient, owner));
        }
        Ok(())
    }
}

impl<'py> Storages<'py> {
    fn find(module: &Bound<'py, PyAny>, class: &Bound<'py, PyType>) -> PyResult<Self> {
        let storage = module.getattr("StorageBase")?;
        Ok(Self {
            of_tensor: class.getattr("untyped_storage")?,
            address: storage.getattr("_cdata")?,
            use_count: module.getattr("_storage_Use_Count")?,
            on_cpu: class.getattr("is_cpu")?,
            is_lazy_copy: module.getattr("_is_cow_tensor").ok(),
            resizable: storage.getattr("resizable")?,
            data: storage.getattr("data_ptr")?,
            bytes: storage.getattr("nbytes")?,
            own_references: 1,
            own_deleter: None,
        })
    }
}

impl<'py> Storages<'py> {
    fn memory(&self, tensor: &Bound<'py, PyAny>) -> Option<Memory> {
        let says = |value: PyResult<Bound<'py, PyAny>>| value.ok()?.is_truthy().ok();
        if !get(&self.on_cpu, tensor)?.is_truthy().ok()? {
            return None;
        }
        // Asking a lazy copy for its address would make the copy.
        if let Some(is_lazy_copy) = &self.is_lazy_copy
            && says(is_lazy_copy.call1((tensor,)))?
        {
            return None;
        }
        let storage = self.of_tensor.call1((tensor,)).ok()?;
        let number = |getter: &Bound<'py, PyAny>| getter.call1((&storage,)).ok()?.extract().ok();
        let address: usize = number(&self.data)?;
        // What torch did not allocate is left alone: files, and arrays whose owner no walk sees.
        let own = match self.own_deleter {
            Some(own) => self.deleter(&storage, address)? == own,
            // A tensor that was ever shown as an array is not resizable either.
            None => says(self.resizable.call1((&storage,)))?,
        };
        (own && address != 0).then_some(Memory {
            address,
            bytes: number(&self.bytes)?,
            start: address,
        })
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
        let options = PyDict::new(py);
        options.set_item("device", "cpu")?;
        let ask = |tensor: &Bound<'py, PyAny>| -> PyResult<Option<usize>> {
            let storage = self.of_tensor.call1((tensor,))?;
            Ok(self.deleter(&storage, self.data.call1((&storage,))?.extract()?))
        };
        let mut own = Vec::new();
        for elements in [1, 4099] {
            own.push(ask(&torch.getattr("empty")?.call((elements,), Some(&options))?)?);
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

/// The content of `bytes` and `bytearray`.
fn plain_memory(object: &Bound<'_, PyAny>) -> Option<Memory> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let content = bytes.as_bytes();
        let address = content.as_ptr() as usize;
        // The content follows the object's head.
        return Some(Memory { address, bytes: content.len(), start: object.as_ptr() as usize });
    }
    let array = object.cast_exact::<PyByteArray>().ok()?;
    let address = array.data() as usize;
    Some(Memory { address, bytes: array.len(), start: address })
}

impl<'py> Arrays<'py> {
    /// Only arrays of plain numbers: the others' description is made by Python code.
    fn memory(&self, array: &Bound<'py, PyAny>) -> Option<Memory> {
        if !get(&self.base, array)?.is_none() {
            return None;
        }
        let dtype = get(&self.dtype, array)?;
        if dtype.getattr("isbuiltin").ok()?.extract::<i32>().ok()? != 1
            || dtype.getattr("hasobject").ok()?.is_truthy().ok()?
        {
            return None;
        }
        if !get(&self.flags, array)?.getattr("owndata").ok()?.is_truthy().ok()? {
            return None;
        }
        let data = get(&self.interface, array)?.get_item("data").ok()?.get_item(0).ok()?;
        let address = data.extract::<usize>().ok()?;
        let bytes = get(&self.bytes, array)?.extract::<usize>().ok()?;
        Some(Memory { address, bytes, start: address })
    }

    fn find(modules: &Bound<'py, PyDict>) -> PyResult<Option<Self>> {
        let Some(module) = modules.get_item("numpy")? else {
            return Ok(None);
        };
        let class = module.getattr("ndarray")?.cast_into::<PyType>()?;
        Ok(Some(Self {
            base: class.getattr("base")?,
            dtype: class.getattr("dtype")?,
            dimensions: class.getattr("ndim")?,
            flags: class.getattr("flags")?,
            interface: class.getattr("__array_interface__")?,
            bytes: class.getattr("nbytes")?,
            to_list: class.getattr("tolist")?,
            class,
        }))
    }

    fn edges(
        &self,
        owner: &Bound<'py, PyAny>,
        found: &mut Vec<(Bound<'py, PyAny>, Edge)>,
    ) -> Result<(), OutOfMemory> {
        if let Some(base) = get(&self.base, owner).filter(|base| !base.is_none()) {
            found.try_reserve(1)?;
            found.push((base, Edge::Reference));
        }
        let Some(dtype) = get(&self.dtype, owner) else {
            return Ok(());
        };
        let says = |name: &str| dtype.getattr(name).ok();
        if !says("hasobject").is_some_and(|value| value.is_truthy().unwrap_or(false)) {
            return Ok(());
        }
        // A view reads the same elements as its base, which owns them.
        let views = found.iter().any(|(base, _)| base.is_instance(&self.class).unwrap_or(false));
        let plain =
            says("kind").is_some_and(|kind| kind.extract::<String>().is_ok_and(|kind| kind == "O"));
        let edge = if plain && !views { Edge::Reference } else { Edge::Silent };
        let depth = get(&self.dimensions, owner).and_then(|depth| depth.extract::<usize>().ok());
        match (depth, self.to_list.call1((owner,))) {
            (Some(depth), Ok(elements)) => flatten(&elements, depth, edge, found),
            _ => Ok(()),
        }
    }
}

/// Adds the elements of lists nested `depth` deep; the array made exactly so many.
fn flatten<'py>(
    elements: &Bound<'py, PyAny>,
    depth: usize,
    edge: Edge,
    found: &mut Vec<(Bound<'py, PyAny>, Edge)>,
) -> Result<(), OutOfMemory> {
    match elements.cast::<PyList>() {
        Ok(list) if depth > 0 => {
            for element in list {
                flatten(&element, depth - 1, edge, found)?;
            }
            Ok(())
        }
        _ => {
            found.try_reserve(1)?;
            found.push((elements.clone(), edge));
            Ok(())
        }
    }
}
