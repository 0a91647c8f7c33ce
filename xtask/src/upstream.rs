//! ComfyUI's own tests, run with the checkout among ComfyUI's custom nodes.
//!
//! They write into the tree they are in, so they run in a copy that is thrown away. Nothing in
//! the copy is changed: two pytest plugins of ours replace the parts that do not fit, see
//! `tests/comfyui/upstream`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::paths::Paths;
use crate::run::Program;
use crate::{comfyui, files};

/// One of these needs a real SDXL checkpoint and a server that somebody else started.
const EXECUTION: [&str; 2] = ["tests/execution", "--ignore=tests/execution/test_preview_method.py"];

/// The tests of the executor, the server and the modules that a pack could disturb. The rest of
/// their unit tests is about models, media and services.
const UNIT: [&str; 7] = [
    "tests-unit/execution_test",
    "tests-unit/prompt_server_test",
    "tests-unit/server_test",
    "tests-unit/utils",
    "tests-unit/app_test",
    "tests-unit/feature_flags_test.py",
    "tests-unit/websocket_feature_flags_test.py",
];

/// These two ask a code-hosting service for its releases: without a network they fail without
/// MemSweep too.
const NEED_A_NETWORK: [&str; 2] = [
    "--deselect=tests-unit/app_test/frontend_manager_test.py::test_init_frontend_invalid_version",
    "--deselect=tests-unit/app_test/frontend_manager_test.py::test_init_frontend_invalid_provider",
];

/// Makes a fresh copy of the tree, with the checkout in its `custom_nodes`.
pub(crate) fn prepare(paths: &Paths) -> Result<PathBuf> {
    let release = comfyui::CURRENT;
    let target = paths.cache.join("upstream").join(release.version);
    files::remove(&target)?;
    files::copy(&paths.comfyui(release), &target)?;
    files::link(&paths.root, &target.join("custom_nodes").join("memsweep"))?;
    Ok(target)
}

/// The test programs, each with its name. They run in the copy that [`prepare`] made.
pub(crate) fn programs(paths: &Paths, tree: &Path) -> Vec<(String, Program)> {
    let plugins = paths.root.join("tests/comfyui/upstream");
    let pytest = |plugin: &str| {
        Program::new(paths.python(), tree)
            .args(["-m", "pytest", "-ra", "--timeout=300", "-p", "no:cacheprovider", "-p", plugin])
            // Their own setting shows whatever a test prints.
            .arg("--override-ini=addopts=")
            .env("PYTHONPATH", &plugins)
            .envs(paths.environment())
    };
    // Their own option for busy machines: no test then judges by the clock.
    let execution = pytest("execution_plugin").arg("--skip-timing-checks").args(EXECUTION);
    let unit = pytest("unit_plugin").args(NEED_A_NETWORK).args(UNIT);
    let name = |what: &str| format!("ComfyUI's own {what} tests");
    vec![(name("unit"), unit), (name("execution"), execution)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::run::TemporaryFolder;

    #[test]
    fn the_copy_is_fresh_holds_the_checkout_and_leaves_the_tree_alone() {
        let folder = TemporaryFolder::create(&std::env::temp_dir(), "xtask-upstream").unwrap();
        let paths =
            Paths { root: folder.path().join("checkout"), cache: folder.path().join("cache") };
        let tree = paths.comfyui(comfyui::CURRENT);
        for made in [tree.join("custom_nodes"), tree.join("__pycache__"), paths.root.clone()] {
            fs::create_dir_all(made).unwrap();
        }
        fs::write(tree.join("main.py"), "1").unwrap();
        fs::write(paths.root.join("__init__.py"), "pack").unwrap();

        let copy = prepare(&paths).unwrap();
        assert!(!copy.join("__pycache__").exists());
        let pack = copy.join("custom_nodes/memsweep/__init__.py");
        assert_eq!(fs::read_to_string(pack).unwrap(), "pack");

        // What a run left behind is gone in the next, and what it was made from stays.
        fs::write(copy.join("main.py"), "2").unwrap();
        fs::write(copy.join("left.db"), "").unwrap();
        let again = prepare(&paths).unwrap();
        assert!(!again.join("left.db").exists());
        assert_eq!(fs::read_to_string(again.join("main.py")).unwrap(), "1");
        assert_eq!(fs::read_to_string(tree.join("main.py")).unwrap(), "1");
        assert!(paths.root.join("__init__.py").is_file());
        assert!(!tree.join("custom_nodes/memsweep").exists());
    }
}
