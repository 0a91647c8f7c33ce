//! Wheels that are broken on purpose, with extensions that a real compiler made.

use std::collections::BTreeSet;
use std::env;
use std::fs;

use super::check::{Wanted, faults};
use super::target::{Product, Target};
use super::wheel::Wheel;
use super::wheel::tests::packed;
use crate::run::{Program, TemporaryFolder};
use crate::tools::{self, skipped};

const VERSION: &str = "0.1.0";
const ABOUT: &str = "memsweep-0.1.0.dist-info";
const METADATA: &[u8] = b"Metadata-Version: 2.4\nName: memsweep\nVersion: 0.1.0\n\nVersion: 9\n";

fn wanted(target: &'static Target) -> Wanted {
    let package = ["memsweep/__init__.py", "memsweep/_memsweep.pyi", "memsweep/py.typed"];
    Wanted {
        target,
        version: VERSION.to_owned(),
        package: BTreeSet::from(package.map(str::to_owned)),
        folders: vec!["a-folder-of-this-machine".to_owned()],
    }
}

/// A wheel with all that it must have, and this extension.
fn wheel_with(target: &Target, extension: &[u8]) -> Wheel {
    let name = format!("memsweep-{VERSION}-cp310-abi3-{}.whl", target.platform);
    let about = |file: &str| format!("{ABOUT}/{file}");
    let names =
        ["WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE-APACHE", "licenses/LICENSE-MIT"]
            .map(about);
    let metadata = about("METADATA");
    let mut files: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    files.push((&metadata, METADATA));
    files.push(("memsweep/__init__.py", b"import memsweep._memsweep\n"));
    files.push(("memsweep/_memsweep.pyi", b""));
    files.push(("memsweep/py.typed", b""));
    files.push((target.extension, extension));
    packed(&name, &files)
}

/// Compiles a library. `None` where the compiler is missing, which is reported.
fn library(compiler: &str, name: &str, source: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let Some(found) = tools::find(compiler) else {
        skipped(&format!("there is no {compiler} to make a library with"));
        return None;
    };
    let folder = TemporaryFolder::create(&env::temp_dir(), &format!("xtask-{name}")).unwrap();
    fs::write(folder.path().join("planted.c"), source).unwrap();
    let compiling = Program::new(found, folder.path())
        .args(["-shared", "-fPIC", "-o", "planted.so", "planted.c"])
        .args(arguments);
    let (status, lines) = compiling.run_captured().unwrap();
    assert!(status.success(), "{}", lines.join("\n"));
    Some(fs::read(folder.path().join("planted.so")).unwrap())
}

/// A library for this machine, and the target that it is for.
fn own(name: &str, source: &str, arguments: &[&str]) -> Option<(&'static Target, Vec<u8>)> {
    let targets = [Product::LinuxX86, Product::LinuxArm].into_iter().filter_map(Product::target);
    let Some(target) = targets.into_iter().find(|target| target.is_own) else {
        skipped("no wheel is made for this machine by its own compiler");
        return None;
    };
    Some((target, library("cc", name, source, arguments)?))
}

const QUIET: &str = "int answer(void) { return 42; }\n";
const ASKS: &str = "int answer(void);\nint call(void) { return answer(); }\n";
/// Came with glibc 2.25, and needs no header.
const MODERN: &str = "long getrandom(void *, unsigned long, unsigned);\n\
    long call(void *at) { return getrandom(at, 1, 0); }\n";
const BEEPS: &str = "__declspec(dllimport) int __stdcall MessageBeep(unsigned);\n\
    int call(void) { return MessageBeep(0); }\n";
const NAMES_A_FOLDER: &str = "const char *where = \"a-folder-of-this-machine/x.c\";\n";

#[test]
fn a_wheel_that_is_as_it_must_be_has_no_faults() {
    let Some((target, good)) = own("good", QUIET, &[]) else { return };
    assert_eq!(faults(&wheel_with(target, &good), &wanted(target)), [""; 0]);
}

#[test]
fn an_elf_library_off_the_list_is_refused() {
    // The other library is made here too, so that none needs to be installed.
    let named = ["-Wl,-soname,libstrange.so.1"];
    let Some((target, other)) = own("strange", QUIET, &named) else { return };
    let folder = TemporaryFolder::create(&env::temp_dir(), "xtask-planted-elf").unwrap();
    let path = folder.path().join("libstrange.so");
    fs::write(&path, other).unwrap();
    let linked = [path.to_str().unwrap(), "-Wl,-rpath,/opt/strange"];
    let Some((_, bad)) = own("asks", ASKS, &linked) else { return };
    let expected = [
        "imports libstrange.so.1, which is not on the list",
        "searches for libraries in /opt/strange",
    ];
    assert_eq!(faults(&wheel_with(target, &bad), &wanted(target)), expected);
}

#[test]
fn a_pe_library_off_the_list_is_refused() {
    let compiler = "x86_64-w64-mingw32-gcc";
    let Some(bad) = library(compiler, "beeps", BEEPS, &["-luser32"]) else { return };
    let target = Product::WindowsX86.target().unwrap();
    let found = faults(&wheel_with(target, &bad), &wanted(target));
    let expected = "imports user32.dll, which is not on the list".to_owned();
    assert!(found.contains(&expected), "{found:?}");
}

/// The beginning of a Mach-O file: a header and commands. No compiler that is sure to be here makes
/// one.
fn mach_o(target: &Target, library: &str, minimum: u32, signature: u32) -> Vec<u8> {
    let mut name = library.as_bytes().to_vec();
    name.resize(library.len().next_multiple_of(8), 0);
    let length = u32::try_from(name.len()).unwrap();
    let header = [0xfeed_facf, target.machine, 0, 6, 3, 24 + 16 + 24 + length, 0, 0];
    let build_version = [0x32, 24, 1, minimum << 16, minimum << 16, 0];
    let signature = [signature, 16, 0, 0];
    let library = [0xc, 24 + length, 24, 0, 0, 0];
    let words = [&header[..], &build_version, &signature, &library].concat();
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(name);
    bytes
}

#[test]
fn a_mach_o_library_off_the_list_is_refused() {
    const SIGNATURE: u32 = 0x1d;
    const NO_SIGNATURE: u32 = 0x2b;
    let (system, metal) =
        ("/usr/lib/libSystem.B.dylib", "/System/Library/Frameworks/Metal.framework/Metal");
    let (arm, intel) = (Product::MacArm.target().unwrap(), Product::MacX86.target().unwrap());
    let rows: [(&str, u32, u32, &[&str]); 4] = [
        (system, 11, SIGNATURE, &[]),
        (metal, 11, SIGNATURE, &[&format!("imports {metal}, which is not on the list")]),
        (system, 12, SIGNATURE, &["needs (12, 0), not (11, 0)"]),
        (system, 11, NO_SIGNATURE, &["is not signed"]),
    ];
    for (library, minimum, signature, expected) in rows {
        let extension = mach_o(arm, library, minimum, signature);
        assert_eq!(faults(&wheel_with(arm, &extension), &wanted(arm)), expected);
    }
    let unsigned = mach_o(intel, system, 11, NO_SIGNATURE);
    assert_eq!(faults(&wheel_with(intel, &unsigned), &wanted(intel)), [""; 0]);
}

#[test]
fn what_an_old_linux_does_not_have_is_refused() {
    let Some((target, bad)) = own("modern", MODERN, &[]) else { return };
    let found = faults(&wheel_with(target, &bad), &wanted(target));
    assert_eq!(found, ["needs (2, 25), not (2, 17)"]);
}

#[test]
fn an_extension_for_another_machine_is_refused() {
    let Some((own, bad)) = own("other", QUIET, &[]) else { return };
    let others = [Product::LinuxX86, Product::LinuxArm].into_iter().filter_map(Product::target);
    for target in others.filter(|target| target.triple != own.triple) {
        let found = faults(&wheel_with(target, &bad), &wanted(target));
        let expected = format!("machine {:#x}, not {:#x}", own.machine, target.machine);
        assert_eq!(found, [expected]);
    }
}

#[test]
fn a_folder_of_the_machine_that_built_it_is_refused() {
    let Some((target, bad)) = own("folder", NAMES_A_FOLDER, &[]) else { return };
    let found = faults(&wheel_with(target, &bad), &wanted(target));
    assert_eq!(found, ["names a folder of this machine: a-folder-of-this-machine"]);
}

#[test]
fn what_is_not_an_extension_is_refused() {
    let target = Product::WindowsX86.target().unwrap();
    let found = faults(&wheel_with(target, b"no library"), &wanted(target));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("memsweep/_memsweep.pyd: reading a PE file"), "{found:?}");
}

/// What needs no compiler: the fault of the extension is left out.
fn other_faults(change: impl FnOnce(&mut Wheel)) -> Vec<String> {
    let target = Product::WindowsX86.target().unwrap();
    let mut wheel = wheel_with(target, b"no library");
    change(&mut wheel);
    let found = faults(&wheel, &wanted(target)).into_iter();
    found.filter(|one| !one.contains("reading a PE file")).collect()
}

#[test]
fn a_wheel_with_too_much_is_refused() {
    assert_eq!(other_faults(|_| ()), [""; 0]);
    let list_of_crates = &format!("{ABOUT}/sboms/memsweep-python.cyclonedx.json");
    for path in
        [list_of_crates, "memsweep/__pycache__/a.pyc", "tests/test_a.py", "memsweep/libgcc.dll"]
    {
        let found = other_faults(|wheel| _ = wheel.files.insert(path.to_owned(), Vec::new()));
        assert_eq!(found, [format!("{path} does not belong in it")]);
    }
    let found = other_faults(|wheel| wheel.bytes = (3 << 20) + 1);
    assert_eq!(found, ["3145729 bytes are more than 3145728"]);
}

#[test]
fn a_wheel_with_too_little_is_refused() {
    let licence = format!("{ABOUT}/licenses/LICENSE-MIT");
    for path in ["memsweep/py.typed", "memsweep/_memsweep.pyi", "memsweep/_memsweep.pyd", &licence]
    {
        let found = other_faults(|wheel| _ = wheel.files.remove(path));
        assert_eq!(found, [format!("{path} is missing")]);
    }
}

#[test]
fn a_wheel_of_another_version_or_name_is_refused() {
    let metadata = format!("{ABOUT}/METADATA");
    let other = b"Version: 0.1.1\n\nVersion: 0.1.0\n".to_vec();
    let found = other_faults(|wheel| _ = wheel.files.insert(metadata, other));
    assert_eq!(found, ["the metadata says version Some(\"0.1.1\"), not 0.1.0"]);
    let found = other_faults(|wheel| wheel.name = "memsweep-0.1.0-py3-none-any.whl".to_owned());
    assert_eq!(found, ["memsweep-0.1.0-py3-none-any.whl is not named for win_amd64"]);
}
