//! Machines made of files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{DeviceMemory, DriverView, Source};
use memsweep_os::{Os, Roots};
use tempfile::TempDir;

/// A machine made of files, named relative to a folder that holds `proc` and `sys`.
pub(crate) struct Tree {
    folder: TempDir,
}

impl Tree {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self { folder: tempfile::tempdir().unwrap() };
        for (name, content) in files {
            tree.write(name, content.as_bytes());
        }
        tree
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn link(&self, name: &str, target: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub(crate) fn os(&self) -> Os {
        Os::at(Roots { proc: self.path("proc"), sys: self.path("sys") })
    }
}

/// A card of this driver, beside one of another.
pub(crate) fn amd_tree() -> Tree {
    let tree = Tree::new(&[
        ("pci/0000:C3:00.0/mem_info_vram_total", "17163091968\n"),
        ("pci/0000:C3:00.0/mem_info_vram_used", "1048576\n"),
        ("pci/0000:C3:00.0/product_name", "Radeon Test\n"),
        ("pci/0000:01:00.0/vendor", "0x10de\n"),
        ("proc/self/fdinfo/3", "pos:\t0\nflags:\t0\n"),
    ]);
    tree.link("sys/class/drm/card1/device", "../../../../pci/0000:C3:00.0");
    tree.link("sys/class/drm/card0/device", "../../../../pci/0000:01:00.0");
    tree.link("sys/class/drm/card1-DP-1/device", "../../../../pci/0000:C3:00.0");
    tree
}

/// What a reading shows of it.
pub(crate) fn amd_card() -> DeviceMemory {
    DeviceMemory {
        id: "amdgpu:card1".to_owned(),
        name: Some("Radeon Test".to_owned()),
        pci: Some("0000:c3:00.0".to_owned()),
        total: Some(Bytes(17_163_091_968)),
        driver: DriverView { used: Some(Bytes(1_048_576)), ..DriverView::default() },
        source: Some(Source::Sysfs),
        ..DeviceMemory::default()
    }
}
