//! References that `tp_traverse` does not report: gradients and bases of tensors, bases and elements of arrays.
//!
//! torch and numpy are never imported here; when they are loaded, their C-level getters are called
//! after the walk. A getter that fails is an edge less, never an error.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};

use crate::kinds::Foreign;
use crate::object::{get, references};
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

/// How a tensor's memory is asked for its owners.
struct Storages<'py> {
    of_tensor: Bound<'py, PyAny>,
    address: Bound<'py, PyAny>,
    use_count: Bound<'py, PyAny>,
}

struct Arrays<'py> {
    class: Bound<'py, PyType>,
    base: Bound<'py, PyAny>,
    dtype: Bound<'py, PyAny>,
    dimensions: Bound<'py, PyAny>,
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
            tensors.owners_hold_a_reference = Tensors::try_owners(modules).unwrap_or(false);
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

    /// The C++ object behind a tensor's memory, and how many owners it has beside `known`
    /// tensors. `None` where there is none, or torch does not tell.
    pub(crate) fn storage(&self, tensor: &Bound<'py, PyAny>, known: u64) -> Option<(usize, u64)> {
        let storages = self.tensors.as_ref()?.storages.as_ref()?;
        let storage = storages.of_tensor.call1((tensor,)).ok()?;
        let address = get(&storages.address, &storage)?.extract::<usize>().ok()?;
        let owners = storages.use_count.call1((address,)).ok()?.extract::<u64>().ok()?;
        // Torch has one Python object for each storage, which we hold just now.
        Some((address, owners.saturating_sub(known + 1)))
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

    /// Makes a tensor and a view of it, and looks whether the tensor's reference count grew.
    fn try_owners(modules: &Bound<'py, PyDict>) -> PyResult<bool> {
        let Some(torch) = modules.get_item("torch")? else {
            return Ok(false);
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
        Ok(after == before + 1)
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
        Ok(Self {
            of_tensor: class.getattr("untyped_storage")?,
            address: module.getattr("StorageBase")?.getattr("_cdata")?,
            use_count: module.getattr("_storage_Use_Count")?,
        })
    }
}

impl<'py> Arrays<'py> {
    fn find(modules: &Bound<'py, PyDict>) -> PyResult<Option<Self>> {
        let Some(module) = modules.get_item("numpy")? else {
            return Ok(None);
        };
        let class = module.getattr("ndarray")?.cast_into::<PyType>()?;
        Ok(Some(Self {
            base: class.getattr("base")?,
            dtype: class.getattr("dtype")?,
            dimensions: class.getattr("ndim")?,
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
