//! `cargo xtask windows`: our Rust crates, built for Windows, tested under wine.
//!
//! Wine proves that calls, structures and errors are right, and that a report stays true where a
//! call succeeds and nothing happens: much of what it answers is made up. It proves nothing about
//! effects.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cross::{self, Cross};
use crate::files;
use crate::paths::Paths;
use crate::planted::{Fault, planted};
use crate::run::Program;

const TARGET: &str = "x86_64-pc-windows-gnu";
const STD: &str = "std,panic_unwind,test";
const WINE: &str = "/usr/lib/wine/wine64";
const MINGW: &str = "/usr/bin/x86_64-w64-mingw32-gcc";
const CRATES: [&str; 3] =
    ["--package=memsweep-core", "--package=memsweep-os", "--package=memsweep-cli"];

/// A structure with a false length: the system must refuse it, and a test must notice.
const WRONG_SIZE: Fault = Fault {
    file: "crates/memsweep-os/src/windows/machine.rs",
    right: "dwLength: size::<MEMORYSTATUSEX>()",
    wrong: "dwLength: size::<MEMORYSTATUSEX>() - 8",
};

/// Debian's wine, and a compiler for Windows.
pub(crate) fn install(paths: &Paths) -> Result<()> {
    let packages = ["gcc-mingw-w64-x86-64-win32", "wine", "wine64"];
    cross::install(paths, &packages, &[MINGW, WINE])
}

/// Wine with a prefix of its own, and the second Rust.
#[derive(Debug)]
pub(crate) struct Windows<'a> {
    paths: &'a Paths,
    cross: Cross<'a>,
}

impl<'a> Windows<'a> {
    /// Installs what is missing. The error says why it is not available.
    pub(crate) fn prepare(paths: &'a Paths) -> Result<Self> {
        let cross = Cross::prepare(paths)?;
        install(paths)?;
        let windows = Self { paths, cross };
        windows.make_prefix()?;
        Ok(windows)
    }

    /// The tests of the crates that know no Python.
    pub(crate) fn tests(&self) -> Program {
        self.cargo_test().arg("--no-fail-fast").args(CRATES)
    }

    /// Whether the tests fail on a call with a wrong structure size.
    pub(crate) fn catches_a_wrong_size(&self) -> Result<bool> {
        planted(self.paths, &WRONG_SIZE, |folder| {
            let tests = self.cargo_test().args(["--package=memsweep-os", "--lib"]).inside(folder);
            let (status, lines) = tests.run_captured()?;
            let ran = lines.iter().any(|line| line.starts_with("running "));
            if !ran {
                bail!("the planted fault was not tested: {}", lines.join("\n"));
            }
            Ok(!status.success())
        })
    }

    fn cargo_test(&self) -> Program {
        self.in_wine(self.cross.cargo("test", STD, TARGET))
    }

    fn in_wine(&self, program: Program) -> Program {
        program
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", WINE)
            .env("WINEPREFIX", self.prefix())
            .env("WINEDEBUG", "-all")
            // No prompts to download a browser or .NET.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
    }

    fn prefix(&self) -> PathBuf {
        self.paths.cache.join("wine")
    }

    fn make_prefix(&self) -> Result<()> {
        let library = self.prefix().join("drive_c/windows/system32/bcryptprimitives.dll");
        if library.is_file() {
            return Ok(());
        }
        let log = self.paths.logs().join("wine.log");
        files::create_folder(&self.prefix())?;
        self.in_wine(Program::new(WINE, &self.paths.root))
            .args(["wineboot", "--init"])
            .run_step("Making a Windows for wine", &log)?;
        Program::new(MINGW, &self.paths.root)
            .args(["-shared", "-o"])
            .arg(&library)
            .args(["fixtures/wine/bcryptprimitives.c", "-ladvapi32"])
            .run_step("Adding what this wine lacks", &log)
    }
}

impl Drop for Windows<'_> {
    /// Wine's server would outlive us.
    fn drop(&mut self) {
        let server = Program::new("/usr/lib/wine/wineserver64", &self.paths.root);
        let _ = self.in_wine(server).arg("--kill").output();
    }
}
