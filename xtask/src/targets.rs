//! `cargo xtask check-targets`: clippy for every system we claim, whatever this machine is.
//!
//! Nothing is linked and nothing runs: it finds code that does not compile there.

use anyhow::{Result, bail};

use crate::cross::Cross;
use crate::paths::Paths;
use crate::planted::{Fault, planted};
use crate::run::Program;

const MACOS: &str = "aarch64-apple-darwin";
pub(crate) const TARGETS: [&str; 4] =
    [MACOS, "x86_64-pc-windows-msvc", "aarch64-unknown-linux-gnu", "x86_64-unknown-linux-musl"];

/// An error that only a check for macOS can find.
const TYPE_ERROR: Fault = Fault {
    file: "crates/memsweep-os/src/macos/mod.rs",
    right: "mod machine;\n",
    wrong: "mod machine;\nconst PLANTED: u8 = \"not a number\";\n",
};

/// Clippy for one target.
pub(crate) fn check(cross: &Cross<'_>, target: &str) -> Program {
    cross
        .cargo("clippy", "std,panic_unwind", target)
        // There is no interpreter of that system; the stable ABI needs none.
        .env("PYO3_NO_PYTHON", "1")
        // As when a wheel is built: an interpreter that is there already loads the module.
        .env("PYO3_BUILD_EXTENSION_MODULE", "1")
        .args(["--workspace", "--exclude=xtask", "--quiet", "--", "--deny=warnings"])
}

/// Whether the check for macOS fails on code that only macOS has.
pub(crate) fn catches_a_type_error(paths: &Paths, cross: &Cross<'_>) -> Result<bool> {
    planted(paths, &TYPE_ERROR, |folder| {
        let (status, lines) = check(cross, MACOS).inside(folder).run_captured()?;
        let found = lines.iter().any(|line| line.contains("E0308"));
        if !status.success() && !found {
            bail!("the check failed for another reason: {}", lines.join("\n"));
        }
        Ok(found)
    })
}
