//! What each runner says about itself, and the table at the end.

use std::time::{Duration, Instant};

use crate::progress::{elapsed, without_colours};

/// A suite, or the set-up before them: a row of the table, with the lines of its runners below.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) time: Duration,
    /// What it may take; a suite that takes longer moves cases to the large sizes.
    pub(super) share: Option<Duration>,
    pub(super) lines: Vec<Line>,
}

/// What ran and what came of it.
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
pub(super) fn report(parts: &[Part], start: Instant) -> bool {
    println!("\n== summary ({})", elapsed(start));
    for part in parts {
        println!("{}", row(part));
        for line in &part.lines {
            let outcome = match &line.outcome {
                Outcome::Passed => "ok".to_owned(),
                Outcome::Failed => "FAILED".to_owned(),
                Outcome::NotRun(reason) => format!("not run: {reason}"),
            };
            println!("    {:<36} {outcome}", line.what);
            for summary in &line.summary {
                println!("        {summary}");
            }
        }
    }
    let outcomes: Vec<&Outcome> =
        parts.iter().flat_map(|part| &part.lines).map(|line| &line.outcome).collect();
    let failed = outcomes.iter().filter(|outcome| ***outcome == Outcome::Failed).count();
    let not_run = outcomes.iter().filter(|one| matches!(one, Outcome::NotRun(_))).count();
    println!("{} ok, {failed} failed, {not_run} not run", outcomes.len() - failed - not_run);
    failed == 0
}

/// The seconds of a suite. More than its share is no failure: a busy machine takes longer.
fn row(part: &Part) -> String {
    let seconds = part.time.as_secs();
    match part.share.map(|share| share.as_secs()) {
        Some(share) if seconds > share => {
            format!("{:<12}{seconds:>5} s  more than its share of {share} s", part.name)
        }
        Some(share) => format!("{:<12}{seconds:>5} s  of {share} s", part.name),
        None => format!("{:<12}{seconds:>5} s", part.name),
    }
}

/// The lines in which a test runner sums up, as printed: a count other than 0 stands before or
/// after one of their words.
pub(crate) fn sums_up(lines: &[String]) -> Vec<String> {
    let plain = lines.iter().map(|line| without_colours(line).trim().to_owned());
    plain.filter(|line| has_count(line)).collect()
}

fn has_count(line: &str) -> bool {
    let words: Vec<&str> = line.split(|one: char| !one.is_alphanumeric() && one != '_').collect();
    let counts = |word: &str| word.parse().is_ok_and(|count: u32| count > 0);
    words.windows(2).any(|pair| match pair {
        [count, "passed" | "failed" | "ignored" | "skipped" | "error" | "errors"] => counts(count),
        ["pass" | "fail", count] => counts(count),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runner_is_summed_up_by_its_own_lines() {
        let rows = [
            ("running 12 tests", false),
            ("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured", true),
            ("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured", false),
            ("test result: FAILED. 0 passed; 1 failed; 0 ignored", true),
            ("test with_1_passed ... ok", false),
            ("===== test session starts =====", false),
            ("===== short test summary info =====", false),
            ("\u{1b}[32m===== \u{1b}[1m12 passed\u{1b}[0m in 3.21s =====", true),
            ("===== 5 skipped in 0.12s =====", true),
            ("# tests 12", false),
            ("# pass 12", true),
            ("\u{2139} fail 1", true),
            ("\u{2139} fail 0", false),
            ("All checks passed!", false),
        ];
        for (line, expected) in rows {
            assert_eq!(!sums_up(&[line.to_owned()]).is_empty(), expected, "{line}");
        }
    }

    #[test]
    fn a_suite_that_takes_more_than_its_share_says_so() {
        let part = |seconds| Part {
            name: "rust".to_owned(),
            time: Duration::from_secs(seconds),
            share: Some(Duration::from_secs(60)),
            lines: Vec::new(),
        };
        assert!(!row(&part(60)).contains("more"));
        assert!(row(&part(61)).contains("61 s  more than its share of 60 s"));
    }
}
