//! `cargo xtask test`: the tests of the project, suite by suite.
//!
//! A failing suite does not stop the others. At the end each runner's own summary is shown again.

mod comfy;
mod extent;
mod room;
mod suites;
mod summary;
mod systems;
mod walk;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::name_of;
use crate::paths::Paths;
use crate::progress::elapsed;
use crate::run::Program;
use crate::setup::{self, Checkpoint};
use crate::tools;

use extent::Extent;
pub(crate) use summary::sums_up;
use summary::{Line, Outcome, Part};

#[derive(Args, Debug, Default)]
pub(crate) struct Options {
    /// Run every suite, in every cache mode and on every Python: what CI runs
    #[arg(long, conflicts_with = "suite")]
    all: bool,
    /// Run only this suite, all of it; may be given several times
    #[arg(long)]
    suite: Vec<Suite>,
    /// How many random workflows to play, a quarter of them in each cache mode
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    cases: Option<u32>,
    /// Where the random workflows begin: the same seed draws the same ones
    #[arg(long)]
    seed: Option<u32>,
    /// Random graphs, walks beside threads and the soak in their large sizes: takes hours
    #[arg(long)]
    large: bool,
}

impl Options {
    fn extent(&self) -> Extent {
        if self.large {
            Extent::Large
        } else if self.all || !self.suite.is_empty() {
            Extent::All
        } else {
            Extent::Quick
        }
    }

    /// In the order they run in, each once.
    fn suites(&self) -> Vec<Suite> {
        let all = Suite::value_variants();
        if self.suite.is_empty() {
            return self.extent().suites(all);
        }
        all.iter().copied().filter(|suite| self.suite.contains(suite)).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// rustfmt, clippy and cargo test
    Rust,
    /// The Rust crates, built for Windows, under wine
    Windows,
    /// Clippy for the other systems we claim
    Targets,
    /// The project's own rules, ruff, mypy, stubtest and cargo-deny
    Tidy,
    /// The front-end's unit tests
    Web,
    /// The Python package, on every supported Python that is found
    Python,
    /// The lost-write meter on a library that is broken on purpose: can it fail?
    Meter,
    /// The walk of the heap and the Rust tests under valgrind
    Walk,
    /// The nodes on a real ComfyUI
    Comfyui,
    /// Random workflows with random sweeps, in every cache mode
    Graphs,
    /// The executor's tests and a real server on older ComfyUI versions
    Matrix,
    /// The pack as users get it, packed and installed, on the newest and the oldest ComfyUI
    Archive,
    /// ComfyUI's own tests, with MemSweep installed
    Upstream,
    /// A server over many prompts: does memory grow?
    Soak,
    /// The nodes at full size: needs 8 GB of free RAM
    Full,
    /// The nodes in the real front-end
    Browser,
}

impl Suite {
    fn needs_setup(self) -> bool {
        !matches!(self, Self::Rust | Self::Windows | Self::Targets | Self::Web)
    }
}

#[derive(Debug)]
struct Session<'a> {
    paths: &'a Paths,
    options: &'a Options,
    parts: Vec<Part>,
    chromium: Option<PathBuf>,
    /// False when the set-up failed: what needs it is not run.
    is_set_up: bool,
}

pub(crate) fn run(paths: &Paths, options: &Options) -> Result<bool> {
    let start = Instant::now();
    let suites = options.suites();
    let mut session = Session::new(paths, options);
    session.part("set-up", None, |session| session.prepare(&suites))?;
    for suite in suites {
        let share = options.extent().share(suite);
        session.part(&name_of(suite), share, |session| session.run(suite))?;
    }
    Ok(summary::report(&session.parts, start))
}

/// One suite, for a command of its own, where not running it is a failure.
pub(crate) fn only(paths: &Paths, suite: Suite) -> Result<bool> {
    let options = Options { suite: vec![suite], ..Options::default() };
    let mut session = Session::new(paths, &options);
    session.part(&name_of(suite), None, |session| session.run(suite))?;
    let mut lines = session.parts.iter().flat_map(|part| &part.lines);
    let all_ran = lines.all(|line| !matches!(line.outcome, Outcome::NotRun(_)));
    Ok(summary::report(&session.parts, Instant::now()) && all_ran)
}

impl<'a> Session<'a> {
    fn new(paths: &'a Paths, options: &'a Options) -> Self {
        Self { paths, options, parts: Vec::new(), chromium: None, is_set_up: true }
    }

    /// Runs a part of the whole, with a row of its own in the table.
    fn part(
        &mut self,
        name: &str,
        share: Option<Duration>,
        run: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let (start, name) = (Instant::now(), name.to_owned());
        self.parts.push(Part { name, share, ..Part::default() });
        let result = run(self);
        if let Some(part) = self.parts.last_mut() {
            part.time = start.elapsed();
        }
        result
    }

    fn add(&mut self, line: Line) {
        if let Some(part) = self.parts.last_mut() {
            part.lines.push(line);
        }
    }

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
            if suites.contains(&Suite::Full) && room::full_fits() {
                checkpoints.push(Checkpoint::Full);
            }
            tools::python(self.paths)?;
            let ready = setup::run(self.paths, &checkpoints);
            self.is_set_up = self.required("set-up", ready).is_some();
        }
        Ok(())
    }

    fn run(&mut self, suite: Suite) -> Result<()> {
        if suite.needs_setup() && !self.is_set_up {
            self.not_run(&name_of(suite), "the set-up failed");
            return Ok(());
        }
        match suite {
            Suite::Rust => self.rust(),
            Suite::Windows => self.windows(),
            Suite::Targets => self.targets(),
            Suite::Tidy => self.tidy(),
            Suite::Web => self.web(),
            Suite::Python => self.python(),
            Suite::Meter => self.meter(),
            Suite::Walk => self.walk(),
            Suite::Comfyui => self.comfyui(),
            Suite::Graphs => self.graphs(),
            Suite::Matrix => self.matrix(),
            Suite::Archive => self.archive(),
            Suite::Upstream => self.upstream(),
            Suite::Soak => self.soak(),
            Suite::Full if room::full_fits() => self.full(),
            Suite::Full => {
                self.not_run("comfyui, full size", "less than 8 GB of RAM is free");
                Ok(())
            }
            Suite::Browser => self.browser(),
        }
    }

    /// Variables for every test program: where things are, and how much to do.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let places = self.paths.environment().into_iter();
        let mut all: Vec<_> = places.map(|(name, path)| (name, path.into_os_string())).collect();
        all.push(("MEMSWEEP_EXTENT", self.options.extent().name().into()));
        if let Some(cases) = self.options.cases {
            all.push(("MEMSWEEP_CASES", cases.to_string().into()));
        }
        if let Some(seed) = self.options.seed {
            all.push(("MEMSWEEP_SEED", seed.to_string().into()));
        }
        all
    }

    fn pytest(&mut self, what: &str, arguments: &[&str]) -> Result<()> {
        title(what);
        self.pytest_with(what, &self.paths.python(), arguments)
    }

    fn pytest_with(&mut self, what: &str, python: &Path, arguments: &[&str]) -> Result<()> {
        let program = Program::new(python, &self.paths.root)
            .args(["-m", "pytest", "-ra"])
            .args(arguments)
            .envs(self.environment());
        self.untitled_runner(what, program)
    }

    fn runner(&mut self, what: &str, program: Program) -> Result<()> {
        title(what);
        self.untitled_runner(what, program)
    }

    fn untitled_runner(&mut self, what: &str, program: Program) -> Result<()> {
        let start = Instant::now();
        let (status, lines) = program.run_shown()?;
        let outcome = if status.success() { Outcome::Passed } else { Outcome::Failed };
        println!("-- {what}: {status}, {}", elapsed(start));
        self.add(Line { what: what.to_owned(), outcome, summary: sums_up(&lines) });
        Ok(())
    }

    fn passed(&mut self, what: &str, summary: &str) {
        let (what, summary) = (what.to_owned(), vec![summary.to_owned()]);
        self.add(Line { what, outcome: Outcome::Passed, summary });
    }

    fn failed(&mut self, what: &str, why: String) {
        let (what, outcome) = (what.to_owned(), Outcome::Failed);
        self.add(Line { what, outcome, summary: vec![why] });
    }

    fn not_run(&mut self, what: &str, reason: &str) {
        println!("\n== {what}: not run, {reason}");
        let (what, outcome) = (what.to_owned(), Outcome::NotRun(reason.to_owned()));
        self.add(Line { what, outcome, summary: Vec::new() });
    }

    /// What a part needs; without it, the part is not run.
    fn needed<T>(&mut self, what: &str, found: Result<T>) -> Option<T> {
        found.map_err(|why| self.not_run(what, &format!("{why:#}"))).ok()
    }

    /// The same where a missing part is a failure.
    fn required<T>(&mut self, what: &str, found: Result<T>) -> Option<T> {
        let told = |error| {
            eprintln!("{error:#}");
            self.failed(what, format!("{error:#}"));
        };
        found.map_err(told).ok()
    }
}

fn title(what: &str) {
    println!("\n== {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workflow_runs_every_suite() {
        let workflow = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows/test.yml");
        let workflow = std::fs::read_to_string(workflow).unwrap();
        for suite in Suite::value_variants() {
            let command = match suite {
                Suite::Windows => "cargo xtask windows".to_owned(),
                Suite::Targets => "cargo xtask check-targets".to_owned(),
                suite => format!("--suite {}", name_of(*suite)),
            };
            let mut lines = workflow.lines().map(|line| format!("{line} "));
            assert!(lines.any(|line| line.contains(&format!("{command} "))), "{command}");
        }
    }
}
