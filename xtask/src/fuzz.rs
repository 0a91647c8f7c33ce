//! `cargo xtask fuzz`: the parsers of outside text, fuzzed with libFuzzer.
//!
//! libFuzzer needs LLVM's coverage counters and no sanitizer, and the stable compiler can give
//! those: these are the flags of `cargo fuzz run --sanitizer none`. What was found is kept in the
//! cache folder, and every run begins with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::paths::Paths;
use crate::progress::show_tail;
use crate::run::Program;
use crate::tools;
use crate::{files, name_of};

const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cforce-frame-pointers",
];

/// Lines of a panic that are shown; an assertion prints two values.
const MESSAGE: usize = 6;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Run only this target
    #[arg(long)]
    target: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// /proc/self/status
    Process,
    /// /proc/meminfo and /proc/pressure/memory
    Machine,
    /// Control groups: membership, mounts, limits
    Cgroup,
    /// /proc/self/maps
    Maps,
    /// Settings, inventory, readings and outcomes as JSON
    Plan,
}

/// True when no target crashed.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<bool> {
    if !cfg!(target_os = "linux") {
        bail!("the parsers that are fuzzed are built on Linux only");
    }
    let binaries = build(paths)?;
    let mut good = true;
    for target in Target::value_variants() {
        if options.target.is_none_or(|one| one == *target) {
            good &= fuzz(paths, *target, &binaries, options.seconds)?;
        }
    }
    Ok(good)
}

/// The folder with one program per target.
fn build(paths: &Paths) -> Result<PathBuf> {
    tools::require("c++", "libFuzzer is built with it (Debian: apt-get install g++)")?;
    let host = host(paths)?;
    let folder = paths.root.join("target/fuzz");
    tools::cargo(paths)?
        .inside(&paths.root.join("fuzz"))
        .args(["build", "--locked", "--release", "--bins", "--target", &host, "--target-dir"])
        .arg(&folder)
        // With a target named, these apply to the targets and not to what builds them. They take
        // precedence over `RUSTFLAGS` in the environment.
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .run_step("Building the fuzz targets", &paths.logs().join("fuzz-build.log"))?;
    Ok(folder.join(host).join("release"))
}

fn host(paths: &Paths) -> Result<String> {
    let answer = Program::new("rustc", &paths.root).arg("-vV").output()?.unwrap_or_default();
    let line = answer.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("`rustc -vV` names no host")?.to_owned())
}

fn fuzz(paths: &Paths, target: Target, binaries: &Path, seconds: u32) -> Result<bool> {
    let name = &name_of(target);
    let binary = binaries.join(name);
    let corpus = made(paths.cache.join("fuzz").join(name))?;
    let crashes = made(paths.cache.join("fuzz/crashes").join(name))?;
    let seeds = seeds(paths, target)?;
    let mut prefix = crashes.clone().into_os_string();
    prefix.push("/");
    let log = paths.logs().join(format!("fuzz-{name}.log"));
    let status = Program::new(&binary, &paths.cache)
        // New inputs go to the first folder; the others are read, crashes of earlier runs too.
        .args([&corpus, &seeds, &crashes])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}", prefix.to_string_lossy()))
        .args(["-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2048"])
        .run_logged(&format!("Fuzzing {name} for {seconds} s"), "CRASHED", &log)?;
    let text = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    for line in worth_showing(&text, status.success()) {
        println!("{name:<8} {line}");
    }
    if !status.success() {
        if !text.contains(" panicked at ") {
            show_tail(&log);
        }
        println!("         the log is {}", log.display());
        println!(
            "         to repeat it: {} FILE, with the file that is named above",
            binary.display()
        );
    }
    Ok(status.success())
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    files::create_folder(&folder)?;
    Ok(folder)
}

/// What a target begins with: small texts from the tests. Those of `plan` are made from the
/// fixtures each time, or they would no longer be read once a field is added.
fn seeds(paths: &Paths, target: Target) -> Result<PathBuf> {
    if target != Target::Plan {
        return Ok(paths.root.join("fuzz/seeds").join(name_of(target)));
    }
    let folder = made(paths.cache.join("fuzz/seeds").join(name_of(target)))?;
    for (number, seed) in plan_seeds(&paths.root.join("fixtures"))?.iter().enumerate() {
        let file = folder.join(format!("{number}.json"));
        fs::write(&file, seed).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(folder)
}

fn plan_seeds(fixtures: &Path) -> Result<Vec<String>> {
    let read = |name: String| -> Result<Value> {
        let text = fs::read_to_string(fixtures.join(&name));
        let text = text.with_context(|| format!("reading {name}"))?;
        serde_json::from_str(&text).with_context(|| format!("parsing {name}"))
    };
    let outcomes = json!([{"kind": "done", "claimed": 1048576}, {"kind": "failed", "error": "no"},
        {"kind": "nothing_to_do", "reason": "none"}, {"kind": "cancelled"}]);
    let settings = [
        json!({"level": "evict"}),
        json!({"level": "destroy", "system_wide": true, "goal": {"ram_available": 8589934592_u64}}),
        json!({"dry_run": true, "goal": {"device_free": {"device": "cuda:0", "bytes": 7}}}),
    ];
    let mut seeds = Vec::new();
    for name in ["failures", "sd15-cpu", "sd15-dry-run", "two-gpus"] {
        let inventory = read(format!("inventory-{name}.json"))?;
        let reading = read(format!("reading-{name}.json"))?;
        for settings in &settings {
            seeds.push(json!([settings, inventory, [reading, {}], outcomes]).to_string());
        }
    }
    Ok(seeds)
}

/// The lines of a run that are worth showing: libFuzzer's coverage and inputs at the beginning and
/// at the end; after a crash, the panic's message without its stack, and the input that caused it.
fn worth_showing(log: &str, good: bool) -> Vec<&str> {
    if good {
        let ends = log.lines().filter(|line| line.starts_with('#'));
        return ends.filter(|line| line.contains("INITED") || line.contains("DONE")).collect();
    }
    let panic = log.lines().skip_while(|line| !line.contains(" panicked at "));
    let panic = panic.take_while(|line| !line.starts_with("stack backtrace:")).take(MESSAGE);
    panic.chain(log.lines().filter(|line| line.contains("Test unit written to "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_summed_up_by_its_first_and_last_lines() {
        let log = "INFO: Loaded 1 modules   (9000 inline 8-bit counters)\n\
            #11\tINITED cov: 240 ft: 300 corp: 5/1400b exec/s: 0 rss: 27Mb\n\
            #4096\tNEW    cov: 251 ft: 320 corp: 9/2Kb lim: 4096 exec/s: 0 rss: 28Mb\n\
            #500000\tDONE   cov: 260 ft: 333 corp: 12/2Kb lim: 4096 exec/s: 9 rss: 28Mb\n\
            stat::number_of_executed_units: 500000\n";
        let ends: Vec<&str> = worth_showing(log, true).iter().map(|line| &line[..7]).collect();
        assert_eq!(ends, ["#11\tINI", "#500000"]);
    }

    #[test]
    fn a_crash_is_summed_up_by_its_message_and_its_input() {
        let log = "#11\tINITED cov: 1\nthread '<unnamed>' (7) panicked at a.rs:1:2:\nno\n\
            stack backtrace:\n   0: x\n\
            artifact_prefix='/a/'; Test unit written to /a/crash-12ab\nBase64: AAAA\n";
        let expected = [
            "thread '<unnamed>' (7) panicked at a.rs:1:2:",
            "no",
            "artifact_prefix='/a/'; Test unit written to /a/crash-12ab",
        ];
        assert_eq!(worth_showing(log, false), expected);
    }

    #[test]
    fn every_target_is_built_and_has_something_to_begin_with() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let built: Vec<&str> =
            manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/")).collect();
        let mut named: Vec<String> =
            Target::value_variants().iter().map(|one| format!("{}.rs\"", name_of(*one))).collect();
        named.sort();
        assert_eq!(built, named);
        for target in Target::value_variants().iter().filter(|one| **one != Target::Plan) {
            let seeds = root.join("fuzz/seeds").join(name_of(*target));
            assert!(fs::read_dir(seeds).unwrap().count() > 0, "{target:?}");
        }
        assert_eq!(plan_seeds(&root.join("fixtures")).unwrap().len(), 12);
    }
}
