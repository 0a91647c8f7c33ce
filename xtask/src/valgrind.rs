//! The unsafe crates' tests, and the walk in a real Python, under valgrind: it sees a read that
//! lands beside what was allocated, where a test sees only the consequences.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::paths::Paths;
use crate::run::Program;
use crate::{setup, tools};

const PACKAGES: [&str; 3] =
    ["--package=memsweep-core", "--package=memsweep-os", "--package=memsweep-pyheap"];
/// Tests that make no sense here, by a part of their names.
const SKIPPED: [&str; 4] = [
    // Thousands of cases of a crate without unsafe code.
    "properties",
    // Valgrind replaces the C library's heap with its own, so that the former holds nothing.
    "freed_small_blocks_show_up_as_slack",
    "a_heap_with_two_percent_left_is_given_back",
    // For the same reason nothing of the heap can be parked.
    "linux::park::tests",
];
/// Enough to reach every branch of the small parsers; valgrind makes each case 30 times as slow.
const CASES: &str = "8";
/// Valgrind's exit status when it found something. No test runner uses it.
const FOUND: &str = "--error-exitcode=9";

/// Finds valgrind, and installs Debian's where nobody has to be asked.
pub(crate) fn find(paths: &Paths) -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        bail!("valgrind is run on Linux only");
    }
    if let Some(path) = tools::find("valgrind") {
        return Ok(path);
    }
    tools::apt_install(paths, &["valgrind"], "Installing valgrind (about 30 MB)")?;
    tools::require("valgrind", "install it (Debian: apt-get install valgrind)")
}

/// The tests of the crates with unsafe code, and of the one that they rest on.
pub(crate) fn tests(paths: &Paths, valgrind: &Path) -> Result<Program> {
    let valgrind = valgrind.to_string_lossy();
    let runner = [&valgrind, "--quiet", FOUND, "--num-callers=20", "--leak-check=full"];
    let leaks = ["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"];
    // Written as TOML writes a list; the condition holds for every target.
    let runner = format!("target.'cfg(all())'.runner = {:?}", [&runner[..], &leaks].concat());
    let skipped = SKIPPED.iter().flat_map(|name| ["--skip", name]);
    Ok(tools::cargo(paths)?
        .args(["test", "--locked", "--no-fail-fast", "--tests", "--config", &runner])
        .args(PACKAGES)
        .args(["--", "--test-threads=1"])
        .args(skipped)
        .env("PROPTEST_CASES", CASES))
}

/// The walk in a real Python. Needs a set-up.
pub(crate) fn walk(paths: &Paths, valgrind: &Path) -> Result<Program> {
    Ok(Program::new(valgrind, &paths.root)
        // No check for leaks: Python does not free its own objects when it ends, and
        // `tests/python/test_heap_hygiene.py` checks that the walk keeps none.
        .args(["--quiet", FOUND, "--num-callers=20", "--leak-check=no"])
        .arg(newest_python(paths)?)
        .arg(paths.root.join("tests/python/valgrind_walk.py"))
        // Each object a block of its own, so that a read beside it is seen. Then nothing in Python
        // has to be suppressed.
        .env("PYTHONMALLOC", "malloc"))
}

/// The tests of the crates that Miri can interpret, where a toolchain has Miri.
pub(crate) fn miri(paths: &Paths) -> Option<Program> {
    let cargo = tools::find("cargo")?;
    let miri = |toolchain: &[&str]| Program::new(&cargo, &paths.root).args(toolchain).arg("miri");
    let toolchains: [&[&str]; 2] = [&[], &["+nightly"]];
    let has_it = |toolchain: &&[&str]| {
        miri(toolchain).arg("--version").output().is_ok_and(|answer| answer.is_some())
    };
    let toolchain = toolchains.into_iter().find(has_it)?;
    let program = miri(toolchain)
        .args(["test", "--locked", "--package=memsweep-core", "--package=memsweep-pyheap"])
        // Fixtures are files, and random values begin with the clock.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env("PROPTEST_CASES", CASES)
        .args(["--", "--skip", SKIPPED[0]]);
    Some(program)
}

/// A small environment of the newest Python, where the layout of objects changed last.
fn newest_python(paths: &Paths) -> Result<PathBuf> {
    let own = tools::python(paths)?.minor;
    let others = tools::pythons(paths, Some(own)).into_iter().filter_map(|(_, found)| found);
    match others.max_by_key(|python| python.minor) {
        Some(python) if python.minor > own => setup::small_venv(paths, &python),
        _ => Ok(paths.python()),
    }
}
