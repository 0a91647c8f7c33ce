//! What is made: a wheel for each system and machine, and the sources. One table, no decisions.

use clap::ValueEnum;
use goblin::elf::header::{EM_AARCH64, EM_X86_64};
use goblin::mach::constants::cputype::{CPU_TYPE_ARM64, CPU_TYPE_X86_64};
use goblin::pe::header::COFF_MACHINE_X86_64;

/// One thing that `--only` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Product {
    #[value(name = "linux-x86_64")]
    LinuxX86,
    #[value(name = "linux-aarch64")]
    LinuxArm,
    #[value(name = "windows-x86_64")]
    WindowsX86,
    #[value(name = "macos-arm64")]
    MacArm,
    #[value(name = "macos-x86_64")]
    MacX86,
    #[value(name = "sdist")]
    Sdist,
}

/// The format of an extension module, which is that of its system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Linux,
    Windows,
    MacOs,
}

/// What a wheel is built for, and what it must say about itself.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) system: System,
    pub(super) triple: &'static str,
    /// The platform in the wheel's name.
    pub(super) platform: &'static str,
    /// The machine, as the file format numbers it.
    pub(super) machine: u32,
    /// The extension module in the wheel.
    pub(super) extension: &'static str,
    /// Whether the developer's toolchain has its standard library.
    pub(super) is_own: bool,
    /// Whether the system ends a process that loads a file without a signature, not even an ad hoc
    /// one: macOS does on ARM, but not on Intel.
    pub(super) must_be_signed: bool,
}

const SO: &str = "memsweep/_memsweep.abi3.so";
const PYD: &str = "memsweep/_memsweep.pyd";

const LINUX_X86: Target = Target {
    system: System::Linux,
    triple: "x86_64-unknown-linux-gnu",
    platform: "manylinux_2_17_x86_64.manylinux2014_x86_64",
    machine: EM_X86_64 as u32,
    extension: SO,
    is_own: cfg!(all(target_os = "linux", target_arch = "x86_64")),
    must_be_signed: false,
};
const LINUX_ARM: Target = Target {
    triple: "aarch64-unknown-linux-gnu",
    platform: "manylinux_2_17_aarch64.manylinux2014_aarch64",
    machine: EM_AARCH64 as u32,
    is_own: cfg!(all(target_os = "linux", target_arch = "aarch64")),
    ..LINUX_X86
};
const WINDOWS_X86: Target = Target {
    system: System::Windows,
    triple: "x86_64-pc-windows-gnu",
    platform: "win_amd64",
    machine: COFF_MACHINE_X86_64 as u32,
    extension: PYD,
    is_own: false,
    must_be_signed: false,
};
const MAC_ARM: Target = Target {
    system: System::MacOs,
    triple: "aarch64-apple-darwin",
    platform: "macosx_11_0_arm64",
    machine: CPU_TYPE_ARM64,
    extension: SO,
    is_own: false,
    must_be_signed: true,
};
const MAC_X86: Target = Target {
    triple: "x86_64-apple-darwin",
    platform: "macosx_11_0_x86_64",
    machine: CPU_TYPE_X86_64,
    must_be_signed: false,
    ..MAC_ARM
};

impl Product {
    /// `None` for the sources, which are for every machine.
    pub(super) fn target(self) -> Option<&'static Target> {
        match self {
            Self::LinuxX86 => Some(&LINUX_X86),
            Self::LinuxArm => Some(&LINUX_ARM),
            Self::WindowsX86 => Some(&WINDOWS_X86),
            Self::MacArm => Some(&MAC_ARM),
            Self::MacX86 => Some(&MAC_X86),
            Self::Sdist => None,
        }
    }
}

impl Target {
    /// What pip reads off the name: Python 3.10 and newer, the stable ABI, this platform. The
    /// order of the platforms means nothing, and maturin has its own.
    pub(super) fn has_name(&self, wheel: &str, version: &str) -> bool {
        let start = format!("memsweep-{version}-cp310-abi3-");
        let platforms = wheel.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".whl"));
        let sorted = |text: &str| {
            let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        platforms.is_some_and(|platforms| sorted(platforms) == sorted(self.platform))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_the_version_the_abi_and_the_platforms_in_any_order() {
        let rows = [
            ("memsweep-0.1.0-cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", true),
            ("memsweep-0.1.0-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", true),
            ("memsweep-0.1.0-cp310-abi3-manylinux_2_28_x86_64.whl", false),
            ("memsweep-0.1.0-cp310-abi3-linux_x86_64.whl", false),
            ("memsweep-0.1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", false),
            ("memsweep-0.1.1-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", false),
        ];
        for (name, expected) in rows {
            assert_eq!(LINUX_X86.has_name(name, "0.1.0"), expected, "{name}");
        }
    }
}
