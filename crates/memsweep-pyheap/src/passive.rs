//! Objects through which nobody writes to memory without the interpreter lock.
//!
//! C code that gave up the lock writes to memory that it keeps alive itself: it holds the memory's object,
//! or borrows it from what its call holds, which is its tuple or dictionary of arguments, a list among
//! them, the `self` of a method, a partial. An unexplained reference to any of these pins what it leads
//! to. One to an object of the types here pins nothing:
//!
//! - An instance of a class that is written in Python, as all its bases are but `object`. C code gets at
//!   what it holds by asking for an attribute, and the answer is a reference of its own. An array's memory
//!   may belong to such an instance, though, and no traversal shows the array: instances that can show
//!   memory are not on the list.
//! - A function. C code can only call it; the frame of the call holds what the function uses.
//! - A module. As an instance.
//! - A coroutine. What a running one holds is unexplained by itself; a suspended one uses nothing before
//!   it goes on, which it does with the lock.
//! - A future or task of asyncio that is done. Its result is asked for, as an attribute is. Without it,
//!   the future by which the event loop woke ComfyUI's executor would keep every output that it found in
//!   its cache.
//!
//! Instances and functions are on it only where whoever writes to a bare address is noticed otherwise:
//! such a writer often is a method, whose instance keeps the memory alive.
//!
//! What else there is pins: a type must have an argument to be on the list.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyString, PyTuple, PyType};

use crate::object::{get, is_subtype, slot, strong};

/// Whether an object of some type is on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passive {
    No,
    Yes,
    /// A future: once it is done.
    Done,
    /// An instance: unless it shows memory.
    Instance,
    /// An instance whose class shows memory.
    Shows,
}

/// How an object says that an array may have its memory.
const SHOWS: [&str; 2] = ["__array_interface__", "__array_struct__"];
/// The same since Python 3.12; it is asked of the class alone.
const BUFFER: &str = "__buffer__";

/// The types on the list.
pub(crate) struct PassiveTypes<'py> {
    py: Python<'py>,
    types: Vec<usize>,
    object: usize,
    /// The traversal and the deallocation that each class written in Python has, and whether instances of
    /// such classes are on the list.
    written_in_python: [usize; 2],
    instances: bool,
    shows: [Bound<'py, PyString>; 2],
    buffer: Bound<'py, PyString>,
    /// The order in which a class's attributes are looked up, and the attributes of a class.
    order: Bound<'py, PyAny>,
    attributes: Bound<'py, PyAny>,
    /// Classes whose instances show memory that something else owns; see `writers`.
    views: Vec<usize>,
    /// The futures of asyncio that are written in C.
    futures: Vec<usize>,
    /// Their `done`, which runs no Python code.
    done: Option<Bound<'py, PyAny>>,
}

impl<'py> PassiveTypes<'py> {
    /// `addresses_are_watched`: whoever writes without a reference is noticed otherwise.
    pub(crate) fn of(modules: &Bound<'py, PyDict>, addresses_are_watched: bool) -> PyResult<Self> {
        let py = modules.py();
        let types = py.import("types")?;
        let address =
            |name: &str| -> PyResult<usize> { Ok(types.getattr(name)?.as_ptr() as usize) };
        let class = address("DynamicClassAttribute")?;
        let of_types = py.get_type::<PyType>().getattr("__dict__")?;
        let mut found = Self {
            py,
            types: vec![address("ModuleType")?, address("CoroutineType")?],
            object: &raw mut ffi::PyBaseObject_Type as usize,
            // SAFETY: the module holds the class.
            written_in_python: unsafe { how(class) },
            instances: addresses_are_watched,
            shows: SHOWS.map(|name| PyString::intern(py, name)),
            buffer: PyString::intern(py, BUFFER),
            order: of_types.get_item("__mro__")?,
            attributes: of_types.get_item("__dict__")?,
            views: views(modules)?,
            futures: Vec::new(),
            done: None,
        };
        if addresses_are_watched {
            found.types.push(address("FunctionType")?);
        }
        if let Some(asyncio) = modules.get_item("_asyncio")? {
            for name in ["Future", "Task"] {
                found.futures.push(asyncio.getattr(name)?.as_ptr() as usize);
            }
            found.done = Some(asyncio.getattr("Future")?.getattr("done")?);
        }
        Ok(found)
    }

    /// # Safety
    /// `class` is a live type object and the interpreter lock is held.
    pub(crate) unsafe fn of_type(&self, class: usize) -> Passive {
        let mut base = class;
        loop {
            if self.types.contains(&base) {
                return Passive::Yes;
            }
            if self.futures.contains(&base) {
                return Passive::Done;
            }
            if base == self.object {
                // SAFETY: the caller's promise.
                let class = unsafe { strong(self.py, class) };
                return match (self.instances, self.class_shows(&class)) {
                    (false, _) => Passive::No,
                    (true, true) => Passive::Shows,
                    (true, false) => Passive::Instance,
                };
            }
            // SAFETY: the caller's promise; a type's base lives as long as the type.
            let [traversal, deallocation] = unsafe { how(base) };
            // A class that has no place for a reference has no traversal.
            let is_python = deallocation == self.written_in_python[1]
                && (traversal == self.written_in_python[0] || traversal == 0);
            if !is_python {
                return Passive::No;
            }
            // SAFETY: as above.
            base = unsafe { slot(base, ffi::Py_tp_base) } as usize;
        }
    }

    /// Whether it, of a type of which `passive` is known, is on the list. Runs no Python code.
    pub(crate) fn holds(&self, object: &Bound<'py, PyAny>, passive: Passive) -> bool {
        match passive {
            Passive::No | Passive::Shows => false,
            Passive::Yes => true,
            Passive::Done => self.is_done(object),
            Passive::Instance => !self.shows_by_itself(object),
        }
    }

    /// Whether what an object of this class refers to may own memory that the object shows.
    ///
    /// # Safety
    /// As for [`PassiveTypes::of_type`].
    pub(crate) unsafe fn is_view(&self, class: usize) -> bool {
        // SAFETY: the caller's promise; the views are classes of modules.
        let is_view = self.views.iter().any(|&view| unsafe { is_subtype(class, view) });
        // An instance is entered only where it shows memory.
        // SAFETY: the caller's promise.
        is_view || matches!(unsafe { self.of_type(class) }, Passive::Instance | Passive::Shows)
    }

    /// When in doubt, no.
    fn is_done(&self, future: &Bound<'py, PyAny>) -> bool {
        let answer = self.done.as_ref().and_then(|done| done.call1((future,)).ok());
        answer.is_some_and(|answer| answer.is_truthy().unwrap_or(false))
    }

    /// When in doubt, yes.
    fn class_shows(&self, class: &Bound<'py, PyAny>) -> bool {
        let order = get(&self.order, class).and_then(|order| order.cast_into::<PyTuple>().ok());
        let Some(order) = order else { return true };
        order.iter().any(|class| {
            let Some(attributes) = get(&self.attributes, &class) else { return true };
            let mut names = self.shows.iter().chain([&self.buffer]);
            names.any(|name| attributes.contains(name).unwrap_or(true))
        })
    }

    /// Its class has no such attribute, so only its own are looked up, and nothing is called.
    fn shows_by_itself(&self, object: &Bound<'py, PyAny>) -> bool {
        self.shows.iter().any(|name| {
            // SAFETY: both are live objects; the answer is a new reference, or null with an exception set.
            let value = unsafe {
                let value = ffi::PyObject_GenericGetAttr(object.as_ptr(), name.as_ptr());
                Bound::from_owned_ptr_or_opt(self.py, value)
            };
            if value.is_none() {
                // An exception must not outlive the attempt.
                drop(PyErr::take(self.py));
            }
            value.is_some()
        })
    }
}

fn views(modules: &Bound<'_, PyDict>) -> PyResult<Vec<usize>> {
    let mut found = vec![modules.py().get_type::<PyMemoryView>().as_ptr() as usize];
    if let Some(pickle) = modules.get_item("_pickle")? {
        found.push(pickle.getattr("PickleBuffer")?.as_ptr() as usize);
    }
    if let Some(ctypes) = modules.get_item("_ctypes")? {
        // What all that it makes is derived from has no name.
        found.push(ctypes.getattr("_SimpleCData")?.getattr("__base__")?.as_ptr() as usize);
    }
    Ok(found)
}

/// The traversal and the deallocation of a type.
///
/// # Safety
/// `class` is a live type object and the interpreter lock is held.
unsafe fn how(class: usize) -> [usize; 2] {
    // SAFETY: the caller's promise.
    [ffi::Py_tp_traverse, ffi::Py_tp_dealloc].map(|kind| unsafe { slot(class, kind) } as usize)
}
