//! What is asked of tensors before they lose their memory, and how they do.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::{Group, Swapped};
use crate::foreign::Tensors;
use crate::object::{get, strong, type_of};
use crate::world::World;

/// Torch would not exchange a tensor, so none of its group was.
pub(super) struct NotSwapped;

/// Looked up before the walk, so that no attribute is looked up in the hold.
pub(super) struct Tools<'py> {
    weak_references: Bound<'py, PyAny>,
    pub(super) swap: Bound<'py, PyAny>,
    shape: Bound<'py, PyAny>,
    dtype: Bound<'py, PyAny>,
    pub(super) make_device: Bound<'py, PyAny>,
    basic_size: Bound<'py, PyAny>,
    /// The function for a tensor's dispatch keys, and the key of classes that compute in Python.
    keys: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
}

impl<'py> Tools<'py> {
    pub(super) fn find(world: &World<'py>, tensors: &Tensors<'py>) -> PyResult<Self> {
        let py = world.py;
        let class = tensors.type_object();
        let type_of_types = py.get_type::<PyType>();
        let module = py.import("torch._C")?;
        let keys = module
            .getattr("_dispatch_keys")
            .and_then(|keys| Ok((keys, module.getattr("DispatchKey")?.getattr("Python")?)));
        Ok(Self {
            weak_references: py.import("_weakref")?.getattr("getweakrefcount")?,
            swap: module.getattr("_swap_tensor_impl")?,
            keys: keys.ok(),
            shape: class.getattr("shape")?,
            dtype: class.getattr("dtype")?,
            make_device: module.getattr("device")?,
            basic_size: type_of_types.getattr("__dict__")?.get_item("__basicsize__")?,
        })
    }

    /// Whether the tensor's class answers in Python: its operations, perhaps its shape and device too.
    pub(super) fn is_answered_in_python(&self, tensor: &Bound<'py, PyAny>) -> Option<bool> {
        let (keys, python) = self.keys.as_ref()?;
        let keys = keys.call1((tensor,)).ok()?;
        keys.call_method1("has", (python,)).ok()?.is_truthy().ok()
    }

    pub(super) fn weak_references(&self, tensor: &Bound<'py, PyAny>) -> Option<usize> {
        self.weak_references.call1((tensor,)).ok()?.extract().ok()
    }

    /// Gives the memory of a group to new tensors: that of all, or of none.
    pub(super) fn take(
        &self,
        number: usize,
        group: &Group<'py>,
        class: &Bound<'py, PyType>,
        swapped: &mut Vec<Swapped<'py>>,
    ) -> Result<(), NotSwapped> {
        let begin = swapped.len();
        for tensor in &group.tensors {
            let done = self.mark(tensor, class).and_then(|mark| {
                self.swap.call1((tensor, &mark)).ok()?;
                Some(mark)
            });
            let Some(mark) = done else {
                for Swapped { tensor, mark, .. } in swapped.drain(begin..).rev() {
                    // The same call with the same two tensors, which has just succeeded.
                    drop(self.swap.call1((&tensor, &mark)));
                }
                return Err(NotSwapped);
            };
            swapped.push(Swapped { group: number, tensor: tensor.clone(), mark });
        }
        Ok(())
    }

    /// A tensor without memory that looks like this one. `None` where the class could not be set.
    fn mark(
        &self,
        tensor: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> Option<Bound<'py, PyAny>> {
        let size =
            |class: &Bound<'py, PyAny>| get(&self.basic_size, class)?.extract::<usize>().ok();
        // SAFETY: a live object's type is alive.
        let of_tensor = unsafe { strong(tensor.py(), type_of(tensor.as_ptr() as usize)) };
        // A class with slots of its own cannot be exchanged.
        if size(&of_tensor)? != size(class.as_any())? {
            return None;
        }
        let options = PyDict::new(tensor.py());
        options.set_item("dtype", get(&self.dtype, tensor)?).ok()?;
        // On the device without memory: assigning the tensor to another one's `data` calls nothing of
        // ours, and torch refuses it for that device. On any other it would compute with no address.
        options.set_item("device", "meta").ok()?;
        let make = class.getattr("_make_wrapper_subclass").ok()?;
        make.call((class, get(&self.shape, tensor)?), Some(&options)).ok()
    }
}
