//! The JSON Schemas of what crosses the border, as the types here give them.
//!
//! The front-end's types are made from these files. A changed type shows as a changed schema:
//! `MEMSWEEP_UPDATE_FIXTURES=1 cargo test -p memsweep-core` rewrites them.
#![expect(clippy::disallowed_methods, reason = "the tests read files, the core does not")]

use memsweep_core::action::{Action, Outcome};
use memsweep_core::headline::PROCESS;
use memsweep_core::inventory::Inventory;
use memsweep_core::memory_report::MemoryReport;
use memsweep_core::plan::Plan;
use memsweep_core::policy::Settings;
use memsweep_core::reading::{Reading, SCHEMA};
use memsweep_core::report::Report;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::files;

#[test]
fn schemas_say_what_the_types_say() {
    let mut known = [
        written::<Reading>("reading"),
        written::<MemoryReport>("memory-report"),
        written::<Plan>("plan"),
        written::<Action>("action"),
        written::<Report>("report"),
        read::<Settings>("settings"),
        read::<Inventory>("inventory"),
        read::<Outcome>("outcome"),
    ];
    known.sort();
    let folder = std::fs::read_dir(files::root().join("schemas")).unwrap();
    let mut found: Vec<_> =
        folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, known, "every schema belongs to a type");
}

/// What this version writes: every field is there, and readers must expect more of them.
fn written<T: JsonSchema>(name: &str) -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    check::<T>(name, settings.with_transform(RecursiveTransform(open)))
}

/// What this version accepts: defaults may be left out, and a misspelt field is an error.
fn read<T: JsonSchema>(name: &str) -> String {
    check::<T>(name, SchemaSettings::draft2020_12().for_deserialize())
}

/// Returns the file's name.
fn check<T: JsonSchema>(name: &str, settings: SchemaSettings) -> String {
    let settings = settings.with_transform(RecursiveTransform(plain_words));
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let name = format!("{name}.json");
    files::check(&format!("schemas/{name}"), &text);
    name
}

/// New fields come without a new schema version, see `docs/report-format.md`. What is always written
/// needs no default.
fn open(schema: &mut Schema) {
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
    schema.remove("default");
}

/// A doc comment in the words of JSON, without the links that only rustdoc follows.
fn plain_words(schema: &mut Schema) {
    let Some(Value::String(words)) = schema.get_mut("description") else { return };
    let process = format!("`{PROCESS}`");
    let version = SCHEMA.to_string();
    let json = [
        ("[`PROCESS`]", process.as_str()),
        ("[`SCHEMA`]", version.as_str()),
        ("[`", "`"),
        ("`]", "`"),
        ("`None`", "`null`"),
        ("\n", " "),
    ];
    *words = json.iter().fold(words.clone(), |text, (from, to)| text.replace(from, to));
}
