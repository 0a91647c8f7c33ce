//! `cargo xtask tidy`: the project's own rules, as functions over the files of the checkout.
//!
//! Each rule takes a [`Tree`] and returns what breaks it, so that its test can plant a fault. Rules
//! about Rust code itself are clippy's: see the workspace's lints, and `xtask/tests/clippy.rs`.

mod docs;
mod nodes;
mod text;
mod tools;
mod versions;
mod walls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::run::Program;

/// The files that git knows or would add, by their path with `/`. `None`: not text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
    /// The class keys of the node table.
    node_keys: BTreeSet<String>,
    /// Our crates and what they depend on.
    packages: Vec<walls::Package>,
}

impl Tree {
    fn read(paths: &Paths) -> Result<Self> {
        let git = Program::new("git", &paths.root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let Some(list) = git.output()? else {
            bail!("`git ls-files` failed: tidy needs git and a checkout made by it")
        };
        let mut files = BTreeMap::new();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            let full = paths.root.join(path);
            // A deleted file that is not committed yet is listed too; links are not followed.
            if full.is_file() && !full.is_symlink() {
                let bytes = fs::read(&full).with_context(|| format!("reading {path}"))?;
                files.insert(path.to_owned(), String::from_utf8(bytes).ok());
            }
        }
        let mut packages = walls::packages(paths, "Cargo.toml")?;
        packages.extend(walls::packages(paths, "fuzz/Cargo.toml")?);
        Ok(Self { files, node_keys: nodes::keys(paths)?, packages })
    }

    /// The text of one file.
    fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Every text file.
    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// Every text file below a folder (or anywhere: `""`) whose name ends so.
    fn below<'a>(
        &'a self,
        folder: &'a str,
        ending: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts().filter(move |(path, _)| path.starts_with(folder) && path.ends_with(ending))
    }

    /// True for a file and for a folder that holds one.
    fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        self.files.contains_key(path)
            || self
                .files
                .range(folder.clone()..)
                .next()
                .is_some_and(|(at, _)| at.starts_with(&folder))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter();
        Self {
            files: files
                .map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned())))
                .collect(),
            ..Self::default()
        }
    }
}

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    path: String,
    line: Option<usize>,
    what: String,
}

impl Problem {
    fn file(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, what: what.into() }
    }

    /// `index` counts from 0, as `enumerate` does.
    fn line(path: &str, index: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: Some(index + 1), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "{}:{line}: {}", self.path, self.what),
            None => write!(out, "{}: {}", self.path, self.what),
        }
    }
}

type Rule = (&'static str, fn(&Tree) -> Vec<Problem>);

const RULES: [Rule; 13] = [
    ("crates depend only on what they may", walls::crate_dependencies),
    ("unsafe code stays in its two crates", walls::unsafe_code),
    ("every crate has the workspace's lints", walls::lints),
    ("no route and no module is called by name", walls::calls),
    ("one version everywhere", versions::versions_agree),
    ("long files say why", text::long_files),
    ("sources are ASCII", text::ascii),
    ("no paths of one machine", text::machine_paths),
    ("no registry hosts", text::registry_hosts),
    ("paths in the documents exist", docs::paths_exist),
    ("the lasting documents exist", docs::documents_exist),
    ("every invariant says what holds it", docs::invariants_are_held),
    ("every node has its help page", nodes::help_pages),
];

/// What all rules and tools found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) problems: usize,
    /// The tools that could not be run, and why.
    pub(crate) not_run: Vec<(&'static str, String)>,
}

/// Checks every rule and runs every tool.
pub(crate) fn run(paths: &Paths) -> Result<Verdict> {
    let tree = Tree::read(paths)?;
    let mut verdict = Verdict::default();
    let mut show = |name: &str, problems: &[String]| {
        println!("  {}  {name}", if problems.is_empty() { "ok    " } else { "BROKEN" });
        for problem in problems {
            println!("            {problem}");
        }
        verdict.problems += problems.len();
    };
    for (name, rule) in RULES {
        show(name, &rule(&tree).iter().map(Problem::to_string).collect::<Vec<_>>());
    }
    for (name, tool) in tools::TOOLS {
        match tool(paths, &paths.root) {
            Ok(program) => show(name, &tools::complaints(program)?),
            Err(why) => {
                println!("  not run {name}: {why}");
                verdict.not_run.push((name, why));
            }
        }
    }
    let (files, problems) = (tree.files.len(), verdict.problems);
    println!(
        "{} rules, {} tools, {files} files, {problems} problems",
        RULES.len(),
        tools::TOOLS.len()
    );
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_when_it_holds_a_file() {
        let tree = Tree::of(&[("docs/memory.md", "")]);
        assert!(tree.has("docs/memory.md"));
        assert!(tree.has("docs/"));
        assert!(tree.has("docs"));
        assert!(!tree.has("doc"));
        assert!(!tree.has("docs/memory"));
    }

    #[test]
    fn a_problem_reads_like_a_compiler_message() {
        assert_eq!(Problem::line("a.rs", 0, "wrong").to_string(), "a.rs:1: wrong");
        assert_eq!(Problem::file("a.rs", "wrong").to_string(), "a.rs: wrong");
    }
}
