//! `cargo xtask gpu`: the tests that need a CUDA device.

use anyhow::Result;

use crate::paths::Paths;
use crate::run::Program;
use crate::setup::{self, Checkpoint};
use crate::test::sums_up;

/// The exit status of pytest when it collected no test at all.
const PYTEST_NO_TESTS: i32 = 5;

pub(crate) fn run(paths: &Paths) -> Result<bool> {
    setup::run(paths, &[Checkpoint::Small])?;
    let (status, lines) = Program::new(paths.python(), &paths.root)
        .args(["-m", "pytest", "tests/gpu", "-m", "gpu", "-ra"])
        .envs(paths.environment())
        .run_shown()?;
    if ran_nothing(&lines) || status.code() == Some(PYTEST_NO_TESTS) {
        println!("no CUDA device: nothing run");
        return Ok(status.success() || status.code() == Some(PYTEST_NO_TESTS));
    }
    Ok(status.success())
}

/// True when no test passed, failed or broke: all were skipped.
fn ran_nothing(lines: &[String]) -> bool {
    sums_up(lines)
        .last()
        .is_some_and(|line| !["passed", "failed", "error"].iter().any(|word| line.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_not_called_run() {
        let line = |text: &str| vec![text.to_owned()];
        assert!(ran_nothing(&line("===== 5 skipped in 0.12s =====")));
        assert!(!ran_nothing(&line("===== 1 passed, 4 skipped in 0.12s =====")));
        assert!(!ran_nothing(&line("===== 1 failed in 0.12s =====")));
    }
}
