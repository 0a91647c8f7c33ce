//! The example workflow in ComfyUI's API format, and the places where a node of ours goes in.

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::read::ZlibDecoder;
use serde_json::{Value, json};

/// Where a node of ours stands, and with which settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    /// As shown in the table.
    pub(super) label: &'static str,
    class: &'static str,
    place: Place,
    /// The settings beside the connected value.
    widgets: &'static [(&'static str, Setting)],
    /// At the end of the workflow it must bring the server down to its size at rest.
    pub(super) frees_all: bool,
}

#[derive(Clone, Copy, Debug)]
enum Setting {
    Text(&'static str),
    On,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// An output node of its own, connected to the finished image.
    End,
    /// Between decoding and saving: the image passes through.
    BeforeSave,
    /// The same, with the model connected as well.
    BeforeSaveWithModel,
    /// Between sampling and decoding: the latent passes through.
    BeforeDecode,
}

/// What the demo shows, in this order.
pub(super) const PLACEMENTS: [Placement; 8] = [
    Placement {
        label: "Purge ALL (end)",
        class: "CleanMemory_PurgeAll",
        place: Place::End,
        widgets: &[],
        frees_all: true,
    },
    Placement {
        label: "Purge RAM (end)",
        class: "CleanMemory_PurgeRAM",
        place: Place::End,
        widgets: &[],
        frees_all: true,
    },
    Placement {
        label: "Free Memory, aggressive (end)",
        class: "FreeMemoryImage",
        place: Place::BeforeSave,
        widgets: &[("aggressive", Setting::On)],
        frees_all: true,
    },
    Placement {
        label: "Purge & Pass VRAM (middle)",
        class: "CleanMemory_PurgePass",
        place: Place::BeforeDecode,
        widgets: &[("mode", Setting::Text("VRAM"))],
        frees_all: false,
    },
    Placement {
        label: "Purge & Pass RAM (middle)",
        class: "CleanMemory_PurgePass",
        place: Place::BeforeDecode,
        widgets: &[("mode", Setting::Text("RAM"))],
        frees_all: false,
    },
    Placement {
        label: "Release Model (end)",
        class: "MemSweepReleaseModel",
        place: Place::BeforeSaveWithModel,
        widgets: &[],
        frees_all: false,
    },
    Placement {
        label: "Free Memory, collect (middle)",
        class: "MemSweepFree",
        place: Place::BeforeDecode,
        widgets: &[("level", Setting::Text("collect"))],
        frees_all: false,
    },
    Placement {
        label: "Free Memory, trim (middle)",
        class: "MemSweepFree",
        place: Place::BeforeDecode,
        widgets: &[("level", Setting::Text("trim"))],
        frees_all: false,
    },
];

/// Ids of the nodes in the prompt.
const CHECKPOINT: &str = "1";
const POSITIVE: &str = "2";
const NEGATIVE: &str = "3";
const LATENT: &str = "4";
const SAMPLER: &str = "5";
const DECODE: &str = "6";
const SAVE: &str = "7";
const OURS: &str = "8";

/// One run of the workflow. Each has a seed and a text of its own, so no output is cached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture<'a> {
    pub(super) checkpoint: &'a str,
    pub(super) number: usize,
    pub(super) steps: u32,
}

impl Picture<'_> {
    /// The prompt without any node of ours.
    pub(super) fn plain(&self) -> Value {
        json!({
            CHECKPOINT: node("CheckpointLoaderSimple", json!({ "ckpt_name": self.checkpoint })),
            POSITIVE: node("CLIPTextEncode", json!({
                "clip": [CHECKPOINT, 1],
                "text": format!("a broom in a bright attic, study {}", self.number),
            })),
            NEGATIVE: node("CLIPTextEncode", json!({ "clip": [CHECKPOINT, 1], "text": "dust" })),
            LATENT: node("EmptyLatentImage", json!({ "width": 64, "height": 64, "batch_size": 1 })),
            SAMPLER: node("KSampler", json!({
                "model": [CHECKPOINT, 0],
                "positive": [POSITIVE, 0],
                "negative": [NEGATIVE, 0],
                "latent_image": [LATENT, 0],
                "seed": 1000 + self.number,
                "steps": self.steps,
                "cfg": 7.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            })),
            DECODE: node("VAEDecode", json!({ "samples": [SAMPLER, 0], "vae": [CHECKPOINT, 2] })),
            SAVE: node("SaveImage", json!({ "images": [DECODE, 0], "filename_prefix": "demo" })),
        })
    }

    /// The same prompt with one node of ours.
    pub(super) fn with(&self, placement: &Placement) -> Value {
        let mut prompt = self.plain();
        let (input, from) = match placement.place {
            Place::BeforeDecode => (latent_input(placement.class), SAMPLER),
            _ => (image_input(placement.class), DECODE),
        };
        let mut inputs = json!({ input: [from, 0] });
        match placement.place {
            Place::End => {}
            Place::BeforeDecode => prompt[DECODE]["inputs"]["samples"] = json!([OURS, 0]),
            Place::BeforeSave => prompt[SAVE]["inputs"]["images"] = json!([OURS, 0]),
            Place::BeforeSaveWithModel => {
                prompt[SAVE]["inputs"]["images"] = json!([OURS, 0]);
                inputs["model"] = json!([CHECKPOINT, 0]);
            }
        }
        for (name, setting) in placement.widgets {
            inputs[*name] = match setting {
                Setting::Text(text) => json!(text),
                Setting::On => json!(true),
            };
        }
        prompt[OURS] = node(placement.class, inputs);
        prompt
    }
}

fn node(class: &str, inputs: Value) -> Value {
    json!({ "class_type": class, "inputs": inputs })
}

fn image_input(class: &str) -> &'static str {
    if class == "FreeMemoryImage" { "image" } else { "anything" }
}

fn latent_input(class: &str) -> &'static str {
    if class == "CleanMemory_PurgePass" { "data" } else { "anything" }
}

/// The name, folder and kind of the image that the prompt saved.
pub(super) fn saved_image(outputs: &Value) -> Option<[String; 3]> {
    let image = outputs.get(SAVE)?.get("images")?.get(0)?;
    let text = |name: &str| Some(image.get(name)?.as_str()?.to_owned());
    Some([text("filename")?, text("subfolder")?, text("type")?])
}

/// The report of our node.
pub(super) fn report(outputs: &Value) -> Option<Value> {
    let text = outputs.get(OURS)?.get("memsweep")?.get(0)?.get("report")?;
    let packed = BASE64_STANDARD.decode(text.as_str()?).ok()?;
    serde_json::from_reader(ZlibDecoder::new(packed.as_slice())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: Picture<'static> =
        Picture { checkpoint: "small.safetensors", number: 3, steps: 2 };

    fn links(prompt: &Value) -> Vec<(String, String)> {
        let mut links = Vec::new();
        for (id, node) in prompt.as_object().unwrap() {
            for value in node["inputs"].as_object().unwrap().values() {
                if let Some(link) = value.as_array() {
                    links.push((link[0].as_str().unwrap().to_owned(), id.clone()));
                }
            }
        }
        links
    }

    #[test]
    fn every_link_leads_to_a_node_and_ours_is_connected() {
        for placement in PLACEMENTS {
            let prompt = PICTURE.with(&placement);
            for (from, to) in links(&prompt) {
                assert!(prompt.get(&from).is_some(), "{}: {from} -> {to}", placement.label);
            }
            assert!(links(&prompt).iter().any(|(_, to)| to == OURS), "{}", placement.label);
        }
    }

    #[test]
    fn two_pictures_share_nothing_but_the_loader_and_the_empty_latent() {
        let (one, two) = (PICTURE.plain(), Picture { number: 4, ..PICTURE }.plain());
        assert_ne!(one[POSITIVE], two[POSITIVE]);
        assert_ne!(one[SAMPLER], two[SAMPLER]);
        assert_eq!(one[CHECKPOINT], two[CHECKPOINT]);
    }

    #[test]
    fn outputs_without_an_image_or_a_report_give_none() {
        assert_eq!(saved_image(&json!({})), None);
        assert_eq!(report(&json!({ OURS: { "text": ["x"] } })), None);
        let outputs =
            json!({ OURS: { "memsweep": [{ "report": "eJyrVipOzkjNTVSyMqwFABvKBBk=" }] } });
        assert_eq!(report(&outputs), Some(json!({ "schema": 1 })));
    }
}
