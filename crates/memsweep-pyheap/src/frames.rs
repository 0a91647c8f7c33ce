//! What waiting frames hold: they do nothing until we return, so their references are explained.
//!
//! A frame's variables are read where they lie. Asking for `f_locals` would, before Python 3.13, store a
//! snapshot on the frame, which clears what `exec` put there and keeps every variable alive; and
//! on 3.14 it does not tell which variables only borrow. Where they lie is found by looking at frames
//! of our own, see [`FrameLayout::of`]; on an interpreter where it is not found, nothing is explained.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet};

use crate::object::{strong, word};
use crate::table::{AddressHashSet, AddressMap, OutOfMemory, add};

/// Bits of a variable's word that say how it is held, from 3.14 on. Without them the frame holds
/// a reference of its own; before, they are zero in every address of an object.
const BORROWED: usize = 3;

/// Where in a frame its references lie, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameLayout {
    /// The word of the frame object that points to the rest; `None` where it is the object itself (3.10).
    inner: Option<isize>,
    /// The first variable.
    variables: isize,
    /// The running function; 3.10 has none.
    function: Option<isize>,
    /// The dictionary of a frame whose variables lie in one.
    namespace: Option<isize>,
    /// The global variables, where the frame holds a reference to them (3.10).
    globals: Option<isize>,
}

/// The word of a frame object that points to the interpreter's own frame, since 3.11.
const INNER_WORD: isize = 3;
/// Words that every frame has: the function, the global variables and the dictionary lie among them.
const HEAD: isize = 8;
/// How many variables the trial frame must have, and the words before them at most. On 3.10 the block
/// stack lies there.
const LOOKED_AT: isize = 24;
const BEFORE_VARIABLES: isize = 48;

impl FrameLayout {
    /// Looks at a suspended generator's frame with the variables `values`, and at one that ran with the
    /// variables of `namespace`. `None` on an interpreter that is laid out in no known way.
    pub(crate) fn of(
        frame: &Bound<'_, PyAny>,
        values: &[usize],
        function: usize,
        named: &Bound<'_, PyAny>,
        namespace: usize,
    ) -> Option<Self> {
        let version = frame.py().version_info();
        // What stands in the word is followed before it can be compared, so only where it is known.
        if version > (3, 14, u8::MAX) || values.len() < LOOKED_AT as usize {
            return None;
        }
        let inner = (version >= (3, 11)).then_some(INNER_WORD);
        let find = |frame: &Bound<'_, PyAny>, words: std::ops::Range<isize>, object: usize| {
            let start = start(frame.as_ptr() as usize, inner);
            words.into_iter().find(|&at| {
                // SAFETY: every frame has a head, and the trial frame for variables has at least as
                // many of them as words are looked at beyond what lies before.
                unsafe { word(start, at) & !BORROWED == object }
            })
        };
        let most = if inner.is_none() { BEFORE_VARIABLES } else { LOOKED_AT };
        let variables = find(frame, 0..most, *values.first()?)?;
        let begin = start(frame.as_ptr() as usize, inner);
        let all = (variables..).zip(values).all(|(at, &value)| {
            // SAFETY: the frame has as many variables as values were given.
            unsafe { word(begin, at) & !BORROWED == value }
        });
        let old = inner.is_none();
        let globals = if old {
            let globals = frame.getattr("f_globals").ok()?.as_ptr() as usize;
            find(frame, 2..HEAD, globals)
        } else {
            None
        };
        all.then_some(Self {
            inner,
            variables,
            function: if old { None } else { find(frame, 0..HEAD, function) },
            namespace: find(named, 0..HEAD, namespace),
            globals,
        })
    }

    /// Calls `each` for every reference that a frame holds.
    ///
    /// # Safety
    /// `frame` is a live frame object with at least so many variables, the interpreter lock is held,
    /// and this layout was found on this interpreter.
    unsafe fn each_reference(
        &self,
        frame: usize,
        variables: usize,
        mut each: impl FnMut(usize) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        let start = start(frame, self.inner);
        let others = [self.function, self.namespace, self.globals].into_iter().flatten();
        let all = (self.variables..).take(variables).chain(others);
        for at in all {
            // SAFETY: the caller's promise.
            let held = unsafe { word(start, at) };
            if held != 0 && held & BORROWED == 0 {
                each(held)?;
            }
        }
        Ok(())
    }
}

fn start(frame: usize, inner: Option<isize>) -> usize {
    match inner {
        // SAFETY: since 3.11 this word of a frame object points to the interpreter's frame, which
        // lives as long as it.
        Some(at) => unsafe { word(frame, at) },
        None => frame,
    }
}

/// Frames that wait, and how many variables each has.
///
/// Gathered before a walk, because asking a frame for its code raises audit events.
#[derive(Debug)]
pub(crate) struct Waiting<'py> {
    frames: Vec<Waits<'py>>,
}

#[derive(Debug)]
struct Waits<'py> {
    frame: Bound<'py, PyAny>,
    variables: usize,
    /// The number of the wait on another thread; `None` on ours.
    elsewhere: Option<u64>,
}

impl<'py> Waiting<'py> {
    /// Of these frames, those that wait on this thread.
    pub(crate) fn among(frames: &Bound<'py, PyList>) -> PyResult<Self> {
        let mut found = Self { frames: Vec::new() };
        if frames.is_empty() {
            return Ok(found);
        }
        let mut own = AddressHashSet::default();
        for frame in chain(current(frames.py())?)? {
            own.insert(frame.as_ptr() as usize);
        }
        for frame in frames {
            // A frame given twice holds its variables once; one of another thread is not waiting for us.
            if own.remove(&(frame.as_ptr() as usize)) {
                found.add(frame, None)?;
            }
        }
        Ok(found)
    }

    /// The frames of this thread, and of every other one that waits inside of this library.
    pub(crate) fn all(py: Python<'py>) -> PyResult<Self> {
        let mut found = Self { frames: Vec::new() };
        let mut seen = AddressHashSet::default();
        let elsewhere: Vec<_> = waits()
            .iter()
            .map(|(number, frame)| (Some(*number), Some(frame.bind(py).clone())))
            .collect();
        for (number, top) in std::iter::once((None, current(py)?)).chain(elsewhere) {
            for frame in chain(top)? {
                if seen.insert(frame.as_ptr() as usize) {
                    found.add(frame, number)?;
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, frame: Bound<'py, PyAny>, elsewhere: Option<u64>) -> PyResult<()> {
        let variables = count(&frame.getattr("f_code")?)?;
        self.frames.try_reserve(1).map_err(OutOfMemory::from)?;
        self.frames.push(Waits { frame, variables, elsewhere });
        Ok(())
    }

    /// The references that these frames hold, by what they point at. Runs no Python code.
    ///
    /// Who waits no longer may be using what it holds: between the look at the frames and this, an
    /// audit hook may have let other threads run.
    pub(crate) fn explain(
        &self,
        layout: Option<&FrameLayout>,
    ) -> Result<AddressMap<u64>, OutOfMemory> {
        let mut explained = AddressMap::default();
        let Some(layout) = layout else { return Ok(explained) };
        let still: Vec<u64> = waits().iter().map(|(number, _)| *number).collect();
        for Waits { frame, variables, elsewhere } in &self.frames {
            if elsewhere.is_some_and(|number| !still.contains(&number)) {
                continue;
            }
            // SAFETY: a bound object is alive and proves that the lock is held; a frame has at least
            // as many variables as its code has names.
            unsafe {
                layout.each_reference(frame.as_ptr() as usize, *variables, |object| {
                    add(&mut explained, object, 1)
                })?;
            }
        }
        Ok(explained)
    }
}

/// How many variables a frame of this code has at least: each name has a place.
fn count(code: &Bound<'_, PyAny>) -> PyResult<usize> {
    let names = PySet::empty(code.py())?;
    for kind in ["co_varnames", "co_cellvars", "co_freevars"] {
        for name in code.getattr(kind)?.try_iter()? {
            names.add(name?)?;
        }
    }
    Ok(names.len())
}

/// The variables of a frame by name, without a trace on it.
///
/// # Errors
/// `RuntimeError` where they can be read in no such way.
pub(crate) fn variables<'py>(
    frame: &Bound<'py, PyAny>,
    layout: Option<&FrameLayout>,
    cell: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let py = frame.py();
    let found = PyDict::new(py);
    if py.version_info() >= (3, 13) {
        // A view of the frame since then, and no snapshot.
        found.update(frame.getattr("f_locals")?.cast()?)?;
        return Ok(found);
    }
    let code = frame.getattr("f_code")?;
    const OPTIMIZED: u32 = 1;
    if code.getattr("co_flags")?.extract::<u32>()? & OPTIMIZED == 0 {
        // Its variables lie in a dictionary of their own.
        found.update(frame.getattr("f_locals")?.cast()?)?;
        return Ok(found);
    }
    let Some(layout) = layout else {
        return Err(pyo3::exceptions::PyRuntimeError::new_err(
            "this interpreter's frames cannot be read",
        ));
    };
    let mut names: Vec<Bound<'py, PyAny>> = Vec::new();
    for kind in ["co_varnames", "co_cellvars", "co_freevars"] {
        for name in code.getattr(kind)?.try_iter()? {
            let name = name?;
            // Since 3.11 an argument that is also in a cell has one place.
            let has_a_place = |known: &Bound<'_, PyAny>| known.eq(&name).unwrap_or(false);
            if layout.inner.is_none() || !names.iter().any(has_a_place) {
                names.push(name);
            }
        }
    }
    let start = start(frame.as_ptr() as usize, layout.inner);
    for (at, name) in (layout.variables..).zip(names) {
        // SAFETY: a frame has a place for each name.
        let held = unsafe { word(start, at) };
        if held == 0 {
            continue;
        }
        // SAFETY: a variable's object is alive while its frame is, and the lock is held.
        let mut value = unsafe { strong(py, held) };
        // SAFETY: as above.
        if unsafe { crate::object::type_of(held) } == cell {
            let Ok(inside) = value.getattr("cell_contents") else { continue };
            value = inside;
        }
        found.set_item(name, value)?;
    }
    Ok(found)
}

fn current(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    // A thread that Python knows nothing of has no frame.
    Ok(py.import("sys")?.call_method0("_getframe").ok())
}

/// A frame and those that called it.
fn chain(top: Option<Bound<'_, PyAny>>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let mut found = Vec::new();
    let mut next = top;
    while let Some(frame) = next {
        let before = frame.getattr("f_back")?;
        found.try_reserve(1).map_err(OutOfMemory::from)?;
        found.push(frame);
        next = (!before.is_none()).then_some(before);
    }
    Ok(found)
}

/// Frames of threads that are inside of this library and have given up the lock.
static WAITS: Mutex<Vec<(u64, Py<PyAny>)>> = Mutex::new(Vec::new());

fn waits() -> std::sync::MutexGuard<'static, Vec<(u64, Py<PyAny>)>> {
    // Locked for moments only, with the interpreter lock held, so nobody waits for it; a list is whole
    // whatever happened to who held it.
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this is alive, the frames of this thread count as waiting, also for a walk on another one.
#[derive(Debug)]
pub struct WaitsHere(Option<u64>);

impl WaitsHere {
    /// Begins now.
    ///
    /// # Errors
    /// What the interpreter raised.
    ///
    /// # Safety
    /// Until this is dropped, the thread runs no Python code but what this library calls, in frames
    /// above these, and no C code but the library's: others take it that nothing uses what the frames hold.
    pub unsafe fn begin(py: Python<'_>) -> PyResult<Self> {
        let Some(frame) = current(py)? else { return Ok(Self(None)) };
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        waits().push((number, frame.unbind()));
        Ok(Self(Some(number)))
    }
}

impl Drop for WaitsHere {
    fn drop(&mut self) {
        let Some(number) = self.0 else { return };
        // Dropped outside of the list's lock: the last reference to a frame frees its variables.
        let ended = Python::attach(|_| {
            let mut waits = waits();
            let at = waits.iter().position(|(known, _)| *known == number);
            at.map(|at| waits.swap_remove(at))
        });
        drop(ended);
    }
}
