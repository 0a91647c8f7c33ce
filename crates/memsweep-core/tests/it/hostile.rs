//! Text from outside, in every field that can hold one: no line but ours, nothing that steers.

use memsweep_core::inventory::Executor;
use memsweep_core::level::Level;
use memsweep_core::plan::plan;
use memsweep_core::policy::Policy;
use memsweep_core::reading::Reading;
use memsweep_core::render;
use memsweep_core::report::Report;
use memsweep_core::sweep::sweep;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use crate::build;
use crate::hosts::Scripted;
use crate::strategies::{inventories, outcomes, policies, readings};

/// What a name, an error or a path may hold.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "\n",
        "\r\n",
        "\r",
        "\u{b}",
        "\u{c}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{1b}[31m",
        "\0",
        "\u{9b}2J",
        "\u{8}",
        "\u{7f}",
        "\u{202e}",
        "\u{2066}",
        "\u{feff}",
        "\u{e0041}",
        "note: ",
        "\nMemSweep evict: private RAM 9.0 GiB",
        "\u{6a21}\u{578b}",
        "'\"`<b>{}%s",
        "x",
    ]);
    prop_oneof![
        3 => vec(pieces, 1..6).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

/// Fields whose words are ours, as programs read them.
const OURS: [&str; 8] =
    ["kind", "reads", "level", "requested_level", "verdict", "measure", "schema", "because"];

/// Ends every text from outside with this one. What was the same stays the same.
fn spoil(value: &mut Value, with: &str) {
    match value {
        // The place of the process is a word of ours; a device's id is not.
        Value::String(text) if text != "process" => text.push_str(with),
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, with)),
        Value::Object(fields) => fields
            .iter_mut()
            .filter(|(name, _)| !OURS.contains(&name.as_str()))
            .for_each(|(_, field)| spoil(field, with)),
        _ => {}
    }
}

fn spoiled<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T, with: &str) -> T {
    let mut json = serde_json::to_value(value).unwrap();
    spoil(&mut json, with);
    serde_json::from_value(json).unwrap()
}

/// The text has the lines of the harmless one, and nothing in it steers a terminal or a reader.
fn check(text: &str, harmless: &str) -> Result<(), TestCaseError> {
    let lines = |text: &str| text.split('\n').count();
    prop_assert_eq!(lines(text), lines(harmless), "{:?}", text);
    for character in text.chars().filter(|character| *character != '\n') {
        prop_assert!(!character.is_control(), "{:?}", text);
        let steers = "\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        prop_assert!(!steers.contains(character), "{:?}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_report_has_its_own_lines_whatever_the_names_are(
        inventory in inventories(),
        policy in policies(),
        answers in (vec(readings(), 1..4), vec(outcomes(), 0..8)),
        with in hostile(),
    ) {
        let (readings, outcomes) = answers;
        let plan = plan(&inventory, &policy);
        let report = sweep(&plan, &mut Scripted::new(readings, outcomes));
        let bad: Report = spoiled(&report, &with);
        check(&render::text(&bad), &render::text(&report))?;
        check(&render::summary(&bad), "")?;
        // JSON keeps what was given.
        let json = serde_json::to_string(&bad).unwrap();
        prop_assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), bad);
    }

    #[test]
    fn a_reading_has_its_own_lines_whatever_the_names_are(reading in readings(), with in hostile()) {
        let bad: Reading = spoiled(&reading, &with);
        check(&render::reading_text(&bad), &render::reading_text(&reading))?;
    }

    #[test]
    fn names_in_an_inventory_forge_no_line(
        mut inventory in inventories(),
        has_names in any::<bool>(),
        with in hostile(),
    ) {
        // Without names of their own, cached outputs are called after their nodes.
        if let (false, Executor::Identified(execution)) = (has_names, &mut inventory.executor) {
            execution.entries.iter_mut().for_each(|entry| entry.name.clear());
        }
        let bad = spoiled(&inventory, &with);
        let policy: Policy = build::policy(Level::Destroy);
        let told = |inventory, name: &str| {
            let mut host = Scripted::new(Vec::new(), Vec::new());
            host.children = vec![build::child(name, 9)];
            render::text(&sweep(&plan(inventory, &policy), &mut host))
        };
        check(&told(&bad, &with), &told(&inventory, "worker"))?;
    }
}
