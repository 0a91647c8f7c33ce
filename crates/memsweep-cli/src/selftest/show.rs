//! A self-test as text.

use std::fmt;

use comfy_table::{LineStyle, Table, presets};
use memsweep_core::bytes::Bytes;
use memsweep_core::plain::plain;

use super::{Finding, Selftest};

impl fmt::Display for Selftest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        let line = LineStyle::none().fill('-').junction('-');
        table.load_style(presets::NOTHING.header_separator(line));
        table.set_header(["trial", "promised", "claimed", "measured", "finding", ""]);
        for trial in &self.trials {
            table.add_row([
                trial.name.to_owned(),
                known(trial.expected),
                known(trial.claimed),
                trial.measured.map_or_else(|| "-".to_owned(), |change| change.to_string()),
                trial.finding.to_string(),
                plain(trial.detail.as_deref().unwrap_or_default()),
            ]);
        }
        writeln!(f, "MemSweep {} on {}", self.version, self.system)?;
        writeln!(f, "{table}")?;
        let passed = self.trials.iter().filter(|trial| trial.finding.passes()).count();
        write!(f, "{passed} of {} trials passed", self.trials.len())
    }
}

fn known(bytes: Option<Bytes>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Works => "works",
            Self::NoPromise => "no promise here",
            Self::NotSupported => "not supported here",
            Self::NotDone => "NOT DONE",
            Self::TooLittle => "TOO LITTLE was given back",
            Self::FalseClaim => "FALSE CLAIM",
            Self::NotMeasured => "NOT MEASURED",
            Self::Damaged => "DAMAGED",
            Self::Failed => "FAILED",
        })
    }
}
