//! A wheel, unpacked into memory: a zip archive whose name says what it is for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result};
use zip::ZipArchive;

/// The files of a wheel, by their path in it.
#[derive(Clone, Debug)]
pub(super) struct Wheel {
    pub(super) name: String,
    /// The size of the archive, which is what is downloaded.
    pub(super) bytes: u64,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Wheel {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let told = || format!("reading {}", path.display());
        let archive = fs::read(path).with_context(told)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::of(name, archive).with_context(told)
    }

    fn of(name: String, archive: Vec<u8>) -> Result<Self> {
        let bytes = archive.len() as u64;
        let mut archive = ZipArchive::new(Cursor::new(archive))?;
        let mut files = BTreeMap::new();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index)?;
            let path = entry.name()?.into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).with_context(|| format!("unpacking {path}"))?;
            files.insert(path, content);
        }
        Ok(Self { name, bytes, files })
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        str::from_utf8(self.files.get(path)?).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    /// Packs a wheel and reads it again.
    pub(in crate::dist) fn packed(name: &str, files: &[(&str, &[u8])]) -> Wheel {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (path, content) in files {
            archive.start_file(*path, SimpleFileOptions::default()).unwrap();
            archive.write_all(content).unwrap();
        }
        Wheel::of(name.to_owned(), archive.finish().unwrap().into_inner()).unwrap()
    }

    #[test]
    fn a_packed_file_is_read_as_it_was() {
        let content = b"same line\n".repeat(1000);
        let wheel = packed("a.whl", &[("a/b.py", &content), ("empty", b"")]);
        assert_eq!(wheel.files["a/b.py"], content);
        assert_eq!(wheel.text("empty"), Some(""));
        assert_eq!(wheel.text("absent"), None);
        assert!(wheel.bytes < 1000, "it was not compressed: {}", wheel.bytes);
    }

    #[test]
    fn what_is_not_an_archive_is_an_error() {
        assert!(Wheel::of("a.whl".to_owned(), b"no archive".to_vec()).is_err());
    }
}
