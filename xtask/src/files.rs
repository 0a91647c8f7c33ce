//! Folders: removed, copied, linked.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result, bail};

/// Removes a file or a folder, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a file or a folder, but not what Python compiled.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let told = || format!("copying {}", from.display());
    if !from.is_dir() {
        fs::copy(from, to).with_context(told)?;
        return Ok(());
    }
    fs::create_dir_all(to).with_context(told)?;
    for entry in fs::read_dir(from).with_context(told)? {
        let entry = entry.with_context(told)?;
        if entry.file_name() != "__pycache__" {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Makes a link to a folder.
pub(crate) fn link(to: &Path, link: &Path) -> Result<()> {
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(to, link);
    // Windows needs its developer mode for it.
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_dir(to, link);
    linked.with_context(|| format!("linking {}", link.display()))
}

/// Moves a file or a folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("moving to {}", to.display()))
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}

/// The one file in a folder.
pub(crate) fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut found =
        fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    match (found.next(), found.next()) {
        (Some(file), None) => Ok(file.context("listing a folder")?.path()),
        (None, _) => bail!("nothing is in {}", folder.display()),
        (Some(_), Some(_)) => bail!("more than one file in {}", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;

    use crate::run::TemporaryFolder;

    #[test]
    fn only_one_file_is_the_file() {
        let folder = TemporaryFolder::create(&env::temp_dir(), "xtask-only-file").unwrap();
        assert!(only_file(folder.path()).is_err());
        let file = folder.path().join("a.whl");
        fs::write(&file, "").unwrap();
        assert_eq!(only_file(folder.path()).unwrap(), file);
        fs::write(folder.path().join("b.whl"), "").unwrap();
        assert!(only_file(folder.path()).is_err());
    }
}
