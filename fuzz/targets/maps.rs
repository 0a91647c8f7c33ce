//! `/proc/self/maps` and `smaps`: any content, and a file with any name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memsweep_fuzz::{kernel_escapes, parts};
use memsweep_os::fuzzing;

fuzz_target!(|content: &[u8]| {
    let [table, name] = parts(content);
    for (start, end) in fuzzing::areas(table) {
        assert!(start < end);
    }
    let files = fuzzing::mapped(table);
    assert!(files.len() <= table.split(|byte| *byte == b'\n').count());
    for (path, inode) in &files {
        assert!(path.starts_with(b"/"));
        assert!(!path.ends_with(b" (deleted)"));
        assert_ne!(*inode, 0);
    }
    let path = [b"/", name].concat();
    // In the kernel's file, a name with these four letters looks like one with a line end.
    let ambiguous = name.windows(4).any(|window| window == br"\012");
    if !ambiguous && !path.ends_with(b" (deleted)") {
        let line = [
            b"7f12a000-7f12b000 r--p 00000000 fe:00 18446744073709551615     ",
            &kernel_escapes(&path, b"\n")[..],
            b"\n",
        ];
        assert_eq!(fuzzing::mapped(&line.concat()), [(path, u64::MAX)]);
    }
});
