//! What may depend on what: between crates, and towards torch, ComfyUI and the network.

use super::source::{has_word, rust_lines};
use super::{Problem, Tree};

/// Crates that contain unsafe code, and explain it.
const UNSAFE_CRATES: [&str; 2] = ["crates/memsweep-os/", "crates/memsweep-pyheap/"];
/// The one other file: it joins the proof of one of them with the swap of the other.
const UNSAFE_JOINT: &str = "crates/memsweep-python/src/park.rs";
/// Crates where the compiler itself refuses it.
const FORBIDDING: [&str; 4] = [
    "crates/memsweep-core/src/lib.rs",
    "crates/memsweep-cli/src/lib.rs",
    "crates/memsweep-cli/src/main.rs",
    "xtask/src/main.rs",
];
/// The only file that may import torch.
const TORCH_HOST: &str = "python/memsweep/torch_host.py";
/// The only folder that may import ComfyUI.
const COMFY_HOST: &str = "comfyui/comfy_host/";
/// Top-level names of ComfyUI's own modules.
const COMFYUI: [&str; 9] = [
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "nodes",
    "server",
    "app",
];
/// The only file of the page that may talk to the server.
const WEB_API: &str = "web/src/api.ts";

/// The walls between crates. Dependencies of tests are free, but for our own crates.
pub(super) fn crate_dependencies(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.below("", "Cargo.toml") {
        let name = path.trim_end_matches("/Cargo.toml").rsplit('/').next().unwrap_or_default();
        for (index, dependency) in dependencies(text) {
            if let Some(why) = refusal(name, &dependency) {
                problems.push(Problem::line(path, index, format!("`{dependency}`: {why}")));
            }
        }
    }
    problems
}

/// Why this crate must not depend on that one.
fn refusal(name: &str, dependency: &str) -> Option<&'static str> {
    if matches!(dependency, "memsweep-python" | "xtask") {
        return Some("nothing depends on it");
    }
    match name {
        // schemars is behind a feature that only the tests turn on.
        "memsweep-core"
            if !matches!(dependency, "schemars" | "serde" | "serde_json" | "thiserror") =>
        {
            Some("the core is pure: serde, serde_json and thiserror only")
        }
        "memsweep-os" if dependency.starts_with("pyo3") || dependency == "memsweep-pyheap" => {
            Some("the system crate knows nothing of Python")
        }
        "memsweep-cli" if dependency.starts_with("pyo3") || dependency == "memsweep-pyheap" => {
            Some("the command runs without Python")
        }
        "memsweep-pyheap" if dependency == "memsweep-os" => {
            Some("the heap walk knows nothing of the system crate")
        }
        _ => None,
    }
}

/// Names under every `[dependencies]` and `[build-dependencies]`, with their line.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            // The workspace's list only says versions; nobody depends on it.
            let listed = !section.starts_with("workspace");
            inside = listed && is_dependency_table(section);
            let (table, name) = section.rsplit_once('.').unwrap_or((section, ""));
            if listed && !inside && is_dependency_table(table) {
                found.push((index, name.trim_matches('"').to_owned()));
            }
        } else if inside && !line.starts_with('#') {
            let end = line.find(['=', '.', ' ']);
            if let Some(name) = end.map(|end| line[..end].trim()).filter(|name| !name.is_empty()) {
                // Continuation lines of an array hold no name.
                if name.chars().all(|one| one.is_alphanumeric() || matches!(one, '-' | '_')) {
                    found.push((index, name.to_owned()));
                }
            }
        }
    }
    found
}

fn is_dependency_table(section: &str) -> bool {
    let last = section.rsplit('.').next().unwrap_or_default();
    matches!(last, "dependencies" | "build-dependencies")
}

/// Unsafe code only where it is expected, and refused by the compiler elsewhere.
pub(super) fn unsafe_crates(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.below("", ".rs") {
        if path == UNSAFE_JOINT || UNSAFE_CRATES.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        for (index, line) in rust_lines(text).iter().enumerate() {
            if has_word(&line.code, "unsafe") {
                let what = "unsafe code outside memsweep-os and memsweep-pyheap";
                problems.push(Problem::line(path, index, what));
            }
        }
    }
    for path in FORBIDDING {
        match tree.text(path) {
            Some(text) if text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") => {}
            Some(_) => problems.push(Problem::file(path, "`#![forbid(unsafe_code)]` is missing")),
            None => problems.push(Problem::file(path, "the file is missing")),
        }
    }
    problems
}

/// torch is one foreign world: one file knows it.
pub(super) fn torch_imports(tree: &Tree) -> Vec<Problem> {
    let shipped = tree.below("", ".py").filter(|(path, _)| is_shipped(path));
    imports(shipped.filter(|(path, _)| *path != TORCH_HOST), &["torch"], TORCH_HOST)
}

/// ComfyUI is another one.
pub(super) fn comfyui_imports(tree: &Tree) -> Vec<Problem> {
    let shipped = tree.below("", ".py").filter(|(path, _)| is_shipped(path));
    imports(shipped.filter(|(path, _)| !path.starts_with(COMFY_HOST)), &COMFYUI, COMFY_HOST)
}

fn is_shipped(path: &str) -> bool {
    path.starts_with("python/") || path.starts_with("comfyui/") || path == "__init__.py"
}

fn imports<'a>(
    files: impl Iterator<Item = (&'a str, &'a str)>,
    modules: &[&str],
    home: &str,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            for module in imported(line).into_iter().filter(|one| modules.contains(&one.as_str())) {
                let what = format!("`{module}` is imported outside {home}");
                problems.push(Problem::line(path, index, what));
            }
        }
    }
    problems
}

/// The top-level modules that a line of Python imports. A relative import has none.
fn imported(line: &str) -> Vec<String> {
    let line = line.trim();
    let top = |name: &str| {
        let end = name.find(|one: char| !one.is_alphanumeric() && one != '_');
        name[..end.unwrap_or(name.len())].to_owned()
    };
    if let Some(rest) = line.strip_prefix("import ") {
        return rest.split(',').map(|name| top(name.trim())).collect();
    }
    if let Some(rest) = line.strip_prefix("from ") {
        return vec![top(rest.trim())];
    }
    let by_name = line.split("import_module(").nth(1).or_else(|| line.split("__import__(").nth(1));
    by_name.map(|rest| vec![top(rest.trim_start_matches(['"', '\'']))]).unwrap_or_default()
}

/// The page talks to the server in one file.
pub(super) fn fetches(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.below("web/src/", ".ts") {
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if path != WEB_API && has_word(code, "fetch") && code.contains("fetch(") {
                problems.push(Problem::line(path, index, format!("fetch outside {WEB_API}")));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_dependency_is_found() {
        let rows = [
            ("memsweep-core", "[dependencies]\nserde.workspace = true\n", 0),
            ("memsweep-core", "[dependencies]\nlibc = \"1\"\n", 1),
            ("memsweep-core", "[dependencies.libc]\nversion = \"1\"\n", 1),
            ("memsweep-core", "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n", 1),
            ("memsweep-core", "[dev-dependencies]\nproptest = \"1\"\n", 0),
            ("memsweep-os", "[dependencies]\npyo3 = { version = \"1\" }\n", 1),
            ("memsweep-os", "[dependencies]\nmemsweep-pyheap.workspace = true\n", 1),
            ("memsweep-pyheap", "[dependencies]\nmemsweep-os.workspace = true\n", 1),
            ("memsweep-pyheap", "[dependencies]\npyo3.workspace = true\n", 0),
            ("memsweep-cli", "[dependencies]\nmemsweep-python.workspace = true\n", 1),
        ];
        for (name, text, expected) in rows {
            let path = format!("crates/{name}/Cargo.toml");
            let found = crate_dependencies(&Tree::of(&[(&path, text)]));
            assert_eq!(found.len(), expected, "{name}: {text}");
        }
        let workspace = "[workspace.dependencies]\nmemsweep-python = \"1\"\n";
        assert!(crate_dependencies(&Tree::of(&[("Cargo.toml", workspace)])).is_empty());
    }

    #[test]
    fn a_planted_unsafe_outside_its_crates_is_found() {
        let mut good = Vec::from(FORBIDDING.map(|file| (file, "#![forbid(unsafe_code)]\n")));
        good.push(("crates/memsweep-os/src/lib.rs", "unsafe { a() }"));
        assert!(unsafe_crates(&Tree::of(&good)).is_empty());
        let mut bad = good;
        bad[0].1 = "fn a() { unsafe { b() } }";
        assert_eq!(unsafe_crates(&Tree::of(&bad)).len(), 2, "the block and the missing forbid");
    }

    #[test]
    fn planted_imports_are_found() {
        let torch = |path, text| torch_imports(&Tree::of(&[(path, text)])).len();
        assert_eq!(torch("comfyui/nodes.py", "import torch\n"), 1);
        assert_eq!(torch("python/memsweep/a.py", "    from torch.cuda import memory\n"), 1);
        assert_eq!(torch("python/memsweep/a.py", "import os, torch as t\n"), 1);
        assert_eq!(torch("python/memsweep/a.py", "importlib.import_module(\"torch\")\n"), 1);
        assert_eq!(torch("python/memsweep/torch_host.py", "import torch\n"), 0);
        assert_eq!(torch("python/memsweep/a.py", "from .torch_host import x\n"), 0);
        assert_eq!(torch("tests/python/test_a.py", "import torch\n"), 0);

        let comfy = |path, text| comfyui_imports(&Tree::of(&[(path, text)])).len();
        assert_eq!(comfy("comfyui/service.py", "import comfy.model_management\n"), 1);
        assert_eq!(comfy("comfyui/routes.py", "from server import PromptServer\n"), 1);
        assert_eq!(comfy("comfyui/__init__.py", "from .nodes import X\n"), 0);
        assert_eq!(comfy("comfyui/comfy_host/executor.py", "import execution\n"), 0);
    }

    #[test]
    fn a_planted_fetch_is_found() {
        let tree = Tree::of(&[
            ("web/src/api.ts", "return fetch(url);"),
            ("web/src/view.ts", "await fetch(url); // no\n// fetch(\nprefetch(url);"),
        ]);
        let found = fetches(&tree);
        assert_eq!(found, [Problem::line("web/src/view.ts", 0, "fetch outside web/src/api.ts")]);
    }
}
