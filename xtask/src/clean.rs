//! `cargo xtask clean`: removes the cache folder.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;

/// What the set-up puts into the cache folder. A folder without any of it is not ours.
const OURS: [&str; 5] = ["venv", "comfyui", "checkpoints", "downloads", "setup.lock"];

pub(crate) fn run(paths: &Paths) -> Result<bool> {
    let cache = &paths.cache;
    if !cache.exists() {
        println!("nothing to remove: {} does not exist", cache.display());
        return Ok(true);
    }
    // MEMSWEEP_CACHE may name any folder: never remove one that we did not fill.
    if paths.root.starts_with(cache) || !OURS.iter().any(|name| cache.join(name).exists()) {
        bail!("{} does not look like MemSweep's cache folder: left alone", cache.display());
    }
    println!("removing {}", cache.display());
    fs::remove_dir_all(cache).with_context(|| format!("removing {}", cache.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::TemporaryFolder;

    #[test]
    fn only_a_folder_that_setup_filled_is_removed() {
        let folder = TemporaryFolder::create(&std::env::temp_dir(), "xtask-clean").unwrap();
        let cache = folder.path().join("cache");
        let paths = Paths { root: folder.path().join("checkout"), cache: cache.clone() };
        assert!(run(&paths).unwrap(), "a missing folder is nothing to do");
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join("letter.txt"), "dear").unwrap();
        assert!(run(&paths).is_err());
        assert!(cache.join("letter.txt").exists());
        fs::create_dir(cache.join("venv")).unwrap();
        assert!(run(&paths).unwrap());
        assert!(!cache.exists());
    }
}
