//! The demo's one table, and the lines below it. Measured numbers only.

use comfy_table::{CellAlignment, LineStyle, Table, presets};
use serde_json::Value;

/// What one run of a placement gave.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The report of the node; `None` when it left none.
    pub(super) report: Option<Value>,
    /// Memory of the server after the prompt, read from outside.
    pub(super) resident: Option<u64>,
    pub(super) identical: bool,
}

/// One placement, its first and its second time.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) label: &'static str,
    pub(super) frees_all: bool,
    pub(super) runs: Vec<Run>,
}

/// The table: one row per placement, one line in it per run.
pub(super) fn render(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-')));
    table.set_header(["Node", "Level", "RAM before -> after", "Released", "Afterwards", "Image"]);
    for row in rows {
        let column = |cell: &dyn Fn(&Run) -> String| {
            row.runs.iter().map(cell).collect::<Vec<_>>().join("\n")
        };
        table.add_row([
            row.label.to_owned(),
            column(&level),
            column(&before_and_after),
            column(&|run| report_number(run, "/freed/process_resident").map_or_else(absent, mib)),
            column(&|run| run.resident.map_or_else(absent, |bytes| mib(signed(bytes)))),
            column(&|run| if run.identical { "identical" } else { "DIFFERS" }.to_owned()),
        ]);
    }
    for index in 2..5 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

fn level(run: &Run) -> String {
    let text = |name: &str| run.report.as_ref()?.get(name)?.as_str().map(str::to_owned);
    match (text("level"), text("requested_level")) {
        (Some(level), Some(requested)) if level != requested => format!("{level} (of {requested})"),
        (Some(level), _) => level,
        (None, _) => "no report".to_owned(),
    }
}

fn before_and_after(run: &Run) -> String {
    let number = |at: &str| report_number(run, at).map(|bytes| (bytes >> 20).to_string());
    match (number("/before/process/resident"), number("/after/process/resident")) {
        (Some(before), Some(after)) => format!("{before} -> {after} MiB"),
        _ => absent(),
    }
}

fn report_number(run: &Run, at: &str) -> Option<i64> {
    run.report.as_ref()?.pointer(at)?.as_i64()
}

fn absent() -> String {
    "not known".to_owned()
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn mib(bytes: i64) -> String {
    // Rounded towards zero: less than one is shown as none.
    format!("{} MiB", bytes / (1 << 20))
}

/// How large the server stays, as a multiple of its size at rest.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    pub(super) idle: Option<u64>,
    pub(super) after: Vec<Option<u64>>,
}

impl Sizes {
    /// `None` where the system does not say.
    pub(super) fn ratios(&self) -> Vec<Option<f64>> {
        self.after.iter().map(|after| ratio((*after)?, self.idle?)).collect()
    }

    /// `912 MiB = 1.07 x, then 915 MiB = 1.08 x`.
    pub(super) fn text(&self) -> String {
        let parts: Vec<String> = self
            .after
            .iter()
            .zip(self.ratios())
            .map(|(after, ratio)| match (after, ratio) {
                (Some(after), Some(ratio)) => format!("{} = {ratio:.2} x", mib(signed(*after))),
                _ => absent(),
            })
            .collect();
        parts.join(", then ")
    }

    pub(super) fn idle_text(&self) -> String {
        self.idle.map_or_else(absent, |bytes| mib(signed(bytes)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of sizes below 2^53 bytes")]
fn ratio(after: u64, idle: u64) -> Option<f64> {
    (idle > 0).then(|| after as f64 / idle as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(report: Option<Value>, identical: bool) -> Run {
        Run { report, resident: Some(900 << 20), identical }
    }

    #[test]
    fn a_row_shows_what_the_report_says_and_nothing_else() {
        let report = json!({
            "level": "evict", "requested_level": "park",
            "before": { "process": { "resident": 1300_u64 << 20 } },
            "after": { "process": { "resident": 900_u64 << 20 } },
            "freed": { "process_resident": 400_u64 << 20 },
        });
        let runs = vec![run(Some(report), true), run(None, false)];
        let text = render(&[Row { label: "Purge ALL", frees_all: true, runs }]);
        for part in
            ["evict (of park)", "1300 -> 900 MiB", " 400 MiB", "identical", "DIFFERS", "no report"]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert_eq!(text.matches("not known").count(), 2, "{text}");
    }

    #[test]
    fn an_unreadable_number_is_not_zero() {
        let report = json!({ "level": "trim", "freed": { "process_resident": null } });
        let text = render(&[Row {
            label: "x",
            frees_all: false,
            runs: vec![Run { report: Some(report), resident: None, identical: true }],
        }]);
        assert_eq!(text.matches("not known").count(), 3, "{text}");
        assert!(!text.contains(" 0 MiB"), "{text}");
    }

    #[test]
    fn sizes_are_told_as_ratios() {
        let sizes = Sizes { idle: Some(800 << 20), after: vec![Some(880 << 20), None] };
        assert_eq!(sizes.text(), "880 MiB = 1.10 x, then not known");
        assert_eq!(Sizes { idle: Some(0), after: vec![Some(1)] }.ratios(), [None]);
    }
}
