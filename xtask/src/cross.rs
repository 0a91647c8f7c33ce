//! A second Rust, for other systems: Debian's, which comes with the source of its standard library
//! and so can build it for any target.
//!
//! What is shipped for this machine is built by the developer's own toolchain; this one covers the
//! targets for which that one has no standard library.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::paths::Paths;
use crate::run::Program;
use crate::tools;

const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
/// Debian's names: the compiler that follows its browsers, cargo, clippy and the source.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-clippy", "rust-web-src"];

/// The second Rust, installed.
#[derive(Debug)]
pub(crate) struct Cross<'a> {
    paths: &'a Paths,
}

impl<'a> Cross<'a> {
    /// Installs it where nobody has to be asked. The error says why it is not available.
    pub(crate) fn prepare(paths: &'a Paths) -> Result<Self> {
        install(paths, &PACKAGES, &[RUSTC, CARGO, "/usr/bin/cargo-clippy"])?;
        Ok(Self { paths })
    }

    /// A command of Debian's cargo on our workspace; `std` are the parts of the standard library to
    /// build.
    pub(crate) fn cargo(&self, command: &str, std: &str, target: &str) -> Program {
        self.surround(Program::new(CARGO, &self.paths.root))
            .arg(command)
            .arg(format!("-Zbuild-std={std}"))
            .args(["--locked", "--target", target])
    }

    /// Makes any program use Debian's compiler for what it builds.
    pub(crate) fn surround(&self, program: Program) -> Program {
        let program = program
            .env("RUSTC", RUSTC)
            .env("CARGO", CARGO)
            // A released compiler; this only opens the two unstable options here.
            .env("RUSTC_BOOTSTRAP", "1")
            // By content: the folder is shared, and the same file is older in one checkout than in the
            // next.
            .env("CARGO_UNSTABLE_CHECKSUM_FRESHNESS", "true")
            .env("CARGO_TARGET_DIR", self.target())
            .env("PATH", path_with_debian_first());
        // What the outer cargo and its proxy pass to their children is meant for another compiler.
        program.without("RUSTUP_TOOLCHAIN").without("RUSTUP_HOME").without("RUSTFLAGS")
    }

    /// Shared by all checkouts: a standard library takes a minute to build.
    pub(crate) fn target(&self) -> PathBuf {
        self.paths.cache.join("cross")
    }
}

/// Installs Debian's packages, unless all these files are there.
pub(crate) fn install(paths: &Paths, packages: &[&str], files: &[&str]) -> Result<()> {
    let missing = || files.iter().find(|file| !Path::new(file).exists());
    if missing().is_some() {
        let heading = format!("Installing Debian's {}", packages.join(", "));
        tools::apt_install(paths, packages, &heading)?;
    }
    match missing() {
        None => Ok(()),
        Some(file) => {
            bail!("{file} is missing: Debian, as root: apt-get install {}", packages.join(" "))
        }
    }
}

fn path_with_debian_first() -> OsString {
    let mut path = OsString::from("/usr/bin:");
    path.push(env::var_os("PATH").unwrap_or_default());
    path
}
