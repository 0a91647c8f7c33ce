//! The suites that need no ComfyUI: Rust, the project's own rules, the page, the Python package.

use std::path::Path;

use anyhow::{Context, Result};

use super::extent::Extent;
use super::{Session, title};
use crate::run::Program;
use crate::{overlay, setup, tidy, tools, windows};

/// Two tests at a time, in two processes.
const PYTHON: [&str; 5] = ["tests/python", "-n", "2", "--dist", "worksteal"];

impl Session<'_> {
    pub(super) fn rust(&mut self) -> Result<()> {
        tools::file_systems(self.paths)?;
        let cargo = |arguments: &[&str]| Ok(tools::cargo(self.paths)?.args(arguments));
        let cargo: &dyn Fn(&[&str]) -> Result<Program> = &cargo;
        let fuzz = ["--manifest-path", "fuzz/Cargo.toml"];
        let lint = ["clippy", "--locked", "--all-targets", "--quiet"];
        let deny = ["--", "-D", "warnings"];
        // A test of `dist` builds a library for Windows; without the compiler it says so.
        let _ = windows::install(self.paths);
        let format = cargo(&["fmt", "--all", "--check"])?;
        let format_fuzz = cargo(&["fmt", "--check"])?.args(fuzz);
        let lint_fuzz = cargo(&lint)?
            .args(fuzz)
            .args(["--target-dir", "target/fuzz-clippy"])
            .args(deny)
            // What the targets call is built for them alone, and nothing is linked here.
            .env("RUSTFLAGS", "--cfg=fuzzing")
            .env("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a");
        let lint = cargo(&lint)?.arg("--workspace").args(deny);
        let packages =
            ["core", "os", "cli", "pyheap"].map(|name| format!("--package=memsweep-{name}"));
        let test =
            cargo(&["test", "--locked", "--no-fail-fast", "--package=xtask"])?.args(packages);
        self.runner("cargo fmt --check", format)?;
        self.runner("cargo fmt --check, fuzz", format_fuzz)?;
        self.runner("cargo clippy", lint)?;
        self.runner("cargo clippy, fuzz", lint_fuzz)?;
        self.runner("cargo test", test)
    }

    pub(super) fn tidy(&mut self) -> Result<()> {
        title("tidy");
        let verdict = tidy::run(self.paths)?;
        if verdict.problems == 0 {
            self.passed("tidy", "every rule holds");
        } else {
            self.failed("tidy", format!("{} problems", verdict.problems));
        }
        for (tool, why) in verdict.not_run {
            self.not_run(tool, &why);
        }
        Ok(())
    }

    pub(super) fn web(&mut self) -> Result<()> {
        let npm = tools::npm()?;
        self.npm_install(&npm)?;
        self.runner("web: npm test", self.npm(&npm, &["test"]))?;
        self.runner("web: built bundle is up to date", self.npm(&npm, &["run", "check"]))
    }

    pub(super) fn browser(&mut self) -> Result<()> {
        let npm = tools::npm()?;
        if !self.paths.root.join("web/node_modules").is_dir() {
            self.npm_install(&npm)?;
        }
        self.runner("browser: npm run test:browser", self.in_browser(&npm))?;
        if self.options.extent() == Extent::Quick {
            return Ok(());
        }
        let newest = overlay::newest_front_end(self.paths)?;
        let program = self.in_browser(&npm).env("PYTHONPATH", newest);
        let program = program.env("MEMSWEEP_FRONT_END", overlay::NEWEST_FRONT_END);
        self.runner(&format!("browser, front-end {}", overlay::NEWEST_FRONT_END), program)
    }

    fn in_browser(&self, npm: &Path) -> Program {
        let program = self.npm(npm, &["run", "test:browser"]);
        match &self.chromium {
            Some(chromium) => program.env("MEMSWEEP_CHROMIUM", chromium),
            None => program,
        }
    }

    fn npm(&self, npm: &Path, arguments: &[&str]) -> Program {
        Program::new(npm, &self.paths.root.join("web"))
            .args(arguments)
            .envs(self.paths.environment())
    }

    fn npm_install(&self, npm: &Path) -> Result<()> {
        self.npm(npm, &["ci", "--no-audit", "--no-fund"])
            .run_step("Installing the front-end's packages", &self.paths.logs().join("npm.log"))
    }

    pub(super) fn python(&mut self) -> Result<()> {
        tools::allocators(self.paths)?;
        let own = tools::python(self.paths)?.minor;
        self.pytest(&format!("python 3.{own}"), &PYTHON)?;
        if self.options.extent() == Extent::Quick {
            return Ok(());
        }
        for (minor, found) in tools::pythons(self.paths, Some(own)) {
            let what = format!("python 3.{minor}");
            let Some(python) = found else {
                self.not_run(&what, "this Python is not installed");
                continue;
            };
            title(&what);
            let ready = setup::small_venv(self.paths, &python);
            if let Some(inside) = self.required(&what, ready) {
                self.pytest_with(&what, &inside, &PYTHON)?;
            }
        }
        self.debian_python()
    }

    fn debian_python(&mut self) -> Result<()> {
        let what = "python of Debian";
        let found = tools::debian_python(self.paths)
            .context("there is no /usr/bin/python3 of Debian's in a version that we support");
        let Some(python) = self.needed(what, found) else { return Ok(()) };
        title(what);
        let ready = setup::debian_venv(self.paths, &python);
        match self.needed(what, ready) {
            Some(inside) => self.pytest_with(what, &inside, &PYTHON),
            None => Ok(()),
        }
    }
}
