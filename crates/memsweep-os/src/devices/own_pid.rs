//! Our process id in the machine's own pid namespace, the one that drivers use.

use std::fs;
use std::path::Path;
use std::process;

/// The initial pid namespace, whose number is fixed in the kernel (`PROC_PID_INIT_INO`).
const INITIAL: &str = "pid:[4026531836]";

/// `None` within another pid namespace, as in most containers, and where that is unknown.
///
/// There the driver may list process ids of the machine's namespace or of ours, depending on its
/// version, and does not say which. Our own id may then be another process's in its list. `NSpid`
/// in `/proc/self/status` does not help: it begins at the namespace that `/proc` was mounted in.
pub(crate) fn own_pid(proc: &Path) -> Option<u32> {
    let namespace = fs::read_link(proc.join("self/ns/pid")).ok()?;
    (namespace.as_os_str() == INITIAL).then(process::id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn our_number_is_known_in_the_machines_own_namespace_only() {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("self/ns");
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(own_pid(tree.path()), None, "no namespaces, or none that may be read");
        symlink("pid:[4026532178]", folder.join("pid")).unwrap();
        assert_eq!(own_pid(tree.path()), None);
        fs::remove_file(folder.join("pid")).unwrap();
        symlink(INITIAL, folder.join("pid")).unwrap();
        assert_eq!(own_pid(tree.path()), Some(process::id()));
    }
}
