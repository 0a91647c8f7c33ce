//! What reads raw memory, under checkers of memory errors.

use anyhow::Result;

use super::Session;
use crate::valgrind;

impl Session<'_> {
    pub(super) fn walk(&mut self) -> Result<()> {
        match valgrind::find(self.paths) {
            Ok(found) => {
                for (what, program) in valgrind::programs(self.paths, &found)? {
                    self.runner(&what, &program)?;
                }
            }
            Err(error) => self.not_run("valgrind", &format!("{error:#}")),
        }
        match valgrind::miri(self.paths) {
            Some(program) => self.runner("Miri", &program),
            None => {
                self.not_run("Miri", "no toolchain with it is installed");
                Ok(())
            }
        }
    }
}
