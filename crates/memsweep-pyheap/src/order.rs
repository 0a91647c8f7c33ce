//! The order of the modules: each uses only those before it, so that each can be read after them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// From tables of numbers, by raw objects and what is known of types, to the walk and what is asked of it.
#[rustfmt::skip]
const ORDER: [&str; 27] = [
    "table", "bitmap", "tally", "numbering",
    "object", "library", "trust", "passive", "visitor", "frames", "layout", "foreign", "world", "kinds",
    "walk", "writers", "users", "hidden", "reach", "selftest",
    "questions", "holders", "idle", "destroy", "labels", "edges", "storages",
];

/// The modules that some Rust text uses.
fn used(text: &str) -> BTreeSet<&str> {
    let paths = text.split("crate::").skip(1);
    paths.filter_map(|rest| rest.split(|one: char| !one.is_alphanumeric()).next()).collect()
}

/// The text of a module: one file, or all those in its folder.
fn text(path: &Path) -> String {
    if !path.is_dir() {
        return fs::read_to_string(path).unwrap();
    }
    fs::read_dir(path).unwrap().map(|entry| text(&entry.unwrap().path())).collect()
}

#[test]
fn a_module_uses_only_those_before_it() {
    // Asked when the test runs: checkouts share what is built for other systems.
    let sources = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("src");
    let mut known: BTreeSet<String> = ["lib", "order"].map(str::to_owned).into();
    for (at, module) in ORDER.into_iter().enumerate() {
        let file = sources.join(format!("{module}.rs"));
        let text = text(&if file.exists() { file } else { sources.join(module) });
        for other in used(&text) {
            assert!(ORDER[..=at].contains(&other), "{module} uses {other}, which comes after it");
        }
        known.insert(module.to_owned());
    }
    for entry in fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        let is_rust = path.is_dir() || path.extension().is_some_and(|kind| kind == "rs");
        let module = path.file_stem().unwrap().to_str().unwrap();
        assert!(!is_rust || known.contains(module), "{module} has no place in the order");
    }
}

#[test]
fn what_a_text_uses_is_found() {
    let text = "use crate::walk::{Bounds, Walk};\nfn a(b: crate::tally::Tally) {}";
    assert_eq!(used(text), BTreeSet::from(["tally", "walk"]));
}
