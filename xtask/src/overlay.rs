//! Thin overlays: what an older ComfyUI pins differently than the base environment holds.
//!
//! A whole environment for each version would be 6 GB. An overlay is a folder that goes in front
//! of the base environment by `PYTHONPATH`; torch is never in one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::comfyui::Release;
use crate::paths::Paths;
use crate::run::{Program, TemporaryFolder};
use crate::stamp::{Hash, Stamp};
use crate::{files, setup};

/// Pictures, example workflows and help texts: up to 400 MB a version, and nothing but pages in
/// a browser reads them. The base environment's serve every version.
const LEFT_OUT: [&str; 2] = ["comfyui-workflow-templates", "comfyui-embedded-docs"];

/// The newest in the package registry on 2026-11-27.
pub(crate) const NEWEST_FRONT_END: &str = "1.58.1";

/// What an older ComfyUI must find in the base environment.
const NEVER: [&str; 3] = ["torch", "torchvision", "torchaudio"];

/// Prints, for each line of a requirements file that this environment does not satisfy, the
/// package's normal name and the requirement.
const ASK: &str = "import sys\n\
    from importlib import metadata\n\
    from packaging.requirements import Requirement\n\
    from packaging.utils import canonicalize_name\n\
    def held(name):\n\
    \x20   try:\n\
    \x20       return metadata.version(name)\n\
    \x20   except metadata.PackageNotFoundError:\n\
    \x20       return None\n\
    for line in open(sys.argv[1], encoding='utf-8'):\n\
    \x20   line = line.partition('#')[0].strip()\n\
    \x20   if not line:\n\
    \x20       continue\n\
    \x20   wanted = Requirement(line)\n\
    \x20   if wanted.marker is not None and not wanted.marker.evaluate():\n\
    \x20       continue\n\
    \x20   version = held(wanted.name)\n\
    \x20   if version is None or not wanted.specifier.contains(version, prereleases=True):\n\
    \x20       print(canonicalize_name(wanted.name), str(wanted).replace(' ', ''))\n";

/// Makes the overlay of a version whose tree is installed, and returns its folder.
pub(crate) fn make(paths: &Paths, release: Release) -> Result<PathBuf> {
    let requirements = paths.comfyui(release).join("requirements.txt");
    // Asked without any overlay that the shell puts in front of the base environment.
    let asked = Program::new(paths.python(), &paths.root)
        .args(["-c", ASK])
        .arg(&requirements)
        .env("PYTHONPATH", "");
    let Some(answer) = asked.output()? else {
        bail!("comparing {} with the base environment failed", requirements.display())
    };
    let packages = to_install(&answer)
        .with_context(|| format!("making an environment for ComfyUI {}", release.version))?;

    let folder = paths.cache.join("overlays").join(release.version);
    let stamp = Stamp::new(&folder, "overlay", &Hash::of(&packages.join(" ")));
    if stamp.is_set() {
        return Ok(folder);
    }
    install(paths, &folder, &packages, &format!("what ComfyUI {} pins", release.version))?;
    stamp.set()?;
    Ok(folder)
}

/// The newest front-end that is known to work, in front of the one that the current ComfyUI pins.
pub(crate) fn newest_front_end(paths: &Paths) -> Result<PathBuf> {
    let package = format!("comfyui-frontend-package=={NEWEST_FRONT_END}");
    let folder = paths.cache.join("overlays").join(format!("front-end-{NEWEST_FRONT_END}"));
    let stamp = Stamp::new(&folder, "overlay", &Hash::of(&package));
    if !stamp.is_set() {
        install(paths, &folder, &[package], &format!("front-end {NEWEST_FRONT_END}"))?;
        stamp.set()?;
    }
    Ok(folder)
}

/// Puts packages alone, without what they need, into a folder of their own.
fn install(paths: &Paths, folder: &Path, packages: &[String], what: &str) -> Result<()> {
    files::remove(folder)?;
    let unfinished = TemporaryFolder::create(&paths.cache.join("overlays"), "unfinished")?;
    if !packages.is_empty() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        setup::pip(paths, &paths.python())
            .args(["--no-deps", "--target"])
            .arg(unfinished.path())
            .args(packages)
            .run_step(
                &format!("Installing {what}"),
                &paths.logs().join(format!("overlay-{name}.log")),
            )?;
    }
    files::rename(unfinished.path(), folder)
}

/// The requirements to install, from lines of a package's name and its requirement.
fn to_install(answer: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in answer.lines() {
        let (name, requirement) = line.split_once(' ').context("reading a requirement")?;
        if NEVER.contains(&name) {
            bail!("it needs {requirement}, which the base environment does not satisfy");
        }
        if !LEFT_OUT.contains(&name) {
            found.push(requirement.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_left_out_and_torch_is_refused() {
        let answer = "comfyui-frontend-package comfyui-frontend-package==1.39.19\n\
            comfyui-workflow-templates comfyui-workflow-templates==0.9.10\n\
            comfy-kitchen comfy-kitchen>=0.2.7,<1\n";
        let expected = ["comfyui-frontend-package==1.39.19", "comfy-kitchen>=0.2.7,<1"];
        assert_eq!(to_install(answer).unwrap(), expected);
        assert!(to_install("").unwrap().is_empty());

        let error = to_install("torch torch==2.4.0\n").unwrap_err();
        assert!(error.to_string().contains("torch==2.4.0"));
    }
}
