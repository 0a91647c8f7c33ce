//! The lost-write meter on libraries whose check for what may be written to is wrong.
//!
//! The product has no such switch: the faults are planted in a copy of the sources. A kind of holder
//! with which the meter loses nothing although nothing counts as in use tests nothing; and so does a
//! rule without which no write is lost.

use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::paths::Paths;
use crate::planted::{Fault, planted_all};
use crate::run::{Program, TemporaryFolder};
use crate::{files, tools};

/// Nobody looks at what the kernel noticed, or at what threads have handed to it, which would save most
/// of the writes below.
const NOT_WATCHED: Fault = Fault {
    file: "crates/memsweep-os/src/linux/park/batches.rs",
    right: "match watch?.saw_a_write(range) {",
    wrong: "match watch?.saw_a_write(range).map(|_| false) {",
};
const NOT_ASKED: Fault = Fault {
    file: "crates/memsweep-os/src/linux/park/layout.rs",
    right: "is_some_and(|&address| address < block.end)",
    wrong: "is_some_and(|&address| address < block.end & 0)",
};

/// Nothing counts as in use: neither when memory is looked for nor under the lock when it is
/// swapped. The objects are held, so that they are found even where nobody else is known to hold them.
const NOTHING_IN_USE: [Fault; 6] = [
    NOT_WATCHED,
    NOT_ASKED,
    Fault {
        file: "crates/memsweep-pyheap/src/idle.rs",
        right: "if pinned.set.contains(row.owner) {",
        wrong: "if pinned.set.contains(row.owner & 0) {",
    },
    Fault {
        file: "crates/memsweep-pyheap/src/holders/mod.rs",
        right: "let mut next: Vec<usize> = objects.iter().copied().collect();\n",
        wrong: "let mut next: Vec<usize> = objects.iter().copied().collect();\n\
            // SAFETY: as below.\n\
            found.stops.extend(next.iter().map(|&it| (it, unsafe { strong(world.py, it) }.unbind())));\n",
    },
    Fault {
        file: "crates/memsweep-pyheap/src/holders/proof.rs",
        right: "if !running.contains(&stop) && unsafe { world.ends_writing(stop) } {",
        wrong: "if !running.contains(&(stop & 0)) {",
    },
    Fault {
        file: "crates/memsweep-pyheap/src/holders/proof.rs",
        right: "!self.written.contains(object)",
        wrong: "!self.written.contains(object & 0)",
    },
];

/// Parts of the rule that a variable of the environment takes away, one at a time.
const RULE: [Fault; 7] = [
    NOT_WATCHED,
    NOT_ASKED,
    Fault {
        file: "crates/memsweep-pyheap/src/passive/mod.rs",
        right: "let mut base = class;\n",
        wrong: "let mut base = class;\n\
            // SAFETY: as below.\n\
            let name = unsafe { strong(self.py, class) }.getattr(\"__name__\");\n\
            if name.ok().map(|name| name.to_string()) == std::env::var(\"MEMSWEEP_WITHOUT\").ok() {\n\
                return Passive::Yes;\n\
            }\n",
    },
    Fault {
        file: "crates/memsweep-pyheap/src/passive/mod.rs",
        right: "is_on && !self.shows_by_itself(object)",
        wrong: "is_on && (std::env::var(\"MEMSWEEP_WITHOUT\").is_ok_and(|part| part == \"shows\")\
            || !self.shows_by_itself(object))",
    },
    Fault {
        file: "crates/memsweep-pyheap/src/writers.rs",
        right: "if self.is_view || via == Via::Base {",
        wrong: "if std::env::var(\"MEMSWEEP_WITHOUT\").is_ok_and(|part| part == \"owners\") {} \
            else if self.is_view || via == Via::Base {",
    },
    // What is left of the rule for a ctypes array without its own part of it: it shows a memoryview.
    Fault {
        file: "crates/memsweep-pyheap/src/holders/proof.rs",
        right: "if unsafe { world.is_buffer(address) } {",
        wrong: "if std::env::var(\"MEMSWEEP_WITHOUT\").is_ok_and(|part| part.starts_with(\"c_char\")) {} \
            else if unsafe { world.is_buffer(address) } {",
    },
    Fault {
        file: "crates/memsweep-pyheap/src/holders/noting.rs",
        right: "} else if via == Via::Base {",
        wrong: "} else if via == Via::Base && std::env::var(\"MEMSWEEP_WITHOUT\").is_ok_and(|part| part != \"owners\" && part != \"shows\") {",
    },
];

/// A part of the rule (a type that would be on the positive list, or a word of [`RULE`]), and the kind
/// of holder that then loses writes, with its family.
const PARTS: [(&str, &str, &str); 14] = [
    ("tuple", "holders", "tuple"),
    ("list", "holders", "list"),
    ("dict", "holders", "dictionary"),
    ("set", "tensors", "set of tensors"),
    ("deque", "holders", "deque"),
    ("list_iterator", "holders", "iterator"),
    ("method", "holders", "method"),
    ("builtin_function_or_method", "holders", "builtin method"),
    ("partial", "holders", "partial"),
    ("cell", "holders", "cell"),
    ("memoryview", "holders", "memoryview"),
    ("c_char_Array_4194304", "holders", "ctypes array"),
    ("owners", "arrays", "array of an instance"),
    ("shows", "arrays", "array of an instance"),
];

/// The one kind whose memory no interpreter shows before 3.12, so that nothing moves it.
const HIDDEN_BEFORE_3_12: &str = "recv_into of a BytesIO buffer";

/// Most kinds lose a write in the first call. Disk reads, and a machine that is busy, need more.
const PARKS: &str = "200";

/// Builds the faulty library, measures with it, and returns what is wrong: the kinds that lost
/// nothing. Empty means that every kind can fail.
pub(crate) fn blind_kinds(paths: &Paths) -> Result<Vec<String>> {
    planted_all(paths, &NOTHING_IN_USE, |copy| {
        let faulty = Faulty::build(paths, copy)?;
        judge(&faulty.measure(&[], "")?)
    })
}

/// The parts of the rule without which nothing was lost. Empty means that each is needed.
pub(crate) fn idle_parts(paths: &Paths) -> Result<Vec<String>> {
    planted_all(paths, &RULE, |copy| {
        let faulty = Faulty::build(paths, copy)?;
        let mut idle = Vec::new();
        for (part, family, kind) in PARTS {
            let lines = faulty.measure(&[family, "--kind", kind], part)?;
            if !judge(&lines)?.is_empty() {
                idle.push(part.to_owned());
            }
        }
        Ok(idle)
    })
}

/// A library with a fault, and the meter's own C code.
struct Faulty<'a> {
    paths: &'a Paths,
    library: PathBuf,
    folder: TemporaryFolder,
}

impl<'a> Faulty<'a> {
    fn build(paths: &'a Paths, copy: &Path) -> Result<Self> {
        let library = build(paths, copy)?;
        let folder = TemporaryFolder::create(&std::env::temp_dir(), "memsweep-meter")?;
        Ok(Self { paths, library, folder })
    }

    /// What the meter prints without a part of the rule.
    fn measure(&self, arguments: &[&str], without: &str) -> Result<Vec<String>> {
        let meter = native(self.paths, self.folder.path())?;
        let (status, lines) =
            Program::new(self.paths.python(), &self.paths.root.join("tests/python"))
                .args(["-m", "meter", "--until-lost", "--parks", PARKS])
                .args(arguments)
                .envs(self.paths.environment())
                .env("PYTHONPATH", &self.library)
                .env("LD_PRELOAD", &meter)
                .env("MEMSWEEP_METER", &meter)
                .env("MEMSWEEP_WITHOUT", without)
                .env("MALLOC_MMAP_THRESHOLD_", "524288")
                .run_shown()?;
        if !status.success() {
            bail!("the meter failed on the faulty library: {}", lines.join("\n"));
        }
        Ok(lines)
    }
}

/// The extension with the fault, beside the Python files that belong to it.
fn build(paths: &Paths, copy: &Path) -> Result<PathBuf> {
    let target = paths.root.join("target/planted-library");
    tools::cargo(paths)?
        .inside(copy)
        .args(["build", "--release", "--locked", "--package=memsweep-python", "--target-dir"])
        .arg(&target)
        // Fast enough, and built in half the time.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .run_step("Building a library with a fault", &paths.logs().join("planted.log"))?;
    let library = target.join("python");
    let package = library.join("memsweep");
    files::remove(&package)?;
    files::create_folder(&library)?;
    files::copy(&paths.root.join("python/memsweep"), &package)?;
    let built = target.join("release").join(format!("lib_memsweep{DLL_SUFFIX}"));
    files::copy(&built, &package.join("_memsweep.abi3.so"))?;
    Ok(library)
}

/// The meter's own C code.
fn native(paths: &Paths, folder: &Path) -> Result<PathBuf> {
    let build = Program::new(paths.python(), &paths.root.join("tests/python"))
        .args(["-c", "import sys; from meter.native import build; print(build(sys.argv[1]))"])
        .arg(folder);
    let answer = build.output()?.context("compiling the meter: is there a C compiler `cc`?")?;
    Ok(PathBuf::from(answer.trim()))
}

/// What the meter says of one kind of holder.
#[derive(Deserialize)]
struct Row {
    kind: String,
    lost: u64,
    /// Why nothing could be parked at all.
    why: Option<String>,
}

/// The kinds that lost nothing although everything was taken for idle. Memory that does not move
/// even when nobody uses it loses nothing, whatever is wrong.
fn judge(lines: &[String]) -> Result<Vec<String>> {
    let rows: Vec<Row> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if let Some(why) = rows.iter().find_map(|row| row.why.as_ref()) {
        bail!("nothing can be parked: {why}");
    }
    if rows.is_empty() {
        bail!("the meter measured nothing: {}", lines.join("\n"));
    }
    let blind = rows.into_iter().filter(|row| row.lost == 0 && row.kind != HIDDEN_BEFORE_3_12);
    Ok(blind.map(|row| row.kind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rows: &[&str]) -> Result<Vec<String>> {
        judge(&rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_kind_that_loses_nothing_is_blind() {
        let sees = r#"{"kind": "frame", "lost": 2, "why": null, "idle_moves": true}"#;
        let blind = r#"{"kind": "list", "lost": 0, "why": null, "idle_moves": true}"#;
        let hidden = r#"{"kind": "recv_into of a BytesIO buffer", "lost": 0, "why": null, "idle_moves": false}"#;
        let still = r#"{"kind": "tuple", "lost": 0, "why": null, "idle_moves": false}"#;
        assert!(judged(&[sees, hidden]).unwrap().is_empty());
        assert_eq!(judged(&[sees, "some note", blind, hidden, still]).unwrap(), ["list", "tuple"]);
    }

    #[test]
    fn measuring_nothing_is_an_error() {
        let refused = r#"{"kind": "frame", "lost": 0, "why": "tmpfs", "idle_moves": false}"#;
        assert!(judged(&[]).is_err());
        assert!(judged(&[refused]).unwrap_err().to_string().contains("tmpfs"));
    }
}
