//! Stamps: a file that says which request a finished stage of the set-up answered.
//!
//! A stage without its stamp, or with another request in it, is done again. So a second run does
//! nothing, and an interrupted one resumes at the stage it was in.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The stamp of one stage.
#[derive(Debug)]
pub(crate) struct Stamp {
    file: PathBuf,
    request: String,
}

impl Stamp {
    /// `folder` is what the stage fills: removing it removes its stamps too.
    pub(crate) fn new(folder: &Path, stage: &str, request: &Hash) -> Self {
        Self {
            file: folder.join(".memsweep").join(stage),
            request: format!("{:016x}\n", request.0),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|text| text == self.request)
    }

    pub(crate) fn set(&self) -> Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).context("creating the folder for stamps")?;
        }
        fs::write(&self.file, &self.request)
            .with_context(|| format!("writing {}", self.file.display()))
    }

    pub(crate) fn clear(&self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// 64-bit FNV-1a: enough to notice a change, and the same for every compiler version.
#[derive(Clone, Debug)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn of(text: &str) -> Self {
        let mut hash = Self::new();
        hash.add(text.as_bytes());
        hash
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // The length separates neighbours: "ab" + "c" is not "a" + "bc".
        for byte in bytes.len().to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Adds a file, or every file below a folder in the order of their names.
    pub(crate) fn add_tree(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            let mut entries: Vec<PathBuf> = fs::read_dir(path)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
                .with_context(|| format!("listing {}", path.display()))?;
            entries.sort();
            for entry in entries {
                let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let built =
                    name == "__pycache__" || name.ends_with(".so") || name.ends_with(".pyd");
                if !built {
                    self.add(name.as_bytes());
                    self.add_tree(&entry)?;
                }
            }
            return Ok(());
        }
        self.add(&fs::read(path).with_context(|| format!("reading {}", path.display()))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::TemporaryFolder;

    #[test]
    fn a_stamp_holds_for_its_request_only() {
        let folder = TemporaryFolder::create(&std::env::temp_dir(), "xtask-stamp").unwrap();
        let one = Stamp::new(folder.path(), "torch", &Hash::of("torch==1"));
        let two = Stamp::new(folder.path(), "torch", &Hash::of("torch==2"));
        assert!(!one.is_set());
        one.set().unwrap();
        assert!(one.is_set());
        assert!(!two.is_set());
        one.clear();
        assert!(!one.is_set());
    }

    #[test]
    fn a_changed_a_renamed_and_a_moved_byte_change_the_hash() {
        let folder = TemporaryFolder::create(&std::env::temp_dir(), "xtask-hash").unwrap();
        let hash = || {
            let mut hash = Hash::new();
            hash.add_tree(folder.path()).unwrap();
            hash.0
        };
        fs::write(folder.path().join("a"), "12").unwrap();
        fs::write(folder.path().join("b"), "3").unwrap();
        let first = hash();
        assert_eq!(first, hash());
        fs::write(folder.path().join("a"), "1").unwrap();
        fs::write(folder.path().join("b"), "23").unwrap();
        assert_ne!(first, hash());
        fs::write(folder.path().join("a"), "12").unwrap();
        fs::rename(folder.path().join("b"), folder.path().join("c")).unwrap();
        fs::write(folder.path().join("c"), "3").unwrap();
        assert_ne!(first, hash());
    }

    #[test]
    fn built_files_do_not_count_as_sources() {
        let folder = TemporaryFolder::create(&std::env::temp_dir(), "xtask-built").unwrap();
        fs::write(folder.path().join("a.py"), "1").unwrap();
        let mut before = Hash::new();
        before.add_tree(folder.path()).unwrap();
        fs::create_dir(folder.path().join("__pycache__")).unwrap();
        fs::write(folder.path().join("__pycache__/a.pyc"), "x").unwrap();
        fs::write(folder.path().join("_memsweep.abi3.so"), "x").unwrap();
        let mut after = Hash::new();
        after.add_tree(folder.path()).unwrap();
        assert_eq!(before.0, after.0);
    }
}
