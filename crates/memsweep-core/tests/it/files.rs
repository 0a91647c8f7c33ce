//! Files of the checkout that are compared byte for byte, and rewritten on request.
#![expect(clippy::disallowed_methods, reason = "the tests read files, the core does not")]

use std::path::{Path, PathBuf};

/// The root of the checkout. Asked when the test runs: checkouts share what is built for other systems.
pub(crate) fn root() -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}

/// Fails unless the file, named from the root, says `text`. Returns its content.
pub(crate) fn check(name: &str, text: &str) -> String {
    let path = root().join(name);
    if std::env::var_os("MEMSWEEP_UPDATE_FIXTURES").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, text, "`{name}` differs");
    found
}
