//! The tests of the library on the wheel to be released, in fresh environments of every Python.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::paths::Paths;
use crate::progress::elapsed;
use crate::run::{Program, TemporaryFolder};
use crate::test::sums_up;
use crate::{setup, tools};

/// True when the tests pass on every Python that is there.
pub(super) fn test(paths: &Paths, wheel: &Path) -> Result<bool> {
    tools::allocators(paths)?;
    let mut results = Vec::new();
    for (minor, found) in tools::pythons(paths, None) {
        let Some(python) = found else {
            results.push((format!("python 3.{minor}: not run, it is not installed"), None));
            continue;
        };
        let start = Instant::now();
        println!("\n== python 3.{minor}");
        // Nothing that an earlier wheel left behind can help this one.
        let name = format!("python-3.{minor}");
        let folder = TemporaryFolder::create(&paths.root.join("target/dist"), &name)?;
        let inside = setup::small_venv_with(paths, &python, folder.path(), wheel)?;
        let tests = Program::new(inside, &paths.root)
            .args(["-m", "pytest", "-ra", "tests/python"])
            .envs(paths.environment());
        let (status, lines) = tests.run_shown()?;
        let summary = sums_up(&lines).join(" ");
        let summary = summary.trim_matches(['=', ' ']);
        let line = format!("python 3.{minor}: {status}, {}, {summary}", elapsed(start));
        results.push((line, Some(status.success())));
    }
    println!();
    for (line, _) in &results {
        println!("{line}");
    }
    let ran: Vec<bool> = results.iter().filter_map(|(_, passed)| *passed).collect();
    if ran.is_empty() {
        bail!("no Python was found to test the wheel on");
    }
    Ok(ran.into_iter().all(|passed| passed))
}
