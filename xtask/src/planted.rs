//! Faults that are planted to see that a check finds them: in a copy of the sources, never here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files;
use crate::paths::Paths;

/// A piece of a file, and the wrong text to put in its place.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) file: &'static str,
    pub(crate) right: &'static str,
    pub(crate) wrong: &'static str,
}

/// What the workspace needs to be built.
const SOURCES: [&str; 6] =
    ["Cargo.toml", "Cargo.lock", "clippy.toml", "crates", "xtask", "fixtures"];

/// Calls `check` with a copy of the workspace that has the fault.
pub(crate) fn planted<T>(
    paths: &Paths,
    fault: &Fault,
    check: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    planted_all(paths, std::slice::from_ref(fault), check)
}

/// The same with a fault that lies in several places.
pub(crate) fn planted_all<T>(
    paths: &Paths,
    faults: &[Fault],
    check: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    // Always the same place, so that what was built from it can be reused.
    let copy = paths.root.join("target/planted");
    files::create_folder(&copy)?;
    for source in SOURCES {
        let (from, to) = (paths.root.join(source), copy.join(source));
        files::remove(&to)?;
        files::copy(&from, &to)?;
    }
    for fault in faults {
        let file = copy.join(fault.file);
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", fault.file))?;
        if text.matches(fault.right).count() != 1 {
            bail!("{} does not hold `{}` once: plant another fault", fault.file, fault.right);
        }
        fs::write(&file, text.replace(fault.right, fault.wrong)).context("planting a fault")?;
    }
    check(&copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: Fault = Fault { file: "Cargo.toml", right: "[workspace]", wrong: "[nothing]" };

    #[test]
    fn the_fault_is_in_the_copy_alone() {
        let paths = Paths::find().unwrap();
        let text = |folder: &Path| fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let copied = planted(&paths, &MANIFEST, |copy| Ok(text(copy))).unwrap();
        assert_eq!(copied, text(&paths.root).replace("[workspace]", "[nothing]"));
        let none = Fault { right: "no such text", ..MANIFEST };
        assert!(planted(&paths, &none, |_| Ok(())).is_err());
    }
}
