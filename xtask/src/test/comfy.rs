//! The suites on a real ComfyUI.

use anyhow::Result;

use super::extent::Extent;
use super::{Session, title};
use crate::comfyui::Release;
use crate::run::Program;
use crate::{comfyui, overlay, setup, upstream};

/// Tests with a suite of their own are left out of the main one.
const MAIN: &str = "not archive and not full and not graphs and not matrix and not soak";

/// The tests that use ComfyUI's executor in their own process.
const IN_PROCESS: [&str; 14] = [
    "tests/comfyui/test_destroy.py",
    "tests/comfyui/test_eviction.py",
    "tests/comfyui/test_faults.py",
    "tests/comfyui/test_faults_facts.py",
    "tests/comfyui/test_faults_models.py",
    "tests/comfyui/test_faults_shapes.py",
    "tests/comfyui/test_graphs.py",
    "tests/comfyui/test_hostile.py",
    "tests/comfyui/test_liveness.py",
    "tests/comfyui/test_loops.py",
    "tests/comfyui/test_loops_of_packs.py",
    "tests/comfyui/test_model_files.py",
    "tests/comfyui/test_protection.py",
    "tests/comfyui/test_titles.py",
];

/// Two at a time, in the order that `tests/comfyui/conftest.py` gives. A group is what shares a server
/// or an executor.
const TWO_AT_A_TIME: [&str; 5] = ["-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder"];

impl Session<'_> {
    pub(super) fn comfyui(&mut self) -> Result<()> {
        let mut arguments = vec!["tests/comfyui", "-m", MAIN];
        arguments.extend(TWO_AT_A_TIME);
        self.pytest("comfyui", &arguments)
    }

    pub(super) fn full(&mut self) -> Result<()> {
        self.pytest("comfyui, full size", &["tests/comfyui", "-m", "full"])
    }

    /// Random workflows, in every cache mode.
    pub(super) fn graphs(&mut self) -> Result<()> {
        let mut arguments = vec!["tests/comfyui/test_graphs.py"];
        arguments.extend(TWO_AT_A_TIME);
        self.pytest("random workflows", &arguments)
    }

    pub(super) fn soak(&mut self) -> Result<()> {
        self.pytest("soak", &["tests/comfyui/test_soak.py", "-m", "soak"])
    }

    /// ComfyUI's own tests, with MemSweep among its custom nodes.
    pub(super) fn upstream(&mut self) -> Result<()> {
        title("ComfyUI's own tests");
        let tree = upstream::prepare(self.paths)?;
        for (what, program) in upstream::programs(self.paths, &tree) {
            self.runner(&what, program.envs(self.environment()))?;
        }
        Ok(())
    }

    /// A real server on each older version, and what happens there when an assumption is broken. On the
    /// oldest, and in a large run on all, the executor's tests and random workflows, as many as in a
    /// quick run.
    pub(super) fn matrix(&mut self) -> Result<()> {
        let is_large = self.options.extent() == Extent::Large;
        for (number, release) in comfyui::OLDER.into_iter().enumerate() {
            let what = format!("ComfyUI {}", release.version);
            title(&what);
            let is_whole = is_large || number == 0;
            let executor = if is_whole { &IN_PROCESS[..] } else { &[] };
            let mut tests = self
                .pytest_on(release)?
                .args(["-m", "not planted"])
                .args(executor)
                .args(["tests/comfyui/test_assumptions.py", "tests/comfyui/test_older_versions.py"])
                .args(TWO_AT_A_TIME);
            if !is_large {
                tests = tests.env("MEMSWEEP_EXTENT", Extent::Quick.name());
            }
            self.untitled_runner(&what, tests)?;
        }
        Ok(())
    }

    /// The registry's archive and a clone, installed as a user does. One server at a time: on two
    /// cores, two of them take longer.
    pub(super) fn archive(&mut self) -> Result<()> {
        let ready = setup::comfy_cli(self.paths);
        let Some(command) = self.required("archive", ready) else { return Ok(()) };
        for release in [comfyui::OLDER[0], comfyui::CURRENT] {
            let what = format!("archive, ComfyUI {}", release.version);
            title(&what);
            let tests = self
                .pytest_on(release)?
                .arg("tests/comfyui/test_archive.py")
                .env("MEMSWEEP_COMFY_CLI", &command);
            self.untitled_runner(&what, tests)?;
        }
        Ok(())
    }

    /// pytest beside a version of ComfyUI, which is downloaded where it is missing. What it pins
    /// differently goes in front; for the current version that is nothing.
    fn pytest_on(&self, release: Release) -> Result<Program> {
        if !comfyui::is_there(self.paths, release) {
            let heading = format!("Downloading ComfyUI {}", release.version);
            comfyui::install(self.paths, release, &heading)?;
        }
        Ok(Program::new(self.paths.python(), &self.paths.root)
            .args(["-m", "pytest", "-ra"])
            .envs(self.environment())
            .env("MEMSWEEP_COMFYUI", self.paths.comfyui(release))
            .env("PYTHONPATH", overlay::make(self.paths, release)?))
    }
}
