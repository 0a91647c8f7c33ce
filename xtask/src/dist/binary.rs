//! What an extension module needs from the system that loads it, read from the file itself.
//!
//! Only what the loader brings in at once is seen, not what the code opens later by name.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use goblin::elf::Elf;
use goblin::mach::MachO;
use goblin::mach::load_command::CommandVariant;
use goblin::pe::PE;

use super::target::System;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    pub(super) machine: u32,
    /// The libraries that are loaded with it, as it names them.
    pub(super) libraries: Vec<String>,
    /// Folders that it tells the loader to search for them.
    pub(super) search_paths: Vec<String>,
    /// The oldest version of glibc or macOS that has all it needs.
    pub(super) oldest: Option<(u32, u32)>,
    /// Whether it carries a signature for macOS, if only an ad hoc one.
    pub(super) is_signed: bool,
}

impl Binary {
    pub(super) fn read(system: System, bytes: &[u8]) -> Result<Self> {
        match system {
            System::Linux => elf(bytes).context("reading an ELF file"),
            System::Windows => pe(bytes).context("reading a PE file"),
            System::MacOs => mach_o(bytes).context("reading a Mach-O file"),
        }
    }
}

fn elf(bytes: &[u8]) -> Result<Binary> {
    let file = Elf::parse(bytes)?;
    let versions = file.verneed.iter().flat_map(|section| section.iter());
    let names = versions.flat_map(|library| {
        library.iter().filter_map(|one| file.dynstrtab.get_at(one.vna_name)).collect::<Vec<_>>()
    });
    Ok(Binary {
        machine: file.header.e_machine.into(),
        libraries: owned(&file.libraries),
        search_paths: owned(&[file.rpaths, file.runpaths].concat()),
        oldest: names.filter_map(glibc).max(),
        is_signed: false,
    })
}

/// `GLIBC_2.17` and `GLIBC_2.2.5`.
fn glibc(name: &str) -> Option<(u32, u32)> {
    let mut numbers = name.strip_prefix("GLIBC_")?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn pe(bytes: &[u8]) -> Result<Binary> {
    let file = PE::parse(bytes)?;
    // Windows ignores case, and one library may be named in several tables.
    let libraries: BTreeSet<String> =
        file.libraries.iter().map(|name| name.to_ascii_lowercase()).collect();
    Ok(Binary {
        machine: file.header.coff_header.machine.into(),
        libraries: libraries.into_iter().collect(),
        search_paths: Vec::new(),
        oldest: None,
        is_signed: false,
    })
}

fn mach_o(bytes: &[u8]) -> Result<Binary> {
    let file = MachO::parse(bytes, 0)?;
    let commands = || file.load_commands.iter().map(|one| &one.command);
    let minimum = commands().find_map(|one| match one {
        CommandVariant::BuildVersion(version) => Some(version.minos),
        CommandVariant::VersionMinMacosx(version) => Some(version.version),
        _ => None,
    });
    Ok(Binary {
        machine: file.header.cputype(),
        // The parser's first library is the file itself.
        libraries: owned(file.libs.get(1..).unwrap_or_default()),
        search_paths: owned(&file.rpaths),
        // Sixteen bits for the first number, eight for the second.
        oldest: minimum.map(|packed| (packed >> 16, packed >> 8 & 0xff)),
        is_signed: commands().any(|one| matches!(one, CommandVariant::CodeSignature(_))),
    })
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_glibc_is_read_from_its_name() {
        assert_eq!(glibc("GLIBC_2.17"), Some((2, 17)));
        assert_eq!(glibc("GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(glibc("GLIBC_PRIVATE"), None);
        assert_eq!(glibc("GCC_3.0"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_program_needs_libc() {
        let ours = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let binary = Binary::read(System::Linux, &ours).unwrap();
        assert!(binary.libraries.contains(&"libc.so.6".to_owned()), "{binary:?}");
        assert!(binary.oldest.unwrap() >= (2, 17), "{binary:?}");
    }

    #[test]
    fn what_is_not_a_binary_is_an_error() {
        for system in [System::Linux, System::Windows, System::MacOs] {
            assert!(Binary::read(system, b"no binary").is_err(), "{system:?}");
        }
    }
}
