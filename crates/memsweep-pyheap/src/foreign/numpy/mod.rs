//! numpy arrays, read where they lie.
//!
//! The fields of `PyArrayObject` are numpy's public binary interface, the same from 1.7 to 2.x:
//! every extension that was compiled against numpy reads them. They are compared with numpy's own
//! answers once. Arrays that are laid out differently are refused, not guessed at.

mod elements;
mod fields;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use self::elements::{Offsets, each_element, has_objects, item_size, offsets_of};
use self::fields::Fields;
use super::{Edge, Holding, Memory, Target};
use crate::object::{HAVE_GC, is_subtype, strong, type_flags, type_of};
use crate::table::OutOfMemory;
use crate::visitor::Via;

pub(super) struct Arrays<'py> {
    class: Bound<'py, PyType>,
    /// By the description's address. A description lives as long as an array that has it.
    offsets: RefCell<HashMap<usize, Offsets>>,
}

impl<'py> Arrays<'py> {
    pub(super) fn find(modules: &Bound<'py, PyDict>) -> PyResult<Option<Self>> {
        let Some(module) = modules.get_item("numpy")? else {
            return Ok(None);
        };
        // A module that is still being imported has no arrays yet.
        let class = match module.getattr("ndarray") {
            Ok(class) => class,
            Err(error) if error.is_instance_of::<PyAttributeError>(modules.py()) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // Some tests put a stand-in for numpy among the modules, which has no arrays.
        let Ok(class) = class.cast_into::<PyType>() else { return Ok(None) };
        static CHECKED: PyOnceLock<()> = PyOnceLock::new();
        let py = modules.py();
        if CHECKED.get(py).is_none() {
            match fields::are_as_documented(&module) {
                Ok(true) => drop(CHECKED.set(py, ())),
                Ok(false) => {
                    return Err(PyRuntimeError::new_err(
                        "cannot walk this interpreter's heap: numpy's arrays are not laid out as documented",
                    ));
                }
                // Not fully imported, so no array exists.
                Err(error) if error.is_instance_of::<PyAttributeError>(py) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Self { class, offsets: RefCell::default() }))
    }

    pub(super) fn class(&self) -> usize {
        self.class.as_ptr() as usize
    }

    fn fields(&self, array: &Bound<'py, PyAny>) -> Fields {
        // SAFETY: the caller has checked that this is an array, and the layout was compared.
        unsafe { Fields::read(array.as_ptr() as usize) }
    }

    fn dtype(&self, fields: &Fields, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: an array holds its description.
        unsafe { strong(py, fields.dtype) }
    }

    fn is_array(&self, object: usize) -> bool {
        // SAFETY: what an array holds is alive, and so is numpy's class.
        unsafe { is_subtype(type_of(object), self.class()) }
    }

    /// The bytes that an array shows, whoever owns them.
    pub(super) fn shown(&self, array: &Bound<'py, PyAny>) -> Range<usize> {
        let fields = self.fields(array);
        let item = item_size(&self.dtype(&fields, array.py())).unwrap_or(0);
        fields.range(item)
    }

    /// The memory of an array that is not a view of another one. Memory that holds objects never moves,
    /// so it counts as foreign.
    ///
    /// `is_asked` says whether instances of a base's type are asked for their memory themselves.
    pub(super) fn memory(
        &self,
        array: &Bound<'py, PyAny>,
        is_asked: impl Fn(usize) -> bool,
    ) -> Option<Holding> {
        let fields = self.fields(array);
        let dtype = self.dtype(&fields, array.py());
        let plain = !has_objects(&dtype)?;
        let range = fields.range(item_size(&dtype)?);
        let memory = Memory { address: range.start, bytes: range.len(), start: range.start };
        if fields.base == 0 {
            let own = fields.owns_data && plain;
            return Some(if own { Holding::Own(memory) } else { Holding::Foreign(memory) });
        }
        // The memory of a view is that of the array it shows. The outermost array answers for a
        // mapping, a capsule, or whatever else no walk sees.
        // SAFETY: an array holds its base.
        let base = unsafe { type_of(fields.base) };
        (!self.is_array(fields.base) && !is_asked(base)).then_some(Holding::Foreign(memory))
    }

    /// The first element of the outermost array that this one shows, and the size of its elements
    /// together, whoever owns the memory.
    pub(super) fn block(&self, array: &Bound<'py, PyAny>) -> Option<(usize, usize)> {
        let mut fields = self.fields(array);
        while fields.base != 0 && self.is_array(fields.base) {
            // SAFETY: an array holds its base, which is an array too.
            fields = unsafe { Fields::read(fields.base) };
        }
        let item = item_size(&self.dtype(&fields, array.py()))?;
        Some((fields.data, fields.elements().saturating_mul(item)))
    }

    /// The array's base, and the objects that lie in memory of its own.
    pub(super) fn edges(
        &self,
        array: &Bound<'py, PyAny>,
        each: &mut dyn FnMut(Edge<'py>) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        let fields = self.fields(array);
        if fields.base != 0 {
            each(Edge { via: Via::Base, target: Target::Reference(fields.base) })?;
            // A view shows the elements of its base, which holds them. So does an array with strides of
            // its own, whose base is a Python object that leads to the array: it may show an element
            // any number of times, and lie anywhere.
            // SAFETY: an array holds its base, and a type lives as long as its instance.
            let flags = unsafe { type_flags(type_of(fields.base)) };
            if self.is_array(fields.base) || flags & HAVE_GC != 0 {
                return Ok(());
            }
        }
        let owns = fields.base == 0 && fields.owns_data;
        let Some(offsets) = self.offsets(&self.dtype(&fields, array.py())) else { return Ok(()) };
        for &offset in offsets.iter() {
            each_element(&fields, &mut |element| {
                // SAFETY: inside the array's memory, where its description says that a pointer lies.
                // Fields may lie anywhere, so it need not be aligned.
                let object = unsafe { ((element + offset) as *const usize).read_unaligned() };
                let target = match object {
                    0 => return Ok(()),
                    object if owns => Target::Reference(object),
                    object => Target::Reached(object),
                };
                each(Edge { via: Via::Element, target })
            })?;
        }
        Ok(())
    }

    fn offsets(&self, dtype: &Bound<'py, PyAny>) -> Offsets {
        let address = dtype.as_ptr() as usize;
        if let Some(known) = self.offsets.borrow().get(&address) {
            return known.clone();
        }
        let offsets = offsets_of(dtype);
        self.offsets.borrow_mut().insert(address, offsets.clone());
        offsets
    }
}
