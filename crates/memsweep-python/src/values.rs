//! Readings and reports as frozen Python classes.

use memsweep_core::reading::Reading;
use memsweep_core::render;
use memsweep_core::report::Report;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;

use crate::error;

/// The numbers at one instant.
///
/// Sizes are bytes; `None` means it could not be read, never 0. On Linux process numbers come
/// from `/proc/self/status`, machine numbers from `/proc/meminfo` and the cgroup, device numbers
/// from the driver and from torch.
#[pyclass(frozen, module = "memsweep", name = "Reading")]
#[derive(Debug)]
pub(crate) struct PyReading {
    inner: Reading,
}

impl From<Reading> for PyReading {
    fn from(inner: Reading) -> Self {
        Self { inner }
    }
}

impl PyReading {
    pub(crate) fn inner(&self) -> &Reading {
        &self.inner
    }
}

#[pymethods]
impl PyReading {
    /// Resident bytes of this process (`VmRSS`), file pages included.
    #[getter]
    fn process_resident(&self) -> Option<u64> {
        self.inner.process.resident.map(|bytes| bytes.0)
    }

    /// Anonymous bytes of this process (`RssAnon`): what it really takes from the machine.
    #[getter]
    fn process_anonymous(&self) -> Option<u64> {
        self.inner.process.anonymous.map(|bytes| bytes.0)
    }

    /// Bytes of RAM available, considering machine and cgroup.
    #[getter]
    fn ram_available(&self) -> Option<u64> {
        self.inner.ram_available().map(|bytes| bytes.0)
    }

    /// Everything, as plain Python values. The shape is described in docs/report-format.md.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.inner)
    }

    /// Everything, as JSON text.
    fn to_json(&self) -> PyResult<String> {
        serde_json::to_string(&self.inner).map_err(error::writing)
    }

    fn __str__(&self) -> String {
        render::reading_text(&self.inner)
    }

    fn __repr__(&self) -> String {
        match self.inner.process.resident {
            Some(bytes) => format!("<memsweep.Reading process {bytes}>"),
            None => "<memsweep.Reading process unknown>".to_owned(),
        }
    }
}

/// What came of one sweep: one row per step, with estimated, claimed and measured bytes apart.
#[pyclass(frozen, module = "memsweep", name = "Report")]
#[derive(Debug)]
pub(crate) struct PyReport {
    inner: Report,
}

impl From<Report> for PyReport {
    fn from(inner: Report) -> Self {
        Self { inner }
    }
}

#[pymethods]
impl PyReport {
    /// Measured fall in bytes of the process's private memory, or on Windows and macOS of what the
    /// system charges to it, as in the report's headline; negative when it grew.
    #[getter]
    fn freed(&self) -> Option<i64> {
        self.inner.headline.process().map(|change| change.0)
    }

    /// Whether the goal holds after the sweep; `None` without a goal or when it is unknown.
    #[getter]
    fn goal_met(&self) -> Option<bool> {
        self.inner.goal_met
    }

    /// One line, as written to the log.
    #[getter]
    fn summary(&self) -> String {
        render::summary(&self.inner)
    }

    /// Everything, as plain Python values. The shape is described in docs/report-format.md.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.inner)
    }

    /// Everything, as JSON text.
    fn to_json(&self) -> PyResult<String> {
        serde_json::to_string(&self.inner).map_err(error::writing)
    }

    fn __str__(&self) -> String {
        render::text(&self.inner)
    }

    fn __repr__(&self) -> String {
        format!("<memsweep.Report {}>", render::summary(&self.inner))
    }
}

fn to_dict<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyDict>> {
    let text = serde_json::to_string(value).map_err(error::writing)?;
    Ok(py.import("json")?.call_method1("loads", (text,))?.cast_into::<PyDict>()?)
}

/// Adds the classes.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyReading>()?;
    module.add_class::<PyReport>()
}
