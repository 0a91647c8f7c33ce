//! Reading, planning and sweeping, as Python calls them.

use memsweep_core::inventory::Inventory;
use memsweep_core::plan::{Plan, park_only, plan};
use memsweep_core::policy::{Policy, Settings};
use memsweep_core::sweep::{Host as _, sweep as run};
use memsweep_os::Os;
use pyo3::prelude::*;

use crate::error;
use crate::host::PyHost;
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
/// A cancel that arrives during the sweep is raised when the step under way is complete.
#[pyfunction]
fn sweep(
    py: Python<'_>,
    settings: &str,
    inventory: &str,
    host: Bound<'_, PyAny>,
) -> PyResult<PyReport> {
    let plan = planned(settings, inventory)?;
    let mut host = PyHost::new(py, Some(host));
    let report = run(&plan, &mut host);
    match host.passing {
        Some(error) => Err(error),
        None => Ok(report.into()),
    }
}

/// Parks what the host finds, and does nothing else.
#[pyfunction]
fn park(py: Python<'_>, settings: &str, host: Bound<'_, PyAny>) -> PyResult<PyReport> {
    let mut host_of_sweep = PyHost::new(py, Some(host));
    let report = run(&park_only(&policy(settings)?), &mut host_of_sweep);
    match host_of_sweep.passing {
        Some(error) => Err(error),
        None => Ok(report.into()),
    }
}

/// Regular files that this process has mapped.
#[pyfunction]
fn mapped_files() -> Vec<String> {
    Os::current().mapped_files()
}

fn policy(settings: &str) -> PyResult<Policy> {
    let settings: Settings =
        serde_json::from_str(settings).map_err(|error| error::json("the settings", error))?;
    Policy::try_from(settings).map_err(error::policy)
}

fn planned(settings: &str, inventory: &str) -> PyResult<Plan> {
    let policy = policy(settings)?;
    let inventory: Inventory =
        serde_json::from_str(inventory).map_err(|error| error::json("the inventory", error))?;
    Ok(plan(&inventory, &policy))
}

/// Adds the functions.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read, module)?)?;
    module.add_function(wrap_pyfunction!(level_of, module)?)?;
    module.add_function(wrap_pyfunction!(sweep, module)?)?;
    module.add_function(wrap_pyfunction!(park, module)?)?;
    module.add_function(wrap_pyfunction!(mapped_files, module)?)
}
