//! Frames that wait: they do nothing until we return, so the references they hold are explained.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::FrameLayout;
use super::variables::count;
use crate::table::{AddressHashSet, AddressMap, OutOfMemory, add};

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
    /// Those of these frames that wait on this thread.
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
            // A frame given twice holds its variables once; one of another thread does not wait for us.
            if own.remove(&(frame.as_ptr() as usize)) {
                found.add(frame, None)?;
            }
        }
        Ok(found)
    }

    /// The frames of this thread, and of every other one that waits inside this library.
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

    /// The references that these frames hold: how many to each object. Runs no Python code.
    ///
    /// A thread that no longer waits may be using what it holds: between the look at the frames and
    /// this, an audit hook may have let other threads run.
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

fn current(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    // A thread that runs no Python code has no frame.
    Ok(py.import("sys")?.call_method0("_getframe").ok())
}

/// A frame and its callers.
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

/// Frames of threads that are inside this library and have given up the interpreter lock.
static WAITS: Mutex<Vec<(u64, Py<PyAny>)>> = Mutex::new(Vec::new());

fn waits() -> std::sync::MutexGuard<'static, Vec<(u64, Py<PyAny>)>> {
    // Locked for moments only, with the interpreter lock held, so nobody waits for it. A panic
    // elsewhere leaves the list whole.
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
    /// Until this is dropped, the thread runs no Python code except what this library calls, in frames
    /// above these, and no C code except the library's: other threads rely on nobody using what the
    /// frames hold.
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
        // Dropped outside the list's lock: the last reference to a frame frees its variables.
        let ended = Python::attach(|_| {
            let mut waits = waits();
            let at = waits.iter().position(|(known, _)| *known == number);
            at.map(|at| waits.swap_remove(at))
        });
        drop(ended);
    }
}
