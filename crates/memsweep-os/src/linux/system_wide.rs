//! The machine's page cache. Dropping it affects every program, so only the `system_wide` switch
//! allows it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use memsweep_core::action::Outcome;
use memsweep_core::reason::Missing;

/// Writes dirty pages to disk, then drops the clean caches: page cache, directory entries and
/// inodes (3). The file is opened first, because a `sync` can take minutes and is pointless if
/// dropping is not permitted.
pub(crate) fn drop_caches(proc: &Path, sync: impl FnOnce()) -> Outcome {
    let path = proc.join("sys/vm/drop_caches");
    let mut file = match OpenOptions::new().write(true).open(&path) {
        Ok(file) => file,
        Err(error) => return Outcome::unsupported(Missing::from(not_permitted(&path, &error))),
    };
    sync();
    match file.write_all(b"3") {
        Ok(()) => Outcome::Done {
            claimed: None,
            detail: Some("page cache dropped, not memory freed".to_owned()),
        },
        Err(error) => Outcome::Failed { error: format!("write {}: {error}", path.display()) },
    }
}

fn not_permitted(path: &Path, error: &std::io::Error) -> String {
    format!(
        "open {} for writing: {error}; it needs root outside a container \
         (sync; echo 3 > /proc/sys/vm/drop_caches), and programs run just as well without it",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    #[test]
    fn without_permission_nothing_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let synced = Cell::new(false);
        let outcome = drop_caches(folder.path(), || synced.set(true));
        let Outcome::Unsupported(why) = outcome else { panic!("{outcome:?}") };
        assert!(why.to_string().contains("needs root"), "{why}");
        assert!(!synced.get());
        assert!(!folder.path().join("sys").exists(), "nothing may be created");
    }

    #[test]
    fn with_permission_it_syncs_first_and_then_writes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sys/vm/drop_caches");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let before_write = Cell::new(None);
        let outcome = drop_caches(folder.path(), || before_write.set(fs::read(&file).ok()));
        assert_eq!(before_write.take().as_deref(), Some(&b""[..]), "sync comes before the write");
        assert_eq!(fs::read(&file).unwrap(), b"3");
        let Outcome::Done { claimed: None, detail: Some(detail) } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(detail, "page cache dropped, not memory freed");
    }

    #[test]
    fn a_refused_write_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sys/vm/drop_caches");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/full", &file).unwrap();
        let outcome = drop_caches(folder.path(), || {});
        assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    }
}
