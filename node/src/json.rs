//! JSON text written by hand, for what is made with every request.
//!
//! Whatever the bytes are, what comes out is one JSON string on one line that a terminal can show without being told
//! anything by it: control characters are escaped, those of Unicode too, and marks that turn the direction of text.

/// Writes a string with its quotes. Of more than `max` bytes the rest is cut away and `…` says so; bytes that are not
/// UTF-8 become U+FFFD.
pub fn text(out: &mut Vec<u8>, text: &[u8], max: usize) {
    out.push(b'"');
    match cut(text, max) {
        Some(kept) => {
            escaped(out, kept);
            out.extend_from_slice("…".as_bytes());
        }
        None => escaped(out, text),
    }
    out.push(b'"');
}

/// What remains of a text that is too long, without half a character at its end.
fn cut(text: &[u8], max: usize) -> Option<&[u8]> {
    if text.len() <= max {
        return None;
    }
    let continues = |at: usize| text[at] & 0b1100_0000 == 0b1000_0000;
    let end = (max.saturating_sub(3)..=max).rev().find(|at| !continues(*at)).unwrap_or(max);
    Some(&text[..end])
}

/// Which bytes stand for themselves.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

fn escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let plain = text.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(text.len());
        let (start, rest) = text.split_at(plain);
        out.extend_from_slice(start);
        let Some(byte) = rest.first() else { return };
        if byte.is_ascii() {
            ascii(out, *byte);
            text = &rest[1..];
        } else {
            let end = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
            beyond_ascii(out, &rest[..end]);
            text = &rest[end..];
        }
    }
}

fn ascii(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => unicode(out, u32::from(byte)),
    }
}

fn beyond_ascii(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    unicode(out, u32::from(character));
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// `\u` and four digits.
fn unicode(out: &mut Vec<u8>, code: u32) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| DIGITS[(code >> shift & 15) as usize]));
}

pub fn number(out: &mut Vec<u8>, mut number: u64) {
    // The longest is 18446744073709551615.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// A number of exactly `N` digits, with zeros before it. What does not fit is lost.
pub fn digits<const N: usize>(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(bytes: &[u8], max: usize) -> String {
        let mut out = Vec::new();
        text(&mut out, bytes, max);
        String::from_utf8(out).expect("what is written is UTF-8")
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(written(bytes, 16), expected);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        check(b"plain", "\"plain\"");
        check(b"\"\\/", "\"\\\"\\\\/\"");
        check(b"\r\n\t", "\"\\r\\n\\t\"");
        check(b"\0\x1b[2J\x7f", "\"\\u0000\\u001b[2J\\u007f\"");
        check("ä→𝄞".as_bytes(), "\"ä→𝄞\"");
        check("\u{9b}2J".as_bytes(), "\"\\u009b2J\"");
        check("\u{202e}\u{2028}".as_bytes(), "\"\\u202e\\u2028\"");
        check(b"a\xff\xc3b", "\"a\u{fffd}\u{fffd}b\"");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        check(b"0123456789abcdef", "\"0123456789abcdef\"");
        check(b"0123456789abcdefg", "\"0123456789abcdef…\"");
        check("0123456789abcdeä".as_bytes(), "\"0123456789abcde…\"");
        check("0123456789abc𝄞".as_bytes(), "\"0123456789abc…\"");
        check(&[0x80; 20], &format!("\"{}…\"", "\u{fffd}".repeat(16)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in ".{0,40}") {
            prop_assert_eq!(serde_json::from_str::<String>(&written(text.as_bytes(), 1_000)).expect("JSON"), text);
        }

        #[test]
        fn any_bytes_make_a_string(bytes in prop::collection::vec(any::<u8>(), 0..60), max in 0usize..80) {
            let read: String = serde_json::from_str(&written(&bytes, max)).expect("JSON");
            if bytes.len() <= max {
                prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
            }
        }

        #[test]
        fn numbers_are_read(value: u64, small in 0u32..1000) {
            let mut out = Vec::new();
            number(&mut out, value);
            prop_assert_eq!(out, value.to_string().into_bytes());
            let mut out = Vec::new();
            digits::<3>(&mut out, small);
            prop_assert_eq!(out, format!("{small:03}").into_bytes());
        }
    }
}
