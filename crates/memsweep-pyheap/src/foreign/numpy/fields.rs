//! The fields of an array, read where they lie, and the check that they lie where numpy documents.

use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::PySlice;

use crate::object::word;

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
/// `NPY_MAXDIMS` of numpy 2; no array has more.
const MOST_DIMENSIONS: usize = 64;

/// The fields of one array.
pub(super) struct Fields {
    pub(super) data: usize,
    /// Length and stride of each dimension.
    pub(super) shape: Vec<(usize, isize)>,
    /// What owns the memory of a view; 0 for an array that is none.
    pub(super) base: usize,
    pub(super) dtype: usize,
    pub(super) owns_data: bool,
}

impl Fields {
    /// # Safety
    /// `array` is a live instance of numpy's array, whose layout was found as documented, and the
    /// interpreter lock is held.
    pub(super) unsafe fn read(array: usize) -> Self {
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

    pub(super) fn elements(&self) -> usize {
        self.shape.iter().fold(1, |count: usize, (length, _)| count.saturating_mul(*length))
    }

    /// The bytes from the lowest element to the end of the highest, for elements of `item` bytes.
    pub(super) fn range(&self, item: usize) -> Range<usize> {
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

/// Compares the fields of some arrays with numpy's own answers.
pub(super) fn are_as_documented(numpy: &Bound<'_, PyAny>) -> PyResult<bool> {
    let make = |shape: (usize, usize), kind: &str| numpy.getattr("zeros")?.call1((shape, kind));
    let whole = make((6, 5), "i4")?;
    let part =
        whole.get_item((PySlice::new(numpy.py(), 4, 0, -2), PySlice::new(numpy.py(), 1, 4, 1)))?;
    let objects = make((2, 3), "O")?;
    for array in [&whole, &part, &objects] {
        // SAFETY: the words of the smallest array's structure; if they lie elsewhere, the
        // comparison below fails. Dimensions and strides are followed only where the depth is 2.
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
