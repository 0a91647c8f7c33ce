//! One reader, reading after reading: what it keeps, and what it must notice.
#![cfg(target_os = "linux")]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod tree;

use std::fs;

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{DeviceMemory, DriverView, Reading, SCHEMA};
use memsweep_os::{Detail, Reader};

use self::tree::{Tree, amd_card, amd_tree};

const MOUNTS: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

/// A process in the group `/job`, on a machine with a card of which it has 1 MiB.
fn machine() -> Tree {
    let tree = amd_tree();
    for (name, content) in [
        ("proc/self/status", "VmRSS:\t 6 kB\nRssAnon:\t 3 kB\n"),
        ("proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 50 kB\n"),
        ("proc/pressure/memory", "some avg10=2.50 avg60=0.00 avg300=0.00 total=1\n"),
        ("proc/self/cgroup", "0::/job\n"),
        ("proc/self/mountinfo", MOUNTS),
        ("sys/fs/cgroup/unified/job/memory.max", "500\n"),
        ("sys/fs/cgroup/unified/job/memory.current", "400\n"),
        ("proc/self/fdinfo/4", CLIENT),
    ] {
        tree.write(name, content.as_bytes());
    }
    tree.link("proc/self/fd/4", "/dev/dri/renderD128");
    tree
}

const CLIENT: &str = "drm-driver:\tamdgpu\ndrm-client-id:\t7\ndrm-pdev:\t0000:c3:00.0\n\
    drm-memory-vram:\t1024 KiB\n";

fn cgroup(reading: &Reading) -> (Option<u64>, Option<u64>) {
    let bytes = |value: Option<Bytes>| value.map(|bytes| bytes.0);
    (bytes(reading.machine.cgroup_limit), bytes(reading.machine.cgroup_used))
}

fn cards(reader: &mut Reader, detail: Detail) -> Vec<DeviceMemory> {
    reader.read(detail).devices
}

#[test]
fn a_quick_reading_is_a_full_one_without_what_is_expensive() {
    let tree = machine();
    let full = tree.os().reader().read(Detail::Full);
    assert_eq!(cgroup(&full), (Some(500), Some(400)));
    let mut own = amd_card();
    own.driver.process = Some(Bytes::from_mib(1));
    assert_eq!(full.devices, [own]);
    let left_out =
        |reading: &Reading| Reading { seconds: None, devices: vec![amd_card()], ..reading.clone() };
    // The first one and all later ones, whatever was read before.
    let mut reader = tree.os().reader();
    for detail in [Detail::Quick, Detail::Quick, Detail::Full, Detail::Quick] {
        let reading = reader.read(detail);
        let reading = Reading { seconds: None, ..reading };
        let expected = match detail {
            Detail::Quick => left_out(&full),
            Detail::Full => Reading { seconds: None, ..full.clone() },
        };
        assert_eq!(reading, expected, "{detail:?}");
    }
}

#[test]
fn a_quick_reading_sees_every_number_that_moves() {
    let tree = machine();
    let mut reader = tree.os().reader();
    let _ = reader.read(Detail::Full);
    for (name, content) in [
        ("proc/self/status", "VmRSS:\t 60 kB\nRssAnon:\t 30 kB\n"),
        ("proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 5 kB\n"),
        ("proc/pressure/memory", "some avg10=50.00 avg60=0.00 avg300=0.00 total=1\n"),
        ("sys/fs/cgroup/unified/job/memory.max", "600\n"),
        ("sys/fs/cgroup/unified/job/memory.current", "599\n"),
        ("pci/0000:C3:00.0/mem_info_vram_used", "77\n"),
    ] {
        tree.write(name, content.as_bytes());
    }
    let reading = reader.read(Detail::Quick);
    assert_eq!(reading.process.resident, Some(Bytes::from_kib(60)));
    assert_eq!(reading.process.anonymous, Some(Bytes::from_kib(30)));
    assert_eq!(reading.machine.available, Some(Bytes::from_kib(5)));
    assert_eq!(reading.machine.pressure_percent, Some(50.0));
    assert_eq!(cgroup(&reading), (Some(600), Some(599)));
    let mut card = amd_card();
    card.driver.used = Some(Bytes(77));
    assert_eq!(reading.devices, [card]);
}

#[test]
fn what_does_not_change_is_looked_up_once_and_again_by_a_full_reading() {
    let tree = machine();
    let mut reader = tree.os().reader();
    let _ = reader.read(Detail::Quick);
    tree.write("proc/self/mountinfo", b"nothing is mounted\n");
    tree.write("pci/0000:C3:00.0/product_name", b"Renamed\n");
    tree.write("pci/0000:C3:00.0/mem_info_vram_total", b"1\n");
    let quick = reader.read(Detail::Quick);
    assert_eq!(cgroup(&quick), (Some(500), Some(400)));
    assert_eq!(quick.devices, [amd_card()]);
    let full = reader.read(Detail::Full);
    assert_eq!(cgroup(&full), (None, None));
    assert_eq!(full.devices[0].name.as_deref(), Some("Renamed"));
    assert_eq!(full.devices[0].total, Some(Bytes(1)));
}

#[test]
fn a_move_to_another_control_group_is_noticed() {
    let tree = machine();
    tree.write("sys/fs/cgroup/unified/other/memory.max", b"9\n");
    let mut reader = tree.os().reader();
    let _ = reader.read(Detail::Full);
    tree.write("proc/self/cgroup", b"0::/other\n");
    assert_eq!(cgroup(&reader.read(Detail::Quick)), (Some(9), None));
    tree.write("proc/self/cgroup", b"0::/\n");
    assert_eq!(cgroup(&reader.read(Detail::Quick)), (None, None));
    fs::remove_file(tree.path("proc/self/cgroup")).unwrap();
    assert_eq!(cgroup(&reader.read(Detail::Quick)), (None, None));
    tree.write("proc/self/cgroup", b"0::/job\n");
    assert_eq!(cgroup(&reader.read(Detail::Quick)), (Some(500), Some(400)));
}

#[test]
fn a_hierarchy_that_was_mounted_again_is_noticed() {
    let tree = machine();
    let mut reader = tree.os().reader();
    let _ = reader.read(Detail::Full);
    // Another folder in the same place, which shows our own group only; of that another is a part.
    let point = tree.path("sys/fs/cgroup/unified");
    fs::rename(&point, tree.path("elsewhere")).unwrap();
    tree.write("sys/fs/cgroup/unified/memory.max", b"80\n");
    tree.write("sys/fs/cgroup/unified/memory.current", b"8\n");
    tree.write("sys/fs/cgroup/unified/job/memory.max", b"3\n");
    tree.write("proc/self/mountinfo", MOUNTS.replace(" / ", " /job ").as_bytes());
    assert_eq!(cgroup(&reader.read(Detail::Quick)), (Some(80), Some(8)));
    fs::remove_dir_all(&point).unwrap();
    assert_eq!(cgroup(&reader.read(Detail::Quick)), (None, None));
    // It comes back: the place is looked at for as long as it is in the table of mounts.
    fs::rename(tree.path("elsewhere"), &point).unwrap();
    tree.write("proc/self/mountinfo", MOUNTS.as_bytes());
    assert_eq!(cgroup(&reader.read(Detail::Quick)), (Some(500), Some(400)));
}

#[test]
fn a_card_that_is_gone_or_another_one_is_noticed() {
    let tree = machine();
    let mut reader = tree.os().reader();
    assert_eq!(cards(&mut reader, Detail::Quick), [amd_card()]);
    let link = tree.path("sys/class/drm/card1/device");
    fs::remove_file(&link).unwrap();
    assert_eq!(cards(&mut reader, Detail::Quick), []);
    assert_eq!(cards(&mut reader, Detail::Full), []);

    tree.link("sys/class/drm/card1/device", "../../../../pci/0000:C3:00.0");
    assert_eq!(cards(&mut reader, Detail::Full).len(), 1);
    tree.write("pci/0000:C4:00.0/mem_info_vram_total", b"5\n");
    tree.write("pci/0000:C4:00.0/mem_info_vram_used", b"4\n");
    fs::remove_file(&link).unwrap();
    tree.link("sys/class/drm/card1/device", "../../../../pci/0000:C4:00.0");
    let other = DeviceMemory {
        name: None,
        pci: Some("0000:c4:00.0".to_owned()),
        total: Some(Bytes(5)),
        driver: DriverView { used: Some(Bytes(4)), ..DriverView::default() },
        ..amd_card()
    };
    assert_eq!(cards(&mut reader, Detail::Quick), [other]);

    // Its driver was taken away: nothing that was kept of it is shown.
    fs::remove_file(tree.path("pci/0000:C4:00.0/mem_info_vram_used")).unwrap();
    fs::remove_file(tree.path("pci/0000:C4:00.0/mem_info_vram_total")).unwrap();
    assert_eq!(cards(&mut reader, Detail::Quick), []);
}

#[test]
fn a_card_that_was_added_is_seen_by_the_next_full_reading() {
    let tree = machine();
    let mut reader = tree.os().reader();
    let _ = reader.read(Detail::Full);
    tree.write("pci/0000:C4:00.0/mem_info_vram_total", b"5\n");
    tree.write("pci/0000:C4:00.0/mem_info_vram_used", b"4\n");
    tree.link("sys/class/drm/card2/device", "../../../../pci/0000:C4:00.0");
    assert_eq!(cards(&mut reader, Detail::Quick).len(), 1);
    assert_eq!(cards(&mut reader, Detail::Full).len(), 2);
    assert_eq!(cards(&mut reader, Detail::Quick).len(), 2);
}

#[test]
fn a_reader_can_be_given_to_another_thread() {
    let mut reader = machine().os().reader();
    let reading =
        std::thread::scope(|scope| scope.spawn(move || reader.read(Detail::Full)).join().unwrap());
    assert_eq!(reading.schema, SCHEMA);
}
