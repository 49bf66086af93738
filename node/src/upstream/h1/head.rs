//! The heads of HTTP/1.1: a request's as it is written, an answer's as it is read (RFC 9112).

use super::body::Remaining;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    response::Parts,
    uri::PathAndQuery,
};
use hyper::ext::ReasonPhrase;
use std::{error::Error, fmt, io::Write as _, mem::MaybeUninit};

/// Fields of one answer.
const FIELDS_MAX: usize = 200;

/// A request's head, as an endpoint of HTTP/1.1 is to see it.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a PathAndQuery,
    pub(crate) host: &'a HeaderValue,
    /// Whatever these say of the host or of the body's length is left out: both are written anew.
    pub(crate) headers: &'a HeaderMap,
    /// Whether it asks for the connection to become something else.
    pub(crate) upgrade: bool,
}

/// How the end of a request's body is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// What of the request decides how its answer is read.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Asked {
    head_only: bool,
    upgrade: bool,
}

impl RequestHead<'_> {
    pub(super) fn asked(&self) -> Asked {
        Asked { head_only: *self.method == Method::HEAD, upgrade: self.upgrade }
    }

    /// How a body of `length` is framed. Nothing is said of no body where nobody expects one (RFC 9110, section 8.6).
    pub(super) fn framing(&self, length: Option<u64>) -> Framing {
        let expects_body = matches!(*self.method, Method::POST | Method::PUT | Method::PATCH);
        match length {
            Some(0) if expects_body || self.headers.contains_key(CONTENT_LENGTH) => Framing::Length(0),
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        }
    }

    pub(super) fn write(&self, framing: Framing, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.path.as_str().as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        write_field(&HOST, self.host, out);
        for (name, value) in self.headers {
            if *name != HOST && *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
                write_field(name, value, out);
            }
        }
        match framing {
            Framing::None => {}
            Framing::Length(length) => {
                write!(out, "content-length: {length}\r\n").expect("a vector takes what is written to it");
            }
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        out.extend_from_slice(b"\r\n");
    }
}

pub(super) fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What the bytes so far are.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Not a whole head yet.
    Partial,
    /// An interim answer of so many bytes: the one that counts is still to come.
    Interim(usize),
    Final(Answered),
}

#[derive(Debug)]
pub(super) struct Answered {
    pub(super) head: Parts,
    /// How many bytes it took.
    pub(super) length: usize,
    pub(super) remaining: Remaining,
    /// Whether the connection may carry another request afterwards.
    pub(super) persistent: bool,
}

/// Why an answer is not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeadError {
    Malformed(httparse::Error),
    TooLarge,
    /// Too many interim answers.
    Interim,
    /// An upgrade that nobody asked for.
    Upgrade,
    /// A length that is no number, or more than one.
    Length,
    /// An encoding other than `chunked`, or one beside a length, or one of HTTP/1.0, which has none.
    Encoding,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "{error}"),
            Self::TooLarge => f.write_str("it is too large"),
            Self::Interim => f.write_str("too many interim answers came before it"),
            Self::Upgrade => f.write_str("it switches protocols without being asked"),
            Self::Length => f.write_str("its Content-Length is not one number"),
            Self::Encoding => f.write_str("its Transfer-Encoding is not chunked alone"),
        }
    }
}

impl Error for HeadError {}

/// What the fields of an answer say about where it ends and what comes after it.
#[derive(Default)]
struct Ends {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Ends {
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), HeadError> {
        if *name == CONTENT_LENGTH {
            let length = read_length(value).ok_or(HeadError::Length)?;
            if self.length.replace(length).is_some() {
                return Err(HeadError::Length);
            }
        } else if *name == TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::Encoding);
            }
            self.chunked = true;
        } else if *name == http::header::CONNECTION {
            for token in value.split(|byte| *byte == b',') {
                let token = token.trim_ascii();
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }
}

fn read_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// Reads the head at the beginning of `bytes`.
///
/// Where the body ends is decided as RFC 9112, section 6.3 has it, except that what that section lets a recipient mend
/// is an error here: the caller's own reader might mend it in another way.
pub(super) fn parse(bytes: &Bytes, asked: Asked) -> Result<Parsed, HeadError> {
    // httparse would skip blank lines, and read them all again each time another one drips in.
    if matches!(bytes.first(), Some(b'\r' | b'\n')) {
        return Err(HeadError::Malformed(httparse::Error::NewLine));
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut read = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut read, bytes, &mut fields);
    let length = match status.map_err(HeadError::Malformed)? {
        httparse::Status::Partial => return Ok(Parsed::Partial),
        httparse::Status::Complete(length) => length,
    };
    let malformed = || HeadError::Malformed(httparse::Error::Status);
    let status = read.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(malformed)?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Parsed::Interim(length));
    }
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    if switches && !asked.upgrade {
        return Err(HeadError::Upgrade);
    }

    let mut ends = Ends::default();
    let mut headers = HeaderMap::with_capacity(read.headers.len());
    for field in &*read.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Malformed(httparse::Error::HeaderName))?;
        ends.note(&name, field.value)?;
        let value =
            HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| HeadError::Malformed(httparse::Error::HeaderValue))?;
        headers.append(name, value);
    }
    let old = read.version == Some(0);
    if ends.chunked && (old || ends.length.is_some()) {
        return Err(HeadError::Encoding);
    }
    let bodiless = asked.head_only || switches || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let remaining = match ends.length {
        _ if bodiless => Remaining::Done,
        _ if ends.chunked => Remaining::chunked(),
        Some(length) => Remaining::length(length),
        None => Remaining::UntilClose,
    };
    let persistent = !ends.close && (!old || ends.keep_alive) && !switches && !matches!(remaining, Remaining::UntilClose);

    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    head.version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
    head.headers = headers;
    if let Some(reason) = read.reason.filter(|reason| Some(*reason) != status.canonical_reason())
        && let Ok(reason) = ReasonPhrase::try_from(bytes.slice_ref(reason.as_bytes()))
    {
        head.extensions.insert(reason);
    }
    Ok(Parsed::Final(Answered { head, length, remaining, persistent }))
}

#[cfg(test)]
mod tests;
