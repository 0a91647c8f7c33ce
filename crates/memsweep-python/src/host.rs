//! A Python object and the operating system, seen together as the host of a sweep.
//!
//! What the Python object answers is `memsweep.host.Host`, a typed protocol.

use memsweep_core::action::{Action, Outcome};
use memsweep_core::reading::{DeviceMemory, Reading};
use memsweep_core::reason::Missing;
use memsweep_core::rest::Child;
use memsweep_core::sweep::Host;
use memsweep_os::Os;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

/// The host of one sweep.
pub(crate) struct PyHost<'py> {
    py: Python<'py>,
    object: Option<Bound<'py, PyAny>>,
    os: Os,
    /// What must be raised again once the report is complete: a cancel, an exit, Ctrl-C.
    pub(crate) passing: Option<PyErr>,
}

impl<'py> PyHost<'py> {
    pub(crate) fn new(py: Python<'py>, object: Option<Bound<'py, PyAny>>) -> Self {
        Self { py, object, os: Os::current(), passing: None }
    }

    fn torch_devices(&mut self) -> Vec<DeviceMemory> {
        let Some(object) = &self.object else { return Vec::new() };
        match object.call_method0("devices").and_then(|value| value.extract::<String>()) {
            Ok(text) => crate::json::parse("the devices", &text).unwrap_or_default(),
            // A reading is total: a device layer that fails leaves its devices out. Ctrl-C is not
            // such a failure.
            Err(error) => {
                if self.passes(&error) {
                    self.passing.get_or_insert(error);
                }
                Vec::new()
            }
        }
    }

    fn cancelled(&mut self) -> bool {
        if self.passing.is_none() {
            let Some(object) = &self.object else { return false };
            // Whatever it raises is the host's way of saying stop.
            self.passing = object.call_method0("check_cancelled").err();
        }
        self.passing.is_some()
    }

    fn in_python(&mut self, action: &Action) -> Outcome {
        let outcome = self.try_in_python(action);
        self.answered(outcome)
    }

    fn answered(&mut self, outcome: PyResult<Outcome>) -> Outcome {
        match outcome {
            Ok(outcome) => outcome,
            // KeyboardInterrupt, SystemExit and the like are not ours to swallow, and neither is
            // what the host calls a cancel: older ComfyUI derives its cancel from `Exception`.
            Err(error) if self.passes(&error) => {
                self.passing = Some(error);
                Outcome::Cancelled
            }
            Err(error) => Outcome::Failed { error: error.to_string() },
        }
    }

    fn passes(&self, error: &PyErr) -> bool {
        let passing = self.object.as_ref().and_then(|object| object.getattr("passing").ok());
        !error.is_instance_of::<PyException>(self.py)
            || passing.is_some_and(|types| error.matches(self.py, types).unwrap_or(false))
    }

    fn try_in_python(&self, action: &Action) -> PyResult<Outcome> {
        let Some(object) = &self.object else { return Ok(no_host()) };
        let request = serde_json::to_string(action).map_err(crate::error::writing)?;
        let answer: String = object.call_method1("release", (request,))?.extract()?;
        crate::json::parse("the outcome", &answer)
    }
}

fn no_host() -> Outcome {
    Outcome::unsupported(Missing::NoHost)
}

impl Host for PyHost<'_> {
    fn read(&mut self) -> Reading {
        // A driver may take a tenth of a second to answer; other threads keep running meanwhile.
        let os = &self.os;
        let mut reading = self.py.detach(|| os.read());
        reading.join_devices(self.torch_devices());
        reading
    }

    fn children(&mut self) -> Vec<Child> {
        let os = &self.os;
        self.py.detach(|| os.children())
    }

    fn release(&mut self, action: &Action) -> Outcome {
        if self.cancelled() {
            return Outcome::Cancelled;
        }
        let os = &self.os;
        match action {
            Action::Park { keep, limits } => {
                let Some(object) = &self.object else { return no_host() };
                let outcome = crate::park::park(self.py, os, object, keep, limits);
                let outcome = outcome.map(|(outcome, raised)| {
                    if let Some(error) = raised.filter(|error| self.passes(error)) {
                        self.passing = Some(error);
                    }
                    outcome
                });
                self.answered(outcome)
            }
            Action::Destroy { keep } => {
                let Some(object) = &self.object else { return no_host() };
                let outcome = crate::destroy::destroy(object, keep);
                self.answered(outcome)
            }
            // What the system does may take long, and needs no Python object.
            _ => match self.py.detach(|| os.release(action)) {
                Some(outcome) => outcome,
                None => self.in_python(action),
            },
        }
    }
}
