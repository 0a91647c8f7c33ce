//! Where the elements of an array lie, and the object pointers in each.

use std::rc::Rc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::fields::Fields;
use crate::table::OutOfMemory;

/// Where object pointers lie in an element, in bytes from its start; `None` for an element that is
/// not understood.
pub(super) type Offsets = Option<Rc<[usize]>>;

/// The offsets for elements of this description.
pub(super) fn offsets_of(dtype: &Bound<'_, PyAny>) -> Offsets {
    let mut found = Vec::new();
    add_offsets(dtype, 0, &mut found)?;
    found.sort_unstable();
    // A field with a title is listed twice.
    found.dedup();
    Some(Rc::from(found))
}

pub(super) fn item_size(dtype: &Bound<'_, PyAny>) -> Option<usize> {
    dtype.getattr("itemsize").ok()?.extract().ok()
}

pub(super) fn has_objects(dtype: &Bound<'_, PyAny>) -> Option<bool> {
    dtype.getattr("hasobject").ok()?.is_truthy().ok()
}

/// Adds where object pointers lie in a part of an element. `None` when its kind is not understood.
fn add_offsets(dtype: &Bound<'_, PyAny>, at: usize, found: &mut Vec<usize>) -> Option<()> {
    if !has_objects(dtype)? {
        return Some(());
    }
    let fields = dtype.getattr("fields").ok()?;
    if !fields.is_none() {
        for entry in fields.call_method0("values").ok()?.try_iter().ok()? {
            let entry = entry.ok()?.cast_into::<PyTuple>().ok()?;
            let offset: usize = entry.get_item(1).ok()?.extract().ok()?;
            add_offsets(&entry.get_item(0).ok()?, at.checked_add(offset)?, found)?;
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
            add_offsets(&base, at.checked_add(number.checked_mul(size)?)?, found)?;
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
pub(super) fn each_element(
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
