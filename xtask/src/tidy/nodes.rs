//! The node table and its help pages.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Problem, Tree};
use crate::paths::Paths;
use crate::run::Program;
use crate::tools;

/// The one table that the nodes are generated from.
const TABLE: &str = "comfyui/spec.py";
const PAGES: &str = "comfyui/web/docs/";

/// Asks the table itself, which is plain data: its keys are put together by functions.
pub(super) fn keys(paths: &Paths) -> Result<BTreeSet<String>> {
    let question = "import sys; sys.path.insert(0, 'comfyui'); import spec; \
        print(*(node.key for node in spec.SPECS))";
    let python = tools::python(paths)?;
    let answer = Program::new(python.path, &paths.root).args(["-B", "-c", question]).output()?;
    Ok(answer.unwrap_or_default().split_whitespace().map(str::to_owned).collect())
}

/// Each node has a page that ComfyUI shows as its help, and each page a node.
pub(super) fn help_pages(tree: &Tree) -> Vec<Problem> {
    let keys = &tree.node_keys;
    let mut problems = Vec::new();
    if keys.is_empty() {
        problems.push(Problem::file(TABLE, "the node table is missing, empty or broken"));
    }
    for key in keys {
        let page = format!("{PAGES}{key}.md");
        if tree.text(&page).is_none_or(|text| text.trim().is_empty()) {
            problems.push(Problem::file(&page, "the help page is missing or empty"));
        }
    }
    for (path, _) in tree.below(PAGES, ".md") {
        let name = path.trim_start_matches(PAGES).trim_end_matches(".md");
        // A folder below holds the translations of a page.
        if !name.contains('/') && !keys.contains(name) {
            problems.push(Problem::file(path, format!("no node has the key `{name}`")));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(keys: &[&str], files: &[(&str, &str)]) -> usize {
        let mut tree = Tree::of(files);
        tree.node_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        help_pages(&tree).len()
    }

    #[test]
    fn a_planted_node_without_a_page_and_a_page_without_a_node_are_found() {
        let keys = ["MemSweepFree", "FreeMemoryImage"];
        let free = ("comfyui/web/docs/MemSweepFree.md", "x");
        let image = ("comfyui/web/docs/FreeMemoryImage.md", "x");
        assert_eq!(count(&keys, &[free, image]), 0);
        assert_eq!(count(&keys, &[free]), 1);
        assert_eq!(count(&keys, &[free, (image.0, " ")]), 1);
        assert_eq!(count(&keys[..1], &[free, image]), 1);
        assert_eq!(count(&[], &[]), 1, "a table without keys is no table");
    }

    #[test]
    fn the_real_table_is_read() {
        let found = keys(&Paths::find().unwrap()).unwrap();
        assert!(found.contains("FreeMemoryImage"), "{found:?}");
    }
}
