//! The suites for systems other than this machine's, where Debian's second Rust is available.

use anyhow::Result;

use super::Session;
use crate::cross::Cross;
use crate::targets;
use crate::windows::Windows;

impl Session<'_> {
    pub(super) fn windows(&mut self) -> Result<()> {
        let Some(windows) = self.needed("windows", Windows::prepare(self.paths)) else {
            return Ok(());
        };
        self.runner("windows: cargo test under wine", windows.tests())?;
        self.planted("windows: a wrong structure size", windows.catches_a_wrong_size()?);
        Ok(())
    }

    pub(super) fn targets(&mut self) -> Result<()> {
        let Some(cross) = self.needed("targets", Cross::prepare(self.paths)) else {
            return Ok(());
        };
        for target in targets::TARGETS {
            self.runner(&format!("clippy for {target}"), targets::check(&cross, target))?;
        }
        let caught = targets::catches_a_type_error(self.paths, &cross)?;
        self.planted("targets: a type error in macOS-only code", caught);
        Ok(())
    }

    /// A planted fault that nobody notices is a failure.
    fn planted(&mut self, what: &str, caught: bool) {
        if caught {
            println!("-- {what}: planted and caught");
            self.passed(what, "planted and caught");
        } else {
            println!("-- {what}: planted and NOT caught");
            self.failed(what, "planted and NOT caught".to_owned());
        }
    }
}
