//! The rules that other people's tools enforce. What each checks is set in `pyproject.toml` and
//! `deny.toml`; here it is run.

use std::path::Path;

use anyhow::Result;

use crate::paths::Paths;
use crate::run::Program;
use crate::tools;

/// A tool, made ready for a checkout. The error says why it cannot be run.
type Tool = (&'static str, fn(&Paths, &Path) -> Result<Program, String>);

pub(super) const TOOLS: [Tool; 5] = [
    ("ruff: style, and who imports torch and ComfyUI", ruff),
    ("mypy: the types of Python", mypy),
    ("stubtest: the stub says what the extension is", stubtest),
    ("cargo-deny: licences, sources and duplicates", deny),
    ("cargo-deny, fuzz", deny_fuzz),
];

/// What a tool complains of: nothing where all is well.
pub(super) fn complaints(program: Program) -> Result<Vec<String>> {
    let (status, mut lines) = program.run_captured()?;
    if status.success() {
        return Ok(Vec::new());
    }
    lines.push(format!("ended with {status}"));
    Ok(lines)
}

fn ruff(paths: &Paths, root: &Path) -> Result<Program, String> {
    Ok(module(paths, root, "ruff")?.args(["check", "--output-format=concise", "."]))
}

fn mypy(paths: &Paths, root: &Path) -> Result<Program, String> {
    module(paths, root, "mypy")
}

/// Compares the stub of the checkout with the wheel that the set-up installed.
fn stubtest(paths: &Paths, root: &Path) -> Result<Program, String> {
    module(paths, root, "memsweep")?;
    let stubtest = module(paths, root, "mypy.stubtest")?;
    Ok(stubtest.args(["memsweep._memsweep", "--mypy-config-file", "pyproject.toml"]))
}

/// A module of the set-up's environment.
fn module(paths: &Paths, root: &Path, name: &str) -> Result<Program, String> {
    let python = || Program::new(paths.python(), root);
    match python().args(["-c", &format!("import {name}")]).output() {
        Ok(Some(_)) => Ok(python().args(["-m", name])),
        _ => Err(format!("{name} is not installed: `cargo xtask setup` does it")),
    }
}

fn deny(paths: &Paths, root: &Path) -> Result<Program, String> {
    deny_in(paths, root, root)
}

fn deny_fuzz(paths: &Paths, root: &Path) -> Result<Program, String> {
    deny_in(paths, root, &root.join("fuzz"))
}

fn deny_in(paths: &Paths, root: &Path, workspace: &Path) -> Result<Program, String> {
    let installed = paths.python().with_file_name("cargo-deny");
    let found = Some(installed).filter(|path| path.is_file()).or_else(|| tools::find("cargo-deny"));
    let found = found.ok_or("cargo-deny is not installed: `cargo xtask setup` does it")?;
    // It asks Cargo for every crate, those for other systems too, and may not load them itself.
    match Program::new("cargo", workspace).args(["fetch", "--locked", "--quiet"]).output() {
        Ok(Some(_)) => {}
        _ => return Err("`cargo fetch --locked` failed".to_owned()),
    }
    let deny = Program::new(found, workspace).arg("--offline").arg("--config");
    Ok(deny.arg(root.join("deny.toml")).args(["check", "bans", "licenses", "sources"]))
}

/// Each tool must find faults under the project's own settings. What is not installed is skipped
/// aloud, as tidy itself does; the test suite installs it first.
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::run::TemporaryFolder;

    /// What `tool` says of these files beside the project's settings. `None`: it cannot be run.
    fn said(
        tool: fn(&Paths, &Path) -> Result<Program, String>,
        files: &[(&str, &str)],
    ) -> Option<String> {
        let paths = Paths::find().unwrap();
        let name = format!("xtask-{}", files[0].0.replace(['/', '.'], "-"));
        let folder = TemporaryFolder::create(&std::env::temp_dir(), &name).unwrap();
        for settings in ["pyproject.toml", "deny.toml", "comfyui/comfy_host/ruff.toml"] {
            let text = fs::read_to_string(paths.root.join(settings)).unwrap();
            write(folder.path(), settings, &text);
        }
        for (path, text) in files {
            write(folder.path(), path, text);
        }
        if folder.path().join("Cargo.toml").is_file() {
            let locked = Program::new("cargo", folder.path()).arg("generate-lockfile").output();
            assert!(locked.unwrap().is_some());
        }
        match tool(&paths, folder.path()) {
            Ok(program) => Some(complaints(program).unwrap().join("\n")),
            Err(why) => {
                tools::skipped(&why);
                None
            }
        }
    }

    fn write(folder: &Path, path: &str, text: &str) {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn ruff_finds_a_planted_import() {
        let files = [
            ("python/memsweep/torch_host.py", "import torch as _\n"),
            ("python/memsweep/a.py", "def a():\n    from torch.cuda import memory as _\n"),
            ("comfyui/service.py", "import comfy.model_management as _\n"),
            ("comfyui/routes.py", "from server import PromptServer as _\n"),
            ("comfyui/comfy_host/host.py", "def a():\n    import torch as _\n"),
            ("comfyui/comfy_host/a.py", "import threading\n\nthreading.Thread().start()\n"),
            ("python/memsweep/b.py", "from concurrent.futures import ThreadPoolExecutor as _\n"),
            ("comfyui/comfy_host/good.py", "import execution as _\n"),
            ("comfyui/good.py", "from .nodes import NODES as _\n"),
            ("tests/python/good.py", "import torch as _\nimport execution as _\n"),
        ];
        let Some(said) = said(ruff, &files) else { return };
        for (path, _) in files {
            let found = said.lines().any(|line| line.starts_with(path) && line.contains("TID251"));
            assert_eq!(found, !path.ends_with("good.py"), "{path}:\n{said}");
        }
    }

    #[test]
    fn mypy_finds_a_planted_untyped_function() {
        let files = [
            ("python/memsweep/a.py", "def planted(a):\n    return a\n"),
            ("comfyui/a.py", "def wrong() -> int:\n    return \"no\"\n"),
            ("comfyui/good.py", "import torch\n\ndef good() -> int:\n    return 1\n"),
        ];
        let Some(said) = said(mypy, &files) else { return };
        for code in ["[no-untyped-def]", "[return-value]"] {
            assert!(said.contains(code), "{code}:\n{said}");
        }
        assert!(!said.contains("good.py"), "{said}");
    }

    #[test]
    fn stubtest_finds_a_planted_function() {
        let real = Paths::find().unwrap().root.join("python/memsweep/_memsweep.pyi");
        let stub = fs::read_to_string(real).unwrap() + "\ndef planted() -> int: ...\n";
        let files =
            [("python/memsweep/_memsweep.pyi", stub.as_str()), ("python/memsweep/__init__.py", "")];
        let Some(said) = said(stubtest, &files) else { return };
        assert!(said.contains("_memsweep.planted is not present at runtime"), "{said}");
    }

    #[test]
    fn cargo_deny_finds_a_planted_licence_source_duplicate_and_wildcard() {
        // A crate that comes from a git repository.
        let git = TemporaryFolder::create(&std::env::temp_dir(), "xtask-elsewhere").unwrap();
        let package = |name: &str, version: &str| {
            format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nlicense = \"MIT\"\n")
        };
        write(git.path(), "Cargo.toml", &package("elsewhere", "1.0.0"));
        write(git.path(), "src/lib.rs", "");
        let me = ["-c", "user.name=a", "-c", "user.email=a"];
        for step in [&["init"][..], &["add", "."], &["commit", "--message=x"]] {
            let done = Program::new("git", git.path()).args(me).args(step).output().unwrap();
            assert!(done.is_some(), "git {step:?}");
        }
        let planted = format!(
            "[package]\nname = \"planted\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\
            license = \"GPL-3.0-only\"\n[dependencies]\nwild = {{ path = \"wild\" }}\n\
            other = {{ package = \"wild\", path = \"other\", version = \"2\" }}\n\
            elsewhere = {{ git = \"file://{}\" }}\n",
            git.path().display()
        );
        let (wild, other) = (package("wild", "1.0.0"), package("wild", "2.0.0"));
        let files = [
            ("Cargo.toml", planted.as_str()),
            ("wild/Cargo.toml", wild.as_str()),
            ("other/Cargo.toml", other.as_str()),
            ("src/lib.rs", ""),
            ("wild/src/lib.rs", ""),
            ("other/src/lib.rs", ""),
        ];
        let Some(said) = said(deny, &files) else { return };
        for code in ["rejected", "source-not-allowed", "duplicate", "wildcard"] {
            assert!(said.contains(&format!("error[{code}]")), "{code}:\n{said}");
        }
    }
}
