//! The one-time check that this interpreter can be walked: its layout is found, a walk agrees with
//! the interpreter's own `gc.get_referents`, and protection holds: what another thread has in use
//! counts as in use, however our own calls pass it on.
//!
//! Every question begins here: [`world`] and [`counting_world`] are for interpreters that passed.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyList, PyString, PyTuple};

use crate::frames::{FrameLayout, Waiting};
use crate::hidden::are_pinned;
use crate::layout::Layout;
use crate::reach::reached_by;
use crate::table::AddressHashSet;
use crate::world::{World, addresses};

/// The outcome of the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// What was found about the interpreter.
    pub layout: Layout,
    /// Objects compared.
    pub objects: usize,
    /// Whether the references of waiting frames are read. Where they are not, what such a frame holds
    /// counts as in use.
    pub waiting_frames_are_read: bool,
}

static DONE: PyOnceLock<Result<SelfTest, String>> = PyOnceLock::new();

/// Runs the self-test once; afterwards answers from memory.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, with the reason.
pub fn self_test(py: Python<'_>) -> PyResult<SelfTest> {
    let verdict = match DONE.get(py) {
        Some(known) => known.clone(),
        // No thread waits for another's test: it runs Python code, in which a signal handler or a forked
        // child may ask again.
        None => {
            let verdict = match try_out(py) {
                Ok(passed) => Ok(passed),
                // The verdict is kept. An interrupt or a lack of memory says nothing about the interpreter.
                Err(error) if error.is_instance_of::<PyRuntimeError>(py) => {
                    Err(error.value(py).to_string())
                }
                Err(error) => return Err(error),
            };
            drop(DONE.set(py, verdict.clone()));
            verdict
        }
    };
    verdict.map_err(PyRuntimeError::new_err)
}

/// What a question needs to know of this interpreter, which has passed the self-test.
///
/// # Errors
/// As for [`self_test`], and `TypeError` when `types` holds anything but types.
pub(crate) fn world<'py>(types: &Bound<'py, PyTuple>) -> PyResult<World<'py>> {
    World::new(types.py(), self_test(types.py())?.layout, types)
}

/// The same for a question that counts references.
pub(crate) fn counting_world<'py>(types: &Bound<'py, PyTuple>) -> PyResult<World<'py>> {
    let mut world = world(types)?;
    world.prepare_counting()?;
    Ok(world)
}

fn try_out(py: Python<'_>) -> PyResult<SelfTest> {
    Layout::refuse_free_threaded(py)?;
    let script = PyDict::new(py);
    script.set_item("__builtins__", py.import("builtins")?)?;
    script.set_item("__name__", "memsweep_self_test")?;
    // Not PyO3's `run`, whose first call waits where a fork can leave it waiting for ever.
    let source = PyString::new(py, include_str!("selftest.py"));
    py.import("builtins")?.getattr("exec")?.call1((source, &script))?;
    let part = |name: &str| -> PyResult<Bound<'_, PyAny>> { script.as_any().get_item(name) };

    let probe = part("Plain")?.call0()?;
    probe.setattr("a", 1)?;
    let mut layout = Layout::of_interpreter(&probe, &part("function")?)?;
    layout.frames = frame_layout(&part("frames")?.call0()?)?;

    let roots = part("build")?.call0()?.cast_into::<PyList>()?;
    let anything = PyTuple::new(py, [py.import("builtins")?.getattr("object")?])?;
    let world = World::new(py, layout, &anything)?;
    let walked = reached_by(&world, std::slice::from_ref(&roots))?;
    let expected = part("closure")?.call1((&roots,))?.cast_into::<PyList>()?;

    let mut missing = AddressHashSet::default();
    missing.extend(addresses(&expected)?);
    let mut beyond = 0;
    for object in walked.iter().flatten() {
        beyond += usize::from(!missing.remove(&(object.as_ptr() as usize)));
    }
    if !missing.is_empty() || beyond != 0 {
        return Err(PyRuntimeError::new_err(format!(
            "cannot walk this interpreter's heap: of {} objects the walk missed {} and met {beyond} others",
            expected.len(),
            missing.len(),
        )));
    }
    let protects = protection(&part("protection")?, layout)?;
    if !protects && layout.frames.is_some() {
        // Then nothing is explained, which must protect.
        layout.frames = None;
        protection(&part("protection")?, layout)?;
    }
    // The script's functions and their globals hold each other.
    script.clear();
    let waiting_frames_are_read = layout.frames.is_some();
    Ok(SelfTest { layout, objects: expected.len(), waiting_frames_are_read })
}

/// Finds where frames keep their references, by looking at frames whose content is known.
fn frame_layout(known: &Bound<'_, PyAny>) -> PyResult<Option<FrameLayout>> {
    let part = |name: &str| known.get_item(name);
    let values = addresses(&part("values")?.cast_into::<PyList>()?)?;
    Ok(FrameLayout::of(
        &part("frame")?,
        &values,
        part("function")?.as_ptr() as usize,
        &part("named")?,
        part("namespace")?.as_ptr() as usize,
    ))
}

/// Lets another thread hold an object, and asks about it from ever deeper calls that pass it on.
/// Returns whether it counts as idle when only a variable of ours holds it.
fn protection(trial: &Bound<'_, PyAny>, layout: Layout) -> PyResult<bool> {
    let py = trial.py();
    let ask = PyCFunction::new_closure(py, None, None, move |arguments, _| {
        let objects = arguments.get_item(0)?.cast_into::<PyList>()?;
        let mut world = World::new(arguments.py(), layout, &PyTuple::empty(arguments.py()))?;
        world.prepare_counting()?;
        let waiting = Waiting::all(arguments.py())?;
        // The call holds its arguments.
        are_pinned(&world, &objects, &waiting, arguments.as_ptr() as usize)
    })?;
    let mut is_free = true;
    for row in trial.call1((ask,))?.try_iter()? {
        let (holders, depth, in_use): (usize, usize, bool) = row?.extract()?;
        match (holders, in_use) {
            (0, true) => is_free = false,
            (1.., false) => {
                return Err(PyRuntimeError::new_err(format!(
                    "cannot protect memory on this interpreter: an object that another thread holds \
                     {holders} times counted as idle, {depth} calls deep"
                )));
            }
            _ => {}
        }
    }
    Ok(is_free)
}
