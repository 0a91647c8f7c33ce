//! What may depend on what: between crates, and towards unsafe code and the network. That torch and
//! ComfyUI are imported nowhere else is ruff's, see `pyproject.toml`.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Problem, Tree};
use crate::paths::Paths;
use crate::run::Program;

/// The crates that contain unsafe code, and explain it.
const UNSAFE_CRATES: [&str; 2] = ["crates/memsweep-os/", "crates/memsweep-pyheap/"];
/// The one other module: it joins the proof of one of them with the swap of the other.
const UNSAFE_JOINT: (&str, &str) = ("crates/memsweep-python/src/lib.rs", "mod park;");

/// What only mentions it.
const UNSAFE_RULES: [&str; 2] = ["xtask/src/tidy/", "xtask/tests/clippy.rs"];

/// What is called in one file, or in none: the folder, the ending, the call, and that file.
const CALLS: [(&str, &str, &str, &str); 6] = [
    ("web/src/", ".ts", "fetch(", ""),
    ("python/", ".py", "import_module(", ""),
    ("python/", ".py", "__import__(", ""),
    ("comfyui/", ".py", "import_module(", "comfyui/library.py"),
    ("comfyui/", ".py", "__import__(", ""),
    ("comfyui/", ".py", "_memsweep", "comfyui/library.py"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A crate of ours, as `cargo metadata` describes it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev` for what only tests use.
    kind: Option<String>,
    #[serde(default)]
    optional: bool,
}

/// The crates of one workspace.
pub(super) fn packages(paths: &Paths, manifest: &str) -> Result<Vec<Package>> {
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--manifest-path", manifest];
    let answer = Program::new("cargo", &paths.root).args(arguments).output()?;
    let answer = answer.with_context(|| format!("`cargo metadata` failed for {manifest}"))?;
    let metadata: Metadata = serde_json::from_str(&answer).context("reading `cargo metadata`")?;
    Ok(metadata.packages)
}

/// The walls between crates. Dependencies of tests are free, but for our own crates.
pub(super) fn crate_dependencies(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in &tree.packages {
        for dependency in &package.dependencies {
            let for_tests = dependency.kind.as_deref() == Some("dev");
            if let Some(why) =
                refusal(&package.name, &dependency.name, for_tests, dependency.optional)
            {
                problems.push(Problem::file(
                    &package.name,
                    format!("depends on `{}`: {why}", dependency.name),
                ));
            }
        }
    }
    problems
}

/// Why this crate must not depend on that one.
fn refusal(name: &str, dependency: &str, for_tests: bool, optional: bool) -> Option<&'static str> {
    let knows_python = dependency.starts_with("pyo3") || dependency == "memsweep-pyheap";
    match (name, dependency) {
        (_, "memsweep-python" | "xtask") => Some("nothing depends on it"),
        _ if for_tests => None,
        ("memsweep-core", "serde" | "serde_json" | "thiserror") => None,
        // Behind a feature that only the tests turn on.
        ("memsweep-core", "schemars") if optional => None,
        ("memsweep-core", _) => Some("the core is pure: serde, serde_json and thiserror only"),
        ("memsweep-os", _) if knows_python => Some("the system crate knows nothing of Python"),
        ("memsweep-cli", _) if knows_python => Some("the command runs without Python"),
        ("memsweep-pyheap", "memsweep-os") => Some("the walk knows nothing of the system crate"),
        _ => None,
    }
}

/// The workspace denies unsafe code; who allows it is one of the few.
pub(super) fn unsafe_code(tree: &Tree) -> Vec<Problem> {
    let spared = [UNSAFE_CRATES, UNSAFE_RULES].concat();
    let mut problems = Vec::new();
    for (path, text) in tree.below("", ".rs") {
        if spared.iter().any(|start| path.starts_with(start)) {
            continue;
        }
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let next = lines.peek().map_or("", |(_, next)| next);
            let is_stricter = matches!(line, "#![forbid(unsafe_code)]" | "#![deny(unsafe_code)]");
            if line.contains("unsafe_code") && !is_stricter && (path, next) != UNSAFE_JOINT {
                problems.push(Problem::line(path, index, "unsafe code is allowed here"));
            }
        }
    }
    problems
}

/// Clippy holds what it holds in every crate: each takes the workspace's lints, and repeats the
/// workspace's settings where it has a file of its own, which replaces them.
pub(super) fn lints(tree: &Tree) -> Vec<Problem> {
    let table = |path: &str| tree.text(path).and_then(|text| text.parse::<toml::Table>().ok());
    let manifest = table("Cargo.toml").unwrap_or_default();
    let ours = manifest.get("workspace").and_then(|workspace| workspace.get("lints"));
    let settings = table("clippy.toml").unwrap_or_default();
    let mut problems = Vec::new();
    for (path, _) in tree.below("", "/Cargo.toml") {
        let lints = table(path).and_then(|mut manifest| manifest.remove("lints"));
        let inherits = lints.as_ref().and_then(|lints| lints.get("workspace"));
        // A workspace of its own, such as the fuzz targets', can only repeat them.
        if inherits != Some(&true.into()) && (lints.is_none() || lints.as_ref() != ours) {
            problems.push(Problem::file(path, "does not take the workspace's lints"));
        }
    }
    for (path, _) in tree.below("", "/clippy.toml") {
        let own = table(path).unwrap_or_default();
        for (name, value) in settings.iter().filter(|(name, value)| !repeats(own.get(*name), value))
        {
            problems.push(Problem::file(path, format!("does not repeat `{name} = {value}`")));
        }
    }
    problems
}

/// A list may be longer.
fn repeats(own: Option<&toml::Value>, ours: &toml::Value) -> bool {
    match (own, ours) {
        (Some(toml::Value::Array(own)), toml::Value::Array(ours)) => {
            ours.iter().all(|entry| own.contains(entry))
        }
        _ => own == Some(ours),
    }
}

/// The page calls no route, and no module is imported by a name that ruff cannot see.
pub(super) fn calls(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (folder, ending, call, home) in CALLS {
        for (path, text) in tree.below(folder, ending).filter(|(path, _)| *path != home) {
            for (index, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let part = |one: char| one.is_alphanumeric() || one == '_';
                if code.match_indices(call).any(|(at, _)| !code[..at].ends_with(part)) {
                    problems.push(Problem::line(path, index, format!("`{call}` is used here")));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_dependency_is_found() {
        let rows = [
            ("memsweep-core", "serde", "null", 0),
            ("memsweep-core", "libc", "null", 1),
            ("memsweep-core", "cc", "\"build\"", 1),
            ("memsweep-core", "proptest", "\"dev\"", 0),
            ("memsweep-os", "pyo3", "null", 1),
            ("memsweep-os", "memsweep-pyheap", "null", 1),
            ("memsweep-pyheap", "memsweep-os", "null", 1),
            ("memsweep-pyheap", "pyo3", "null", 0),
            ("memsweep-cli", "memsweep-python", "null", 1),
            ("memsweep-cli", "pyo3-ffi", "null", 1),
            ("memsweep-fuzz", "xtask", "\"dev\"", 1),
        ];
        for (name, dependency, kind, expected) in rows {
            let text = format!(
                r#"{{"packages": [{{"name": "{name}", "id": "x",
                "dependencies": [{{"name": "{dependency}", "kind": {kind}, "req": "^1"}}]}}]}}"#
            );
            let Metadata { packages } = serde_json::from_str(&text).unwrap();
            let found = crate_dependencies(&Tree { packages, ..Tree::default() });
            assert_eq!(found.len(), expected, "{name} on {dependency}, {kind}");
        }
    }

    #[test]
    fn the_real_crates_are_read() {
        let found = packages(&Paths::find().unwrap(), "Cargo.toml").unwrap();
        let core = found.iter().find(|package| package.name == "memsweep-core").unwrap();
        assert!(core.dependencies.iter().any(|dependency| dependency.name == "serde"), "{core:?}");
    }

    #[test]
    fn a_planted_permission_for_unsafe_code_is_found() {
        let count = |path: &str, text: &str| unsafe_code(&Tree::of(&[(path, text)])).len();
        let core = "crates/memsweep-core/src/lib.rs";
        assert_eq!(count(core, "#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(count(core, "#![allow(unsafe_code)]\n"), 1);
        assert_eq!(count(core, "#[expect(\n    unsafe_code,\n    reason = \"\"\n)]\n"), 1);
        assert_eq!(count("crates/memsweep-os/src/lib.rs", "#![allow(unsafe_code)]\n"), 0);
        let python = "crates/memsweep-python/src/lib.rs";
        assert_eq!(count(python, "#![deny(unsafe_code)]\n#[allow(unsafe_code)]\nmod park;\n"), 0);
        assert_eq!(count(python, "#![deny(unsafe_code)]\n#[allow(unsafe_code)]\nmod heap;\n"), 1);
    }

    #[test]
    fn a_planted_crate_without_the_lints_and_settings_without_one_are_found() {
        let workspace = ("Cargo.toml", "[workspace.lints.rust]\na = \"deny\"\n");
        let settings = ("clippy.toml", "x = true\ny = [1, 2]\n");
        let count =
            |path: &str, text: &str| lints(&Tree::of(&[workspace, settings, (path, text)])).len();
        assert_eq!(count("crates/a/Cargo.toml", "[lints]\nworkspace = true\n"), 0);
        assert_eq!(count("crates/a/Cargo.toml", "[package]\n"), 1);
        assert_eq!(count("fuzz/Cargo.toml", "[lints.rust]\na = \"deny\"\n"), 0);
        assert_eq!(count("fuzz/Cargo.toml", "[lints.rust]\na = \"warn\"\n"), 1);
        assert_eq!(count("crates/a/clippy.toml", "z = 1\ny = [3, 2, 1]\nx = true\n"), 0);
        assert_eq!(count("crates/a/clippy.toml", "y = [1]\n"), 2);
    }

    #[test]
    fn a_planted_call_is_found() {
        let rows = [
            ("web/src/view.ts", "await fetch(url); // no\n// fetch(\nprefetch(url);\n", 1),
            ("web/test/a.ts", "await fetch(url);\n", 0),
            ("python/memsweep/a.py", "importlib.import_module(\"torch\")\n", 1),
            ("comfyui/comfy_host/a.py", "__import__(\"torch\")\n", 1),
            ("comfyui/library.py", "importlib.import_module(HOSTING)\n", 0),
            ("comfyui/service.py", "from memsweep import _memsweep\n", 1),
            ("tests/python/test_a.py", "importlib.import_module(\"torch\")\n", 0),
        ];
        for (path, text, expected) in rows {
            assert_eq!(calls(&Tree::of(&[(path, text)])).len(), expected, "{path}");
        }
    }
}
