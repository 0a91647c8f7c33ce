//! The suites for other systems than this machine's, where Debian's second Rust can be had.

use anyhow::Result;

use super::Session;
use super::summary::{Line, Outcome};
use crate::cross::Cross;
use crate::targets;
use crate::windows::Windows;

impl Session<'_> {
    pub(super) fn windows(&mut self) -> Result<()> {
        let windows = match Windows::prepare(self.paths) {
            Ok(windows) => windows,
            Err(why) => {
                self.not_run("windows", &format!("{why:#}"));
                return Ok(());
            }
        };
        self.runner("windows: cargo test under wine", &windows.tests())?;
        let caught = windows.catches_a_wrong_size()?;
        self.planted("windows: a wrong structure size", caught);
        Ok(())
    }

    pub(super) fn targets(&mut self) -> Result<()> {
        let cross = match Cross::prepare(self.paths) {
            Ok(cross) => cross,
            Err(why) => {
                self.not_run("targets", &format!("{why:#}"));
                return Ok(());
            }
        };
        for target in targets::TARGETS {
            self.runner(&format!("clippy for {target}"), &targets::check(&cross, target))?;
        }
        let caught = targets::catches_a_type_error(self.paths, &cross)?;
        self.planted("targets: a type error in macOS-only code", caught);
        Ok(())
    }

    /// A planted fault that nobody notices is a failure.
    fn planted(&mut self, what: &str, caught: bool) {
        let (outcome, summary) = if caught {
            (Outcome::Passed, "planted and caught")
        } else {
            (Outcome::Failed, "planted and NOT caught")
        };
        println!("-- {what}: {summary}");
        let (what, summary) = (what.to_owned(), vec![summary.to_owned()]);
        self.lines.push(Line { what, outcome, summary });
    }
}
