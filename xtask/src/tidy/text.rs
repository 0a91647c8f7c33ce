//! Rules about any text file.

use super::{Problem, Tree};

const LONGEST: usize = 500;
/// What is read most often is shorter: the product's own code, without the tests beside it.
const PRODUCT: [&str; 4] = ["crates/", "python/", "comfyui/", "web/src/"];
const LONGEST_OF_PRODUCT: usize = 330;
/// Where the reason must stand.
const HEAD: usize = 20;
/// Built from sources that are checked themselves, or written by a tool.
const GENERATED: [&str; 4] =
    ["comfyui/web/memsweep.js", "web/src/shapes/report.ts", "Cargo.lock", "web/package-lock.json"];

/// A file that outgrew the limit says why in its head; one of the product is split.
pub(super) fn long_files(tree: &Tree) -> Vec<Problem> {
    let code = |path: &str| [".rs", ".py", ".ts", ".mjs"].iter().any(|end| path.ends_with(end));
    let mut problems = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| code(path) && !GENERATED.contains(path)) {
        let said = text.lines().take(HEAD).any(|line| line.contains("Long because"));
        let lines = text.lines().count();
        let own = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let own = own.lines().count();
        let is_product = PRODUCT.iter().any(|start| path.starts_with(start))
            && !path.contains("/tests")
            && !path.contains(".test.");
        if is_product && own > LONGEST_OF_PRODUCT {
            problems.push(Problem::file(path, format!("{own} lines of the product: split it")));
        } else if lines > LONGEST && !said {
            let what = format!("{lines} lines: split it, or say `Long because ...` in its head");
            problems.push(Problem::file(path, what));
        }
    }
    problems
}

/// ASCII only, so that nothing hides in a look-alike.
pub(super) fn ascii(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| !GENERATED.contains(path)) {
        for (index, line) in text.lines().enumerate() {
            if let Some(other) = line.chars().find(|one| !one.is_ascii()) {
                let what = format!("U+{:04X} is not ASCII", other as u32);
                problems.push(Problem::line(path, index, what));
            }
        }
    }
    problems
}

/// No path that exists on one machine only.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Problem> {
    // Put together here, or this file would break its own rule.
    let roots = ["work", "root", "home"].map(|name| format!("/{name}"));
    let mut problems = Vec::new();
    for (path, text) in tree.texts() {
        for (index, line) in text.lines().enumerate() {
            for root in roots.iter().filter(|root| names_root(line, root)) {
                problems.push(Problem::line(
                    path,
                    index,
                    format!("`{root}` is one machine's path"),
                ));
            }
        }
    }
    problems
}

/// True when `root` starts an absolute path, not when it is part of a longer one.
fn names_root(line: &str, root: &str) -> bool {
    let word = |one: char| one.is_alphanumeric() || matches!(one, '_' | '-' | '.');
    line.match_indices(root).any(|(at, _)| {
        let before = &line[..at];
        let after = &line[at + root.len()..];
        let starts =
            !before.ends_with(|one| word(one) || matches!(one, '/' | '}' | ')' | '~' | '>'));
        // A quoted root in code is a path too; the same word in a sentence is not.
        let follows = after.strip_prefix('/').is_some_and(|rest| rest.starts_with(word))
            || after.starts_with(['"', '\''])
            || after.starts_with("/\"");
        // The placeholder name in the data of tests.
        let anybody = after.starts_with("/user/");
        starts && follows && !anybody
    })
}

/// Nobody's package mirror gets into the sources; lock files name only the public registries.
pub(super) fn registry_hosts(tree: &Tree) -> Vec<Problem> {
    let hosts = ["pypi", "pythonhosted", "npmjs", "yarnpkg"].map(|name| format!("{name}.org"));
    let public_npm = format!("https://registry.{}/", hosts[2]);
    let public_cargo = concat!("registry+https://github.com/rust-lang/crates", ".io-index");
    let mut problems = Vec::new();
    for (path, text) in tree.texts() {
        for (index, line) in text.lines().enumerate() {
            let bad = if path.ends_with("package-lock.json") {
                value_of(line, "\"resolved\": \"").is_some_and(|url| !url.starts_with(&public_npm))
            } else if path.ends_with("Cargo.lock") {
                value_of(line, "source = \"").is_some_and(|source| source != public_cargo)
            } else {
                hosts.iter().any(|host| line.contains(host.as_str()))
            };
            if bad {
                problems.push(Problem::line(path, index, "names a package registry's host"));
            }
        }
    }
    problems
}

fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_once(key)?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_long_file_is_found_unless_it_says_why() {
        let long = "// x\n".repeat(501);
        let reason = format!("//! Long because it is one table.\n{long}");
        let fits = "// x\n".repeat(500);
        let count = |text: &str| long_files(&Tree::of(&[("a.rs", text)])).len();
        assert_eq!(count(&long), 1);
        assert_eq!(count(&reason), 0);
        assert_eq!(count(&fits), 0);
        assert!(long_files(&Tree::of(&[("a.json", &long)])).is_empty());
    }

    #[test]
    fn a_planted_long_file_of_the_product_is_found_but_for_its_tests() {
        let long = "// x\n".repeat(331);
        let count = |path: &str, text: &str| long_files(&Tree::of(&[(path, text)])).len();
        for path in ["crates/a/src/a.rs", "python/memsweep/a.py", "comfyui/a.py", "web/src/a.ts"] {
            assert_eq!(count(path, &long), 1, "{path}");
            assert_eq!(count(path, &format!("// Long because.\n{long}")), 1, "{path}");
        }
        for path in ["crates/a/tests/a.rs", "tests/python/a.py", "web/src/a.test.ts", "xtask/a.rs"]
        {
            assert_eq!(count(path, &long), 0, "{path}");
        }
        let fits = "// x\n".repeat(329);
        assert_eq!(
            count("crates/a/src/a.rs", &format!("{fits}\n#[cfg(test)]\nmod tests {{}}\n")),
            0
        );
    }

    #[test]
    fn a_planted_character_is_found() {
        assert_eq!(ascii(&Tree::of(&[("comfyui/spec.py", "a = '\u{1f9f9}'\n")])).len(), 1);
        assert!(ascii(&Tree::of(&[("comfyui/spec.py", "a = '\\U0001f9f9'\n")])).is_empty());
    }

    #[test]
    fn a_planted_machine_path_is_found() {
        let home = format!("/{}/me/x", "home");
        let rows = [
            (format!("cd {home}"), 1),
            (format!("path = \"/{}\"", "root"), 1),
            (format!("$CACHE{home}"), 1),
            (format!("{{cache}}{home}"), 0),
            ("a/home/b".to_owned(), 0),
            ("at the /home page".to_owned(), 0),
            ("/workspace/x".to_owned(), 0),
            (format!("/{}/user/x", "home"), 0),
        ];
        for (line, expected) in rows {
            let expected = if line.starts_with('$') { 0 } else { expected };
            assert_eq!(machine_paths(&Tree::of(&[("a.md", &line)])).len(), expected, "{line}");
        }
    }

    #[test]
    fn a_planted_registry_host_is_found() {
        let count = |path: &str, line: &str| registry_hosts(&Tree::of(&[(path, line)])).len();
        assert_eq!(count("README.md", &format!("see {}.org", "pypi")), 1);
        assert_eq!(count("README.md", "see the registry"), 0);
        let npm = |host: &str| format!("\"resolved\": \"https://{host}/a.tgz\"");
        assert_eq!(count("web/package-lock.json", &npm("mirror.example")), 1);
        assert_eq!(count("web/package-lock.json", &npm(&format!("registry.{}.org", "npmjs"))), 0);
        assert_eq!(count("Cargo.lock", "source = \"registry+https://mirror.example\""), 1);
    }
}
