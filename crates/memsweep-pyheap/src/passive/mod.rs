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
//!
//! A limit: an array that only C code or a frame has is not met by the walk. If its memory belongs to an
//! object of the list that showed it and does so no more, nothing tells.

mod names;

use std::cell::RefCell;
use std::ops::ControlFlow;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyString, PyTuple, PyType};

use crate::object::{each_child, get, is_subtype, slot, strong, type_of};
use crate::table::AddressMap;

use self::names::{Text, text};

/// Whether an object of some type is on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passive {
    No,
    /// Unless it shows memory by itself.
    Yes,
    /// A future: once it is done, and as above.
    Done,
    /// An instance: where such are on the list, and as above.
    Instance,
}

/// What is known of a class.
#[derive(Debug, Clone, Copy)]
struct Class {
    passive: Passive,
    /// Its instances can show memory, as far as the class says.
    shows: bool,
}

/// How an object says that an array may have its memory.
const SHOWS: [&str; 2] = ["__array_interface__", "__array_struct__"];
/// The same, asked of the class alone: since Python 3.12, and functions that answer for any name.
const CLASS_SHOWS: [&str; 3] = ["__buffer__", "__getattr__", "__getattribute__"];

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
    /// The order in which a class's attributes are looked up, and the attributes of a class.
    order: Bound<'py, PyAny>,
    attributes: Bound<'py, PyAny>,
    /// The type of functions of C behind a class's special names.
    slot_function: usize,
    /// A function that answers for names, but never for those above: that of torch's modules.
    torch_names: usize,
    /// Classes whose instances show memory that something else owns; see `writers`.
    views: Vec<usize>,
    /// The futures of asyncio that are written in C.
    futures: Vec<usize>,
    /// Their `done`, which runs no Python code.
    done: Option<Bound<'py, PyAny>>,
    /// Answers by type: looking through its classes is slow.
    known: RefCell<AddressMap<Class>>,
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
            order: of_types.get_item("__mro__")?,
            attributes: of_types.get_item("__dict__")?,
            slot_function: address("WrapperDescriptorType")?,
            torch_names: 0,
            views: vec![py.get_type::<PyMemoryView>().as_ptr() as usize],
            futures: Vec::new(),
            done: None,
            known: RefCell::default(),
        };
        if addresses_are_watched {
            found.types.push(address("FunctionType")?);
        }
        let attribute = |module: &str, name: &str| -> Option<Bound<'py, PyAny>> {
            // A module may be a stand-in, without what it is known for.
            modules.get_item(module).ok()??.getattr(name).ok()
        };
        found
            .views
            .extend(attribute("_pickle", "PickleBuffer").map(|class| class.as_ptr() as usize));
        // What all that ctypes makes is derived from has no name.
        let simple =
            attribute("_ctypes", "_SimpleCData").and_then(|it| it.getattr("__base__").ok());
        found.views.extend(simple.map(|class| class.as_ptr() as usize));
        found.views.retain(|class| *class != found.object);
        let module = attribute("torch.nn", "Module").and_then(|it| it.getattr("__getattr__").ok());
        found.torch_names = module.map_or(0, |function| function.as_ptr() as usize);
        let futures = ["Future", "Task"].map(|name| attribute("_asyncio", name));
        // Only the interpreter's own: its `done` runs no Python code.
        if let [Some(future), Some(task)] = futures
            // SAFETY: both are alive, and the interpreter lock is held.
            && ![&future, &task].iter().any(|class| unsafe { found.is_python(class.as_ptr() as usize) })
            && let Ok(done) = future.getattr("done")
            && done.get_type().name()? == "method_descriptor"
        {
            found.futures = vec![future.as_ptr() as usize, task.as_ptr() as usize];
            found.done = Some(done);
        }
        Ok(found)
    }

    /// # Safety
    /// `class` is a live type object and the interpreter lock is held.
    unsafe fn of_type(&self, class: usize) -> Class {
        if let Some(&known) = self.known.borrow().get(&class) {
            return known;
        }
        // SAFETY: the caller's promise.
        let (passive, bound) = unsafe { (self.by_its_bases(class), strong(self.py, class)) };
        let found = Class { passive, shows: passive != Passive::No && self.class_shows(&bound) };
        self.known.borrow_mut().insert(class, found);
        found
    }

    /// # Safety
    /// As for [`PassiveTypes::of_type`].
    unsafe fn by_its_bases(&self, class: usize) -> Passive {
        let mut base = class;
        loop {
            if self.types.contains(&base) {
                return Passive::Yes;
            }
            if self.futures.contains(&base) {
                return Passive::Done;
            }
            if base == self.object {
                return Passive::Instance;
            }
            // SAFETY: the caller's promise; a type's base lives as long as the type.
            if !unsafe { self.is_python(base) } {
                return Passive::No;
            }
            // SAFETY: as above.
            base = unsafe { slot(base, ffi::Py_tp_base) } as usize;
        }
    }

    /// Whether a class is written in Python.
    ///
    /// # Safety
    /// As for [`PassiveTypes::of_type`].
    unsafe fn is_python(&self, class: usize) -> bool {
        // SAFETY: the caller's promise.
        let [traversal, deallocation] = unsafe { how(class) };
        // A class that has no place for a reference has no traversal.
        deallocation == self.written_in_python[1]
            && (traversal == self.written_in_python[0] || traversal == 0)
    }

    /// Whether it is on the list. Runs no Python code.
    pub(crate) fn holds(&self, object: &Bound<'py, PyAny>) -> bool {
        let is_on = match self.class_of(object) {
            Class { shows: true, .. } | Class { passive: Passive::No, .. } => false,
            Class { passive: Passive::Yes, .. } => true,
            Class { passive: Passive::Instance, .. } => self.instances,
            Class { passive: Passive::Done, .. } => self.is_done(object),
        };
        is_on && !self.shows_by_itself(object)
    }

    /// Whether instances of this class are on the list, but for those that show memory by themselves.
    ///
    /// # Safety
    /// As for [`PassiveTypes::of_type`].
    pub(crate) unsafe fn always_holds(&self, class: usize) -> bool {
        // SAFETY: the caller's promise.
        match unsafe { self.of_type(class) } {
            Class { shows: true, .. } | Class { passive: Passive::No | Passive::Done, .. } => false,
            Class { passive: Passive::Yes, .. } => true,
            Class { passive: Passive::Instance, .. } => self.instances,
        }
    }

    /// Whether instances of this class show memory by a buffer.
    ///
    /// # Safety
    /// As for [`PassiveTypes::of_type`].
    pub(crate) unsafe fn is_buffer(&self, class: usize) -> bool {
        // SAFETY: the caller's promise, and the views are classes of modules.
        self.views.iter().any(|&view| unsafe { is_subtype(class, view) })
    }

    /// Whether what this object refers to may own memory that it shows.
    pub(crate) fn is_view(&self, object: &Bound<'py, PyAny>) -> bool {
        // SAFETY: a live object's type is live.
        if unsafe { self.is_buffer(type_of(object.as_ptr() as usize)) } {
            return true;
        }
        let class = self.class_of(object);
        class.passive != Passive::No && (class.shows || self.shows_by_itself(object))
    }

    fn class_of(&self, object: &Bound<'py, PyAny>) -> Class {
        // SAFETY: a live object's type is live.
        unsafe { self.of_type(type_of(object.as_ptr() as usize)) }
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
            // A view of the class's dictionary, which is all that it holds.
            let Some(view) = get(&self.attributes, &class) else { return true };
            let mut found = None;
            each_child(&view, |child| {
                // SAFETY: a traversal reports live objects.
                found = Some(unsafe { strong(self.py, child) });
                ControlFlow::Break(())
            });
            let Some(Ok(attributes)) = found.map(Bound::cast_into::<PyDict>) else { return true };
            attributes.iter().any(|(name, value)| match text(&name) {
                Text::Exact(name) => {
                    SHOWS.contains(&name.as_str())
                        || CLASS_SHOWS.contains(&name.as_str()) && !self.is_innocent(&value)
                }
                Text::Derived => true,
                Text::No => false,
            })
        })
    }

    /// Whether a function that answers for names answers for none that shows memory.
    fn is_innocent(&self, function: &Bound<'py, PyAny>) -> bool {
        let address = function.as_ptr() as usize;
        // SAFETY: a bound object is alive.
        address == self.torch_names || unsafe { type_of(address) } == self.slot_function
    }

    /// Its class has no such attribute, so only its own are looked up, and nothing is called. Comparing with a
    /// name of a derived class could call something: then the answer is yes.
    fn shows_by_itself(&self, object: &Bound<'py, PyAny>) -> bool {
        let mut has_odd_names = false;
        each_child(object, |child| {
            // Not even a reference is taken to anything else: 3.12 reports objects that are kept for reuse.
            // SAFETY: a traversal reports what is allocated, and the type of dictionaries never dies.
            if !unsafe { is_subtype(type_of(child), &raw mut ffi::PyDict_Type as usize) } {
                return ControlFlow::Continue(());
            }
            // SAFETY: a traversal reports live objects.
            if let Ok(own) = unsafe { strong(self.py, child) }.cast_into::<PyDict>() {
                has_odd_names |= own.iter().any(|(name, _)| matches!(text(&name), Text::Derived));
            }
            if has_odd_names { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        has_odd_names
            || self.shows.iter().any(|name| {
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

/// The traversal and the deallocation of a type.
///
/// # Safety
/// `class` is a live type object and the interpreter lock is held.
unsafe fn how(class: usize) -> [usize; 2] {
    // SAFETY: the caller's promise.
    [ffi::Py_tp_traverse, ffi::Py_tp_dealloc].map(|kind| unsafe { slot(class, kind) } as usize)
}
