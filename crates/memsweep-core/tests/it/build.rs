//! Inventories and policies from short text, so that a test row shows the whole situation.
//!
//! ```text
//! storages 10 20 cuda:0=30       numbered s0, s1, ... in bytes, on the CPU unless said; `*` has a graph
//! model UNET cuda:0 500          numbered m0, m1, ...; `?` for unknown bytes, `-` when not loaded,
//!                                `kept=cpu` for its offload device, `user=WHO` for who else uses it,
//!                                `file=NAME` and `part=text_encoder` for where it came from
//! entry loader (s0 m0) (plain)   numbered from 0; also `?` for an unknown shape, `ui`, `held=3,4`,
//!                                `unfindable`, `unrepeatable`;
//!                                one called `-` has no name of its own
//! node 4 pending entry=0 <- 3.1  also `output`, `opaque`, `upstream`, `expanded=2.0,3.1`,
//!                                `names=5,6`, `shown=3`, `parent=2`, `title=VAE_Decode`; links are source.slot
//! loop 7 s0 m0                   what a loop gave, for the node at its end to take
//! connected s0 m0                what the running node's inputs reach
//! ```
//! The running node is `me` unless a line `running ID` says otherwise.

use memsweep_core::bytes::Bytes;
use memsweep_core::inventory::{
    EntryFact, Execution, Executor, Inventory, Link, LoopFact, ModelFact, NodeFact, Reads,
    SlotFact, StorageFact,
};
use memsweep_core::level::Level;
use memsweep_core::park::ParkLimits;
use memsweep_core::policy::Policy;
use memsweep_core::reason::Note;
use memsweep_core::rest::Child;

/// The policy of a plain sweep.
pub(crate) fn policy(level: Level) -> Policy {
    Policy {
        requested: level,
        level,
        goal: None,
        system_wide: false,
        dry_run: false,
        park: Some(ParkLimits::default()),
    }
}

/// A process that shares nothing.
pub(crate) fn child(name: &str, mib: u64) -> Child {
    let resident = Bytes::from_mib(mib);
    Child { pid: 4711, name: name.to_owned(), resident, proportional: Some(resident) }
}

/// Reads the text above. Panics on what it does not understand.
pub(crate) fn inventory(text: &str) -> Inventory {
    let mut all = Inventory::default();
    let mut execution = Execution { running: "me".to_owned(), ..Execution::default() };
    let mut executor = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "storages" => all.storages.extend(rest.split(' ').map(storage)),
            "model" => all.models.push(model(rest)),
            "entry" => execution.entries.push(entry(rest)),
            "node" => execution.nodes.push(node(rest)),
            "running" => execution.running = rest.to_owned(),
            "loop" => execution.loop_results.push(loop_result(rest)),
            "keeps-nothing" => execution.keeps_nothing = true,
            "connected" => {
                let slot = slot(rest);
                all.connected.storages.extend(slot.storages);
                all.connected.models.extend(slot.models);
            }
            "targets" => {
                all.only_targets = true;
                all.targets.extend(slot(rest).models);
            }
            "file" => all.mapped_files.push(rest.to_owned()),
            "note" => all.notes.push(Note::from(rest.to_owned()).into()),
            "absent" => executor = Some(Executor::Absent),
            "unidentified" => executor = Some(Executor::Unidentified { reason: rest.to_owned() }),
            _ => panic!("what is `{line}`?"),
        }
    }
    all.executor = executor.unwrap_or(Executor::Identified(execution));
    all
}

fn storage(text: &str) -> StorageFact {
    let (device, bytes) = text.split_once('=').unwrap_or(("cpu", text));
    let (bytes, graph) = bytes.strip_suffix('*').map_or((bytes, false), |bytes| (bytes, true));
    StorageFact { bytes: Bytes(bytes.parse().unwrap()), device: device.to_owned(), graph }
}

fn model(text: &str) -> ModelFact {
    let words: Vec<&str> = text.split(' ').collect();
    let named = |name: &'static str| words.iter().filter_map(move |word| word.strip_prefix(name));
    ModelFact {
        name: words[0].to_owned(),
        files: named("file=").map(str::to_owned).collect(),
        part: named("part=").map(spaced).next(),
        device: words[1].to_owned(),
        bytes: words[2].parse().ok().map(Bytes),
        pinned: None,
        loaded: words.get(3) != Some(&"-"),
        offload_device: named("kept=").map(str::to_owned).next(),
        in_use_by: named("user=").map(str::to_owned).next(),
    }
}

/// One word that stands for several.
fn spaced(word: &str) -> String {
    word.replace('_', " ")
}

fn entry(text: &str) -> EntryFact {
    let (head, slots) = match text.find('(') {
        Some(start) => text.split_at(start),
        None => (text, ""),
    };
    let mut words = head.split_whitespace();
    let mut fact = EntryFact {
        name: words.next().filter(|name| *name != "-").unwrap_or_default().to_owned(),
        slots: Some(
            slots
                .split(')')
                .filter_map(|part| part.split_once('('))
                .map(|(_, s)| slot(s))
                .collect(),
        ),
        ..EntryFact::default()
    };
    for word in words {
        match (word, word.split_once('=')) {
            ("?", _) => fact.slots = None,
            ("ui", _) => fact.has_ui = true,
            ("unfindable", _) => fact.unfindable = true,
            ("unrepeatable", _) => fact.unrepeatable = true,
            (_, Some(("held", ids))) => fact.held_for = ids.split(',').map(str::to_owned).collect(),
            _ => panic!("what is `{word}` in entry `{text}`?"),
        }
    }
    fact
}

fn slot(text: &str) -> SlotFact {
    let mut fact = SlotFact::default();
    for word in text.split_whitespace() {
        match (&word[..1], word[1..].parse::<u32>()) {
            ("s", Ok(number)) => fact.storages.push(number),
            ("m", Ok(number)) => fact.models.push(number),
            _ if word == "plain" => fact.plain = true,
            _ => panic!("what is `{word}` in `{text}`?"),
        }
    }
    fact
}

fn loop_result(text: &str) -> LoopFact {
    let (node, rest) = text.split_once(' ').unwrap();
    let SlotFact { storages, models, .. } = slot(rest);
    LoopFact { node: node.to_owned(), storages, models }
}

fn node(text: &str) -> NodeFact {
    let (head, sources) = text.split_once(" <- ").unwrap_or((text, ""));
    let mut words = head.split_whitespace();
    let mut fact = NodeFact { id: words.next().unwrap().to_owned(), ..NodeFact::default() };
    for word in words {
        match (word, word.split_once('=')) {
            ("pending", _) => fact.pending = true,
            ("output", _) => fact.output = true,
            ("opaque", _) => fact.reads = Reads::Anything,
            ("upstream", _) => fact.reads = Reads::Upstream,
            ("unrepeatable", _) => fact.unrepeatable = true,
            (_, Some(("names", ids))) => fact.names = ids.split(',').map(str::to_owned).collect(),
            (_, Some(("title", title))) => fact.title = Some(spaced(title)),
            (_, Some(("shown", id))) => fact.shown = Some(id.to_owned()),
            (_, Some(("parent", id))) => fact.parent = Some(id.to_owned()),
            (_, Some(("expanded", sources))) => fact.expanded = Some(links(sources, ',')),
            (_, Some(("entry", number))) => fact.entry = Some(number.parse().unwrap()),
            _ => fact.class = word.to_owned(),
        }
    }
    fact.links = links(sources, ' ');
    fact
}

fn links(text: &str, between: char) -> Vec<Link> {
    text.split(between)
        .filter(|link| !link.is_empty())
        .map(|link| {
            let (source, slot) = link.rsplit_once('.').unwrap_or((link, "0"));
            Link { source: source.to_owned(), slot: slot.parse().unwrap() }
        })
        .collect()
}
