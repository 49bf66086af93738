//! The normal form in the making: scans a path, and rewrites it where the scan finds anything to change.

use super::{Path, TargetError};
use std::borrow::Cow;

/// What a byte of a path calls for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Byte {
    /// Stands for itself.
    Plain,
    Slash,
    Semicolon,
    Percent,
    /// A URI may not contain it, people send it all the same, and it means nothing special: it is escaped.
    Foreign,
    Control,
    Backslash,
    Query,
    Fragment,
}

pub(super) static BYTES: [Byte; 256] = {
    let mut table = [Byte::Plain; 256];
    let mut at = 0;
    while at < 256 {
        table[at] = match at as u8 {
            b'/' => Byte::Slash,
            b';' => Byte::Semicolon,
            b'%' => Byte::Percent,
            b'\\' => Byte::Backslash,
            b'?' => Byte::Query,
            b'#' => Byte::Fragment,
            0..=b' ' | 0x7f => Byte::Control,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => Byte::Foreign,
            _ => Byte::Plain,
        };
        at += 1;
    }
    table
};

/// Whether a path has the normal form and no escapes; if so, whether there is a semicolon in it.
pub(super) fn plain(path: &[u8]) -> Option<bool> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut semicolon = false;
    for (at, byte) in path.iter().enumerate() {
        match BYTES[*byte as usize] {
            Byte::Plain => {}
            Byte::Slash if path.get(at + 1) == Some(&b'/') => return None,
            Byte::Slash if begins_with_dots(&path[at + 1..]) => return None,
            Byte::Slash => {}
            Byte::Semicolon if begins_with_dots(&path[at + 1..]) => return None,
            Byte::Semicolon => semicolon = true,
            _ => return None,
        }
    }
    Some(semicolon)
}

/// Whether what follows a delimiter is `.` or `..` up to the next one.
fn begins_with_dots(rest: &[u8]) -> bool {
    let dots = rest.iter().take(3).take_while(|byte| **byte == b'.').count();
    matches!(dots, 1 | 2) && matches!(rest.get(dots), None | Some(b'/' | b';'))
}

/// What to do with a dot segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dots {
    Resolve,
    Refuse,
}

pub(super) fn rewrite(path: &str, dots: Dots) -> Result<Path<'static>, TargetError> {
    let mut rest = path.strip_prefix('/').ok_or(TargetError::Relative)?.as_bytes();
    let mut out = Normal::new(path.len(), dots);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match BYTES[byte as usize] {
            Byte::Plain => out.plain(byte)?,
            Byte::Slash => {
                out.end_segment()?;
                out.begin_segment();
            }
            Byte::Semicolon => out.divider(";")?,
            Byte::Foreign => out.escape(byte)?,
            Byte::Percent => {
                let [high, low, behind @ ..] = rest else { return Err(TargetError::Escape) };
                let decoded = hexadecimal(*high).zip(hexadecimal(*low)).map(|(high, low)| high << 4 | low);
                out.escaped(decoded.ok_or(TargetError::Escape)?)?;
                rest = behind;
            }
            Byte::Control => return Err(TargetError::Control),
            Byte::Backslash => return Err(TargetError::Backslash),
            Byte::Query => return Err(TargetError::Query),
            Byte::Fragment => return Err(TargetError::Fragment),
        }
    }
    out.end()
}

/// A normal form in the making.
struct Normal {
    text: String,
    dots: Dots,
    /// Where the segment at the end of `text` begins: one behind its slash.
    segment: usize,
    /// Whether that segment contains something that an endpoint may take for a delimiter.
    divided: bool,
    encoded_slash: bool,
    semicolon: bool,
    escaped_percent: bool,
    utf8: Utf8,
}

impl Normal {
    fn new(capacity: usize, dots: Dots) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('/');
        Self {
            text,
            dots,
            segment: 1,
            divided: false,
            encoded_slash: false,
            semicolon: false,
            escaped_percent: false,
            utf8: Utf8::default(),
        }
    }

    fn plain(&mut self, byte: u8) -> Result<(), TargetError> {
        self.utf8.take(byte)?;
        self.text.push(char::from(byte));
        Ok(())
    }

    fn escape(&mut self, byte: u8) -> Result<(), TargetError> {
        self.utf8.take(byte)?;
        push_escape(&mut self.text, byte);
        Ok(())
    }

    /// Takes the byte that an escape stands for.
    fn escaped(&mut self, byte: u8) -> Result<(), TargetError> {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.plain(byte),
            b'/' => self.divider("%2F"),
            b'\\' => self.divider("%5C"),
            b';' => self.divider("%3B"),
            0..0x20 | 0x7f => Err(TargetError::Control),
            _ => {
                self.escaped_percent |= byte == b'%';
                self.escape(byte)
            }
        }
    }

    fn divider(&mut self, text: &'static str) -> Result<(), TargetError> {
        self.utf8.take(b';')?;
        self.text.push_str(text);
        self.divided = true;
        match text {
            ";" | "%3B" => self.semicolon = true,
            _ => self.encoded_slash = true,
        }
        Ok(())
    }

    /// Removes the last segment if it is one of dots.
    fn end_segment(&mut self) -> Result<(), TargetError> {
        self.utf8.end()?;
        let segment = &self.text[self.segment..];
        match segment {
            "." | ".." if self.dots == Dots::Refuse => return Err(TargetError::HiddenDots),
            "." => self.text.truncate(self.segment),
            ".." => {
                let parent = self.text[..self.segment - 1].rfind('/').ok_or(TargetError::AboveRoot)?;
                self.segment = parent + 1;
                self.text.truncate(self.segment);
            }
            _ if self.divided && hides_dots(segment) => return Err(TargetError::HiddenDots),
            _ => {}
        }
        self.divided = false;
        Ok(())
    }

    fn begin_segment(&mut self) {
        if self.text.len() > self.segment {
            self.text.push('/');
            self.segment = self.text.len();
        }
    }

    fn end(mut self) -> Result<Path<'static>, TargetError> {
        self.end_segment()?;
        if self.escaped_percent && hides_reserved(self.text.as_bytes()) {
            return Err(TargetError::DoubleEncoding);
        }
        // The segment that had it may be gone again.
        let encoded_slash = self.encoded_slash && (self.text.contains("%2F") || self.text.contains("%5C"));
        let semicolon = self.semicolon && (self.text.contains(';') || self.text.contains("%3B"));
        Ok(Path { text: Cow::Owned(self.text), encoded_slash, semicolon })
    }
}

/// Whether an endpoint that unescapes before it splits, or that drops what follows a semicolon, finds a dot segment.
fn hides_dots(segment: &str) -> bool {
    let pieces = segment.split(';').flat_map(|piece| piece.split("%3B"));
    pieces.flat_map(|piece| piece.split("%2F")).flat_map(|piece| piece.split("%5C")).any(|piece| matches!(piece, "." | ".."))
}

/// Whether unescaping twice finds a control or reserved character, a dot, a backslash or a percent sign.
fn hides_reserved(path: &[u8]) -> bool {
    path.windows(5).any(|five| {
        let [b'%', b'2', b'5', high, low] = five else { return false };
        let Some((high, low)) = hexadecimal(*high).zip(hexadecimal(*low)) else { return false };
        let twice = high << 4 | low;
        matches!(twice, 0..0x20 | 0x7f) || b".%\\:/?#[]@!$&'()*+,;=".contains(&twice)
    })
}

/// Checks that bytes are UTF-8, one at a time (RFC 3629 section 4).
#[derive(Default)]
struct Utf8 {
    missing: u8,
    /// What the next byte may be, where one is missing.
    low: u8,
    high: u8,
}

impl Utf8 {
    fn take(&mut self, byte: u8) -> Result<(), TargetError> {
        (self.missing, self.low, self.high) = match (self.missing, byte) {
            (0, 0..0x80) => (0, 0, 0),
            (0, 0xc2..=0xdf) => (1, 0x80, 0xbf),
            (0, 0xe0) => (2, 0xa0, 0xbf),
            (0, 0xed) => (2, 0x80, 0x9f),
            (0, 0xe1..=0xef) => (2, 0x80, 0xbf),
            (0, 0xf0) => (3, 0x90, 0xbf),
            (0, 0xf1..=0xf3) => (3, 0x80, 0xbf),
            (0, 0xf4) => (3, 0x80, 0x8f),
            (1.., _) if (self.low..=self.high).contains(&byte) => (self.missing - 1, 0x80, 0xbf),
            _ => return Err(TargetError::Encoding),
        };
        Ok(())
    }

    fn end(&self) -> Result<(), TargetError> {
        if self.missing == 0 { Ok(()) } else { Err(TargetError::Encoding) }
    }
}

pub(super) fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

pub(super) fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}
