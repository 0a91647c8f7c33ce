//! What each runner says of itself, and the table at the end.

use std::time::Instant;

use crate::progress::{elapsed, without_colours};

/// One line of the end: what ran and what came of it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) what: String,
    pub(super) outcome: Outcome,
    /// The runner's own summary.
    pub(super) summary: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    NotRun(String),
}

/// Prints the table. True when nothing failed.
pub(super) fn report(lines: &[Line], start: Instant) -> bool {
    println!("\n== summary ({})", elapsed(start));
    for line in lines {
        let outcome = match &line.outcome {
            Outcome::Passed => "ok".to_owned(),
            Outcome::Failed => "FAILED".to_owned(),
            Outcome::NotRun(reason) => format!("not run: {reason}"),
        };
        println!("{:<34} {outcome}", line.what);
        for summary in &line.summary {
            println!("    {summary}");
        }
    }
    let failed = lines.iter().filter(|line| line.outcome == Outcome::Failed).count();
    let not_run = lines.iter().filter(|line| matches!(line.outcome, Outcome::NotRun(_))).count();
    let ok = lines.len() - failed - not_run;
    println!("{ok} ok, {failed} failed, {not_run} not run");
    failed == 0
}

/// The lines in which a test runner sums up, as it printed them.
pub(crate) fn summary_lines(lines: &[String]) -> Vec<String> {
    let plain = lines.iter().map(|line| without_colours(line).trim().to_owned());
    plain.filter(|line| is_summary(line)).collect()
}

fn is_summary(line: &str) -> bool {
    let line = line.trim();
    let cargo =
        line.starts_with("test result:") && !line.contains(" 0 passed; 0 failed; 0 ignored");
    let pytest = line.starts_with("==")
        && line.contains(" in ")
        && ["passed", "failed", "error", "skipped", "no tests ran", "deselected"]
            .iter()
            .any(|word| line.contains(word));
    let words: Vec<&str> = line.split_whitespace().collect();
    // Node's runner prints `# pass 12`, or the same with an information sign.
    let node = words.len() == 3
        && matches!(words[1], "tests" | "pass" | "fail" | "skipped")
        && words[0].chars().count() == 1
        && words[2].parse::<u64>().is_ok();
    let vitest = words.first().is_some_and(|word| *word == "Tests") && line.contains("passed");
    let ruff =
        line == "All checks passed!" || line.starts_with("Found ") && line.contains(" error");
    cargo || pytest || node || vitest || ruff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runner_is_summed_up_by_its_own_line() {
        let rows = [
            ("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured", true),
            ("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured", false),
            ("test result: FAILED. 0 passed; 1 failed; 0 ignored", true),
            ("\u{1b}[32m===== \u{1b}[1m12 passed\u{1b}[0m in 3.21s =====", true),
            ("===== 1 failed, 2 passed in 3.21s =====", true),
            ("===== test session starts =====", false),
            ("===== short test summary info =====", false),
            ("# pass 12", true),
            ("\u{2139} fail 0", true),
            ("      Tests  4 passed (4)", true),
            ("All checks passed!", true),
            ("Found 2 errors.", true),
            ("Found it", false),
            ("", false),
        ];
        for (line, expected) in rows {
            let found = !summary_lines(&[line.to_owned()]).is_empty();
            assert_eq!(found, expected, "{line:?}");
        }
    }
}
