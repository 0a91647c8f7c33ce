//! Finds the tools of the machine. A missing one is named in one line with the way to install it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::paths::Paths;
use crate::run::Program;

/// The versions of Python that the wheel is made for.
pub(crate) const PYTHON_MINORS: std::ops::RangeInclusive<u32> = 10..=14;

/// A Python interpreter that was asked for its version.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    pub(crate) path: PathBuf,
    pub(crate) minor: u32,
}

/// Finds an executable on `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    which::which(name).ok()
}

/// Finds an executable, or fails with the line that says how to get it.
pub(crate) fn require(name: &str, how: &str) -> Result<PathBuf> {
    match find(name) {
        Some(path) => Ok(path),
        None => bail!("`{name}` is missing: {how}"),
    }
}

/// Cargo in the checkout. PyO3 would otherwise take whichever python3 comes first.
pub(crate) fn cargo(paths: &Paths) -> Result<Program> {
    let program = Program::new(require("cargo", "install Rust from rustup.rs")?, &paths.root);
    Ok(match env::var_os("MEMSWEEP_PYTHON") {
        Some(python) => program.env("PYO3_PYTHON", python),
        None => program,
    })
}

pub(crate) fn npm() -> Result<PathBuf> {
    require("node", "install Node.js 20 or newer (Debian: apt-get install nodejs npm)")?;
    require("npm", "install Node.js 20 or newer with npm (Debian: apt-get install npm)")
}

/// The Python that the virtual environment is made from.
pub(crate) fn python(paths: &Paths) -> Result<Python> {
    if let Some(chosen) = env::var_os("MEMSWEEP_PYTHON").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(&chosen);
        let path = if path.components().count() > 1 {
            Some(path)
        } else {
            find(&chosen.to_string_lossy())
        };
        let shown = chosen.to_string_lossy();
        let Some(path) = path else { bail!("MEMSWEEP_PYTHON names `{shown}`, which is not there") };
        return match ask_python(paths, &path) {
            Some(python) => checked_for_venv(paths, python),
            None => bail!("MEMSWEEP_PYTHON names `{shown}`, which is not {}", wanted()),
        };
    }
    let mut names = vec!["python3".to_owned()];
    names.extend(PYTHON_MINORS.rev().map(|minor| format!("python3.{minor}")));
    names.push("python".to_owned());
    for name in names {
        if let Some(python) = find(&name).and_then(|path| ask_python(paths, &path)) {
            return checked_for_venv(paths, python);
        }
    }
    bail!(
        "{} is missing: install it (Debian: apt-get install python3 python3-venv) or set \
         MEMSWEEP_PYTHON",
        wanted()
    )
}

fn wanted() -> String {
    format!("Python 3.{} to 3.{} with the GIL", PYTHON_MINORS.start(), PYTHON_MINORS.end())
}

fn checked_for_venv(paths: &Paths, python: Python) -> Result<Python> {
    let asked = || Program::new(&python.path, &paths.root).args(["-c", "import venv, ensurepip"]);
    if asked().output()?.is_none() {
        // Debian's own Python comes without it.
        apt_install(paths, &["python3-venv"], "Installing Debian's python3-venv")?;
    }
    if asked().output()?.is_none() {
        bail!("Python's `venv` module is missing: Debian: apt-get install python3-venv");
    }
    Ok(python)
}

/// Allocators that people preload; parking is tested with each. Without them those tests are
/// skipped.
pub(crate) fn allocators(paths: &Paths) -> Result<()> {
    let folder = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    for (package, library) in [
        ("libjemalloc2", "libjemalloc.so.2"),
        ("libmimalloc2.0", "libmimalloc.so.2"),
        ("libtcmalloc-minimal4", "libtcmalloc_minimal.so.4"),
    ] {
        if cfg!(target_os = "linux") && !Path::new(&folder).join(library).exists() {
            apt_install(paths, &[package], &format!("Installing Debian's {package}"))?;
        }
    }
    Ok(())
}

/// What makes the file systems that parking is tried on. Without it those tests say "not run".
pub(crate) fn file_systems(paths: &Paths) -> Result<()> {
    for (package, program) in [
        ("e2fsprogs", "/usr/sbin/mkfs.ext4"),
        ("xfsprogs", "/usr/sbin/mkfs.xfs"),
        ("btrfs-progs", "/usr/sbin/mkfs.btrfs"),
    ] {
        if cfg!(target_os = "linux") && !Path::new(program).exists() {
            apt_install(paths, &[package], &format!("Installing Debian's {package}"))?;
        }
    }
    Ok(())
}

/// Installs Debian's packages where nobody has to be asked: as root, with `apt-get`.
pub(crate) fn apt_install(paths: &Paths, packages: &[&str], heading: &str) -> Result<()> {
    let (Some(apt), Some(first)) = (find("apt-get").filter(|_| is_root()), packages.first()) else {
        return Ok(());
    };
    let log = paths.logs().join(format!("{first}.log"));
    let quiet = |arguments: &[&str]| {
        Program::new(&apt, &paths.root).env("DEBIAN_FRONTEND", "noninteractive").args(arguments)
    };
    quiet(&["update"]).run_step("Reading the package lists", &log)?;
    quiet(&["install", "-y", "--no-install-recommends"]).args(packages).run_step(heading, &log)
}

/// Debian's own interpreter: linked as a program at a fixed place, unlike most others.
pub(crate) fn debian_python(paths: &Paths) -> Option<Python> {
    ask_python(paths, Path::new("/usr/bin/python3"))
        .filter(|_| Path::new("/etc/debian_version").is_file())
}

/// Interpreters, one per minor version, that the wheel is tested on where they exist.
pub(crate) fn pythons(paths: &Paths, but: Option<u32>) -> Vec<(u32, Option<Python>)> {
    PYTHON_MINORS
        .filter(|minor| Some(*minor) != but)
        .map(|minor| {
            let name = format!("python3.{minor}");
            let found = find(&name)
                .into_iter()
                .chain(pyenv_pythons(minor))
                .filter_map(|path| ask_python(paths, &path))
                .find(|python| python.minor == minor);
            (minor, found)
        })
        .collect()
}

fn pyenv_pythons(minor: u32) -> Vec<PathBuf> {
    let root = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    let Some(versions) = root.and_then(|root| root.join("versions").read_dir().ok()) else {
        return Vec::new();
    };
    let prefix = format!("3.{minor}.");
    versions
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path().join("bin/python"))
        .collect()
}

/// `None` when the program does not run, is too old or too new, or has no GIL.
fn ask_python(paths: &Paths, path: &Path) -> Option<Python> {
    let question = "import sys, sysconfig; \
        print(*sys.version_info[:2], int(bool(sysconfig.get_config_var('Py_GIL_DISABLED'))))";
    let answer = Program::new(path, &paths.root).args(["-c", question]).output().ok()??;
    let minor = accepted_minor(&answer)?;
    Some(Python { path: path.to_path_buf(), minor })
}

fn accepted_minor(answer: &str) -> Option<u32> {
    let mut words = answer.split_whitespace();
    let (major, minor, free_threaded) = (words.next()?, words.next()?, words.next()?);
    let minor = minor.parse().ok()?;
    (major == "3" && PYTHON_MINORS.contains(&minor) && free_threaded == "0").then_some(minor)
}

/// Finds a Chromium for the browser tests, and installs Debian's where nobody has to be asked.
pub(crate) fn chromium(paths: &Paths) -> Result<PathBuf> {
    if let Some(path) = find_chromium() {
        return Ok(path);
    }
    apt_install(paths, &["chromium"], "Installing Chromium for the browser tests (about 100 MB)")?;
    match find_chromium() {
        Some(path) => Ok(path),
        None => bail!(
            "a Chromium is missing for the browser tests: install one (Debian: apt-get install \
             chromium) or set MEMSWEEP_CHROMIUM"
        ),
    }
}

fn find_chromium() -> Option<PathBuf> {
    if let Some(path) = env::var_os("MEMSWEEP_CHROMIUM").filter(|value| !value.is_empty()) {
        return Some(PathBuf::from(path));
    }
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"];
    names.into_iter().find_map(find).or_else(|| {
        let app = PathBuf::from("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome");
        app.is_file().then_some(app)
    })
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// Says that a test is skipped: past the test runner, which shows what a test prints only where it
/// fails.
#[cfg(test)]
pub(crate) fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_supported_pythons_are_accepted() {
        let rows = [
            ("3 11 0\n", Some(11)),
            ("3 10 0", Some(10)),
            ("3 9 0", None),
            ("3 14 0", Some(14)),
            ("3 15 0", None),
            ("2 11 0", None),
            ("3 13 1", None),
            ("", None),
            ("3 x 0", None),
        ];
        for (answer, expected) in rows {
            assert_eq!(accepted_minor(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_missing_tool_is_named_with_the_way_to_install_it() {
        let error = require("no-such-tool-xyz", "install xyz").unwrap_err();
        assert_eq!(error.to_string(), "`no-such-tool-xyz` is missing: install xyz");
    }
}
