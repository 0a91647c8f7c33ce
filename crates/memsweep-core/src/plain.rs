//! Text from outside, made safe to show.
//!
//! Names of nodes, models, files and devices, and the errors of other packs, come from anywhere. In
//! a log they could end the line and begin one of their own, colour the terminal, or turn the order
//! of the letters around. Reports in JSON keep them as they are.

use std::fmt::Write as _;

/// The most characters that are shown of one text.
pub const LONGEST: usize = 1000;

/// The text on one line: characters that steer a terminal, a line or the order of letters are
/// shown as escapes, and an endless text is cut.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    let mut characters = text.chars();
    for character in characters.by_ref().take(LONGEST) {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if steers(character) => {
                let _ = match u32::from(character) {
                    code @ 0..=0xff => write!(shown, "\\x{code:02x}"),
                    code @ 0x100..=0xffff => write!(shown, "\\u{code:04x}"),
                    code => write!(shown, "\\U{code:08x}"),
                };
            }
            _ => shown.push(character),
        }
    }
    let more = characters.count();
    if more > 0 {
        let _ = write!(shown, "... ({more} characters more)");
    }
    shown
}

/// Whether a character does something instead of being seen.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Direction marks, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Line and paragraph separators; other than these, a joiner may be part of a word.
            | '\u{2028}' | '\u{2029}'
            // Invisible: soft hyphen, zero width space, word joiner and its kin, byte order mark.
            | '\u{ad}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tags, which can carry a whole hidden text.
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_letters_stay() {
        for (given, shown) in [
            ("9-VAEDecode", "9-VAEDecode"),
            ("12\n[INFO] node 3: freed 9 GiB", "12\\n[INFO] node 3: freed 9 GiB"),
            ("\u{1b}[2J\r\tgone\u{7f}", "\\x1b[2J\\r\\tgone\\x7f"),
            ("a\u{85}b\u{2028}c\u{2029}d", "a\\x85b\\u2028c\\u2029d"),
            ("safe\u{202e}gnp.exe", "safe\\u202egnp.exe"),
            ("x\u{e0041}y", "x\\U000e0041y"),
            // Letters of any script, and an emoji with a joiner, are words.
            (
                "\u{6a21}\u{578b} \u{1f468}\u{200d}\u{1f4bb}",
                "\u{6a21}\u{578b} \u{1f468}\u{200d}\u{1f4bb}",
            ),
        ] {
            assert_eq!(plain(given), shown);
        }
    }

    #[test]
    fn an_endless_text_is_cut_and_says_so() {
        let long = plain(&"\u{e9}".repeat(LONGEST + 5));
        assert!(long.ends_with("\u{e9}... (5 characters more)"));
        assert_eq!(plain(&"x".repeat(LONGEST)), "x".repeat(LONGEST));
    }
}
