//! Text from anywhere that is safe to show on a terminal.

use std::fmt::Write;

use serde::Serialize;

/// The text with everything escaped that a terminal might obey: control characters, and the marks
/// that turn the direction of writing round. Ends of lines stay.
pub fn unobeyed(text: &str, escape: impl Fn(char) -> String) -> String {
    let obeyed = |character: char| {
        (character.is_control() && character != '\n')
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if obeyed(character) {
            shown.push_str(&escape(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// One JSON document over several lines.
pub(crate) fn document(of: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(of).expect("what we show has only what JSON has");
    unobeyed(&json, json_escape) + "\n"
}

/// A character as JSON's own escape.
pub fn json_escape(character: char) -> String {
    let mut escape = String::new();
    for unit in character.encode_utf16(&mut [0; 2]) {
        let _ = write!(escape, "\\u{unit:04x}");
    }
    escape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        let shown = unobeyed("a\x1b[2Jb\u{202e}c", |c| c.escape_default().to_string());
        assert_eq!(shown, "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(unobeyed("\u{202e}\u{61c}", json_escape), "\\u202e\\u061c");
    }
}
