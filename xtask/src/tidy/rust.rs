//! Rules about Rust code that hold in every crate.

use std::collections::BTreeSet;

use super::source::{Line, has_word, rust_lines, test_modules};
use super::{Problem, Tree};

/// Calls that end the process, or reach Python as an exception that nobody catches.
const PANICS: [&str; 5] = [".unwrap(", ".expect(", "panic!(", "todo!(", "unimplemented!("];

/// No call that can panic by itself, outside tests. Clippy holds the same for built code.
pub(super) fn panics(tree: &Tree) -> Vec<Problem> {
    let test_files = test_only_files(tree);
    let mut problems = Vec::new();
    for (path, text) in tree.below("", ".rs") {
        if test_files.contains(path) || in_test_folder(path) {
            continue;
        }
        for (index, line) in rust_lines(text).iter().enumerate().filter(|(_, line)| !line.test) {
            for call in PANICS.iter().filter(|call| line.code.contains(**call)) {
                problems.push(Problem::line(path, index, format!("`{call}` outside tests")));
            }
        }
    }
    problems
}

fn in_test_folder(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "examples"))
}

/// Files of modules that are declared for tests only.
fn test_only_files(tree: &Tree) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for (path, text) in tree.below("", ".rs") {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = match file {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => format!("{folder}/{}", file.trim_end_matches(".rs")),
        };
        for module in test_modules(&rust_lines(text)) {
            files.insert(format!("{folder}/{module}.rs"));
            files.insert(format!("{folder}/{module}/mod.rs"));
        }
    }
    files
}

/// Every unsafe block, impl and function says why it is sound, or what its caller must do.
pub(super) fn safety_comments(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.below("", ".rs") {
        let lines = rust_lines(text);
        for index in 0..lines.len() {
            if needs_explanation(&lines, index) && !is_explained(&lines, index) {
                let what = "unsafe without a `// SAFETY:` comment or a `# Safety` section";
                problems.push(Problem::line(path, index, what));
            }
        }
    }
    problems
}

fn needs_explanation(lines: &[Line], index: usize) -> bool {
    let code = &lines[index].code;
    if !has_word(code, "unsafe") {
        return false;
    }
    code.match_indices("unsafe").any(|(at, word)| {
        let after = code[at + word.len()..].trim_start();
        let after = if after.is_empty() {
            lines.get(index + 1).map_or("", |line| line.code.trim_start())
        } else {
            after
        };
        if after.starts_with('{') || has_word(after, "impl") {
            return true;
        }
        // `unsafe fn(..)` without a name is a type; with one it is a function. A private one with
        // C's conventions is a callback: C calls it, and its blocks say what they rely on.
        let function = after.find("fn ").map(|at| after[at + 3..].trim_start());
        let named = function
            .is_some_and(|rest| rest.starts_with(|one: char| one.is_alphabetic() || one == '_'));
        named && (!after.starts_with("extern") || has_word(&code[..at], "pub"))
    })
}

/// Looks at the line itself, then upwards to the start of the statement and its comments.
fn is_explained(lines: &[Line], index: usize) -> bool {
    let says = |line: &Line| line.comment.contains("SAFETY:") || line.comment.contains("# Safety");
    if says(&lines[index]) {
        return true;
    }
    for line in lines[..index].iter().rev() {
        if says(line) {
            return true;
        }
        let code = line.code.trim();
        if code.starts_with("#[") || code.is_empty() && !line.comment.is_empty() {
            continue;
        }
        if code.is_empty() || code.ends_with([';', '{', '}']) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: fn(&Tree) -> Vec<Problem>, text: &str) -> usize {
        rule(&Tree::of(&[("crates/a/src/lib.rs", text)])).len()
    }

    #[test]
    fn a_planted_panic_is_found() {
        assert_eq!(count(panics, "fn a() { b().unwrap(); }"), 1);
        assert_eq!(count(panics, "fn a() {\n    panic!(\"no\");\n}"), 1);
        assert_eq!(count(panics, "fn a() { b().unwrap_or(1); } // .unwrap()"), 0);
        assert_eq!(count(panics, "#[cfg(test)]\nmod t {\n fn a() { b().unwrap(); }\n}"), 0);
    }

    #[test]
    fn files_of_tests_may_panic() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "#[cfg(test)]\nmod fake;\nmod real;\n"),
            ("crates/a/src/fake.rs", "fn a() { b().unwrap(); }"),
            ("crates/a/src/real.rs", "fn a() { b().unwrap(); }"),
            ("crates/a/tests/it/main.rs", "fn a() { b().unwrap(); }"),
        ]);
        let found = panics(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "crates/a/src/real.rs");
    }

    #[test]
    fn a_planted_unsafe_without_a_reason_is_found() {
        let rows = [
            ("fn a() {\n    unsafe { b() }\n}", 1),
            ("fn a() {\n    // SAFETY: b has no conditions.\n    unsafe { b() }\n}", 0),
            ("fn a() {\n    // SAFETY: fine.\n    let x =\n        unsafe { b() };\n}", 0),
            ("fn a() {\n    // SAFETY: fine.\n    let x = 1;\n    unsafe { b() }\n}", 1),
            ("unsafe impl Send for A {}", 1),
            ("/// # Safety\n/// Be careful.\n#[inline]\npub unsafe fn a() {}", 0),
            ("/// Careless.\npub unsafe fn a() {}", 1),
            ("unsafe fn a() {}", 1),
            ("pub unsafe extern \"C\" fn visit(a: u8) {}", 1),
            ("unsafe extern \"C\" fn visit(a: u8) {}", 0),
            ("unsafe extern \"C\" {\n    fn a();\n}", 0),
            ("type Visit = unsafe extern \"C\" fn(u8);", 0),
            ("fn a() -> Option<unsafe extern \"system\" fn() -> isize> {\n}", 0),
            ("#![forbid(unsafe_code)]", 0),
        ];
        for (text, expected) in rows {
            assert_eq!(count(safety_comments, text), expected, "{text}");
        }
    }
}
