//! `cargo xtask dist`: a wheel for each system, and the sources, checked before they are released.
//!
//! What passes is put into `dist`; what does not stays in `target/dist`, to be looked at.

mod binary;
mod build;
mod check;
#[cfg(test)]
mod planted;
mod pythons;
mod target;
mod wheel;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, LineStyle, Table, presets};

use self::build::Workshop;
use self::check::Wanted;
use self::target::{Product, Target};
use self::wheel::Wheel;
use crate::paths::Paths;
use crate::progress::elapsed;
use crate::{files, name_of};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Make only this
    #[arg(long, value_name = "NAME")]
    only: Option<Product>,
    /// Run the tests of the library on the wheel for this machine, on every Python that is found
    #[arg(long)]
    test: bool,
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    file: String,
    bytes: Option<u64>,
    faults: Vec<String>,
}

pub(crate) fn run(paths: &Paths, options: &Options) -> Result<bool> {
    let start = Instant::now();
    let products = match options.only {
        Some(product) => vec![product],
        None => Product::value_variants().to_vec(),
    };
    if options.test && !products.iter().any(|product| is_own(*product)) {
        bail!("--test needs a wheel for this machine among what is made");
    }
    let workshop = Workshop::prepare(paths, &products)?;
    if options.only.is_none() {
        files::remove(&folder(paths))?;
    }
    files::create_folder(&folder(paths))?;
    let (mut rows, mut own) = (Vec::new(), None);
    for product in products {
        let row = make(paths, &workshop, product).unwrap_or_else(|error| Row {
            file: name_of(product),
            bytes: None,
            faults: vec![format!("{error:#}")],
        });
        if is_own(product) && row.faults.is_empty() {
            own = Some(folder(paths).join(&row.file));
        }
        rows.push(row);
    }
    let mut good = rows.iter().all(|row| row.faults.is_empty());
    if options.test {
        good &= test(paths, own.as_deref());
    }
    println!("\n{}", render(&rows));
    let word = if good { "all is well" } else { "NOT good" };
    println!("dist: {word}; {}", elapsed(start));
    Ok(good)
}

/// An error here must not keep the table from being shown.
fn test(paths: &Paths, wheel: Option<&Path>) -> bool {
    let Some(wheel) = wheel else {
        eprintln!("not tested: the wheel for this machine has faults");
        return false;
    };
    pythons::test(paths, wheel).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        false
    })
}

fn is_own(product: Product) -> bool {
    product.target().is_some_and(|target| target.is_own)
}

fn folder(paths: &Paths) -> PathBuf {
    paths.root.join("dist")
}

fn make(paths: &Paths, workshop: &Workshop<'_>, product: Product) -> Result<Row> {
    let (file, faults) = match product.target() {
        Some(target) => {
            let file = workshop.wheel(product, target)?;
            let mut faults = check::faults(&Wheel::open(&file)?, &wanted(paths, target)?);
            faults.extend(workshop.abi3_faults(&file)?);
            (file, faults)
        }
        None => make_sdist(paths, workshop)?,
    };
    let name = file.file_name().unwrap_or_default();
    if faults.is_empty() {
        fs::copy(&file, folder(paths).join(name)).context("copying what was made")?;
    }
    let bytes = fs::metadata(&file).context("reading the size of what was made")?.len();
    Ok(Row { file: name.to_string_lossy().into_owned(), bytes: Some(bytes), faults })
}

/// The sources are good when the wheel that is built from them holds what ours hold.
fn make_sdist(paths: &Paths, workshop: &Workshop<'_>) -> Result<(PathBuf, Vec<String>)> {
    let (sources, built) = workshop.sdist()?;
    let Some(target) = Product::LinuxX86.target() else { bail!("there is no wheel to compare") };
    let mut faults = check::contents(&Wheel::open(&built)?, &wanted(paths, target)?);
    let name = format!("memsweep-{}.tar.gz", env!("CARGO_PKG_VERSION"));
    if !sources.ends_with(&name) {
        faults.push(format!("is not named {name}"));
    }
    Ok((sources, faults))
}

fn wanted(paths: &Paths, target: &'static Target) -> Result<Wanted> {
    let mut folders = vec![paths.root.display().to_string(), paths.cache.display().to_string()];
    folders.extend(build::cargo_home());
    Ok(Wanted {
        target,
        // All of the workspace have one.
        version: env!("CARGO_PKG_VERSION").to_owned(),
        package: package(&paths.root.join("python"))?,
        folders,
    })
}

/// The Python package as it is in the checkout, by the paths that it has in a wheel.
fn package(python: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let folder = python.join("memsweep");
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let name = entry.context("listing the package")?.file_name();
        let name = name.to_string_lossy();
        if name == "py.typed" || name.ends_with(".py") || name.ends_with(".pyi") {
            files.insert(format!("memsweep/{name}"));
        }
    }
    Ok(files)
}

fn render(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-')));
    table.set_header(["File", "Size", "Verdict"]);
    for row in rows {
        let size = row.bytes.map_or_else(|| "not known".to_owned(), kibibytes);
        let verdict = if row.faults.is_empty() { "ok".to_owned() } else { row.faults.join("\n") };
        table.add_row([row.file.clone(), size, verdict]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn kibibytes(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_the_checkout_has_its_types() {
        let files = package(&Paths::find().unwrap().root.join("python")).unwrap();
        for file in ["memsweep/__init__.py", "memsweep/_memsweep.pyi", "memsweep/py.typed"] {
            assert!(files.contains(file), "{file}: {files:?}");
        }
        assert!(files.iter().all(|file| !file.contains("__pycache__") && !file.ends_with(".so")));
    }

    #[test]
    fn a_fault_is_in_the_table() {
        let row = |file: &str, bytes, faults| Row { file: file.to_owned(), bytes, faults };
        let text = render(&[
            row("a.whl", Some(1025), Vec::new()),
            row("b", None, vec!["no compiler".to_owned()]),
        ]);
        for part in ["a.whl", "2 KiB", "ok", "not known", "no compiler"] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}
