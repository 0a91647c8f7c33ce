//! Faults that are planted to see that a check finds them: in a copy of the sources, never here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;

/// One text of a file, and what is wrong instead of it.
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
    // Always the same place, so that what was built of it can be used again.
    let copy = paths.root.join("target/planted");
    fs::create_dir_all(&copy).with_context(|| format!("creating {}", copy.display()))?;
    for source in SOURCES {
        let (from, to) = (paths.root.join(source), copy.join(source));
        remove(&to).and_then(|()| copy_tree(&from, &to))?;
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

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let told = || format!("copying {}", from.display());
    if !from.is_dir() {
        fs::copy(from, to).with_context(told)?;
        return Ok(());
    }
    fs::create_dir_all(to).with_context(told)?;
    for entry in fs::read_dir(from).with_context(told)? {
        let entry = entry.with_context(told)?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
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
