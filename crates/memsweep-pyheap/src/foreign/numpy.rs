//! numpy arrays, read where they lie.
//!
//! The fields of `PyArrayObject` are numpy's public binary interface, the same from 1.7 to 2.x:
//! every extension that was compiled against numpy reads them. They are compared with numpy's own
//! answers once, and an array that is laid out otherwise is refused, not guessed at.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::{Edge, Holding, Memory};
use crate::object::{HAVE_GC, is_subtype, strong, type_flags, type_of, word};
use crate::table::OutOfMemory;

/// Words of an array from its start; the first two are the object's head.
const DATA: isize = 2;
const DEPTH: isize = 3;
const DIMENSIONS: isize = 4;
const STRIDES: isize = 5;
const BASE: isize = 6;
const DTYPE: isize = 7;
const FLAGS: isize = 8;
/// `NPY_ARRAY_OWNDATA`: numpy allocated the memory and frees it.
const OWNS_DATA: i32 = 0x4;
/// `NPY_MAXDIMS` of numpy 2; more is no array.
const MOST_DIMENSIONS: usize = 64;

/// Where in an element object pointers lie, in bytes; `None` for an element that is not understood.
type Offsets = Option<Rc<[usize]>>;

pub(super) struct Arrays<'py> {
    class: Bound<'py, PyType>,
    /// By the description's address. A description lives as long as an array that has it.
    offsets: RefCell<HashMap<usize, Offsets>>,
}

/// The fields of one array.
struct Fields {
    data: usize,
    shape: Vec<(usize, isize)>,
    base: usize,
    dtype: usize,
    owns_data: bool,
}

impl Fields {
    /// # Safety
    /// `array` is a live instance of numpy's array, whose layout was found as documented, and the
    /// interpreter lock is held.
    unsafe fn read(array: usize) -> Self {
        // SAFETY: the words belong to the array's structure, which the caller promises.
        let at = |place| unsafe { word(array, place) };
        // `int` fields: the low half of the word, on the little-endian machines that we build for.
        let depth = (at(DEPTH) as u32 as usize).min(MOST_DIMENSIONS);
        let shape = (0..depth as isize)
            .map(|axis| {
                // SAFETY: an array has as many dimensions and strides as it says.
                unsafe { (word(at(DIMENSIONS), axis), word(at(STRIDES), axis).cast_signed()) }
            })
            .collect();
        Self {
            data: at(DATA),
            shape,
            base: at(BASE),
            dtype: at(DTYPE),
            owns_data: (at(FLAGS) as u32).cast_signed() & OWNS_DATA != 0,
        }
    }

    fn elements(&self) -> usize {
        self.shape.iter().fold(1, |count: usize, (length, _)| count.saturating_mul(*length))
    }

    /// The bytes between the lowest and the highest element.
    fn range(&self, item: usize) -> Range<usize> {
        if self.elements() == 0 {
            return self.data..self.data;
        }
        let (mut low, mut high) = (0_isize, 0_isize);
        for (length, stride) in &self.shape {
            let reach = stride.saturating_mul(length.saturating_sub(1).cast_signed());
            low = low.saturating_add(reach.min(0));
            high = high.saturating_add(reach.max(0));
        }
        let start = self.data.saturating_add_signed(low);
        start..self.data.saturating_add_signed(high).saturating_add(item)
    }
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
        let arrays = Self { class, offsets: RefCell::default() };
        static CHECKED: PyOnceLock<()> = PyOnceLock::new();
        let py = modules.py();
        if CHECKED.get(py).is_none() {
            match arrays.is_as_documented(&module) {
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
        Ok(Some(arrays))
    }

    pub(super) fn class(&self) -> usize {
        self.class.as_ptr() as usize
    }

    /// Compares the fields of some arrays with numpy's own answers.
    fn is_as_documented(&self, module: &Bound<'py, PyAny>) -> PyResult<bool> {
        let make =
            |shape: (usize, usize), kind: &str| module.getattr("zeros")?.call1((shape, kind));
        let whole = make((6, 5), "i4")?;
        let part = whole.get_item((
            pyo3::types::PySlice::new(module.py(), 4, 0, -2),
            pyo3::types::PySlice::new(module.py(), 1, 4, 1),
        ))?;
        let objects = make((2, 3), "O")?;
        for array in [&whole, &part, &objects] {
            // SAFETY: the words of the smallest array's structure; if they lie otherwise, the
            // comparison below says so. Dimensions and strides are followed only where the depth is 2.
            let depth = unsafe { word(array.as_ptr() as usize, DEPTH) } as u32;
            if depth != 2 {
                return Ok(false);
            }
            // SAFETY: as above.
            let fields = unsafe { Fields::read(array.as_ptr() as usize) };
            let address: usize =
                array.getattr("__array_interface__")?.get_item("data")?.get_item(0)?.extract()?;
            let shape: Vec<usize> = array.getattr("shape")?.extract()?;
            let strides: Vec<isize> = array.getattr("strides")?.extract()?;
            let base = array.getattr("base")?;
            let base = if base.is_none() { 0 } else { base.as_ptr() as usize };
            let owns: bool = array.getattr("flags")?.getattr("owndata")?.extract()?;
            let same = fields.data == address
                && fields.shape == shape.into_iter().zip(strides).collect::<Vec<_>>()
                && fields.base == base
                && fields.dtype == array.getattr("dtype")?.as_ptr() as usize
                && fields.owns_data == owns;
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fields(&self, array: &Bound<'py, PyAny>) -> Fields {
        // SAFETY: whoever asks has found that this is an array, and the layout was compared.
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

    /// The memory of an array that is no view of another one. What holds objects is moved by nobody.
    ///
    /// `is_met` says whether a base is of a type whose instances are asked for their memory themselves.
    pub(super) fn memory(
        &self,
        array: &Bound<'py, PyAny>,
        is_met: impl Fn(usize) -> bool,
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
        // A view is told by what it shows; the outermost array tells of a mapping, a capsule, or what
        // else no walk sees.
        // SAFETY: an array holds its base.
        let base = unsafe { type_of(fields.base) };
        (!self.is_array(fields.base) && !is_met(base)).then_some(Holding::Foreign(memory))
    }

    /// The array's base, and the objects that lie in memory of its own.
    pub(super) fn edges(
        &self,
        array: &Bound<'py, PyAny>,
        each: &mut dyn FnMut(Edge<'py>) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        let fields = self.fields(array);
        if fields.base != 0 {
            each(Edge::Reference(fields.base))?;
            // A view shows the elements of its base, which holds them. So does one with strides of its
            // own, whose base is a Python object that leads to the array: it may show an element any
            // number of times, and lie anywhere.
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
                match object {
                    0 => Ok(()),
                    object if owns => each(Edge::Reference(object)),
                    object => each(Edge::Reached(object)),
                }
            })?;
        }
        Ok(())
    }

    fn offsets(&self, dtype: &Bound<'py, PyAny>) -> Offsets {
        let address = dtype.as_ptr() as usize;
        if let Some(known) = self.offsets.borrow().get(&address) {
            return known.clone();
        }
        let mut found = Vec::new();
        let offsets = object_offsets(dtype, 0, &mut found).map(|()| {
            found.sort_unstable();
            // A field with a title is listed twice.
            found.dedup();
            Rc::from(found)
        });
        self.offsets.borrow_mut().insert(address, offsets.clone());
        offsets
    }
}

fn item_size(dtype: &Bound<'_, PyAny>) -> Option<usize> {
    dtype.getattr("itemsize").ok()?.extract().ok()
}

fn has_objects(dtype: &Bound<'_, PyAny>) -> Option<bool> {
    dtype.getattr("hasobject").ok()?.is_truthy().ok()
}

/// Adds where object pointers lie in an element. `None` when its kind is not understood.
fn object_offsets(dtype: &Bound<'_, PyAny>, at: usize, found: &mut Vec<usize>) -> Option<()> {
    if !has_objects(dtype)? {
        return Some(());
    }
    let fields = dtype.getattr("fields").ok()?;
    if !fields.is_none() {
        for entry in fields.call_method0("values").ok()?.try_iter().ok()? {
            let entry = entry.ok()?.cast_into::<PyTuple>().ok()?;
            let offset: usize = entry.get_item(1).ok()?.extract().ok()?;
            object_offsets(&entry.get_item(0).ok()?, at.checked_add(offset)?, found)?;
        }
        return Some(());
    }
    let parts = dtype.getattr("subdtype").ok()?;
    if !parts.is_none() {
        let base = parts.get_item(0).ok()?;
        let shape: Vec<usize> = parts.get_item(1).ok()?.extract().ok()?;
        let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length))?;
        let size = item_size(&base)?;
        for number in 0..count {
            object_offsets(&base, at.checked_add(number.checked_mul(size)?)?, found)?;
        }
        return Some(());
    }
    if dtype.getattr("kind").ok()?.extract::<String>().ok()? != "O" {
        return None;
    }
    found.try_reserve(1).ok()?;
    found.push(at);
    Some(())
}

/// Calls `each` with the address of every element.
fn each_element(
    fields: &Fields,
    each: &mut dyn FnMut(usize) -> Result<(), OutOfMemory>,
) -> Result<(), OutOfMemory> {
    fn along(
        shape: &[(usize, isize)],
        at: usize,
        each: &mut dyn FnMut(usize) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        let Some((&(length, stride), inner)) = shape.split_first() else { return each(at) };
        for number in 0..length {
            along(inner, at.wrapping_add_signed(stride.wrapping_mul(number as isize)), each)?;
        }
        Ok(())
    }
    along(&fields.shape, fields.data, each)
}
