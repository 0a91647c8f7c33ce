//! The suites that need no ComfyUI: Rust, the project's own rules, the page, the Python package.

use std::env;
use std::path::Path;

use anyhow::Result;

use super::extent::Extent;
use super::{Runner, Session, title};
use crate::run::Program;
use crate::{setup, tidy, tools, windows};

impl Session<'_> {
    pub(super) fn rust(&mut self) -> Result<()> {
        tools::file_systems(self.paths)?;
        let cargo = tools::require("cargo", "install Rust from rustup.rs")?;
        let cargo = |arguments: &[&str]| {
            let program = Program::new(&cargo, &self.paths.root).args(arguments);
            // PyO3 would otherwise take whichever python3 comes first.
            match env::var_os("MEMSWEEP_PYTHON") {
                Some(python) => program.env("PYO3_PYTHON", python),
                None => program,
            }
        };
        let format = cargo(&["fmt", "--all", "--check"]);
        let format_fuzz = cargo(&["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]);
        let lint = cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]);
        let test = cargo(&[
            "test",
            "--locked",
            "--no-fail-fast",
            "--package=memsweep-core",
            "--package=memsweep-os",
            "--package=memsweep-cli",
            "--package=memsweep-pyheap",
            "--package=xtask",
        ]);
        // A test of `dist` makes a library for Windows; without the compiler it says so.
        let _ = windows::install(self.paths);
        self.runner("cargo fmt --check", Runner::Silent, &format)?;
        self.runner("cargo fmt --check, fuzz", Runner::Silent, &format_fuzz)?;
        self.runner("cargo clippy", Runner::Silent, &lint)?;
        self.runner("cargo test", Runner::Cargo, &test)
    }

    pub(super) fn tidy(&mut self) -> Result<()> {
        title("tidy");
        if tidy::run(self.paths)? {
            self.passed("tidy", "every rule holds");
        } else {
            self.failed("tidy", "rules are broken".to_owned());
        }
        let ruff =
            Program::new(self.paths.python(), &self.paths.root).args(["-m", "ruff", "check", "."]);
        self.runner("ruff check", Runner::Silent, &ruff)
    }

    pub(super) fn web(&mut self) -> Result<()> {
        if !self.paths.root.join("web/package.json").is_file() {
            self.not_run("web", "there is no web/package.json");
            return Ok(());
        }
        let npm = tools::npm()?;
        self.npm_install(&npm)?;
        self.runner("web: npm test", Runner::Node, &self.npm(&npm, &["test"]))?;
        self.runner(
            "web: built bundle is up to date",
            Runner::Silent,
            &self.npm(&npm, &["run", "check"]),
        )
    }

    pub(super) fn browser(&mut self) -> Result<()> {
        if !self.paths.root.join("web/package.json").is_file() {
            self.not_run("browser", "there is no web/package.json");
            return Ok(());
        }
        let npm = tools::npm()?;
        if !self.paths.root.join("web/node_modules").is_dir() {
            self.npm_install(&npm)?;
        }
        let mut program = self.npm(&npm, &["run", "test:browser"]);
        if let Some(chromium) = &self.chromium {
            program = program.env("MEMSWEEP_CHROMIUM", chromium);
        }
        self.runner("browser: npm run test:browser", Runner::Node, &program)
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
        self.pytest(&format!("python 3.{own}"), &["tests/python"])?;
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
            match setup::small_venv(self.paths, &python) {
                Ok(inside) => self.pytest_with(&what, &inside, &["tests/python"])?,
                Err(error) => {
                    eprintln!("{error:#}");
                    self.failed(&what, format!("{error:#}"));
                }
            }
        }
        self.debian_python()
    }

    fn debian_python(&mut self) -> Result<()> {
        let what = "python of Debian";
        let Some(python) = tools::debian_python(self.paths) else {
            self.not_run(
                what,
                "there is no /usr/bin/python3 of Debian's, or of no version we serve",
            );
            return Ok(());
        };
        title(what);
        match setup::debian_venv(self.paths, &python) {
            Ok(inside) => self.pytest_with(what, &inside, &["tests/python"])?,
            Err(error) => self.not_run(what, &format!("{error:#}")),
        }
        Ok(())
    }
}
