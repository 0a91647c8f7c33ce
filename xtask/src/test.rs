//! `cargo xtask test`: every test of the project, suite by suite.
//!
//! A failing suite does not stop the others. At the end each runner's own summary is shown again.

use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::paths::Paths;
use crate::progress::{elapsed, without_colours};
use crate::run::Program;
use crate::setup::{self, Checkpoint};
use crate::{comfyui, tidy, tools};

/// The full-size tests load 2 GB of weights, which grow to about 5 GB.
const FULL_NEEDS_BYTES: u64 = 8 << 30;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Run only this suite
    #[arg(long)]
    suite: Option<Suite>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// rustfmt, clippy and cargo test
    Rust,
    /// The project's own rules and ruff
    Tidy,
    /// The front-end's unit tests
    Web,
    /// The Python package, on every supported Python that is found
    Python,
    /// The nodes on a real ComfyUI
    Comfyui,
    /// The same at full size: needs 8 GB of free RAM
    Full,
    /// The nodes in the real front-end
    Browser,
    /// The executor's tests on older ComfyUI versions; not part of a run without --suite
    Matrix,
}

const ALL: [Suite; 7] = [
    Suite::Rust,
    Suite::Tidy,
    Suite::Web,
    Suite::Python,
    Suite::Comfyui,
    Suite::Full,
    Suite::Browser,
];

/// The tests that use ComfyUI's executor in their own process.
const IN_PROCESS: [&str; 6] = [
    "tests/comfyui/test_eviction.py",
    "tests/comfyui/test_hostile.py",
    "tests/comfyui/test_liveness.py",
    "tests/comfyui/test_loops.py",
    "tests/comfyui/test_protection.py",
    "tests/comfyui/test_random_graphs.py",
];

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Tidy => "tidy",
            Self::Web => "web",
            Self::Python => "python",
            Self::Comfyui => "comfyui",
            Self::Full => "comfyui, full size",
            Self::Browser => "browser",
            Self::Matrix => "older ComfyUI",
        }
    }

    fn needs_setup(self) -> bool {
        !matches!(self, Self::Rust | Self::Web)
    }
}

/// One line of the end: what ran and what came of it.
#[derive(Debug)]
struct Line {
    what: String,
    outcome: Outcome,
    /// The runner's own summary.
    summary: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    NotRun(String),
}

#[derive(Debug)]
struct Session<'a> {
    paths: &'a Paths,
    lines: Vec<Line>,
    chromium: Option<PathBuf>,
    /// False when the set-up failed: what needs it is not run.
    is_set_up: bool,
}

pub(crate) fn run(paths: &Paths, options: &Options) -> Result<bool> {
    let start = Instant::now();
    let suites = options.suite.map_or_else(|| ALL.to_vec(), |suite| vec![suite]);
    let mut session = Session { paths, lines: Vec::new(), chromium: None, is_set_up: true };
    session.prepare(&suites)?;
    for suite in suites {
        session.run(suite)?;
    }
    Ok(session.report(start))
}

impl Session<'_> {
    /// Everything that is missing is named before the first test runs.
    fn prepare(&mut self, suites: &[Suite]) -> Result<()> {
        if suites.iter().any(|suite| matches!(suite, Suite::Web | Suite::Browser)) {
            tools::npm()?;
        }
        if suites.contains(&Suite::Browser) {
            self.chromium = Some(tools::chromium(self.paths)?);
        }
        if suites.iter().any(|suite| suite.needs_setup()) {
            let mut checkpoints = vec![Checkpoint::Small];
            if suites.contains(&Suite::Full) && full_fits() {
                checkpoints.push(Checkpoint::Full);
            }
            tools::python(self.paths)?;
            if let Err(error) = setup::run(self.paths, &checkpoints) {
                eprintln!("{error:#}");
                self.is_set_up = false;
                self.failed("set-up", format!("{error:#}"));
            }
        }
        Ok(())
    }

    fn run(&mut self, suite: Suite) -> Result<()> {
        if suite.needs_setup() && !self.is_set_up {
            self.not_run(suite.name(), "the set-up failed");
            return Ok(());
        }
        match suite {
            Suite::Rust => self.rust(),
            Suite::Tidy => self.tidy(),
            Suite::Web => self.web(),
            Suite::Python => self.python(),
            Suite::Comfyui => self.pytest("comfyui", &["tests/comfyui", "-m", "not full"]),
            Suite::Full if full_fits() => {
                self.pytest(suite.name(), &["tests/comfyui", "-m", "full"])
            }
            Suite::Full => {
                self.not_run(suite.name(), "less than 8 GB of RAM is free");
                Ok(())
            }
            Suite::Browser => self.browser(),
            Suite::Matrix => self.matrix(),
        }
    }

    /// In process only, so that one environment serves all: the versions differ in what their
    /// server and front-end need, not in what the executor does.
    fn matrix(&mut self) -> Result<()> {
        for release in comfyui::OLDER {
            let what = format!("ComfyUI {}", release.version);
            title(&what);
            if !comfyui::is_there(self.paths, release) {
                comfyui::install(self.paths, release, &format!("Downloading {what}"))?;
            }
            let tests = Program::new(self.paths.python(), &self.paths.root)
                .args(["-m", "pytest", "-ra"])
                .args(IN_PROCESS)
                .envs(self.paths.environment())
                .env("MEMSWEEP_COMFYUI", self.paths.comfyui(release));
            self.runner(&what, &tests)?;
        }
        Ok(())
    }

    fn rust(&mut self) -> Result<()> {
        let cargo = tools::require("cargo", "install Rust from rustup.rs")?;
        let cargo = |arguments: &[&str]| {
            let program = Program::new(&cargo, &self.paths.root).args(arguments);
            // PyO3 would otherwise take whichever python3 comes first.
            match env::var_os("MEMSWEEP_PYTHON") {
                Some(python) => program.env("PYO3_PYTHON", python),
                None => program,
            }
        };
        let format = cargo(&["fmt", "--all", "--check"]);
        let lint = cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]);
        let test = cargo(&[
            "test",
            "--locked",
            "--no-fail-fast",
            "--package=memsweep-core",
            "--package=memsweep-os",
            "--package=memsweep-pyheap",
            "--package=xtask",
        ]);
        self.runner("cargo fmt --check", &format)?;
        self.runner("cargo clippy", &lint)?;
        self.runner("cargo test", &test)
    }

    fn tidy(&mut self) -> Result<()> {
        title("tidy");
        let good = tidy::run(self.paths)?;
        let summary = if good { "tidy: every rule holds" } else { "tidy: rules are broken" };
        self.lines.push(Line {
            what: "tidy".to_owned(),
            outcome: if good { Outcome::Passed } else { Outcome::Failed },
            summary: vec![summary.to_owned()],
        });
        let ruff =
            Program::new(self.paths.python(), &self.paths.root).args(["-m", "ruff", "check", "."]);
        self.runner("ruff check", &ruff)
    }

    fn web(&mut self) -> Result<()> {
        if !self.paths.root.join("web/package.json").is_file() {
            self.not_run("web", "there is no web/package.json");
            return Ok(());
        }
        let npm = tools::npm()?;
        self.npm_install(&npm)?;
        self.runner("web: npm test", &self.npm(&npm, &["test"]))?;
        self.runner("web: built bundle is up to date", &self.npm(&npm, &["run", "check"]))
    }

    fn browser(&mut self) -> Result<()> {
        if !self.paths.root.join("web/package.json").is_file() {
            self.not_run("browser", "there is no web/package.json");
            return Ok(());
        }
        let npm = tools::npm()?;
        if !self.paths.root.join("web/node_modules").is_dir() {
            self.npm_install(&npm)?;
        }
        let mut program = self.npm(&npm, &["run", "test:browser"]);
        if let Some(chromium) = &self.chromium {
            program = program.env("MEMSWEEP_CHROMIUM", chromium);
        }
        self.runner("browser: npm run test:browser", &program)
    }

    fn npm(&self, npm: &Path, arguments: &[&str]) -> Program {
        Program::new(npm, &self.paths.root.join("web"))
            .args(arguments)
            .envs(self.paths.environment())
    }

    fn npm_install(&self, npm: &Path) -> Result<()> {
        self.npm(npm, &["ci", "--no-audit", "--no-fund"])
            .run_step("Installing the front-end's packages", &self.paths.logs().join("npm.log"))
    }

    fn python(&mut self) -> Result<()> {
        let own = tools::python(self.paths)?.minor;
        self.pytest(&format!("python 3.{own}"), &["tests/python"])?;
        for (minor, found) in tools::other_pythons(self.paths, own) {
            let what = format!("python 3.{minor}");
            let Some(python) = found else {
                self.not_run(&what, "this Python is not installed");
                continue;
            };
            title(&what);
            match setup::small_venv(self.paths, &python) {
                Ok(inside) => self.pytest_with(&what, &inside, &["tests/python"])?,
                Err(error) => {
                    eprintln!("{error:#}");
                    self.failed(&what, format!("{error:#}"));
                }
            }
        }
        Ok(())
    }

    fn pytest(&mut self, what: &str, arguments: &[&str]) -> Result<()> {
        title(what);
        self.pytest_with(what, &self.paths.python(), arguments)
    }

    fn pytest_with(&mut self, what: &str, python: &Path, arguments: &[&str]) -> Result<()> {
        let program = Program::new(python, &self.paths.root)
            .args(["-m", "pytest", "-ra"])
            .args(arguments)
            .envs(self.paths.environment());
        self.untitled_runner(what, &program)
    }

    fn runner(&mut self, what: &str, program: &Program) -> Result<()> {
        title(what);
        self.untitled_runner(what, program)
    }

    fn untitled_runner(&mut self, what: &str, program: &Program) -> Result<()> {
        let start = Instant::now();
        let (status, lines) = program.run_shown()?;
        println!("-- {what}: {status}, {}", elapsed(start));
        self.lines.push(Line {
            what: what.to_owned(),
            outcome: if status.success() { Outcome::Passed } else { Outcome::Failed },
            summary: summary_lines(&lines),
        });
        Ok(())
    }

    fn failed(&mut self, what: &str, why: String) {
        let (what, outcome) = (what.to_owned(), Outcome::Failed);
        self.lines.push(Line { what, outcome, summary: vec![why] });
    }

    fn not_run(&mut self, what: &str, reason: &str) {
        println!("\n== {what}: not run, {reason}");
        self.lines.push(Line {
            what: what.to_owned(),
            outcome: Outcome::NotRun(reason.to_owned()),
            summary: Vec::new(),
        });
    }

    /// True when nothing failed.
    fn report(&self, start: Instant) -> bool {
        println!("\n== summary ({})", elapsed(start));
        for line in &self.lines {
            let outcome = match &line.outcome {
                Outcome::Passed => "ok".to_owned(),
                Outcome::Failed => "FAILED".to_owned(),
                Outcome::NotRun(reason) => format!("not run: {reason}"),
            };
            println!("{:<34} {outcome}", line.what);
            for summary in &line.summary {
                println!("    {summary}");
            }
        }
        let failed = self.lines.iter().filter(|line| line.outcome == Outcome::Failed).count();
        let not_run =
            self.lines.iter().filter(|line| matches!(line.outcome, Outcome::NotRun(_))).count();
        let ok = self.lines.len() - failed - not_run;
        println!("{ok} ok, {failed} failed, {not_run} not run");
        failed == 0
    }
}

fn title(what: &str) {
    println!("\n== {what}");
}

/// The lines in which a test runner sums up, as it printed them.
pub(crate) fn summary_lines(lines: &[String]) -> Vec<String> {
    let plain = lines.iter().map(|line| without_colours(line).trim().to_owned());
    plain.filter(|line| is_summary(line)).collect()
}

fn is_summary(line: &str) -> bool {
    let line = line.trim();
    let cargo =
        line.starts_with("test result:") && !line.contains(" 0 passed; 0 failed; 0 ignored");
    let pytest = line.starts_with("==")
        && line.contains(" in ")
        && ["passed", "failed", "error", "skipped", "no tests ran", "deselected"]
            .iter()
            .any(|word| line.contains(word));
    let words: Vec<&str> = line.split_whitespace().collect();
    // Node's runner prints `# pass 12`, or the same with an information sign.
    let node = words.len() == 3
        && matches!(words[1], "tests" | "pass" | "fail" | "skipped")
        && words[0].chars().count() == 1
        && words[2].parse::<u64>().is_ok();
    let vitest = words.first().is_some_and(|word| *word == "Tests") && line.contains("passed");
    let ruff =
        line == "All checks passed!" || line.starts_with("Found ") && line.contains(" error");
    cargo || pytest || node || vitest || ruff
}

/// Unknown counts as enough: the tests say themselves when it was not.
fn full_fits() -> bool {
    available_memory().is_none_or(|bytes| bytes >= FULL_NEEDS_BYTES)
}

/// What this machine, or the container that limits us, can still give. Linux only.
fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = kibibytes(&meminfo, "MemAvailable:")?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let used = fs::read_to_string("/sys/fs/cgroup/memory.current").ok();
    let left = limit
        .and_then(|text| text.trim().parse::<u64>().ok())
        .zip(used.and_then(|text| text.trim().parse::<u64>().ok()))
        .map(|(limit, used)| limit.saturating_sub(used));
    Some(left.map_or(machine, |left| left.min(machine)))
}

/// The bytes behind a name in a `/proc` file, which counts in kB.
pub(crate) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let number: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runner_is_summed_up_by_its_own_line() {
        let rows = [
            ("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured", true),
            ("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured", false),
            ("test result: FAILED. 0 passed; 1 failed; 0 ignored", true),
            ("\u{1b}[32m===== \u{1b}[1m12 passed\u{1b}[0m in 3.21s =====", true),
            ("===== 1 failed, 2 passed in 3.21s =====", true),
            ("===== test session starts =====", false),
            ("===== short test summary info =====", false),
            ("# pass 12", true),
            ("\u{2139} fail 0", true),
            ("      Tests  4 passed (4)", true),
            ("All checks passed!", true),
            ("Found 2 errors.", true),
            ("Found it", false),
            ("", false),
        ];
        for (line, expected) in rows {
            let found = !summary_lines(&[line.to_owned()]).is_empty();
            assert_eq!(found, expected, "{line:?}");
        }
    }

    #[test]
    fn a_missing_or_broken_number_is_absent() {
        let text = "MemTotal:  100 kB\nMemAvailable:   8 kB\nBroken: x kB\n";
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(8192));
        assert_eq!(kibibytes(text, "MemFree:"), None);
        assert_eq!(kibibytes(text, "Broken:"), None);
    }
}
