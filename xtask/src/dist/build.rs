//! Builds the wheels and the sources. The tools for it have an environment of their own.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::target::{Product, System, Target};
use crate::cross::{self, Cross};
use crate::paths::{Paths, python_of};
use crate::run::Program;
use crate::{files, name_of, setup, tools};

const TOOLS: [&str; 3] = [
    "maturin>=1.10,<2",
    // A C compiler and linker for every Linux and macOS, with what glibc 2.17 had.
    "ziglang==0.17.*",
    "abi3audit>=0.0.26,<0.1",
];
const MINGW: &str = "/usr/bin/x86_64-w64-mingw32-gcc";
/// In the wheel's name, and in the file.
const OLDEST_MACOS: &str = "11.0";

/// The tools, and the second Rust where it is needed.
#[derive(Debug)]
pub(super) struct Workshop<'a> {
    paths: &'a Paths,
    venv: PathBuf,
    cross: Option<Cross<'a>>,
}

impl<'a> Workshop<'a> {
    /// Installs what is missing. The error says why it is not available.
    pub(super) fn prepare(paths: &'a Paths, products: &[Product]) -> Result<Self> {
        let targets: Vec<_> = products.iter().filter_map(|product| product.target()).collect();
        let needs_cross = targets.iter().any(|target| !target.is_own);
        let cross = if needs_cross { Some(Cross::prepare(paths)?) } else { None };
        if targets.iter().any(|target| target.system == System::Windows) {
            cross::install(paths, &["gcc-mingw-w64-x86-64-win32"], &[MINGW])?;
        }
        Ok(Self { paths, venv: tools_venv(paths)?, cross })
    }

    /// Builds the wheel into a folder of its own.
    pub(super) fn wheel(&self, product: Product, target: &Target) -> Result<PathBuf> {
        let folder = self.empty_folder(&name_of(product))?;
        let maturin = self.tool("maturin", target.is_own)?;
        let maturin = maturin
            .args(["build", "--release", "--locked", "--target", target.triple, "--out"])
            .arg(&folder)
            .env("RUSTFLAGS", without_home());
        let maturin = if target.is_own {
            maturin.arg("--interpreter").arg(python_of(&self.venv))
        } else {
            // Not run: the name alone says which Python to build for.
            let parts = "std,panic_unwind";
            maturin.args(["--interpreter", "python3.10"]).env("CARGO_UNSTABLE_BUILD_STD", parts)
        };
        let maturin = match target.system {
            // maturin itself checks the symbols against the platform's list.
            System::Linux => {
                maturin.args(["--zig", "--compatibility", "manylinux2014", "--auditwheel", "check"])
            }
            System::Windows => maturin,
            System::MacOs => maturin
                .args(["--zig", "--strip", "false"])
                // Debian's Rust has no tool that strips files for macOS.
                .env("CARGO_PROFILE_RELEASE_STRIP", "none")
                .env("MACOSX_DEPLOYMENT_TARGET", OLDEST_MACOS)
                // The libc crate links libraries of which we use nothing.
                .args(["--", "-Clink-arg=-Wl,-dead_strip_dylibs"]),
        };
        let heading = format!("Building the wheel for {}", name_of(product));
        maturin.run_step(&heading, &self.log(&name_of(product)))?;
        files::only_file(&folder)
    }

    /// Packs the sources, and proves that they are all there: builds a wheel from them alone, as
    /// pip does. Returns both.
    pub(super) fn sdist(&self) -> Result<(PathBuf, PathBuf)> {
        let name = name_of(Product::Sdist);
        let (sources, wheel) = (self.empty_folder(&name)?, self.empty_folder("from-sdist")?);
        self.tool("maturin", true)?
            .args(["sdist", "--out"])
            .arg(&sources)
            .run_step("Packing the sources", &self.log(&name))?;
        let sources = files::only_file(&sources)?;
        self.tool("pip", true)?
            .args(["wheel", "--disable-pip-version-check", "--no-index", "--no-deps"])
            .args(["--no-build-isolation", "--wheel-dir"])
            .arg(&wheel)
            .arg(&sources)
            // Where the third-party crates are built already.
            .env("CARGO_TARGET_DIR", self.paths.root.join("target"))
            .run_step("Building a wheel from the sources", &self.log("from-sdist"))?;
        Ok((sources, files::only_file(&wheel)?))
    }

    /// What the wheel uses of Python beyond the stable ABI of 3.10: abi3audit knows those names,
    /// and takes the oldest version from the wheel's name.
    pub(super) fn abi3_faults(&self, wheel: &Path) -> Result<Vec<String>> {
        let audit = self.tool("abi3audit", true)?.args(["--strict", "--summary"]).arg(wheel);
        Ok(abi3_faults(&audit.run_captured()?.1))
    }

    /// A module of the environment, with the developer's Rust or with Debian's.
    fn tool(&self, module: &str, own_rust: bool) -> Result<Program> {
        let program = Program::new(python_of(&self.venv), &self.paths.root).args(["-m", module]);
        // First on the path: maturin finds zig by way of the Python that it finds there.
        let bin = self.venv.join("bin");
        if own_rust {
            return Ok(program.env("PATH", path_after(&[&bin])));
        }
        let Some(cross) = &self.cross else { bail!("the second Rust was not prepared") };
        let path = path_after(&[&bin, Path::new("/usr/bin")]);
        Ok(cross.surround(program).env("PATH", path))
    }

    fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.paths.root.join("target/dist").join(name);
        files::remove(&folder)?;
        files::create_folder(&folder)?;
        Ok(folder)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.paths.logs().join(format!("dist-{name}.log"))
    }
}

fn tools_venv(paths: &Paths) -> Result<PathBuf> {
    let _lock = setup::lock(paths)?;
    let venv = paths.cache.join("dist-tools");
    let log = paths.logs().join("dist-tools.log");
    setup::tool_venv(paths, &tools::python(paths)?, &venv, &TOOLS, &log)?;
    Ok(venv)
}

/// Panics say where they happened; where the builder keeps third-party crates does not matter.
fn without_home() -> String {
    cargo_home().map(|home| format!("--remap-path-prefix={home}=cargo")).unwrap_or_default()
}

/// Where cargo keeps what it downloaded.
pub(super) fn cargo_home() -> Option<String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))?;
    Some(home.to_str()?.to_owned())
}

fn path_after(folders: &[&Path]) -> OsString {
    let mut path = OsString::new();
    for folder in folders {
        path.push(folder);
        path.push(":");
    }
    path.push(env::var_os("PATH").unwrap_or_default());
    path
}

/// An audit that looked at nothing finds nothing: the summary must name the one extension.
fn abi3_faults(lines: &[String]) -> Vec<String> {
    const GOOD: &str = "1 extensions scanned; 0 ABI version mismatches and 0 ABI violations found";
    let said = lines.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    if said.contains(&format!(" {GOOD}")) { Vec::new() } else { vec![format!("abi3audit: {said}")] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As abi3audit 0.0.26 writes it.
    #[test]
    fn a_private_a_later_and_an_unseen_symbol_are_faults() {
        let audit = |counts: [u32; 3]| {
            let [scanned, later, private] = counts;
            abi3_faults(&[
                format!(
                    "[14:59:58] memsweep-0.1.0-cp310-abi3-win_amd64.whl: {scanned} extensions "
                ),
                format!("           scanned; {later} ABI version mismatches and {private} ABI"),
                "           violations found".to_owned(),
            ])
        };
        assert_eq!(audit([1, 0, 0]), [""; 0]);
        for bad in [[1, 0, 1], [1, 1, 0], [0, 0, 0], [11, 0, 0]] {
            assert_eq!(audit(bad).len(), 1, "{bad:?}");
        }
        assert_eq!(abi3_faults(&[]).len(), 1);
    }
}
