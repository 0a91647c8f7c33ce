//! Where things are: the checkout, and the one cache folder outside it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::comfyui;

/// The checkout and the cache folder, both absolute.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
    pub(crate) cache: PathBuf,
}

impl Paths {
    pub(crate) fn find() -> Result<Self> {
        // These commands are built in the checkout that they serve.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask stands alone")?;
        Ok(Self { root: root.to_path_buf(), cache: cache_folder()? })
    }

    pub(crate) fn venv(&self) -> PathBuf {
        self.cache.join("venv")
    }

    /// The interpreter of the virtual environment that has torch and ComfyUI's requirements.
    pub(crate) fn python(&self) -> PathBuf {
        python_of(&self.venv())
    }

    pub(crate) fn comfyui(&self, release: comfyui::Release) -> PathBuf {
        self.cache.join("comfyui").join(release.version)
    }

    pub(crate) fn checkpoint(&self, name: &str) -> PathBuf {
        self.cache.join("checkpoints").join(format!("{name}.safetensors"))
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.cache.join("logs")
    }

    /// Variables for every child process, so that tests and benches find the same set-up.
    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("MEMSWEEP_CACHE", self.cache.clone()),
            ("MEMSWEEP_COMFYUI", self.comfyui(comfyui::CURRENT)),
            ("MEMSWEEP_VENV_PYTHON", self.python()),
        ]
    }
}

/// The interpreter inside a virtual environment.
pub(crate) fn python_of(venv: &Path) -> PathBuf {
    if cfg!(windows) { venv.join("Scripts").join("python.exe") } else { venv.join("bin/python") }
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(set) = variable("MEMSWEEP_CACHE") {
        return std::path::absolute(&set).context("reading MEMSWEEP_CACHE");
    }
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    let base = base.context("no home folder is known: set MEMSWEEP_CACHE to a folder")?;
    Ok(base.join("memsweep"))
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_root_holds_the_workspace() {
        let root = Paths::find().unwrap().root;
        assert!(root.join("Cargo.toml").is_file());
        assert!(root.join("xtask").is_dir());
    }
}
