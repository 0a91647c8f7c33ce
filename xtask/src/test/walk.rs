//! What reads raw memory, under checkers of memory errors; and what sees lost writes.

use anyhow::Result;

use super::{Runner, Session};
use crate::{meter, valgrind};

impl Session<'_> {
    pub(super) fn walk(&mut self) -> Result<()> {
        match valgrind::find(self.paths) {
            Ok(found) => {
                for (what, program) in valgrind::programs(self.paths, &found)? {
                    self.runner(&what, Runner::Cargo, &program)?;
                }
            }
            Err(error) => self.not_run("valgrind", &format!("{error:#}")),
        }
        match valgrind::miri(self.paths) {
            Some(program) => self.runner("Miri", Runner::Cargo, &program),
            None => {
                self.not_run("Miri", "no toolchain with it is installed");
                Ok(())
            }
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
        match meter::blind_kinds(self.paths) {
            Ok(blind) if blind.is_empty() => {
                self.passed(what, "planted, and every kind of holder lost a write");
            }
            Ok(blind) => self.failed(what, format!("no write lost by: {}", blind.join(", "))),
            Err(error) => self.failed(what, format!("{error:#}")),
        }
        Ok(())
    }
}
