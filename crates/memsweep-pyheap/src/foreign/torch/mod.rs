//! torch's tensors, asked by their C getters.

mod owners;
mod storages;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use self::owners::Counting;
use self::storages::StorageGetters;
use super::{Edge, Holding, Memory, Target};
use crate::object::get;
use crate::table::OutOfMemory;
use crate::visitor::Via;

/// The getters of tensors, looked up once for a question.
pub(crate) struct Tensors<'py> {
    class: Bound<'py, PyType>,
    gradient: Bound<'py, PyAny>,
    base: Bound<'py, PyAny>,
    is_leaf: Bound<'py, PyAny>,
    retains_gradient: Bound<'py, PyAny>,
    use_count: Bound<'py, PyAny>,
    quiet: Option<Bound<'py, PyAny>>,
    storages: Option<StorageGetters<'py>>,
    counting: Counting,
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
            storages: StorageGetters::find(&module, &class).ok(),
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

    /// Tries out on tensors of our own what is assumed about counts and memory.
    pub(super) fn try_owners(&mut self, modules: &Bound<'py, PyDict>) {
        let Some(torch) = modules.get_item("torch").ok().flatten() else { return };
        self.counting = self.try_counting(&torch).unwrap_or_default();
        let own_references = self.try_storage_references(&torch).unwrap_or(1);
        if let Some(storages) = &mut self.storages {
            storages.own_references = own_references;
            storages.own_deleter = storages.try_deleter(&torch).ok().flatten();
        }
    }

    /// The tensor that a view shows.
    pub(crate) fn shown_by(&self, view: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        get(&self.base, view).filter(|base| !base.is_none())
    }

    /// Device and memory of a tensor on any device. `None` for one without memory of its own.
    ///
    /// # Errors
    /// `RuntimeError` where this torch's storages cannot be asked, `MemoryError`.
    pub(crate) fn place(&self, tensor: &Bound<'py, PyAny>) -> PyResult<Option<(String, Memory)>> {
        match &self.storages {
            Some(storages) => storages.place_of(tensor),
            None => Err(PyRuntimeError::new_err("this torch does not say where tensors lie")),
        }
    }

    /// Whether torch allocated the tensor's memory and alone frees it.
    pub(crate) fn owns_memory(&self, tensor: &Bound<'py, PyAny>) -> Option<bool> {
        self.storages.as_ref()?.owns_memory(tensor)
    }

    /// Whether autograd recorded how the tensor came about. Unknown is no.
    pub(super) fn has_graph(&self, tensor: &Bound<'py, PyAny>) -> bool {
        get(&self.is_leaf, tensor).is_some_and(|leaf| !leaf.is_truthy().unwrap_or(true))
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
            each(Edge { via: Via::View, target: Target::Silent(base) })?;
        }
        // The gradient of an inner node of the graph is asked for only where one was kept: torch warns
        // otherwise.
        let yes =
            |getter| get(getter, owner).is_some_and(|value| value.is_truthy().unwrap_or(false));
        if (yes(&self.is_leaf) || yes(&self.retains_gradient))
            && let Some(gradient) = get(&self.gradient, owner).filter(|value| !value.is_none())
        {
            each(Edge { via: Via::Gradient, target: Target::Silent(gradient) })?;
        }
        Ok(())
    }
}

/// A tensor to try things on. Its device is named, so that a default device is not started.
fn trial<'py>(torch: &Bound<'py, PyAny>, elements: usize) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(torch.py());
    options.set_item("device", "cpu")?;
    torch.getattr("empty")?.call((elements,), Some(&options))
}
