//! Faults in Rust code that clippy must find, under the workspace's own lints and `clippy.toml`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// One fault for each lint that a rule of ours rests on. Nothing of it is public, as in most of our
/// files.
const PLANTED: &str = r#"#![allow(dead_code)]
fn unwraps(a: Option<u8>) -> u8 { a.unwrap() }
fn expects(a: Option<u8>) -> u8 { a.expect("no") }
fn panics() { panic!("no") }
fn todo() { todo!() }
fn unimplemented() { unimplemented!() }
unsafe fn promises_nothing() {}
fn explains_nothing() { unsafe { promises_nothing() } }
struct Sent(*const u8);
unsafe impl Send for Sent {}
fn outlives() { std::thread::spawn(|| {}); }
fn outlives_too() { std::thread::Builder::new().spawn(|| {}).ok(); }
"#;

/// Each lint, and in how many lines it finds a fault.
const FOUND: [(&str, usize); 9] = [
    ("clippy::disallowed_methods", 2),
    ("clippy::expect_used", 1),
    ("clippy::missing_safety_doc", 1),
    ("clippy::panic", 1),
    ("clippy::todo", 1),
    ("clippy::undocumented_unsafe_blocks", 2),
    ("clippy::unimplemented", 1),
    ("clippy::unwrap_used", 1),
    ("unsafe_code", 3),
];

/// The same where it is allowed: in tests, and with a reason.
const GOOD: &str = r#"#![allow(dead_code, unsafe_code)]

/// # Safety
/// There is nothing to promise.
unsafe fn promises() {}

fn ends_with_its_call() {
    std::thread::scope(|scope| drop(scope.spawn(|| {})));
}

fn explains() {
    ends_with_its_call();
    // SAFETY: there is nothing to promise.
    unsafe { promises() }
}

#[test]
fn may_panic() {
    let a = Some(1);
    assert_eq!(a.unwrap(), a.expect("one"));
    if a.is_none() { panic!("none") }
    explains();
}
"#;

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

#[test]
fn planted_panics_and_unexplained_unsafe_code_are_found_in_every_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = root.join("target/planted-clippy");
    let _ = fs::remove_dir_all(folder.join("crates"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let ours: toml::Table = read("Cargo.toml").parse().unwrap();
    let lints = &ours["workspace"]["lints"];
    let workspace =
        format!("workspace = {{ resolver = \"3\", members = [\"crates/*\"], lints = {lints} }}\n");
    write(&folder.join("Cargo.toml"), &workspace);
    write(&folder.join("clippy.toml"), &read("clippy.toml"));

    let plant = |name: &str, text: &str| {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\
            [lints]\nworkspace = true\n"
        );
        write(&folder.join(format!("crates/{name}/Cargo.toml")), &manifest);
        write(&folder.join(format!("crates/{name}/src/lib.rs")), text);
    };
    plant("good", GOOD);
    // One crate under the workspace's settings, and one under the core's own.
    plant("plain", PLANTED);
    plant("core", PLANTED);
    let settings = read("crates/memsweep-core/clippy.toml");
    write(&folder.join("crates/core/clippy.toml"), &settings);

    let answer = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["clippy", "--offline", "--workspace", "--all-targets", "--keep-going"])
        .args(["--quiet", "--message-format=json", "--target-dir", "target"])
        .current_dir(&folder)
        .output()
        .unwrap();
    let mut found = BTreeSet::new();
    for line in String::from_utf8_lossy(&answer.stdout).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let message = &line["message"];
        if message["level"] == "error" && message["code"]["code"].is_string() {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let place = message["spans"][0]["line_start"].as_u64().unwrap();
            found.insert((text(&line["target"]["name"]), text(&message["code"]["code"]), place));
        }
    }
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (name, code, _) in found {
        *counts.entry((name, code)).or_default() += 1;
    }
    let expected = ["core", "plain"]
        .into_iter()
        .flat_map(|name| FOUND.map(|(code, count)| ((name.to_owned(), code.to_owned()), count)));
    assert_eq!(counts, expected.collect(), "{}", String::from_utf8_lossy(&answer.stderr));
}
