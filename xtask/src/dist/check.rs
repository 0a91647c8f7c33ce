//! What must hold for a wheel before it is released. Each check returns what breaks it.
//!
//! Only Python's stable symbols may be used: that is for abi3audit to find out, see `build.rs`.

use std::collections::BTreeSet;

use super::binary::Binary;
use super::target::{System, Target};
use super::wheel::Wheel;

/// Nobody should wait for a node pack. The wheels have less than a third of it.
const LARGEST: u64 = 3 << 20;

/// What the wheel is checked against.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) target: &'static Target,
    pub(super) version: String,
    /// The files of the Python package, by their path in a wheel.
    pub(super) package: BTreeSet<String>,
    /// Folders of the machine that built it: they mean nothing anywhere else.
    pub(super) folders: Vec<String>,
}

type Check = fn(&Wheel, &Wanted) -> Vec<String>;

const CHECKS: [Check; 5] = [name, size, contents, version, extension];

/// Everything that is wrong with it. Empty when it may be released.
pub(super) fn faults(wheel: &Wheel, wanted: &Wanted) -> Vec<String> {
    CHECKS.iter().flat_map(|check| check(wheel, wanted)).collect()
}

fn name(wheel: &Wheel, wanted: &Wanted) -> Vec<String> {
    let good = wanted.target.has_name(&wheel.name, &wanted.version);
    fault(!good, || format!("{} is not named for {}", wheel.name, wanted.target.platform))
}

fn size(wheel: &Wheel, _: &Wanted) -> Vec<String> {
    fault(wheel.bytes > LARGEST, || format!("{} bytes are more than {LARGEST}", wheel.bytes))
}

fn version(wheel: &Wheel, wanted: &Wanted) -> Vec<String> {
    let metadata = wheel.text(&format!("{}/METADATA", about(wanted))).unwrap_or_default();
    // The headers end at the first empty line; below it is the README.
    let headers = metadata.lines().take_while(|line| !line.is_empty());
    let found = headers.filter_map(|line| line.strip_prefix("Version: ")).next();
    fault(found != Some(wanted.version.as_str()), || {
        format!("the metadata says version {found:?}, not {}", wanted.version)
    })
}

/// The folder in which a wheel describes itself.
fn about(wanted: &Wanted) -> String {
    format!("memsweep-{}.dist-info", wanted.version)
}

/// All that it must hold, and nothing else.
pub(super) fn contents(wheel: &Wheel, wanted: &Wanted) -> Vec<String> {
    let about = about(wanted);
    let mut must = wanted.package.clone();
    must.insert(wanted.target.extension.to_owned());
    let told = [
        "METADATA",
        "WHEEL",
        "RECORD",
        "entry_points.txt",
        "licenses/LICENSE-APACHE",
        "licenses/LICENSE-MIT",
    ];
    must.extend(told.map(|file| format!("{about}/{file}")));
    let missing = must.iter().filter(|path| !wheel.files.contains_key(*path));
    let extra = wheel.files.keys().filter(|path| !must.contains(*path));
    let missing = missing.map(|path| format!("{path} is missing"));
    missing.chain(extra.map(|path| format!("{path} does not belong in it"))).collect()
}

/// The one compiled file: for the right machine, and needing only what every system has.
fn extension(wheel: &Wheel, wanted: &Wanted) -> Vec<String> {
    let target = wanted.target;
    // `contents` reports when it is missing.
    let Some(bytes) = wheel.files.get(target.extension) else { return Vec::new() };
    let binary = match Binary::read(target.system, bytes) {
        Ok(binary) => binary,
        Err(error) => return vec![format!("{}: {error:#}", target.extension)],
    };
    let mut faults = fault(binary.machine != target.machine, || {
        format!("machine {:#x}, not {:#x}", binary.machine, target.machine)
    });
    let strange = binary.libraries.iter().filter(|name| !is_allowed(target.system, name));
    faults.extend(strange.map(|name| format!("imports {name}, which is not on the list")));
    let searched = binary.search_paths.iter();
    faults.extend(searched.map(|path| format!("searches for libraries in {path}")));
    if let (Some(oldest), Some(newest)) = (binary.oldest, newest(target.system)) {
        faults.extend(fault(oldest > newest, || format!("needs {oldest:?}, not {newest:?}")));
    }
    let unsigned = target.must_be_signed && !binary.is_signed;
    faults.extend(fault(unsigned, || "is not signed".to_owned()));
    let named = wanted.folders.iter().filter(|folder| holds(bytes, folder.as_bytes()));
    faults.extend(named.map(|folder| format!("names a folder of this machine: {folder}")));
    faults
}

/// What is really imported, and nothing in reserve, so that somebody looks at a new name.
fn is_allowed(system: System, library: &str) -> bool {
    let allowed: &[&str] = match system {
        System::Linux => &["libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"],
        System::Windows => &[
            "api-ms-win-core-synch-l1-2-0.dll",
            "bcryptprimitives.dll",
            "kernel32.dll",
            "msvcrt.dll",
            "ntdll.dll",
            "python3.dll",
        ],
        System::MacOs => &["/usr/lib/libSystem.B.dylib"],
    };
    allowed.contains(&library)
}

/// The version of glibc or macOS that is enough, as the wheel's name promises.
fn newest(system: System) -> Option<(u32, u32)> {
    match system {
        System::Linux => Some((2, 17)),
        System::MacOs => Some((11, 0)),
        System::Windows => None,
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn fault(is_one: bool, text: impl FnOnce() -> String) -> Vec<String> {
    if is_one { vec![text()] } else { Vec::new() }
}
