//! Where the body of an answer ends: after a length, after its last chunk, or with the connection (RFC 9112, 6 and 7).

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use std::{error::Error, fmt, io};

/// What chunk extensions may take up in one body. Nobody uses them.
const EXTENSIONS_MAX: usize = 16 * 1024;

/// What trailers may take up, and how many there may be.
const TRAILERS_MAX: usize = 16 * 1024;
const TRAILER_FIELDS_MAX: usize = 64;

/// What is still to come of a body.
#[derive(Debug)]
pub(super) enum Remaining {
    Done,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

#[derive(Debug)]
pub(crate) enum BodyError {
    Lost(io::Error),
    /// The connection ended before the body did.
    Short,
    Chunk(&'static str),
    /// It answers to a request that was never completed.
    Request,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "{error}"),
            Self::Short => f.write_str("the connection ended before the body did"),
            Self::Request => f.write_str("the request's own body broke off"),
            Self::Chunk(what) => write!(f, "bad chunked encoding: {what}"),
        }
    }
}

impl Error for BodyError {}

impl Remaining {
    pub(super) fn length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunked { state: State::Size { value: 0, digits: 0 }, extensions: 0, trailers: Vec::new() })
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Done => SizeHint::with_exact(0),
            Self::Length(length) => SizeHint::with_exact(*length),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }

    /// The next frame out of what has come. Without one, either the body is done or more has to come; what is left in
    /// `bytes` when it is done does not belong to it.
    pub(super) fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Frame<Bytes>>, BodyError> {
        match self {
            Self::Done => Ok(None),
            _ if bytes.is_empty() => Ok(None),
            Self::UntilClose => Ok(Some(Frame::data(std::mem::take(bytes)))),
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                let data = if here == bytes.len() { std::mem::take(bytes) } else { bytes.split_to(here) };
                Ok(Some(Frame::data(data)))
            }
            Self::Chunked(chunked) => {
                let frame = chunked.take(bytes)?;
                if chunked.state == State::Done {
                    *self = Self::Done;
                }
                Ok(frame)
            }
        }
    }

    /// The other side has closed the connection.
    pub(super) fn closed(&mut self) -> Result<(), BodyError> {
        match self {
            Self::Done | Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(BodyError::Short),
        }
    }
}

/// Reads chunks. Whatever it is given it takes in at once, so that it can be cut anywhere.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    extensions: usize,
    /// The lines behind the last chunk.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Size {
        value: u64,
        digits: u32,
    },
    /// Behind the digits, where only space may stand before what else belongs to the line.
    Space {
        value: u64,
    },
    Extension {
        value: u64,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataEnd,
    DataEndLine,
    Trailers,
    Done,
}

impl Chunked {
    fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Frame<Bytes>>, BodyError> {
        loop {
            if let State::Data { left } = self.state {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let data = bytes.split_to(here);
                self.state = if here as u64 == left { State::DataEnd } else { State::Data { left: left - here as u64 } };
                self.finish(bytes)?;
                return Ok(Some(Frame::data(data)));
            }
            if self.state == State::Done {
                return self.fields().map(|fields| fields.map(Frame::trailers));
            }
            let Some(byte) = bytes.first().copied() else { return Ok(None) };
            bytes.advance(1);
            self.state = self.next(byte)?;
        }
    }

    /// Takes in an end that has come along with the last data, so that it is known to be the last.
    fn finish(&mut self, bytes: &mut Bytes) -> Result<(), BodyError> {
        if self.state == State::DataEnd && **bytes == *b"\r\n0\r\n\r\n" {
            for byte in std::mem::take(bytes) {
                self.state = self.next(byte)?;
            }
        }
        Ok(())
    }

    fn next(&mut self, byte: u8) -> Result<State, BodyError> {
        Ok(match (self.state, byte) {
            (State::Size { digits: 0, .. }, b'\r' | b';' | b' ' | b'\t') => return Err(BodyError::Chunk("a chunk without a size")),
            (State::Size { value, .. } | State::Space { value } | State::Extension { value }, b'\r') => State::SizeEnd { value },
            (State::Size { value, .. } | State::Space { value }, b';') => State::Extension { value },
            (State::Size { value, .. } | State::Space { value }, b' ' | b'\t') => State::Space { value },
            (State::Space { .. }, _) => return Err(BodyError::Chunk("a chunk's size is no number")),
            (State::Size { value, digits }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(BodyError::Chunk("a chunk's size is no number"))?;
                if digits == 16 {
                    return Err(BodyError::Chunk("a chunk's size is too long"));
                }
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Extension { value }, byte) => {
                self.extensions += 1;
                if self.extensions > EXTENSIONS_MAX {
                    return Err(BodyError::Chunk("chunk extensions that do not end"));
                }
                if byte.is_ascii_control() && byte != b'\t' {
                    return Err(BodyError::Chunk("a chunk extension with a control character"));
                }
                State::Extension { value }
            }
            (State::SizeEnd { value: 0 }, b'\n') => State::Trailers,
            (State::SizeEnd { value }, b'\n') => State::Data { left: value },
            (State::DataEnd, b'\r') => State::DataEndLine,
            (State::DataEndLine, b'\n') => State::Size { value: 0, digits: 0 },
            (State::Trailers, b'\n') if self.trailers.last() != Some(&b'\r') => return Err(BodyError::Chunk("bad trailers")),
            (State::Trailers, byte) => {
                self.trailers.push(byte);
                if self.trailers.len() > TRAILERS_MAX {
                    return Err(BodyError::Chunk("trailers that do not end"));
                }
                if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") { State::Done } else { State::Trailers }
            }
            (State::SizeEnd { .. } | State::DataEnd | State::DataEndLine, _) => {
                return Err(BodyError::Chunk("a chunk does not end where it should"));
            }
            (State::Data { .. } | State::Done, _) => unreachable!("data is taken whole, and nothing is taken after the end"),
        })
    }

    /// The trailers, if there are any. Those that would say something about the message itself are left out (RFC 9110,
    /// section 6.5.1).
    fn fields(&mut self) -> Result<Option<HeaderMap>, BodyError> {
        let lines = std::mem::take(&mut self.trailers);
        let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
        let bad = |_| BodyError::Chunk("bad trailers");
        let (_, fields) = match httparse::parse_headers(&lines, &mut fields).map_err(bad)? {
            httparse::Status::Complete(read) => read,
            httparse::Status::Partial => return Err(BodyError::Chunk("bad trailers")),
        };
        let mut trailers = HeaderMap::new();
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BodyError::Chunk("bad trailers"))?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| BodyError::Chunk("bad trailers"))?;
            if may_trail(&name) {
                trailers.append(name, value);
            }
        }
        Ok((!trailers.is_empty()).then_some(trailers))
    }
}

/// Whether a field may come behind a body: not if it frames, routes or belongs to the connection.
pub(super) fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "connection" | "content-length" | "host" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}

#[cfg(test)]
mod tests;
