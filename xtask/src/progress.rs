//! What is on the screen while a long step runs, and what is shown of its log.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set on Ctrl-C: a failure from then on is not worth showing.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// How often a quiet step says that it is still alive when nobody watches a terminal.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Lines of a log that are shown when its step failed.
const TAIL: usize = 25;
/// Characters of such a line that are shown.
const WIDEST: usize = 200;

/// One step on the screen: a heading, then how long it took. On standard error, because it is not
/// the output that was asked for.
#[derive(Debug)]
pub(crate) struct Step {
    heading: String,
    start: Instant,
    spoke: Instant,
    terminal: bool,
}

impl Step {
    pub(crate) fn begin(heading: &str) -> Self {
        let terminal = io::stderr().is_terminal();
        let step = Self {
            heading: heading.to_owned(),
            start: Instant::now(),
            spoke: Instant::now(),
            terminal,
        };
        if terminal {
            eprint!("{heading} ...");
        } else {
            eprintln!("{heading} ...");
        }
        let _ = io::stderr().flush();
        step
    }

    /// Shows that time passes; `detail` is asked for only when it is shown.
    pub(crate) fn tick(&mut self, detail: &dyn Fn() -> String) {
        let pause = if self.terminal { Duration::from_secs(1) } else { HEARTBEAT };
        if self.spoke.elapsed() < pause {
            return;
        }
        self.spoke = Instant::now();
        let seconds = self.start.elapsed().as_secs();
        let detail: String = detail().chars().take(60).collect();
        if self.terminal {
            eprint!("\r\x1b[K{} ... {seconds} s  {detail}", self.heading);
        } else {
            eprintln!("      {seconds} s  {detail}");
        }
        let _ = io::stderr().flush();
    }

    pub(crate) fn finish(self, word: &str) {
        let time = elapsed(self.start);
        if self.terminal {
            eprintln!("\r\x1b[K{} ... {word} ({time})", self.heading);
        } else {
            eprintln!("      {word} ({time})");
        }
    }
}

/// From now on, shows no log of a failed step: we were asked to stop.
pub(crate) fn stop() {
    STOPPED.store(true, Ordering::SeqCst);
}

/// `12 s`, `3 min 04 s`.
pub(crate) fn elapsed(start: Instant) -> String {
    let duration = start.elapsed();
    let seconds = duration.as_secs();
    if seconds >= 60 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// The end of a log.
pub(crate) fn last_line(log: &Path) -> String {
    tail(log, 1).pop_back().unwrap_or_default()
}

/// Prints the end of a log, indented.
pub(crate) fn show_tail(log: &Path) {
    if STOPPED.load(Ordering::SeqCst) {
        return;
    }
    for line in tail(log, TAIL) {
        let line: String = without_colours(&line).chars().take(WIDEST).collect();
        eprintln!("    | {line}");
    }
}

/// The line without escape sequences.
pub(crate) fn without_colours(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line.chars();
    while let Some(letter) = rest.next() {
        if letter == '\u{1b}' {
            // An escape sequence ends with its first letter.
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(letter);
        }
    }
    out
}

fn tail(log: &Path, count: usize) -> VecDeque<String> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut last = VecDeque::new();
    for line in text.lines().rev().filter(|line| !line.trim().is_empty()).take(count) {
        last.push_front(line.trim_end().to_owned());
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::TemporaryFolder;

    #[test]
    fn the_tail_of_a_log_skips_empty_lines() {
        let folder = TemporaryFolder::create(&std::env::temp_dir(), "xtask-tail").unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "a\n\nb\nc\n\n").unwrap();
        assert_eq!(tail(&log, 2), ["b", "c"]);
        assert_eq!(last_line(&folder.path().join("absent")), "");
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(without_colours("\u{1b}[32m[INFO]\u{1b}[0m ready"), "[INFO] ready");
    }
}
