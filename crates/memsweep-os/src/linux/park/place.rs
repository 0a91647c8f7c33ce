//! Where spill files may go: only where what is written leaves memory for a disk of this machine.
//!
//! Three questions, none of which is answered by the file system's name alone:
//! - Is it known to keep files on a local disk? A read that fails or hangs later would end or hang
//!   the whole process, so an unknown file system is refused.
//! - What lies beneath it? An overlay may lie over tmpfs, and a disk may be a loop device, a
//!   mapping or a RAID over something that is memory. In a container the names of what lies beneath
//!   may lead nowhere.
//! - Does it write? A file is written, flushed and dropped, and must then be gone from memory. This
//!   finds overlays that are mounted `volatile`, which report every flush as a success and write
//!   nothing, and any layer of tmpfs whose name could not be found.
//!
//! This cannot find a disk that is memory beneath a virtual machine, or a RAM disk beneath an
//! overlay or loop device whose name belongs to another mount namespace.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{thread, time};

use rustix::fs::{Advice, Mode, OFlags};

use crate::Roots;
use crate::linux::page_cache;
use crate::linux::text::{parse_number, read_small, unescape};

const OVERLAY: u64 = 0x794c_7630;
/// ext4 and xfs: known to keep their files on a disk of this machine and to have nameless files,
/// and seen to return everything that a flush stored when the disk then fails.
const ON_DISK: [u64; 2] = [0xef53, 0x5846_5342];

/// File systems that people use, refused by name. Any other is refused by its number.
const REFUSED: [(u64, &str); 16] = [
    (0x0102_1994, "tmpfs, which is memory"),
    (0x8584_58f6, "ramfs, which is memory"),
    (0x9584_58f6, "hugetlbfs, which is memory"),
    (0x6969, "NFS, and memory must not depend on the network"),
    (0xff53_4d42, "CIFS, and memory must not depend on the network"),
    (0xfe53_4d42, "SMB, and memory must not depend on the network"),
    (0x00c3_6400, "Ceph, and memory must not depend on the network"),
    (0x0102_1997, "9p, and memory must not depend on another machine"),
    (0x786f_4256, "a folder of the virtual machine's host, and memory must not depend on it"),
    (0x6573_5546, "FUSE or virtiofs, and memory must not depend on another program"),
    // Seen: once the disk runs full, what was committed before can no longer be read, and touching
    // it is SIGBUS, even where each file was committed (`syncfs`) before its pages were swapped.
    (0x9123_683e, "btrfs, which may not read again what it stored once its disk runs full"),
    // Similar designs, with their own records of what they stored, and not tried.
    (0x2fc1_2fc1, "zfs, on which parking has not been proved"),
    (0xca45_1a4e, "bcachefs, on which parking has not been proved"),
    (0xf2f5_2010, "f2fs, on which parking has not been proved"),
    (0xf15f, "eCryptfs, which has no files without a name"),
    (0x6175_6673, "aufs, which has no files without a name"),
];

/// How deep overlays over loop devices over overlays may go.
const DEEPEST: usize = 8;

/// How much is written to see whether it leaves memory, and how often to look.
const PROBE_BYTES: usize = 128 * 1024;
const PROBE_LOOKS: u32 = 5;

/// Why spill files must not go into this folder, in words that follow "is on".
pub(super) fn refusal(roots: &Roots, folder: &Path) -> Option<String> {
    beneath_folder(roots, folder, 0)
}

/// Writes a nameless file and makes sure that it leaves memory. `Err` says why it did not.
pub(super) fn prove(mut file: File, folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    file.write_all(&vec![0x5a; PROBE_BYTES]).map_err(failed)?;
    file.sync_data().map_err(|error| format!("flushing: {error}"))?;
    let data = file.metadata().map_err(failed)?;
    for look in 0..PROBE_LOOKS {
        // A read-ahead or a journal may keep a page for a moment.
        thread::sleep(time::Duration::from_millis(u64::from(look) * 20));
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)
            .map_err(|error| failed(error.into()))?;
        if page_cache::cached_bytes(&file, &data).is_some_and(|cached| cached.0 == 0) {
            return Ok(());
        }
    }
    let over = if kind(folder) == Some(OVERLAY) { "the overlay keeps" } else { "it keeps" };
    Err(format!(
        "{over} what was written and flushed in memory, as over tmpfs or when mounted volatile"
    ))
}

fn kind(path: &Path) -> Option<u64> {
    let system = rustix::fs::statfs(path).ok()?;
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "differs by target")]
    let kind = system.f_type as u64 & 0xffff_ffff;
    Some(kind)
}

fn beneath_folder(roots: &Roots, path: &Path, depth: usize) -> Option<String> {
    let kind = kind(path).filter(|_| depth < DEEPEST)?;
    if let Some((_, name)) = REFUSED.iter().find(|(magic, _)| *magic == kind) {
        return Some((*name).to_owned());
    }
    if kind != OVERLAY && !ON_DISK.contains(&kind) {
        return Some(format!(
            "a file system ({kind:#x}) that is not known to keep files on a disk of this machine"
        ));
    }
    let mount = Mount::of(roots, path)?;
    if kind == OVERLAY {
        if mount.options().any(|option| option.ends_with(b"volatile")) {
            return Some(
                "an overlay mounted volatile, which writes nothing when flushed".to_owned(),
            );
        }
        let upper = mount.upper()?;
        return beneath_folder(roots, &upper, depth + 1).map(|what| format!("overlay over {what}"));
    }
    mount.devices(roots).into_iter().find_map(|device| beneath_device(roots, &device, depth + 1))
}

/// Why a block device, given by its folder in `/sys`, is not a disk.
fn beneath_device(roots: &Roots, device: &Path, depth: usize) -> Option<String> {
    let device = fs::canonicalize(device).ok().filter(|_| depth < DEEPEST)?;
    // A partition is a folder inside its disk's.
    let disk = if device.join("partition").exists() { device.parent()? } else { &device };
    let name = disk.file_name()?.to_str()?;
    if name.starts_with("zram") {
        return Some("zram, which is memory".to_owned());
    }
    if name.strip_prefix("ram").is_some_and(|rest| parse_number(rest.as_bytes()).is_some()) {
        return Some("a RAM disk".to_owned());
    }
    if let Some(file) = read_small(&disk.join("loop/backing_file")) {
        let file = PathBuf::from(OsString::from_vec(file.trim_ascii_end().to_vec()));
        return beneath_folder(roots, &file, depth + 1)
            .map(|what| format!("a loop device over {what}"));
    }
    let slaves = fs::read_dir(disk.join("slaves")).ok()?;
    slaves.flatten().find_map(|slave| beneath_device(roots, &slave.path(), depth + 1))
}

/// What the kernel writes as `\ooo` in a mount table.
const ESCAPED: &[u8] = b" \t\n\\#,=:";

/// A line of `/proc/self/mountinfo`.
struct Mount {
    device: Vec<u8>,
    source: Vec<u8>,
    options: Vec<u8>,
}

impl Mount {
    fn of(roots: &Roots, path: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        let info = read_small(&roots.proc.join(format!("self/fdinfo/{}", file.as_raw_fd())))?;
        let id =
            info.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"mnt_id:"))?;
        let mounts = read_small(&roots.proc.join("self/mountinfo"))?;
        mounts.split(|&byte| byte == b'\n').find_map(|line| Self::parse(line, id.trim_ascii()))
    }

    /// `36 35 98:0 /root /mount/point rw shared:1 - ext4 /dev/root rw,errors=continue`.
    fn parse(line: &[u8], id: &[u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ');
        if words.next()? != id {
            return None;
        }
        let device = words.nth(1)?.to_vec();
        let mut rest = words.skip_while(|word| *word != b"-").skip(2);
        let source = unescape(rest.next()?, ESCAPED);
        Some(Self { device, source, options: rest.next()?.to_vec() })
    }

    fn options(&self) -> impl Iterator<Item = &[u8]> {
        self.options.split(|&byte| byte == b',')
    }

    /// Where an overlay writes.
    fn upper(&self) -> Option<PathBuf> {
        let upper = self.options().find_map(|option| option.strip_prefix(b"upperdir="))?;
        Some(PathBuf::from(OsString::from_vec(unescape(upper, ESCAPED))))
    }

    /// The block devices beneath, as folders in `/sys`. Empty where they cannot be named.
    fn devices(&self, roots: &Roots) -> Vec<PathBuf> {
        let of_number = |number: &str| roots.sys.join("dev/block").join(number);
        if !self.device.starts_with(b"0:") {
            return std::str::from_utf8(&self.device).map(of_number).into_iter().collect();
        }
        // The file system has a device number of its own, and its source names one of its devices.
        let source = PathBuf::from(OsString::from_vec(self.source.clone()));
        let Ok(data) = source.metadata() else { return Vec::new() };
        let (major, minor) = (rustix::fs::major(data.rdev()), rustix::fs::minor(data.rdev()));
        vec![of_number(&format!("{major}:{minor}"))]
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A `/sys` with these block devices, each a list of files in its folder; `->` makes a slave.
    fn sys(devices: &[(&str, &[(&str, &str)])]) -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        let block = folder.path().join("devices/virtual/block");
        for (name, files) in devices {
            let device = block.join(name);
            fs::create_dir_all(device.join("slaves")).unwrap();
            for (file, content) in *files {
                if *content == "->" {
                    symlink(block.join(file), device.join("slaves").join(file)).unwrap();
                    continue;
                }
                fs::create_dir_all(device.join(file).parent().unwrap()).unwrap();
                fs::write(device.join(file), content).unwrap();
            }
        }
        let roots = Roots { proc: PathBuf::from("/proc"), sys: folder.path().to_owned() };
        (folder, roots)
    }

    #[test]
    fn a_disk_that_is_memory_beneath_is_named() {
        let (folder, roots) = sys(&[
            ("vda", &[]),
            ("vda/vda1", &[("partition", "1")]),
            ("zram0", &[]),
            ("ram1", &[]),
            ("ram1/ram1p1", &[("partition", "1")]),
            ("loop0", &[("loop/backing_file", "/dev/shm\n")]),
            ("loop1", &[("loop/backing_file", "/no/such/file\n")]),
            ("dm-0", &[("vda", "->"), ("loop0", "->")]),
            ("dm-1", &[("vda", "->")]),
            ("rampart", &[]),
            ("itself", &[("itself", "->")]),
        ]);
        let refused = |name: &str| {
            let device = folder.path().join("devices/virtual/block").join(name);
            beneath_device(&roots, &device, 0)
        };
        for name in ["vda", "vda/vda1", "loop1", "dm-1", "rampart", "itself", "missing"] {
            assert_eq!(refused(name), None, "{name}");
        }
        assert_eq!(refused("zram0").unwrap(), "zram, which is memory");
        assert_eq!(refused("ram1/ram1p1").unwrap(), "a RAM disk");
        for name in ["loop0", "dm-0"] {
            assert_eq!(refused(name).unwrap(), "a loop device over tmpfs, which is memory");
        }
    }

    #[test]
    fn a_line_of_the_mount_table_is_parsed() {
        let line = br"66 63 0:39 / /mnt\040a rw shared:1 master:2 - overlay o rw,upperdir=/a\040b,volatile";
        let mount = Mount::parse(line, b"66").unwrap();
        assert_eq!((&mount.device[..], &mount.source[..]), (&b"0:39"[..], &b"o"[..]));
        assert!(mount.options().any(|option| option == b"volatile"));
        assert!(Mount::parse(line, b"63").is_none());
        for end in 0..line.len() {
            let _ = Mount::parse(&line[..end], b"66");
        }
    }

    #[test]
    fn memory_does_not_prove_to_be_a_disk() {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open("/dev/shm", flags, Mode::RUSR | Mode::WUSR).unwrap();
        let error = prove(File::from(file), Path::new("/dev/shm")).unwrap_err();
        assert!(error.contains("in memory"), "{error}");
    }
}
