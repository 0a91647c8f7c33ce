//! The unsafe crates' tests, and the walk in a real Python, under valgrind: it sees a read that
//! lands beside what was allocated, where a test only sees what came of it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::paths::Paths;
use crate::run::Program;
use crate::{setup, tools};

const PACKAGES: [&str; 3] =
    ["--package=memsweep-core", "--package=memsweep-os", "--package=memsweep-pyheap"];
/// Tests that make no sense here, by a part of their names.
const SKIPPED: [&str; 4] = [
    // Thousands of cases of a crate without unsafe code.
    "properties",
    // Valgrind puts its own heap in the place of the C library's, which then holds nothing.
    "freed_small_blocks_show_up_as_slack",
    "a_heap_with_two_percent_left_is_given_back",
    // For the same reason nothing of the heap can be parked.
    "linux::park::tests",
];
/// Enough to reach every branch of the small parsers; valgrind makes each case 30 times as slow.
const CASES: &str = "8";
/// What valgrind answers when it found something. No test runner answers that.
const FOUND: &str = "--error-exitcode=9";

/// Finds valgrind, and installs Debian's where that needs no question.
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

/// What is run under valgrind, with a name each. Builds the tests, and needs a set-up.
pub(crate) fn programs(paths: &Paths, valgrind: &Path) -> Result<Vec<(String, Program)>> {
    let mut programs: Vec<(String, Program)> = Vec::new();
    for test in test_binaries(paths)? {
        let mut program = Program::new(valgrind, &test.folder)
            .args(["--quiet", FOUND, "--num-callers=20", "--leak-check=full"])
            .args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"])
            .arg(&test.binary)
            .arg("--test-threads=1")
            .env("PROPTEST_CASES", CASES);
        for name in SKIPPED {
            program = program.args(["--skip", name]);
        }
        programs.push((format!("valgrind: {}", test.name), program));
    }
    let walk = Program::new(valgrind, &paths.root)
        // No look for leaks: Python gives its own objects back to nobody when it ends, and that
        // the walk keeps no object is held by `tests/python/test_heap_hygiene.py`.
        .args(["--quiet", FOUND, "--num-callers=20", "--leak-check=no"])
        .arg(newest_python(paths)?)
        .arg(paths.root.join("tests/python/valgrind_walk.py"))
        // Each object a block of its own, so that a read beside it is seen. Nothing of Python has
        // to be suppressed then.
        .env("PYTHONMALLOC", "malloc");
    programs.push(("valgrind: the walk in Python".to_owned(), walk));
    Ok(programs)
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

/// A small environment of the newest Python: that is where the layout of objects moved last.
fn newest_python(paths: &Paths) -> Result<PathBuf> {
    let own = tools::python(paths)?.minor;
    let others = tools::pythons(paths, Some(own)).into_iter().filter_map(|(_, found)| found);
    match others.max_by_key(|python| python.minor) {
        Some(python) if python.minor > own => setup::small_venv(paths, &python),
        _ => Ok(paths.python()),
    }
}

/// A test binary, and the folder that Cargo would run it in.
#[derive(Debug, PartialEq, Eq)]
struct TestBinary {
    name: String,
    binary: PathBuf,
    folder: PathBuf,
}

fn test_binaries(paths: &Paths) -> Result<Vec<TestBinary>> {
    let cargo = tools::require("cargo", "install Rust from rustup.rs")?;
    let build = Program::new(cargo, &paths.root)
        .args(["test", "--locked", "--no-run", "--message-format=json"])
        .args(PACKAGES);
    // PyO3 would otherwise take whichever python3 comes first.
    let build = match env::var_os("MEMSWEEP_PYTHON") {
        Some(python) => build.env("PYO3_PYTHON", python),
        None => build,
    };
    let messages = build.output()?.context("`cargo test --no-run` failed")?;
    let found: Vec<TestBinary> = messages.lines().filter_map(test_binary).collect();
    if found.is_empty() {
        bail!("`cargo test --no-run` named no test binary");
    }
    Ok(found)
}

/// The test binary that a message of Cargo tells of.
fn test_binary(message: &str) -> Option<TestBinary> {
    let message: Value = serde_json::from_str(message).ok()?;
    let binary = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let package = folder.file_name()?.to_string_lossy();
    let target = message["target"]["name"].as_str()?;
    let tests = if target == package.replace('-', "_") { "unit tests" } else { target };
    let name = format!("{package}, {tests}");
    Some(TestBinary { name, binary: binary.into(), folder: folder.to_path_buf() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(target: &str, executable: &str, test: bool) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/a/crates/memsweep-os/Cargo.toml",
            "target":{{"kind":["lib"],"name":"{target}"}},"profile":{{"test":{test}}},
            "executable":{executable}}}"#
        )
    }

    #[test]
    fn only_test_binaries_are_taken_from_what_cargo_says() {
        let found = test_binary(&message("file_cache", "\"/t/deps/file_cache-1\"", true));
        let expected = TestBinary {
            name: "memsweep-os, file_cache".to_owned(),
            binary: "/t/deps/file_cache-1".into(),
            folder: "/a/crates/memsweep-os".into(),
        };
        assert_eq!(found, Some(expected));
        let unit = test_binary(&message("memsweep_os", "\"/t/deps/memsweep_os-1\"", true));
        assert_eq!(unit.map(|test| test.name).as_deref(), Some("memsweep-os, unit tests"));
        assert_eq!(test_binary(&message("memsweep_os", "null", true)), None);
        assert_eq!(test_binary(&message("xtask", "\"/t/xtask\"", false)), None);
        assert_eq!(test_binary(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(test_binary("warning: no JSON"), None);
    }
}
