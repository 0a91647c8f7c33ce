//! What a node reports that reads memory and frees nothing: ComfyUI's Memory Report.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bytes::Bytes;
use crate::inventory::ModelFact;
use crate::names;
use crate::plain::plain;
use crate::reading::{Reading, SCHEMA};
use crate::reason::{Note, Why};
use crate::render::{ReadingLine, known, notes_text, reading_lines, reading_text, rest_text};
use crate::rest::{Child, Rest};

/// A reading with its lines, and the models that the host manages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemoryReport {
    /// Version of this shape.
    pub schema: u32,
    /// The reading.
    pub reading: Reading,
    /// The reading as its text shows it.
    pub lines: Vec<ReadingLine>,
    /// The models that the host manages.
    pub models: Vec<NamedModel>,
    /// What holds memory, as far as it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rest: Vec<Rest>,
    /// What people should know: memory that errors keep.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Why<Note>>,
}

/// A model and what to call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NamedModel {
    /// Its file and part, or its class, and its device.
    pub what: String,
    /// Its class.
    pub name: String,
    /// The files it was loaded from. Empty where that is not known.
    pub files: Vec<String>,
    /// What it is in a workflow: diffusion model, text encoder, VAE, ControlNet.
    pub part: Option<String>,
    /// The device it is loaded on.
    pub device: String,
    /// Bytes it takes on that device, according to its manager.
    pub bytes: Option<Bytes>,
    /// RAM that its manager has page-locked for it. Absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Bytes>,
    /// It is on that device now.
    pub loaded: bool,
}

impl From<ModelFact> for NamedModel {
    fn from(fact: ModelFact) -> Self {
        let what = names::model_on_its_device(&fact);
        let ModelFact { name, files, part, device, bytes, pinned, loaded, .. } = fact;
        Self { what, name, files, part, device, bytes, pinned, loaded }
    }
}

impl MemoryReport {
    /// The lines and names are made here.
    #[must_use]
    pub fn new(
        reading: Reading,
        models: Vec<ModelFact>,
        children: Vec<Child>,
        notes: Vec<Why<Note>>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            lines: reading_lines(&reading),
            rest: Rest::of(&reading, children, &Rest::of_errors(&notes)),
            reading,
            models: models.into_iter().map(NamedModel::from).collect(),
            notes,
        }
    }

    /// The reading and the models, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = reading_text(&self.reading);
        for model in &self.models {
            let _ = write!(out, "{}: {} loaded", plain(&model.what), known(model.bytes));
            if let Some(pinned) = model.pinned.filter(|bytes| *bytes > Bytes::ZERO) {
                let _ = write!(out, ", {pinned} of RAM pinned for it");
            }
            out.push('\n');
        }
        out.push_str(&rest_text(&self.rest));
        out.push_str(&notes_text(&self.notes));
        out.truncate(out.trim_end().len());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::DeviceMemory;

    #[test]
    fn models_are_named_and_an_unknown_size_is_not_zero() {
        let model = |files: &[&str], bytes: Option<Bytes>| ModelFact {
            name: "BaseModel\u{1b}".to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            part: Some("VAE".to_owned()),
            device: "cuda:0".to_owned(),
            bytes,
            pinned: bytes,
            ..ModelFact::default()
        };
        let models = vec![model(&["sd15.safetensors"], Some(Bytes::from_mib(3))), model(&[], None)];
        let notes = vec![Why(Note::KeptByHandledError {
            bytes: Bytes::from_mib(5),
            devices: [("cuda:0".to_owned(), Bytes::from_mib(2))].into(),
            thread: None,
        })];
        let device = DeviceMemory { id: "cuda:0".to_owned(), ..DeviceMemory::default() };
        let reading = Reading { devices: vec![device], ..Reading::default() };
        let report = MemoryReport::new(reading, models, Vec::new(), notes);
        let text = report.text();
        let mut lines: Vec<&str> = text.lines().rev().collect();
        assert!(lines[0].starts_with("note: at least 5.0 MiB are reached only from"), "{text}");
        assert!(lines[1].starts_with("- cuda:0: kept by the") && lines[1].ends_with(": 2.0 MiB"));
        lines.drain(..3);
        assert_eq!(
            lines[1],
            "sd15.safetensors, VAE on cuda:0: 3.0 MiB loaded, 3.0 MiB of RAM pinned for it"
        );
        assert!(lines[0].starts_with("model BaseModel") && lines[0].ends_with("unknown loaded"));
        assert!(!text.contains('\u{1b}'), "outside text is shown plain");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["models"][0]["what"], "sd15.safetensors, VAE on cuda:0");
        assert_eq!(json["models"][1]["bytes"], serde_json::Value::Null);
        assert_eq!(json["models"][0]["pinned"], 3 << 20);
        assert!(json["models"][1].get("pinned").is_none());
        assert_eq!(json["models"][1]["files"], serde_json::json!([]));
    }
}
