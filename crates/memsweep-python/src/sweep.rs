//! Reading, planning and sweeping, as Python calls them.

use memsweep_core::inventory::Inventory;
use memsweep_core::plan::{Plan, park_only, plan};
use memsweep_core::policy::{Policy, Settings};
use memsweep_core::sweep::{Host as _, sweep as run};
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

/// The deepest level the settings (JSON) ask for and this version has. Raises `ValueError` for
/// settings that cannot be meant.
#[pyfunction]
fn level_of(settings: &str) -> PyResult<&'static str> {
    Ok(policy(settings)?.level.name())
}

/// Plans and carries out one sweep. `settings` and `inventory` are JSON.
///
/// A cancel that arrives during the sweep is raised when the step under way is complete. What is
/// raised then has the report as `memsweep_report`.
#[pyfunction]
fn sweep(
    py: Python<'_>,
    settings: &str,
    inventory: &str,
    host: Bound<'_, PyAny>,
) -> PyResult<PyReport> {
    carry_out(py, &planned(settings, inventory)?, host)
}

/// Parks what the host finds, and does nothing else.
#[pyfunction]
fn park(py: Python<'_>, settings: &str, host: Bound<'_, PyAny>) -> PyResult<PyReport> {
    carry_out(py, &park_only(&policy(settings)?), host)
}

fn carry_out(py: Python<'_>, plan: &Plan, host: Bound<'_, PyAny>) -> PyResult<PyReport> {
    let mut host = PyHost::new(py, Some(host));
    let mut report = run(plan, &mut host);
    let Some(error) = host.passing else { return Ok(report.into()) };
    report.cancelled = true;
    // What was done until then is done: whoever catches the error can tell it. An error that takes
    // no attribute passes all the same.
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

/// Regular files that this process has mapped.
#[pyfunction]
fn mapped_files() -> Vec<String> {
    Os::current().mapped_files()
}

fn policy(settings: &str) -> PyResult<Policy> {
    let settings: Settings = json::parse("the settings", settings)?;
    Policy::try_from(settings).map_err(error::policy)
}

fn planned(settings: &str, inventory: &str) -> PyResult<Plan> {
    let policy = policy(settings)?;
    let inventory: Inventory = json::parse("the inventory", inventory)?;
    Ok(plan(&inventory, &policy))
}

/// Adds the functions.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read, module)?)?;
    module.add_function(wrap_pyfunction!(level_of, module)?)?;
    module.add_function(wrap_pyfunction!(sweep, module)?)?;
    module.add_function(wrap_pyfunction!(park, module)?)?;
    module.add_function(wrap_pyfunction!(plain, module)?)?;
    module.add_function(wrap_pyfunction!(mapped_files, module)?)
}
