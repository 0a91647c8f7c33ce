//! Whole readings of fixture trees: what is there is read, what is not is unknown.
#![cfg(target_os = "linux")]
// Helpers of tests may fail loudly; the lints only know functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod tree;

use std::fs;
use std::path::Path;

use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{DeviceMemory, DriverView, MachineMemory, ProcessMemory, SCHEMA};
use memsweep_core::rest::Child;

use self::tree::{Tree, amd_card, amd_tree};

#[test]
fn an_empty_tree_is_a_reading_of_unknowns() {
    let reading = Tree::new(&[]).os().read();
    assert_eq!(reading.schema, SCHEMA);
    assert!(reading.seconds.is_some());
    assert_eq!(reading.process, ProcessMemory::default());
    assert_eq!(reading.machine, MachineMemory::default());
    assert_eq!(reading.devices, []);
}

#[test]
fn a_full_tree_is_read_in_full() {
    let tree = Tree::new(&[
        ("proc/self/status", "VmLck:\t 1 kB\nVmRSS:\t 6 kB\nRssAnon:\t 3 kB\nVmSwap:\t 0 kB\n"),
        (
            "proc/meminfo",
            "MemTotal: 100 kB\nMemAvailable: 50 kB\nSwapTotal: 9 kB\nSwapFree: 8 kB\n",
        ),
        ("proc/pressure/memory", "some avg10=2.50 avg60=0.00 avg300=0.00 total=1\n"),
    ]);
    let reading = tree.os().read();
    assert_eq!(
        reading.process,
        ProcessMemory {
            resident: Some(Bytes::from_kib(6)),
            anonymous: Some(Bytes::from_kib(3)),
            swapped: Some(Bytes::ZERO),
            page_locked: Some(Bytes::from_kib(1)),
            ..ProcessMemory::default()
        }
    );
    assert_eq!(
        reading.machine,
        MachineMemory {
            total: Some(Bytes::from_kib(100)),
            available: Some(Bytes::from_kib(50)),
            swap_total: Some(Bytes::from_kib(9)),
            swap_free: Some(Bytes::from_kib(8)),
            pressure_percent: Some(2.5),
            ..MachineMemory::default()
        }
    );
}

#[test]
fn a_folder_in_place_of_a_file_is_unknown() {
    let tree = Tree::new(&[("proc/self/status/x", ""), ("proc/meminfo/x", "")]);
    assert_eq!(tree.os().read().process, ProcessMemory::default());
    assert_eq!(tree.os().read().machine, MachineMemory::default());
}

#[test]
fn a_file_too_large_to_be_true_is_unknown() {
    let tree = Tree::new(&[]);
    let mut content = b"MemTotal: 100 kB\n".to_vec();
    content.resize(3 * 1024 * 1024, b'x');
    tree.write("proc/meminfo", &content);
    assert_eq!(tree.os().read().machine.total, None);
}

const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

fn check_cgroup(files: &[(&str, &str)], expected: Option<(u64, Option<u64>)>) {
    let machine = Tree::new(files).os().read().machine;
    let (limit, used) = expected.map_or((None, None), |(limit, used)| (Some(limit), used));
    assert_eq!(
        (machine.cgroup_limit, machine.cgroup_used),
        (limit.map(Bytes), used.map(Bytes)),
        "{files:?}"
    );
}

#[test]
fn version_2_takes_the_tightest_limit_with_the_usage_of_its_group() {
    let tree = [
        ("proc/self/cgroup", "0::/outer/inner\n"),
        ("proc/self/mountinfo", V2),
        ("sys/fs/cgroup/outer/memory.max", "1000\n"),
        ("sys/fs/cgroup/outer/memory.current", "900\n"),
        ("sys/fs/cgroup/outer/inner/memory.max", "2000\n"),
        ("sys/fs/cgroup/outer/inner/memory.current", "300\n"),
    ];
    check_cgroup(&tree, Some((1000, Some(900))));
    let with = |name: &str, content: &'static str| {
        let mut changed = tree.to_vec();
        let place = changed.iter_mut().find(|(known, _)| *known == name).unwrap();
        place.1 = content;
        changed
    };
    check_cgroup(&with("sys/fs/cgroup/outer/memory.max", "max\n"), Some((2000, Some(300))));
    check_cgroup(&with("sys/fs/cgroup/outer/memory.max", "-1\n"), Some((2000, Some(300))));
    check_cgroup(&with("sys/fs/cgroup/outer/memory.current", "lots\n"), Some((1000, None)));
    check_cgroup(&with("proc/self/cgroup", "0::/\n"), None);
    check_cgroup(&with("proc/self/cgroup", "0::/outer/../../../etc\n"), None);
    check_cgroup(&with("proc/self/cgroup", "0::/../../outer\n"), None);
    // Without a mount table the usual place is tried.
    check_cgroup(&with("proc/self/mountinfo", ""), Some((1000, Some(900))));
}

#[test]
fn version_1_knows_its_own_word_for_no_limit() {
    let tree = |own: &'static str, hierarchy: &'static str| {
        [
            ("proc/self/cgroup", "5:cpu:/other\n4:memory:/a/b\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "77\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "500\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "400\n"),
            ("sys/fs/cgroup/memory/a/memory.use_hierarchy", hierarchy),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", own),
            ("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "40\n"),
        ]
    };
    check_cgroup(&tree("9223372036854771712\n", "1\n"), Some((500, Some(400))));
    check_cgroup(&tree("600\n", "1\n"), Some((500, Some(400))));
    check_cgroup(&tree("600\n", "0\n"), Some((600, Some(40))));
    check_cgroup(&tree("9223372036854771712\n", "0\n"), None);
}

#[test]
fn both_versions_at_once_are_compared() {
    let mounts = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    let tree = |v2_limit: &'static str| {
        check_cgroup(
            &[
                ("proc/self/cgroup", "4:memory:/a\n0::/c\n"),
                ("proc/self/mountinfo", &mounts),
                ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "500\n"),
                ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1\n"),
                ("sys/fs/cgroup/unified/c/memory.max", v2_limit),
                ("sys/fs/cgroup/unified/c/memory.current", "2\n"),
            ],
            Some(if v2_limit == "400\n" { (400, Some(2)) } else { (500, Some(1)) }),
        );
    };
    tree("400\n");
    tree("600\n");
}

#[test]
fn a_containers_own_group_is_found_under_the_hosts_name() {
    check_cgroup(
        &[
            ("proc/self/cgroup", "4:memory:/docker/abc/job\n"),
            (
                "proc/self/mountinfo",
                "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "10\n"),
        ],
        Some((500, Some(10))),
    );
}

#[test]
fn nothing_outside_the_roots_is_opened() {
    // The mount point is a real folder of this machine, but not beneath the fixture's roots.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("memory.max"), "5\n").unwrap();
    let mounts = format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw\n", outside.path().display());
    check_cgroup(&[("proc/self/cgroup", "0::/\n"), ("proc/self/mountinfo", &mounts)], None);
    // A mount point that climbs out of them.
    let climbing = "30 23 0:26 / /sys/../up rw - cgroup2 cgroup2 rw\n";
    check_cgroup(
        &[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", climbing),
            ("up/memory.max", "5\n"),
        ],
        None,
    );
}

#[test]
fn an_amd_card_is_read_and_other_drivers_cards_are_not() {
    assert_eq!(amd_tree().os().read().devices, [amd_card()]);
}

#[test]
fn a_cards_broken_numbers_are_unknown() {
    let tree = amd_tree();
    tree.write("pci/0000:C3:00.0/mem_info_vram_used", b"-4096\n");
    tree.write("pci/0000:C3:00.0/mem_info_vram_total", b"99999999999999999999\n");
    tree.write("pci/0000:C3:00.0/product_name", b"\xff\xfe");
    let broken =
        DeviceMemory { name: None, total: None, driver: DriverView::default(), ..amd_card() };
    assert_eq!(tree.os().read().devices, [broken]);
}

#[test]
fn our_share_of_a_card_counts_each_client_once() {
    let tree = amd_tree();
    let info = |client: u32, kib: u32| {
        format!(
            "drm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t0000:c3:00.0\n\
             drm-memory-vram:\t{kib} KiB\n"
        )
    };
    for (descriptor, client, kib) in [("4", 7, 100), ("5", 7, 100), ("6", 8, 20)] {
        tree.write(&format!("proc/self/fdinfo/{descriptor}"), info(client, kib).as_bytes());
        tree.link(&format!("proc/self/fd/{descriptor}"), "/dev/dri/renderD128");
    }
    // Text that looks right in the information of a descriptor of something else.
    tree.write("proc/self/fdinfo/9", info(9, 9000).as_bytes());
    tree.link("proc/self/fd/9", "/home/user/notes");
    let mut used = amd_card();
    used.driver.process = Some(Bytes::from_kib(120));
    assert_eq!(tree.os().read().devices, [used]);
}

#[test]
fn mapped_files_are_the_regular_ones_that_exist() {
    let tree = Tree::new(&[("models/b.bin", ""), ("models/other.bin", "")]);
    let models = tree.path("models");
    fs::write(models.join("line\nend"), "").unwrap();
    let line = |name: &str| format!("1-2 r--p 00000000 fe:00 7    {}/{name}\n", models.display());
    let maps = [
        line("b.bin"),
        line("b.bin"),
        line("line\\012end"),
        line("missing.bin"),
        line("b.bin (deleted)"),
        "1-2 rw-s 00000000 00:06 9    /dev/null\n1-2 rw-p 0 00:00 0 [heap]\n".to_owned(),
    ]
    .concat();
    tree.write("proc/self/maps", maps.as_bytes());
    let expected: Vec<String> =
        ["b.bin", "line\nend"].iter().map(|name| path_of(&models, name)).collect();
    let root = Path::new("/");
    assert_eq!(tree.os().mapped_files(&[root], &[]), expected);
    assert!(Tree::new(&[]).os().mapped_files(&[root], &[]).is_empty());
}

#[test]
fn mapped_files_are_those_of_the_folders_that_are_asked_for() {
    let tree =
        Tree::new(&[("models/loras/b.bin", ""), ("models2/c.bin", ""), ("models/code/d.so", "")]);
    let [models, loras, beside, code] =
        ["models", "models/loras", "models2", "models/code"].map(|name| tree.path(name));
    let [b, c, d] = [(&loras, "b.bin"), (&beside, "c.bin"), (&code, "d.so")]
        .map(|(folder, name)| path_of(folder, name));
    let maps: String =
        [&b, &c, &d].iter().map(|path| format!("1-2 r--p 0 fe:00 7 {path}\n")).collect();
    tree.write("proc/self/maps", maps.as_bytes());
    let link = tree.path("link");
    std::os::unix::fs::symlink(&models, &link).unwrap();
    let asked = |below: &[&Path], except: &[&Path]| tree.os().mapped_files(below, except);
    assert_eq!(asked(&[&models], &[]), [d.clone(), b.clone()]);
    assert_eq!(asked(&[&link, &loras], &[&code]), std::slice::from_ref(&b));
    assert_eq!(asked(&[&link], &[&tree.path("link/code")]), [b]);
    assert_eq!(asked(&[&beside, Path::new("/no/such/folder")], &[]), [c]);
    assert!(asked(&[], &[]).is_empty());
}

#[test]
fn mapped_files_are_looked_up_again_when_more_or_less_of_them_is_in_memory() {
    let tree = Tree::new(&[("models/a.bin", ""), ("models/b.bin", "")]);
    let models = tree.path("models");
    let mapped = |name: &str, pages: &str| {
        let line = format!("1-2 r--p 0 fe:00 7 {}\n", path_of(&models, name));
        tree.write("proc/self/maps", line.as_bytes());
        tree.write("proc/self/statm", format!("1006861 203173 {pages} 1 0 2 0").as_bytes());
        tree.os().mapped_files(&[&models], &[])
    };
    let [a, b] = ["a.bin", "b.bin"].map(|name| [path_of(&models, name)]);
    assert_eq!(mapped("a.bin", "100"), a);
    assert_eq!(mapped("b.bin", "100"), a);
    assert!(tree.os().mapped_files(&[&tree.path("models/none")], &[]).is_empty(), "another folder");
    assert_eq!(mapped("b.bin", "100"), b);
    assert_eq!(mapped("a.bin", "101"), a);
    assert_eq!(mapped("b.bin", "broken"), b);
    assert_eq!(mapped("a.bin", "broken"), a);
}

fn path_of(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

fn status(pid: u32, parent: u32, name: &str, kib: u64) -> String {
    format!("Name:\t{name}\nPid:\t{pid}\nPPid:\t{parent}\nVmRSS:\t{kib} kB\n")
}

#[test]
fn only_our_own_children_are_read_each_by_itself() {
    let gib = 1024 * 1024;
    let files = [
        ("proc/self/status", status(7, 1, "python", 50)),
        ("proc/7/status", status(7, 1, "python", 50)),
        ("proc/1/status", status(1, 0, "init", 50)),
        ("proc/2/status", status(2, 1, "other", 50)),
        ("proc/10/status", status(10, 7, "a\\nb (x)", 40)),
        ("proc/10/smaps_rollup", "1-2 ---p 0 0 0 [rollup]\nRss: 40 kB\nPss: 15 kB\n".to_owned()),
        // Larger than what may be asked in all.
        ("proc/11/status", status(11, 10, "large", gib)),
        ("proc/11/smaps_rollup", "Pss: 1 kB\n".to_owned()),
        ("proc/12/status", "Name:\tended\nPid:\t12\nPPid:\t7\nState:\tZ (zombie)\n".to_owned()),
        ("proc/13/cmdline", String::new()),
        // Its own parent, and a number that is none.
        ("proc/14/status", status(14, 14, "odd", 1)),
        ("proc/15/status", "Name:\tx\nPid:\t99999999999\nPPid:\t7\nVmRSS:\t1 kB\n".to_owned()),
    ];
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let child = |pid, name: &str, kib, proportional: Option<u64>| Child {
        pid,
        name: name.to_owned(),
        resident: Bytes::from_kib(kib),
        proportional: proportional.map(Bytes::from_kib),
    };
    let expected = [child(10, "a\\nb (x)", 40, Some(15)), child(11, "large", gib, None)];
    let tree = Tree::new(&files);
    assert_eq!(tree.os().children(), expected);
    // Where the kernel lists a thread's children and each list is empty, nobody else is asked.
    tree.write("proc/self/task/7/children", b"");
    assert_eq!(tree.os().children(), []);
    tree.write("proc/self/task/8/children", b"10 ");
    assert_eq!(tree.os().children(), expected);
}

#[test]
fn a_machine_that_does_not_tell_has_no_children() {
    assert_eq!(Tree::new(&[]).os().children(), []);
    assert_eq!(Tree::new(&[("proc/self/status", "Name:\tpython\n")]).os().children(), []);
}
