//! What reads raw memory, under memory checkers; and the meter of lost writes.

use anyhow::{Context, Result};

use super::Session;
use crate::paths::Paths;
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

    /// Every kind of holder must lose a write where nothing counts as in use, and where the part of the
    /// rule that protects it is missing.
    pub(super) fn meter(&mut self) -> Result<()> {
        type Check = fn(&Paths) -> Result<Vec<String>>;
        let checks: [(_, Check, _); 2] = [
            ("meter: nothing counts as in use", meter::blind_kinds, "every kind of holder"),
            ("meter: parts of the rule", meter::idle_parts, "without each"),
        ];
        for (what, check, which) in checks {
            if !cfg!(target_os = "linux") {
                self.not_run(what, "only Linux can park");
                continue;
            }
            super::title(what);
            let found = check(self.paths);
            match self.required(what, found) {
                Some(found) if found.is_empty() => {
                    self.passed(what, &format!("planted, and {which} lost a write"));
                }
                Some(found) => self.failed(what, format!("no write lost: {}", found.join(", "))),
                None => {}
            }
        }
        Ok(())
    }
}
