//! HTTP/1.1 as RFC 9112 has it, for both ends of the gateway: read by the letter, and by nothing that the gateway uses.
//!
//! What a lenient reader would put up with is an error here, because the next one may be lenient in another way. A
//! [`Wire`] keeps the bytes as they came.

mod strict;
mod wire;

pub use strict::request_faults;
pub use wire::{Io, Wire};

use std::io;

/// A start line and the fields below it.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Without its line end.
    pub start: String,
    pub fields: Fields,
    /// Every byte, with the empty line at the end.
    pub raw: Vec<u8>,
}

/// Fields in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The only value of a field. Panics where there are several, because nobody expects that by accident.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "`{name}` is there more than once: {all:?}");
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// How the length of a body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// Takes a head apart. `raw` ends with the empty line.
    pub fn parse(raw: &[u8]) -> Result<Self, String> {
        let text: String = raw.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = text.strip_suffix("\r\n\r\n").ok_or("no empty line")?.split("\r\n");
        let start = lines.next().unwrap_or_default().to_string();
        let mut fields = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                return Err(format!("a folded line: {line:?}"));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| format!("a field without a colon: {line:?}"))?;
            if name.is_empty() || !name.bytes().all(strict::is_token) {
                return Err(format!("a name that is no token: {name:?}"));
            }
            if let Some(control) = value.bytes().find(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
                return Err(format!("byte {control} in the value of {name}"));
            }
            fields.push((name.to_string(), value.trim_matches([' ', '\t']).to_string()));
        }
        Ok(Self { start, fields: Fields(fields), raw: raw.to_vec() })
    }

    /// The framing that the fields declare, if any.
    pub fn framing(&self) -> Result<Option<Framing>, String> {
        let lengths = self.fields.all("content-length");
        let encodings = self.fields.all("transfer-encoding");
        match (lengths.as_slice(), encodings.as_slice()) {
            ([], []) => Ok(None),
            ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().map(|length| Some(Framing::Length(length))).map_err(|_| format!("a length of {length}"))
            }
            ([], [encoding]) if encoding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
            _ => Err(format!("lengths {lengths:?} and encodings {encodings:?}")),
        }
    }
}

/// A body that is being read.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    pub trailers: Fields,
}

#[derive(Debug)]
enum State {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

/// What became of looking at the bytes so far.
enum Step {
    Data(Vec<u8>),
    Again,
    NeedMore,
    Done,
}

impl Decoder {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: Fields::default() }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn step(&mut self, buffer: &mut Vec<u8>) -> Result<Step, String> {
        let take = |left: u64, buffer: &mut Vec<u8>| {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            buffer.drain(..count).collect::<Vec<u8>>()
        };
        match &mut self.state {
            State::Done => Ok(Step::Done),
            _ if buffer.is_empty() => Ok(Step::NeedMore),
            State::UntilClose => Ok(Step::Data(std::mem::take(buffer))),
            State::Length(left) => {
                let data = take(*left, buffer);
                *left -= data.len() as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(Step::Data(data))
            }
            State::ChunkData(left) => {
                let data = take(*left, buffer);
                *left -= data.len() as u64;
                if *left == 0 {
                    self.state = State::ChunkEnd;
                }
                Ok(Step::Data(data))
            }
            State::ChunkEnd => match line(buffer)? {
                None => Ok(Step::NeedMore),
                Some(line) if line.is_empty() => {
                    self.state = State::ChunkSize;
                    Ok(Step::Again)
                }
                Some(line) => Err(format!("{line:?} behind a chunk")),
            },
            State::ChunkSize => match line(buffer)? {
                None => Ok(Step::NeedMore),
                Some(line) => {
                    let digits = !line.is_empty() && line.len() <= 16 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
                    let size = digits.then(|| u64::from_str_radix(&line, 16).ok()).flatten();
                    let size = size.ok_or_else(|| format!("{line:?} for the size of a chunk"))?;
                    self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                    Ok(Step::Again)
                }
            },
            State::Trailers => match line(buffer)? {
                None => Ok(Step::NeedMore),
                Some(line) if line.is_empty() => {
                    self.state = State::Done;
                    Ok(Step::Done)
                }
                Some(line) => {
                    let head = Head::parse(format!("\r\n{line}\r\n\r\n").as_bytes())?;
                    self.trailers.0.extend(head.fields.0);
                    Ok(Step::Again)
                }
            },
        }
    }
}

/// Takes one line, which must end with CR and LF; `None` where it is not there yet.
fn line(buffer: &mut Vec<u8>) -> Result<Option<String>, String> {
    let Some(end) = buffer.iter().position(|byte| *byte == b'\n') else {
        return if buffer.len() > 16 * 1024 { Err("an endless line".into()) } else { Ok(None) };
    };
    let line: Vec<u8> = buffer.drain(..=end).collect();
    let line = line.strip_suffix(b"\r\n").ok_or("a line that ends with LF alone")?;
    Ok(Some(line.iter().map(|byte| char::from(*byte)).collect()))
}

fn invalid(fault: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_by_the_letter() {
        for (framing, bytes, expected) in [
            (Framing::Length(5), "hello", Ok("hello")),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n\r\n", Ok("hello")),
            (Framing::Chunked, "2\r\nhe\r\n3\r\nllo\r\n0\r\na: b\r\n\r\n", Ok("hello")),
            (Framing::UntilClose, "hello", Ok("hello")),
            (Framing::Chunked, "5\nhello\r\n0\r\n\r\n", Err(())),
            (Framing::Chunked, "5\r\nhello\n0\r\n\r\n", Err(())),
            (Framing::Chunked, "5;ext\r\nhello\r\n0\r\n\r\n", Err(())),
            (Framing::Chunked, "+5\r\nhello\r\n0\r\n\r\n", Err(())),
            (Framing::Chunked, "5\r\nhelloX\r\n0\r\n\r\n", Err(())),
            (Framing::Length(5), "hell", Err(())),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n", Err(())),
        ] {
            let mut wire = Wire::new(Box::new(io::Cursor::new(bytes.as_bytes().to_vec())));
            let read = wire.body(&mut Decoder::new(framing)).await;
            assert_eq!(read.as_deref().map_err(|_| ()), expected.map(str::as_bytes), "{framing:?} {bytes:?}");
        }
    }
}
