//! What reads raw memory, under memory checkers; and the meter of lost writes.

use anyhow::{Context, Result};

use super::Session;
use crate::{meter, valgrind};

impl Session<'_> {
    pub(super) fn walk(&mut self) -> Result<()> {
        if let Some(found) = self.needed("valgrind", valgrind::find(self.paths)) {
            self.runner("valgrind: cargo test", valgrind::tests(self.paths, &found)?)?;
            self.runner("valgrind: the walk in Python", valgrind::walk(self.paths, &found)?)?;
        }
        let miri = valgrind::miri(self.paths).context("no toolchain with it is installed");
        match self.needed("Miri", miri) {
            Some(program) => self.runner("Miri", program),
            None => Ok(()),
        }
    }

    /// Every kind of holder must lose a write where nothing counts as in use.
    pub(super) fn meter(&mut self) -> Result<()> {
        let what = "meter: nothing counts as in use";
        if !cfg!(target_os = "linux") {
            self.not_run(what, "only Linux can park");
            return Ok(());
        }
        super::title(what);
        let blind = meter::blind_kinds(self.paths);
        match self.required(what, blind) {
            Some(blind) if blind.is_empty() => {
                self.passed(what, "planted, and every kind of holder lost a write");
            }
            Some(blind) => self.failed(what, format!("no write lost by: {}", blind.join(", "))),
            None => {}
        }
        Ok(())
    }
}
