//! Rules about the documents.

use super::{Problem, Tree};

/// Each has one job; see CONTRIBUTING.md.
const LASTING: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/memory.md"];

/// Where the invariants are.
const INVARIANTS: &str = "ARCHITECTURE.md";

/// The documents that the project promises, and that its README leads to.
pub(super) fn documents_exist(tree: &Tree) -> Vec<Problem> {
    let missing = LASTING.iter().filter(|path| !tree.has(path));
    missing.map(|path| Problem::file(path, "the document is missing")).collect()
}

/// Every path in backticks or behind a link leads somewhere.
pub(super) fn paths_exist(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.below("", ".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            if fenced {
                continue;
            }
            for link in link_targets(line) {
                if !tree.has(&join(folder, link)) && !tree.has(link.trim_start_matches('/')) {
                    problems.push(Problem::line(path, index, format!("link to `{link}`")));
                }
            }
            for quoted in quoted(line).filter(|quoted| looks_like_path(tree, quoted)) {
                let bare = without_line(quoted);
                if !tree.has(bare) && !tree.has(&join(folder, bare)) {
                    problems.push(Problem::line(path, index, format!("`{quoted}` does not exist")));
                }
            }
        }
    }
    problems
}

/// Each invariant says at its end what holds it: one file or two, or review.
pub(super) fn invariants_are_held(tree: &Tree) -> Vec<Problem> {
    let text = tree.text(INVARIANTS).unwrap_or_default();
    let mut problems = Vec::new();
    if !text.contains("\n## Invariants\n") {
        problems.push(Problem::file(INVARIANTS, "has no invariants"));
    }
    let mut section = "";
    for (index, line) in text.lines().enumerate() {
        section = line.strip_prefix("## ").unwrap_or(section);
        if section != "Invariants" || !line.starts_with("- ") {
            continue;
        }
        let holder = line.rsplit_once(" Held by ").map_or("", |(_, holder)| holder);
        let files: Vec<&str> = quoted(holder).collect();
        let are_named = files.len() <= 2 && holder == format!("`{}`.", files.join("` and `"));
        if holder != "review." && !(are_named && files.iter().all(|file| tree.has(file))) {
            problems.push(Problem::line(INVARIANTS, index, "does not say what holds it"));
        }
    }
    problems
}

/// What stands between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').enumerate().filter(|(index, _)| index % 2 == 1).map(|(_, text)| text)
}

/// The targets of Markdown links to files, without their anchors.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', ' ', '#']).next()?;
        let inside = !target.is_empty() && !target.contains(':') && !target.starts_with('#');
        inside.then_some(target)
    })
}

/// Starts in one of our folders, or is a document's name.
fn looks_like_path(tree: &Tree, quoted: &str) -> bool {
    let plain = |one: char| one.is_ascii_alphanumeric() || "/._-:".contains(one);
    if quoted.is_empty() || !quoted.chars().all(plain) || quoted.starts_with(['/', '.', '-']) {
        return false;
    }
    match quoted.split_once('/') {
        Some((top, _)) => tree.has(&format!("{top}/")) && !tree.files.contains_key(top),
        None => quoted.ends_with(".md"),
    }
}

fn without_line(path: &str) -> &str {
    path.split(':').next().unwrap_or(path)
}

/// `folder` + `path`, with `..` and `.` resolved.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(line: &str) -> usize {
        let files = [("docs/a.md", line), ("docs/memory.md", ""), ("crates/core/src/lib.rs", "")];
        paths_exist(&Tree::of(&files)).len()
    }

    #[test]
    fn a_planted_dead_path_is_found() {
        let rows = [
            ("see `crates/core/src/lib.rs:12` and `crates/core/`", 0),
            ("see `crates/core/src/gone.rs`", 1),
            ("see `docs/memory.md`, `memory.md`, [memory](memory.md#a)", 0),
            ("see [x](gone.md)", 1),
            ("see [x](../crates/core/src/lib.rs) and [y](../gone/)", 1),
            ("see [x](https://example.org/gone.md) and [y](#anchor)", 0),
            ("see `GONE.md`", 1),
            ("run `cargo xtask demo`, read `/proc/meminfo`, use `serde/derive`", 0),
            ("pages `crates/<name>/src` and `docs/*.md`", 0),
            ("```", 0),
        ];
        for (line, expected) in rows {
            assert_eq!(count(line), expected, "{line}");
        }
        assert_eq!(count("```\n`docs/gone.md`\n```\n"), 0, "a listing may show other trees");
    }

    #[test]
    fn a_planted_invariant_that_nothing_holds_is_found() {
        let rows = [
            ("It is so. Held by review.", 0),
            ("It is so. Held by `clippy.toml`.", 0),
            ("It is so. Held by `clippy.toml` and `docs/a.md`.", 0),
            ("It is so.", 1),
            ("It is so. Held by us all.", 1),
            ("It is so. Held by `gone.toml`.", 1),
            ("It is so. Held by `docs/a.md` and more.", 1),
            ("It is so. Held by `docs/a.md` and `docs/a.md` and `docs/a.md`.", 1),
            ("It is so. Held by review. And so is this.", 1),
        ];
        for (bullet, expected) in rows {
            let text = format!("- Free.\n## Invariants\n### Core\n- {bullet}\n## More\n- Free.\n");
            let files = [(INVARIANTS, text.as_str()), ("clippy.toml", ""), ("docs/a.md", "")];
            assert_eq!(invariants_are_held(&Tree::of(&files)).len(), expected, "{bullet}");
        }
        assert_eq!(invariants_are_held(&Tree::of(&[(INVARIANTS, "- Free.\n")])).len(), 1);
    }

    #[test]
    fn a_missing_document_is_found() {
        let all: Vec<(&str, &str)> = LASTING.iter().map(|path| (*path, "")).collect();
        assert!(documents_exist(&Tree::of(&all)).is_empty());
        assert_eq!(documents_exist(&Tree::of(&all[1..])).len(), 1);
    }
}
