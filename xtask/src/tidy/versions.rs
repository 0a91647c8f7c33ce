//! One version for the workspace, the changelog, the pack's requirement and the page.

use super::{Problem, Tree};

pub(super) fn versions_agree(tree: &Tree) -> Vec<Problem> {
    let Some(version) = in_toml(tree, "Cargo.toml", &["workspace", "package", "version"]) else {
        return vec![Problem::file("Cargo.toml", "has no workspace version")];
    };
    let text = |path: &str| tree.text(path).unwrap_or_default();
    let rows = [
        ("pyproject.toml", "version", in_toml(tree, "pyproject.toml", &["project", "version"])),
        ("CHANGELOG.md", "newest entry", newest_entry(text("CHANGELOG.md"))),
        ("requirements.txt", "requirement on memsweep", required(text("requirements.txt"))),
        ("web/package.json", "version", json_version(text("web/package.json"))),
    ];
    let mut problems = Vec::new();
    for (path, what, found) in rows {
        match found {
            Some(found) if found == version => {}
            Some(found) => {
                problems.push(Problem::file(path, format!("{what} is {found}, not {version}")));
            }
            None => problems.push(Problem::file(path, format!("has no {what}"))),
        }
    }
    problems
}

fn in_toml(tree: &Tree, path: &str, keys: &[&str]) -> Option<String> {
    let table = toml::Value::Table(tree.text(path)?.parse().ok()?);
    let value = keys.iter().try_fold(&table, |value, key| value.get(key))?;
    Some(value.as_str()?.to_owned())
}

/// The version of the first heading that has one: `## [0.1.0] - date` or `## 0.1.0`.
fn newest_entry(changelog: &str) -> Option<String> {
    let headings = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    headings
        .map(|heading| heading.split([' ', ']']).next().unwrap_or_default().trim_start_matches('['))
        .find(|word| word.starts_with(|one: char| one.is_ascii_digit()))
        .map(str::to_owned)
}

fn required(requirements: &str) -> Option<String> {
    let line = requirements.lines().find_map(|line| line.trim().strip_prefix("memsweep"))?;
    let version = line.strip_prefix("==").or_else(|| line.strip_prefix("~="))?;
    Some(version.split([' ', ';', '#']).next()?.to_owned())
}

fn json_version(package: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(package).ok()?;
    Some(value.get("version")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("Cargo.toml", "[workspace]\nversion = \"9\"\n[workspace.package]\nversion = \"0.1.0\"\n"),
        ("pyproject.toml", "[project]\nname = \"memsweep\"\nversion = \"0.1.0\"\n"),
        ("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n## [0.1.0] - 2026-01-01\n## 0.0.1\n"),
        ("requirements.txt", "# the native part\nmemsweep==0.1.0\n"),
        ("web/package.json", "{\"version\": \"0.1.0\"}"),
    ];

    #[test]
    fn a_planted_disagreement_is_found_in_each_file() {
        assert_eq!(versions_agree(&Tree::of(&GOOD)), []);
        for index in 1..GOOD.len() {
            let mut bad = GOOD;
            let text = bad[index].1.replace("0.1.0", "0.2.0");
            bad[index].1 = &text;
            assert_eq!(versions_agree(&Tree::of(&bad)).len(), 1, "{}", bad[index].0);
        }
    }

    #[test]
    fn a_missing_entry_is_a_problem_and_a_compatible_pin_is_not() {
        assert_eq!(versions_agree(&Tree::of(&GOOD[..4])).len(), 1);
        assert_eq!(versions_agree(&Tree::of(&[])).len(), 1);
        assert_eq!(required("memsweep~=0.1.0 ; x").as_deref(), Some("0.1.0"));
        assert_eq!(required("memsweep>=0.1.0"), None);
    }
}
