//! AMD devices, from the kernel driver's files beneath `/sys/class/drm`; our own share of each,
//! from the file descriptors of this process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::Source;

use super::pci;
use super::view::{DriverCard, Identity, Memory};
use crate::linux::text::{keyed_lines, parse_number, parse_single_number, read_small, words};
use crate::{Detail, Roots};

/// The cards as they were last looked up; `None` before that.
#[derive(Debug, Default)]
pub(crate) struct Cards(Option<Vec<Card>>);

impl Cards {
    /// One view of each card of this driver, `amdgpu:card<n>`, in the order of the numbers.
    ///
    /// A quick reading uses the known cards, and looks them up again when one is gone.
    pub(crate) fn read(&mut self, roots: &Roots, detail: Detail) -> Vec<DriverCard> {
        let known = if detail == Detail::Quick { self.known() } else { None };
        if let Some(views) = known {
            return views;
        }
        let cards = find(roots);
        let mut views: Vec<DriverCard> = cards.iter().map(Card::view).collect();
        // Going through all descriptors is only worth it when there is a card.
        if detail == Detail::Full && !views.is_empty() {
            let own = own_usage(&roots.proc.join("self"));
            for view in &mut views {
                let address = view.identity.pci.as_ref();
                view.memory.process = address.and_then(|address| own.get(address).copied());
            }
        }
        self.0 = Some(cards);
        views
    }

    /// `None` before the first look-up, and when a card is not where it was.
    fn known(&self) -> Option<Vec<DriverCard>> {
        let cards = self.0.as_ref()?;
        cards.iter().all(Card::is_there).then(|| cards.iter().map(Card::view).collect())
    }
}

fn find(roots: &Roots) -> Vec<Card> {
    let mut numbers: Vec<u32> = fs::read_dir(roots.sys.join("class/drm"))
        .into_iter()
        .flatten()
        .filter_map(|entry| card_number(entry.ok()?.file_name().to_str()?))
        .collect();
    numbers.sort_unstable();
    numbers.into_iter().filter_map(|number| Card::look(roots, number)).collect()
}

/// `card0`, but not its connectors such as `card0-HDMI-A-1`.
fn card_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("card")?;
    parse_number(digits.as_bytes())?.try_into().ok()
}

/// What does not change about a card while it is there.
#[derive(Debug)]
struct Card {
    folder: PathBuf,
    identity: Identity,
    total: Option<Bytes>,
}

impl Card {
    fn look(roots: &Roots, number: u32) -> Option<Self> {
        let folder = roots.sys.join(format!("class/drm/card{number}/device"));
        // Only this driver has the file; a card without it has another driver.
        let total_file = folder.join("mem_info_vram_total");
        if !total_file.exists() {
            return None;
        }
        let name = read_small(&folder.join("product_name"));
        let identity = Identity {
            id: format!("amdgpu:card{number}"),
            name: name.and_then(|content| parse_name(&content)),
            pci: pci_address(&folder),
            uuid: None,
        };
        Some(Self { total: size(&total_file), folder, identity })
    }

    fn is_there(&self) -> bool {
        pci_address(&self.folder) == self.identity.pci && self.used_file().exists()
    }

    fn used_file(&self) -> PathBuf {
        self.folder.join("mem_info_vram_used")
    }

    fn view(&self) -> DriverCard {
        let used = size(&self.used_file());
        let memory = Memory { total: self.total, used, ..Memory::default() };
        DriverCard { identity: self.identity.clone(), memory, source: Source::Sysfs }
    }
}

fn size(file: &Path) -> Option<Bytes> {
    Some(Bytes(parse_single_number(&read_small(file)?)?))
}

/// Few boards have a name; an empty file is not one.
fn parse_name(content: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(content.trim_ascii()).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// `device` is a link that ends in the address.
fn pci_address(device: &Path) -> Option<String> {
    pci::normalize(fs::read_link(device).ok()?.file_name()?.to_str()?)
}

/// Video memory of this process by PCI address. Descriptors of one client of the driver show the
/// same bytes, which count once.
fn own_usage(process: &Path) -> BTreeMap<String, Bytes> {
    let mut clients = BTreeMap::new();
    for entry in fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten() {
        // The link is cheaper to read than the information, and most descriptors are of other
        // files.
        let target = fs::read_link(process.join("fd").join(entry.file_name()));
        if target.is_ok_and(|target| !target.starts_with("/dev/dri")) {
            continue;
        }
        if let Some(usage) = read_small(&entry.path()).and_then(|content| parse_fdinfo(&content)) {
            clients.insert((usage.address, usage.client), usage.video_memory);
        }
    }
    let mut own = BTreeMap::<String, Bytes>::new();
    for ((address, _), bytes) in clients {
        let sum = own.entry(address).or_default();
        *sum = sum.plus(bytes);
    }
    own
}

#[derive(Debug, PartialEq, Eq)]
struct ClientUsage {
    address: String,
    client: u64,
    video_memory: Bytes,
}

fn parse_fdinfo(content: &[u8]) -> Option<ClientUsage> {
    let value = |wanted: &[u8]| {
        keyed_lines(content).find(|(key, _)| *key == wanted).map(|(_, value)| value.trim_ascii())
    };
    if value(b"drm-driver")? != b"amdgpu" {
        return None;
    }
    // Older kernels call the same number `drm-memory-vram`.
    let memory = value(b"drm-resident-vram").or_else(|| value(b"drm-memory-vram"))?;
    Some(ClientUsage {
        address: pci::normalize(std::str::from_utf8(value(b"drm-pdev")?).ok()?)?,
        client: parse_number(value(b"drm-client-id")?)?,
        video_memory: parse_size(memory)?,
    })
}

/// The kernel's rule for these keys: bytes, unless followed by `KiB` or `MiB`.
fn parse_size(text: &[u8]) -> Option<Bytes> {
    let mut words = words(text);
    let number = parse_number(words.next()?)?;
    let unit = match words.next() {
        None => 1,
        Some(b"KiB") => Bytes::KIB,
        Some(b"MiB") => Bytes::MIB,
        Some(_) => return None,
    };
    if words.next().is_some() {
        return None;
    }
    number.checked_mul(unit).map(Bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FDINFO: &str = "pos:\t0\nflags:\t02100002\ndrm-driver:\tamdgpu\n\
        drm-client-id:\t42\ndrm-pdev:\t0000:03:00.0\ndrm-memory-vram:\t2048 KiB\n\
        drm-memory-gtt: \t4 KiB\n";

    #[test]
    fn our_descriptors_show_our_video_memory() {
        let usage = ClientUsage {
            address: "0000:03:00.0".to_owned(),
            client: 42,
            video_memory: Bytes::from_mib(2),
        };
        assert_eq!(parse_fdinfo(FDINFO.as_bytes()), Some(usage));
        for (was, becomes) in [
            ("amdgpu", "i915"),
            ("2048 KiB", "2048 GB"),
            ("2048 KiB", "-1 KiB"),
            ("2048 KiB", "18446744073709551615 KiB"),
            ("drm-client-id:\t42\n", ""),
            ("0000:03:00.0", "nowhere"),
        ] {
            let content = FDINFO.replace(was, becomes);
            assert_eq!(parse_fdinfo(content.as_bytes()), None, "{becomes}");
        }
    }

    #[test]
    fn a_connector_is_not_a_card() {
        for (name, number) in [
            ("card0", Some(0)),
            ("card12", Some(12)),
            ("card0-HDMI-A-1", None),
            ("renderD128", None),
            ("card", None),
            ("card4294967296", None),
        ] {
            assert_eq!(card_number(name), number, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse(content: Vec<u8>) {
            let _ = parse_fdinfo(&content);
            let _ = parse_size(&content);
            let _ = parse_name(&content);
            let _ = parse_fdinfo(&[FDINFO.as_bytes(), &content[..]].concat());
        }
    }
}
