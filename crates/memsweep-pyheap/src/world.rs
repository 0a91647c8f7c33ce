//! What one call of the walk needs to know, gathered before it starts.
//!
//! Everything that might run Python code or allocate Python objects happens here.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyModule, PyString, PyTuple, PyType};

use crate::foreign::Getters;
use crate::layout::Layout;
use crate::object::{HAVE_GC, children, is_subtype, reference_count, strong, type_flags, type_of};
use crate::passive::PassiveTypes;
use crate::table::{AddressHashSet, OutOfMemory};
use crate::trust::Trust;

/// 3.12 freezes 375 tuples of its own at start. `gc.freeze()` freezes whatever is tracked, which is
/// several thousand objects in the smallest program.
const FROZEN_BY_A_PROGRAM: usize = 1000;

/// Of a type's flags: its instances are types.
const TYPE_SUBCLASS: u64 = 1 << 31;

/// Keeps the collector off, and puts it back as it was.
pub(crate) struct CollectorOff<'py> {
    _py: Python<'py>,
    was_on: bool,
}

impl<'py> CollectorOff<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        Self {
            _py: py,
            // SAFETY: the interpreter lock is held, as `py` proves.
            was_on: unsafe { ffi::PyGC_Disable() } != 0,
        }
    }
}

impl Drop for CollectorOff<'_> {
    fn drop(&mut self) {
        if self.was_on {
            // SAFETY: the interpreter lock is held, as the token in this value proves.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// The interpreter's types and modules, as seen by one call.
pub(crate) struct World<'py> {
    pub(crate) py: Python<'py>,
    pub(crate) layout: Layout,
    pub(crate) wanted: Vec<usize>,
    pub(crate) boundary: [usize; 3],
    pub(crate) frame: usize,
    pub(crate) function: usize,
    pub(crate) text: usize,
    pub(crate) generators: [usize; 3],
    /// Sorted.
    pub(crate) module_dictionaries: Vec<usize>,
    pub(crate) foreign: Getters<'py>,
    /// Whose traversals count references; `None` for a question that counts none.
    pub(crate) trust: Option<Trust>,
    /// Through what nobody writes; `None` where that is not asked.
    pub(crate) passive: Option<PassiveTypes<'py>>,
    /// The type of torch's CUDA graphs: the walk notes whether it met one.
    pub(crate) watched: Option<usize>,
    pub(crate) modules: Bound<'py, PyDict>,
    running: [Bound<'py, PyString>; 3],
    /// Keeps the types above alive.
    _types: Bound<'py, PyModule>,
}

impl<'py> World<'py> {
    pub(crate) fn new(
        py: Python<'py>,
        layout: Layout,
        wanted: &Bound<'py, PyTuple>,
    ) -> PyResult<Self> {
        let types = py.import("types")?;
        let address =
            |name: &str| -> PyResult<usize> { Ok(types.getattr(name)?.as_ptr() as usize) };
        let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
        let mut module_dictionaries = Vec::new();
        for (_, module) in modules.iter() {
            if let Ok(module) = module.cast::<PyModule>() {
                module_dictionaries.push(module.dict().as_ptr() as usize);
            }
        }
        module_dictionaries.sort_unstable();
        let wanted = wanted
            .iter()
            .map(|class| Ok(class.cast_into::<PyType>()?.as_ptr() as usize))
            .collect::<PyResult<Vec<usize>>>()?;
        Ok(Self {
            py,
            layout,
            wanted,
            boundary: [address("ModuleType")?, address("CodeType")?, address("FrameType")?],
            frame: address("FrameType")?,
            function: address("FunctionType")?,
            text: py.get_type::<PyString>().as_ptr() as usize,
            generators: [
                address("GeneratorType")?,
                address("CoroutineType")?,
                address("AsyncGeneratorType")?,
            ],
            module_dictionaries,
            trust: None,
            passive: None,
            watched: graph_type(&modules),
            foreign: Getters::find(&modules)?,
            modules,
            running: ["gi_running", "cr_running", "ag_running"]
                .map(|name| PyString::intern(py, name)),
            _types: types,
        })
    }

    /// Looks up what is needed to count references.
    pub(crate) fn prepare_counting(&mut self) -> PyResult<()> {
        self.trust = Some(Trust::of(&self.modules)?);
        self.foreign.try_owners(&self.modules);
        Ok(())
    }

    /// Looks up through what nobody writes; see [`PassiveTypes::of`].
    pub(crate) fn prepare_passive(&mut self, addresses_are_watched: bool) -> PyResult<()> {
        self.passive = Some(PassiveTypes::of(&self.modules, addresses_are_watched)?);
        Ok(())
    }

    /// Whether a generator of any kind is running right now; when in doubt, yes.
    pub(crate) fn is_running(&self, generator: usize) -> bool {
        // SAFETY: the walk asks about an object that it just met.
        let class = unsafe { type_of(generator) };
        let Some(kind) = self.generators.iter().position(|&known| known == class) else {
            return false;
        };
        // SAFETY: as above.
        let generator = unsafe { strong(self.py, generator) };
        generator
            .getattr(&self.running[kind])
            .and_then(|running| running.is_truthy())
            .unwrap_or(true)
    }

    /// Whether the walk collects instances of this type.
    ///
    /// # Safety
    /// `class` is a live type object and the interpreter lock is held.
    pub(crate) unsafe fn is_wanted(&self, class: usize) -> bool {
        // SAFETY: the caller's promise; the caller of the walk holds the wanted types.
        self.wanted.iter().any(|&base| unsafe { is_subtype(class, base) })
    }

    /// Whether instances of this type are never entered within bounds: types, modules, frames and code.
    ///
    /// # Safety
    /// As for [`World::is_wanted`].
    pub(crate) unsafe fn is_boundary(&self, class: usize) -> bool {
        // SAFETY: the caller's promise; the others are types that `self` keeps alive.
        unsafe {
            type_flags(class) & TYPE_SUBCLASS != 0
                || self.boundary.iter().any(|&base| is_subtype(class, base))
        }
    }

    /// Whether instances of this type are on the positive list, whatever they are like.
    ///
    /// # Safety
    /// As for [`World::is_wanted`].
    pub(crate) unsafe fn is_always_passive(&self, class: usize) -> bool {
        // SAFETY: the caller's promise.
        self.passive.as_ref().is_some_and(|types| unsafe { types.always_holds(class) })
    }

    /// Whether a walk for what is written to would not enter this object.
    ///
    /// # Safety
    /// `object` is a live object and the interpreter lock is held.
    pub(crate) unsafe fn ends_writing(&self, object: usize) -> bool {
        // SAFETY: the caller's promise.
        let is_boundary = unsafe { self.is_boundary(type_of(object)) };
        self.module_dictionaries.binary_search(&object).is_ok()
            || is_boundary && !self.is_view(object)
            || self.is_passive(object)
    }

    /// Whether C code can use memory that this object shows without a reference to the memory's owner.
    ///
    /// # Safety
    /// As for [`World::ends_writing`].
    pub(crate) unsafe fn is_buffer(&self, object: usize) -> bool {
        // SAFETY: the caller's promise.
        let class = unsafe { type_of(object) };
        // SAFETY: a live object's type is live.
        self.passive.as_ref().is_some_and(|types| unsafe { types.is_buffer(class) })
    }

    /// Whether nobody writes through this object. Runs no Python code.
    pub(crate) fn is_passive(&self, object: usize) -> bool {
        self.passive.as_ref().filter(|_| !is_dead(object)).is_some_and(|types| {
            // SAFETY: the walk asks about an object that it just met.
            types.holds(&unsafe { strong(self.py, object) })
        })
    }

    /// Whether what this object refers to may own memory that it shows.
    pub(crate) fn is_view(&self, object: usize) -> bool {
        self.passive.as_ref().filter(|_| !is_dead(object)).is_some_and(|types| {
            // SAFETY: the walk asks about an object that it just met.
            types.is_view(&unsafe { strong(self.py, object) })
        })
    }

    /// Every object the collector tracks, as the interpreter lists them.
    pub(crate) fn tracked_list(&self) -> PyResult<Bound<'py, PyAny>> {
        self.py.import("gc")?.call_method0("get_objects")
    }

    /// The addresses of those objects. The list is gone again, so its references do not count.
    ///
    /// Dropping it frees nothing: the interpreter lock is held, and whoever held an object before
    /// still does.
    pub(crate) fn tracked_objects(&self) -> PyResult<Vec<usize>> {
        listed(&self.tracked_list()?)
    }

    /// Whether the collector tracks every instance of the wanted types, so that its lists hold them all.
    pub(crate) fn wanted_are_tracked(&self) -> PyResult<bool> {
        let frozen = self.py.import("gc")?.call_method0("get_freeze_count")?.extract::<usize>()?;
        // Exact tuples and dictionaries may be untracked.
        let untracked = [self.py.get_type::<PyTuple>(), self.py.get_type::<PyDict>()];
        Ok(frozen < FROZEN_BY_A_PROGRAM
            && self.wanted.iter().all(|&class| {
                // SAFETY: the caller of the walk holds the wanted types.
                let flags = unsafe { type_flags(class) };
                flags & HAVE_GC != 0 && untracked.iter().all(|kind| kind.as_ptr() as usize != class)
            }))
    }

    /// Frames that run on any thread, on interpreters whose running frames report their variables.
    pub(crate) fn reporting_frames(&self) -> PyResult<AddressHashSet> {
        let mut found = AddressHashSet::default();
        if self.layout.frames_report_variables {
            let frames = self.py.import("sys")?.call_method0("_current_frames")?;
            for frame in frames.call_method0("values")?.try_iter()? {
                let mut frame = frame?;
                while !frame.is_none() {
                    found.try_reserve(1).map_err(OutOfMemory::from)?;
                    found.insert(frame.as_ptr() as usize);
                    frame = frame.getattr("f_back")?;
                }
            }
        }
        Ok(found)
    }
}

/// Whether nobody holds it: 3.12 reports what `_asyncio` keeps for reuse, and a reference of ours to one
/// would free it again when it is given up.
fn is_dead(object: usize) -> bool {
    // SAFETY: the walk asks about what a traversal just reported, which is allocated.
    unsafe { reference_count(object) == Some(0) }
}

/// The class of captured CUDA graphs, which hold the addresses of tensors and no reference to them.
fn graph_type(modules: &Bound<'_, PyDict>) -> Option<usize> {
    let module = modules.get_item("torch._C").ok()??;
    Some(module.getattr("_CUDAGraph").ok()?.as_ptr() as usize)
}

/// The elements of the collector's list. Runs no Python code.
pub(crate) fn listed(list: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let mut found = children(list);
    if found.len() != list.len()? {
        return Err(OutOfMemory.into());
    }
    // A list reports its elements last to first; the oldest objects come first in memory too.
    found.reverse();
    Ok(found)
}

/// The addresses of a list's elements, in its order.
pub(crate) fn addresses(list: &Bound<'_, PyList>) -> PyResult<Vec<usize>> {
    let mut found = Vec::new();
    found.try_reserve_exact(list.len()).map_err(OutOfMemory::from)?;
    found.extend(list.iter().map(|element| element.as_ptr() as usize));
    Ok(found)
}

impl From<OutOfMemory> for PyErr {
    fn from(error: OutOfMemory) -> Self {
        pyo3::exceptions::PyMemoryError::new_err(error.to_string())
    }
}
