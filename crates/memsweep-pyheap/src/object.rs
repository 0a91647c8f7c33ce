//! The raw reads: an object's type, its reference count, the word before it, its traversal.
//!
//! Everything here needs the interpreter lock and addresses of live objects. The lock is held for
//! the whole walk and no Python code runs in it, so what was alive at its start stays alive.

use std::ffi::c_void;
use std::ops::ControlFlow;
use std::os::raw::c_int;

use pyo3::ffi;
use pyo3::prelude::*;

/// What a traversal calls for each child.
pub(crate) type VisitProc = ffi::visitproc;

/// The address of the object's type.
///
/// # Safety
/// `address` is a live object and the interpreter lock is held.
#[inline]
pub(crate) unsafe fn type_of(address: usize) -> usize {
    // SAFETY: the caller promises a live object.
    unsafe { ffi::Py_TYPE(address as *mut ffi::PyObject) as usize }
}

/// The object's reference count; `None` for objects that never die and so are not counted.
///
/// # Safety
/// `address` is a live object and the interpreter lock is held.
#[inline]
pub(crate) unsafe fn reference_count(address: usize) -> Option<u64> {
    // SAFETY: the caller promises a live object.
    let word = unsafe { ffi::Py_REFCNT(address as *mut ffi::PyObject) };
    // From 3.12 on the count is the low half of the word, and its sign bit marks immortal objects.
    let low = word as u32;
    (low <= i32::MAX as u32).then_some(u64::from(low))
}

/// The same for an object somebody here holds.
pub(crate) fn references(object: &Bound<'_, PyAny>) -> Option<u64> {
    // SAFETY: a bound object is alive and proves that the interpreter lock is held.
    unsafe { reference_count(object.as_ptr() as usize) }
}

/// Reads a machine word at an offset from the object, in words.
///
/// # Safety
/// `address` is a live object whose allocation contains that word.
#[inline]
pub(crate) unsafe fn word(address: usize, offset: isize) -> usize {
    // SAFETY: the caller promises that the word belongs to the object's allocation.
    unsafe { *(address as *const usize).offset(offset) }
}

/// A new strong reference.
///
/// # Safety
/// `address` is a live object.
#[inline]
pub(crate) unsafe fn strong<'py>(py: Python<'py>, address: usize) -> Bound<'py, PyAny> {
    // SAFETY: the caller promises a live object.
    unsafe { Bound::from_borrowed_ptr(py, address as *mut ffi::PyObject) }
}

/// What a type has in a slot.
///
/// # Safety
/// `class` is a live type object and the interpreter lock is held.
pub(crate) unsafe fn slot(class: usize, number: c_int) -> *const c_void {
    // SAFETY: the caller's promise; from 3.10 on every type may be asked.
    unsafe { ffi::PyType_GetSlot(class as *mut ffi::PyTypeObject, number) }
}

/// How a type's instances are traversed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traversal {
    visit_children: ffi::traverseproc,
    is_collected: Option<ffi::inquiry>,
}

impl Traversal {
    /// The type's own functions; `None` when its instances hold nothing the collector knows of.
    ///
    /// # Safety
    /// `class` is a live type object and the interpreter lock is held.
    pub(crate) unsafe fn of(class: usize) -> Option<Self> {
        // SAFETY: the caller promises a live type object.
        let flags = unsafe { ffi::PyType_GetFlags(class as *mut ffi::PyTypeObject) };
        if flags & ffi::Py_TPFLAGS_HAVE_GC == 0 {
            return None;
        }
        // SAFETY: as above.
        let (traverse, is_gc) =
            unsafe { (slot(class, ffi::Py_tp_traverse), slot(class, ffi::Py_tp_is_gc)) };
        if traverse.is_null() {
            return None;
        }
        Some(Self {
            // SAFETY: the slot of this number holds a function of this signature, and it is not null.
            visit_children: unsafe {
                std::mem::transmute::<*const c_void, ffi::traverseproc>(traverse)
            },
            // SAFETY: as above; a null slot becomes `None`.
            is_collected: unsafe {
                std::mem::transmute::<*const c_void, Option<ffi::inquiry>>(is_gc)
            },
        })
    }

    /// Calls `visitor(child, argument)` for every child.
    ///
    /// # Safety
    /// `address` is a live instance of the type this traversal came from, the interpreter lock is
    /// held, and `visitor` accepts `argument` and neither unwinds nor changes any reference count.
    #[inline]
    pub(crate) unsafe fn run(&self, address: usize, visitor: VisitProc, argument: *mut c_void) {
        let object = address as *mut ffi::PyObject;
        if let Some(is_collected) = self.is_collected {
            // A static type is an instance of a collected type and still must not be traversed:
            // the interpreter aborts the process.
            // SAFETY: the function belongs to the object's type.
            if unsafe { is_collected(object) } == 0 {
                return;
            }
        }
        // SAFETY: the function belongs to the object's type; the visitor is the caller's promise.
        unsafe { (self.visit_children)(object, visitor, argument) };
    }
}

/// Of a type's flags: its instances can be tracked by the collector, and report what they hold.
pub(crate) const HAVE_GC: u64 = 1 << 14;

/// Bits of `tp_flags` for a type's instances.
///
/// # Safety
/// `class` is a live type object and the interpreter lock is held.
pub(crate) unsafe fn type_flags(class: usize) -> u64 {
    // SAFETY: the caller promises a live type object.
    #[allow(clippy::useless_conversion, reason = "the C type is 32 bits wide on Windows")]
    u64::from(unsafe { ffi::PyType_GetFlags(class as *mut ffi::PyTypeObject) })
}

/// Whether one type is the other or derives from it; runs no Python code.
///
/// # Safety
/// Both are live type objects and the interpreter lock is held.
pub(crate) unsafe fn is_subtype(class: usize, base: usize) -> bool {
    // SAFETY: the caller promises live type objects.
    unsafe {
        ffi::PyType_IsSubtype(class as *mut ffi::PyTypeObject, base as *mut ffi::PyTypeObject) != 0
    }
}

/// A C-level getter: calls `descriptor.__get__(object)` without looking anything up.
pub(crate) fn get<'py>(
    descriptor: &Bound<'py, PyAny>,
    object: &Bound<'py, PyAny>,
) -> Option<Bound<'py, PyAny>> {
    // SAFETY: `Py_TYPE` of a live object is a live type, and every type may be asked for this slot.
    let slot =
        unsafe { ffi::PyType_GetSlot(ffi::Py_TYPE(descriptor.as_ptr()), ffi::Py_tp_descr_get) };
    if slot.is_null() {
        return None;
    }
    // SAFETY: the slot of this number holds a function of this signature, and it is not null.
    let getter = unsafe { std::mem::transmute::<*mut c_void, ffi::descrgetfunc>(slot) };
    // SAFETY: the three arguments are live objects; the getter checks their types itself.
    let value = unsafe {
        getter(descriptor.as_ptr(), object.as_ptr(), ffi::Py_TYPE(object.as_ptr()).cast())
    };
    // SAFETY: a getter returns a new reference, or null with an exception set.
    let value = unsafe { Bound::from_owned_ptr_or_opt(object.py(), value) };
    if value.is_none() {
        // An exception must not outlive the attempt.
        drop(PyErr::take(object.py()));
    }
    value
}

/// Calls `each` with every child that an object's traversal reports, in its order, until it says stop.
///
/// `each` must not run Python code or change reference counts other than by new strong references.
pub(crate) fn each_child<F>(object: &Bound<'_, PyAny>, mut each: F)
where
    F: FnMut(usize) -> ControlFlow<()>,
{
    /// # Safety
    /// For a traversal alone, with a closure of type `F`.
    unsafe extern "C" fn call<F: FnMut(usize) -> ControlFlow<()>>(
        child: *mut ffi::PyObject,
        argument: *mut c_void,
    ) -> c_int {
        // SAFETY: `argument` is the closure below, which nothing else uses meanwhile.
        let each = unsafe { &mut *argument.cast::<F>() };
        c_int::from(each(child as usize).is_break())
    }
    let address = object.as_ptr() as usize;
    // SAFETY: a live object's type is live.
    if let Some(traversal) = unsafe { Traversal::of(type_of(address)) } {
        // SAFETY: the traversal came from the object's own type, and `call` takes a closure of type `F`.
        unsafe { traversal.run(address, call::<F>, (&raw mut each).cast()) };
    }
}

/// The addresses an object's traversal reports, in its order.
pub(crate) fn children(object: &Bound<'_, PyAny>) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    each_child(object, |child| {
        if found.try_reserve(1).is_err() {
            return ControlFlow::Break(());
        }
        found.push(child);
        ControlFlow::Continue(())
    });
    found
}

/// Starts loading the line an address lies on.
#[inline]
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is a hint and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
