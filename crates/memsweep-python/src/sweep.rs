//! Reading, planning and sweeping, as Python calls them.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memsweep_core::inventory::Inventory;
use memsweep_core::memory_report::MemoryReport;
use memsweep_core::plan::{Plan, park_only, plan};
use memsweep_core::policy::{Policy, Settings};
use memsweep_core::sweep::Host as _;
use memsweep_core::turns::Turns;
use memsweep_os::Os;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error;
use crate::host::PyHost;
use crate::json;
use crate::values::{PyReading, PyReport};

/// Reads process, machine and devices. Creates no device context.
#[pyfunction]
#[pyo3(signature = (host = None))]
fn read(py: Python<'_>, host: Option<Bound<'_, PyAny>>) -> PyResult<PyReading> {
    let mut host = PyHost::new(py, host);
    let reading = host.read();
    match host.passing {
        Some(error) => Err(error),
        None => Ok(reading.into()),
    }
}

/// Settings that were checked once.
#[pyclass(frozen, module = "memsweep._memsweep", name = "Policy")]
#[derive(Debug)]
pub(crate) struct PyPolicy {
    inner: Policy,
}

#[pymethods]
impl PyPolicy {
    /// Checks settings (JSON). Raises `ValueError` and says what is wrong with them.
    #[new]
    fn new(settings: &str) -> PyResult<Self> {
        let settings: Settings = json::parse("the settings", settings)?;
        Policy::try_from(settings).map(|inner| Self { inner }).map_err(error::policy)
    }

    /// The level that will be carried out: `evict` where `park` was asked for and is switched off.
    #[getter]
    fn level(&self) -> &'static str {
        self.inner.level.name()
    }

    /// Whether a plan needs an inventory of what is in use.
    #[getter]
    fn needs_facts(&self) -> bool {
        self.inner.level.needs_facts()
    }

    fn __repr__(&self) -> String {
        format!("<memsweep.Policy {}>", self.inner.level)
    }
}

/// The sweeps of one node that a loop runs again and again, within one prompt.
#[pyclass(frozen, module = "memsweep._memsweep", name = "Turns")]
#[derive(Debug, Default)]
pub(crate) struct PyTurns {
    inner: Mutex<Turns>,
}

#[pymethods]
impl PyTurns {
    /// With `beside`, the sweeps of another copy of that node: the report is its own, and the collector
    /// rests where it rested there.
    #[new]
    #[pyo3(signature = (beside = None))]
    fn new(beside: Option<&Self>) -> Self {
        let inner = beside.map(|earlier| Turns::beside(&earlier.lock())).unwrap_or_default();
        Self { inner: Mutex::new(inner) }
    }
}

impl PyTurns {
    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plans and carries out one sweep. `inventory` is JSON. With `turns` it is one more of these: the
/// report sums them up, and the collector rests where it gave nothing back before.
///
/// A cancel that arrives during the sweep is raised when the step under way is complete. What is
/// raised then has the report as `memsweep_report`.
#[pyfunction]
#[pyo3(signature = (policy, inventory, host, turns = None))]
fn sweep(
    py: Python<'_>,
    policy: &PyPolicy,
    inventory: &str,
    host: Bound<'_, PyAny>,
    turns: Option<&PyTurns>,
) -> PyResult<PyReport> {
    let inventory: Inventory = json::parse("the inventory", inventory)?;
    carry_out(py, &plan(&inventory, &policy.inner), host, turns)
}

/// Parks what the host finds, and does nothing else.
#[pyfunction]
fn park(py: Python<'_>, policy: &PyPolicy, host: Bound<'_, PyAny>) -> PyResult<PyReport> {
    carry_out(py, &park_only(&policy.inner), host, None)
}

fn carry_out(
    py: Python<'_>,
    plan: &Plan,
    host: Bound<'_, PyAny>,
    shared: Option<&PyTurns>,
) -> PyResult<PyReport> {
    let mut host = PyHost::new(py, Some(host));
    // Not locked meanwhile: the host runs Python, which may sweep.
    let mut turns = shared.map(|shared| mem::take(&mut *shared.lock())).unwrap_or_default();
    let mut report = turns.sweep(plan, &mut host);
    if let Some(shared) = shared {
        *shared.lock() = turns;
    }
    let Some(error) = host.passing else { return Ok(report.into()) };
    report.cancelled = true;
    // What was done by then is done, and whoever catches the error can report it. An error that
    // accepts no attribute passes all the same.
    let _ = error.value(py).setattr("memsweep_report", PyReport::from(report));
    Err(error)
}

/// Text from outside, made safe to show on one line of a log.
#[pyfunction]
fn plain(text: &Bound<'_, PyString>) -> PyResult<String> {
    let text = match text.to_str() {
        Ok(text) => text.to_owned(),
        // Half of a surrogate pair; it is shown as the escape that Python shows.
        Err(_) => text
            .call_method1("encode", ("ascii", "backslashreplace"))?
            .call_method1("decode", ("ascii",))?
            .extract()?,
    };
    Ok(memsweep_core::plain::plain(&text))
}

/// Text and JSON of a Memory Report. `models` and `notes`: those of an inventory, as JSON.
#[pyfunction]
#[pyo3(signature = (reading, models, notes = "[]"))]
fn memory_report(
    py: Python<'_>,
    reading: &PyReading,
    models: &str,
    notes: &str,
) -> PyResult<(String, String)> {
    let children = PyHost::new(py, None).children();
    let models = json::parse("the models", models)?;
    let notes = json::parse("the notes", notes)?;
    let report = MemoryReport::new(reading.inner().clone(), models, children, notes);
    let json = serde_json::to_string(&report).map_err(error::writing)?;
    Ok((report.text(), json))
}

/// Regular files that this process has mapped, of those in one of the folders `below` and in none of
/// `exclude`.
#[pyfunction]
#[pyo3(signature = (below, exclude = Vec::new()))]
fn mapped_files(py: Python<'_>, below: Vec<PathBuf>, exclude: Vec<PathBuf>) -> Vec<String> {
    let [below, exclude]: [Vec<&Path>; 2] =
        [&below, &exclude].map(|folders| folders.iter().map(PathBuf::as_path).collect());
    py.detach(|| Os::current().mapped_files(&below, &exclude))
}

/// Whether parking notices a write by somebody who has nothing but an address.
#[pyfunction]
fn notices_writes() -> bool {
    Os::current().notices_writes()
}

/// Adds the functions.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read, module)?)?;
    module.add_class::<PyPolicy>()?;
    module.add_class::<PyTurns>()?;
    module.add_function(wrap_pyfunction!(sweep, module)?)?;
    module.add_function(wrap_pyfunction!(park, module)?)?;
    module.add_function(wrap_pyfunction!(plain, module)?)?;
    module.add_function(wrap_pyfunction!(memory_report, module)?)?;
    module.add_function(wrap_pyfunction!(mapped_files, module)?)?;
    module.add_function(wrap_pyfunction!(notices_writes, module)?)
}
