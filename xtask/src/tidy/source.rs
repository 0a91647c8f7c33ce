//! Splits Rust source into code and comments, enough for the rules to look at the right half.

use std::collections::BTreeSet;

/// One line of Rust source.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// The code, with the contents of strings and characters left out.
    pub(super) code: String,
    /// The text of the comments.
    pub(super) comment: String,
    /// Inside an item that only tests are built with.
    pub(super) test: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Code,
    LineComment,
    BlockComment(usize),
    Text,
    RawText(usize),
}

/// The lines of a Rust file.
pub(super) fn rust_lines(source: &str) -> Vec<Line> {
    let letters: Vec<char> = source.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while let Some(&letter) = letters.get(at) {
        let next = letters.get(at + 1).copied();
        if letter == '\n' {
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let Some(line) = lines.last_mut() else { break };
        match state {
            State::Code => match (letter, next) {
                ('/', Some('/')) => {
                    state = State::LineComment;
                    at += 1;
                }
                ('/', Some('*')) => {
                    state = State::BlockComment(1);
                    at += 1;
                }
                ('"', _) => {
                    line.code.push('"');
                    state = State::Text;
                }
                ('r', Some('"' | '#')) if !ends_in_word(&line.code) => {
                    let hashes = letters[at + 1..].iter().take_while(|one| **one == '#').count();
                    if letters.get(at + 1 + hashes) == Some(&'"') {
                        line.code.push('"');
                        state = State::RawText(hashes);
                        at += 1 + hashes;
                    } else {
                        line.code.push(letter);
                    }
                }
                ('\'', _) => match character_length(&letters[at..]) {
                    Some(length) => {
                        line.code.push_str("' '");
                        at += length - 1;
                    }
                    None => line.code.push(letter),
                },
                _ => line.code.push(letter),
            },
            State::LineComment => line.comment.push(letter),
            State::BlockComment(depth) => match (letter, next) {
                ('*', Some('/')) => {
                    state = if depth == 1 { State::Code } else { State::BlockComment(depth - 1) };
                    at += 1;
                }
                ('/', Some('*')) => {
                    state = State::BlockComment(depth + 1);
                    at += 1;
                }
                _ => line.comment.push(letter),
            },
            State::Text => match letter {
                // An escaped line end still ends the line.
                '\\' if next != Some('\n') => at += 1,
                '"' => {
                    line.code.push('"');
                    state = State::Code;
                }
                _ => {}
            },
            State::RawText(hashes) => {
                let closes = letter == '"'
                    && letters[at + 1..].iter().take(hashes).filter(|one| **one == '#').count()
                        == hashes;
                if closes {
                    line.code.push('"');
                    state = State::Code;
                    at += hashes;
                }
            }
        }
        at += 1;
    }
    mark_tests(&mut lines);
    lines
}

/// The length of a character literal, `None` for a lifetime.
fn character_length(letters: &[char]) -> Option<usize> {
    if letters.get(1) == Some(&'\\') {
        let close = letters.iter().skip(3).take(10).position(|letter| *letter == '\'')?;
        return Some(close + 4);
    }
    (letters.get(2) == Some(&'\'')).then_some(3)
}

fn ends_in_word(code: &str) -> bool {
    // `br"..."` is a raw string too.
    let code = code.strip_suffix('b').unwrap_or(code);
    code.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
}

fn is_test_attribute(code: &str) -> bool {
    let code: String = code.split_whitespace().collect();
    ["#[cfg(test)]", "#[cfg(all(test,", "#[test]"].iter().any(|start| code.starts_with(start))
}

/// Marks each item behind a test attribute: up to its closing brace, or its semicolon.
fn mark_tests(lines: &mut [Line]) {
    let mut waiting = false;
    let mut depth = 0_usize;
    for line in lines {
        if depth == 0 && is_test_attribute(line.code.trim()) {
            waiting = true;
        }
        line.test = waiting || depth > 0;
        if !line.test {
            continue;
        }
        let attribute = depth == 0 && line.code.trim().starts_with("#[");
        for letter in line.code.chars().filter(|_| !attribute) {
            match letter {
                '{' => {
                    depth += 1;
                    waiting = false;
                }
                '}' => depth = depth.saturating_sub(1),
                ';' if depth == 0 => waiting = false,
                _ => {}
            }
        }
    }
}

/// The names of modules declared as `#[cfg(test)] mod name;`.
pub(super) fn test_modules(lines: &[Line]) -> BTreeSet<String> {
    let declared = lines.iter().filter(|line| line.test).filter_map(|line| {
        let code = line.code.trim().strip_suffix(';')?;
        let (before, name) = code.rsplit_once("mod ")?;
        (before.is_empty() || before.ends_with(' ')).then(|| name.trim().to_owned())
    });
    declared.collect()
}

/// True when `word` stands in `code` as a word of its own.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_not_code() {
        let source = "let a = \"panic!(\"; // .unwrap()\nlet b = r#\"unsafe \" {\"#; /* x\n /* y */ z */ let c = 'x';\nlet d: &'static str = \"\\\"\"; done();\n";
        let lines = rust_lines(source);
        let code: Vec<&str> = lines.iter().map(|line| line.code.trim()).collect();
        assert_eq!(
            code,
            [
                "let a = \"\";",
                "let b = \"\";",
                "let c = ' ';",
                "let d: &'static str = \"\"; done();",
                ""
            ]
        );
        assert!(lines[0].comment.contains(".unwrap()"));
    }

    #[test]
    fn an_item_behind_a_test_attribute_is_a_test_and_the_next_is_not() {
        let source = "fn a() {}\n#[cfg(all(test, unix))]\nmod tests {\n  fn b() { x(); }\n}\nfn c() {}\n#[cfg(test)]\nmod fake;\nfn d() {}\n#[test]\nfn e() {\n}\nfn f() {}";
        let lines = rust_lines(source);
        let tests: Vec<bool> = lines.iter().map(|line| line.test).collect();
        let expected =
            [false, true, true, true, true, false, true, true, false, true, true, true, false];
        assert_eq!(tests, expected);
        assert_eq!(test_modules(&lines).into_iter().collect::<Vec<_>>(), ["fake"]);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("my_unsafe", "unsafe"));
    }
}
