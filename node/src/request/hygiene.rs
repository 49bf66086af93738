//! Refuses a head that two parsers could read differently, and removes what belongs to one connection only.
//!
//! Nothing is repaired: whatever shoal forwards is written anew from what was understood, and a head that leaves room
//! for doubt is not understood. All checks happen in one pass over the fields, which also notes what there is to remove,
//! so that a request without such fields is searched only once.
//!
//! hyper has already refused, for HTTP/1: a head that is no HTTP, folded lines, NUL and bare CR, names that are no
//! tokens (so there is no byte above 0x7f in any), lengths that are no number or differ, `Transfer-Encoding` in HTTP/1.0
//! or not ending in `chunked`. h2 has refused: fields that belong to a connection, `te` other than `trailers`, upper
//! case, repeated or late pseudo-fields, differing lengths. hyper also hides some things, and what is hidden can neither
//! be refused nor reach an endpoint: `Content-Length` beside `Transfer-Encoding` is dropped and the connection closed
//! after the answer, a repeated equal length is folded into one, a fragment is cut off the target, and a lone LF has
//! become a line end. The checks here stand on their own all the same where they cost nothing more: they are what is
//! promised, whichever codec is in front.
//!
//! What remains ours alone: encodings beside `chunked`, `Host` (none, several, malformed, not the target's), userinfo,
//! foreign schemes, nominated end-to-end fields, underscores and quotes in names, CONNECT, TRACE, and all sizes.

mod connection;
mod field;

use self::field::{Field, Fields};
use super::target::{self, TargetError};
use config::Bounds;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, TE, TRAILER, TRANSFER_ENCODING},
    request::Parts,
};
use std::{error::Error, fmt};

/// Why a head is refused. The status that is meant is 400 where the cause names no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// A gateway opens no tunnels: 501.
    MethodConnect,
    /// It would show a caller what proxies have added: 405.
    MethodTrace,
    /// The target is longer than `uri_size`: 414.
    TargetLength,
    /// More bytes than `head_size`: 431.
    HeadSize,
    /// More fields than `head_count`: 431.
    HeadCount,
    /// A target with an authority but without a scheme, which only CONNECT has.
    TargetForm,
    /// An absolute target that is neither `http` nor `https`.
    TargetScheme,
    HostMissing,
    HostRepeated,
    /// `Host` and the target's authority differ.
    HostDiffers,
    Host(TargetError),
    /// Not exactly one `chunked`, or in HTTP/1.0.
    TransferEncoding,
    /// A length and an encoding.
    BothLengths,
    LengthRepeated,
    LengthInvalid,
    /// `Connection` is not a list of names.
    Connection,
    /// `Connection` names a field that is not its to remove.
    Nominated,
    /// A field that HTTP/2 has no use for.
    ConnectionSpecific,
    /// An underscore, which some read as a hyphen, or a byte that no name may contain.
    Name,
    /// White space around a value, which HTTP/2 does not trim.
    Value,
}

impl From<TargetError> for HeadError {
    fn from(error: TargetError) -> Self {
        Self::Host(error)
    }
}

impl HeadError {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::MethodConnect => "CONNECT is not served here",
            Self::MethodTrace => "TRACE is not allowed",
            Self::TargetLength => "the target is too long",
            Self::HeadSize => "the head is too large",
            Self::HeadCount => "the head has too many fields",
            Self::TargetForm => "the target has an authority but no scheme",
            Self::TargetScheme => "the scheme of the target is neither http nor https",
            Self::HostMissing => "there is no Host",
            Self::HostRepeated => "there is more than one Host",
            Self::HostDiffers => "Host differs from the authority of the target",
            Self::Host(error) => error.as_str(),
            Self::TransferEncoding => "Transfer-Encoding is not exactly chunked",
            Self::BothLengths => "there are both Content-Length and Transfer-Encoding",
            Self::LengthRepeated => "there is more than one Content-Length",
            Self::LengthInvalid => "Content-Length is not a number",
            Self::Connection => "Connection is not a list of field names",
            Self::Nominated => "Connection names a field that must reach the service",
            Self::ConnectionSpecific => "a field of the connection has no place in HTTP/2",
            Self::Name => "a field name contains an underscore or a byte that is not allowed",
            Self::Value => "a field value begins or ends with white space",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error for HeadError {}

/// What a request asks its connection to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upgrade {
    /// `GET` with `Upgrade: websocket` in HTTP/1.1 (RFC 6455), or an extended CONNECT in HTTP/2 (RFC 8441).
    WebSocket,
}

/// What one pass over a head has found out.
#[derive(Clone, Debug)]
pub struct Head {
    /// Which host is asked for, in normal form, with the port if one was given; `None` only in HTTP/1.0.
    pub authority: Option<HeaderValue>,
    name_length: usize,
    pub port: Option<u16>,
    pub upgrade: Option<Upgrade>,
    /// Whether the caller takes trailers.
    pub trailers: bool,
    fields: Fields,
}

impl Head {
    /// The host's name alone; empty where a request of HTTP/1.0 gives none.
    pub fn host(&self) -> &str {
        let text = self.authority.as_ref().map_or("", |value| value.to_str().expect("a host in normal form is ASCII"));
        &text[..self.name_length]
    }
}

/// Checks a request's head against everything that is promised of it.
pub fn inspect(parts: &Parts, bounds: &Bounds) -> Result<Head, HeadError> {
    let extended = extended_connect(parts);
    match parts.method {
        Method::CONNECT if extended.is_none() => return Err(HeadError::MethodConnect),
        Method::TRACE => return Err(HeadError::MethodTrace),
        _ => {}
    }
    let target_size = check_target(parts, bounds)?;
    if parts.headers.len() > bounds.head_count {
        return Err(HeadError::HeadCount);
    }

    let h2 = parts.version >= Version::HTTP_2;
    let mut size = target_size + parts.method.as_str().len();
    let mut found = Found::default();
    for (name, value) in &parts.headers {
        let name = name.as_str();
        size += name.len() + value.len() + FIELD_OVERHEAD;
        if !field::is_allowed(name) {
            return Err(HeadError::Name);
        }
        if h2 && is_padded(value.as_bytes()) {
            return Err(HeadError::Value);
        }
        found.take(Field::of(name), value, h2)?;
    }
    if size as u64 > bounds.head_size.0 {
        return Err(HeadError::HeadSize);
    }
    found.conclude(parts, extended)
}

/// A colon, a space and a line end.
const FIELD_OVERHEAD: usize = 4;

/// Returns how long the target is.
fn check_target(parts: &Parts, bounds: &Bounds) -> Result<usize, HeadError> {
    let uri = &parts.uri;
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let origin = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), authority) => {
            if !matches!(scheme, "http" | "https") {
                return Err(HeadError::TargetScheme);
            }
            scheme.len() + "://".len() + authority.map_or(0, |authority| authority.as_str().len())
        }
        (None, Some(_)) => return Err(HeadError::TargetForm),
        (None, None) => 0,
    };
    // The origin of an HTTP/2 request is not part of its `:path`, but a URI is as long on either protocol.
    let length = origin + path;
    if length as u64 > bounds.uri_size.0 { Err(HeadError::TargetLength) } else { Ok(length) }
}

fn extended_connect(parts: &Parts) -> Option<Upgrade> {
    let protocol = parts.extensions.get::<hyper::ext::Protocol>()?;
    (parts.method == Method::CONNECT && protocol.as_str() == "websocket").then_some(Upgrade::WebSocket)
}

fn is_padded(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    blank(value.first()) || blank(value.last())
}

/// What the pass has seen so far.
#[derive(Default)]
struct Found<'a> {
    fields: Fields,
    host: Option<&'a HeaderValue>,
    upgrade_nominated: bool,
    upgrade_websocket: bool,
    trailers: bool,
}

impl<'a> Found<'a> {
    fn take(&mut self, field: Field, value: &'a HeaderValue, h2: bool) -> Result<(), HeadError> {
        if h2 && field.is_connection_specific() {
            return Err(HeadError::ConnectionSpecific);
        }
        let repeated = self.fields.note(field);
        match field {
            Field::Host if repeated => return Err(HeadError::HostRepeated),
            Field::Host => self.host = Some(value),
            Field::ContentLength if repeated => return Err(HeadError::LengthRepeated),
            Field::ContentLength if !is_length(value.as_bytes()) => return Err(HeadError::LengthInvalid),
            Field::TransferEncoding if repeated || !value.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                return Err(HeadError::TransferEncoding);
            }
            Field::Connection => {
                let named = connection::read(value)?;
                self.upgrade_nominated |= named.upgrade;
                if named.others {
                    self.fields.note(Field::Nominated);
                }
            }
            Field::Upgrade => self.upgrade_websocket = !repeated && value.as_bytes().eq_ignore_ascii_case(b"websocket"),
            Field::Cookie if repeated => {
                self.fields.note(Field::Crumbs);
            }
            Field::Te if h2 && value != "trailers" => return Err(HeadError::ConnectionSpecific),
            Field::Te => self.trailers |= connection::tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers")),
            _ => {}
        }
        Ok(())
    }

    fn conclude(self, parts: &Parts, extended: Option<Upgrade>) -> Result<Head, HeadError> {
        if self.fields.has(Field::TransferEncoding) {
            if parts.version < Version::HTTP_11 {
                return Err(HeadError::TransferEncoding);
            }
            if self.fields.has(Field::ContentLength) {
                return Err(HeadError::BothLengths);
            }
        }
        let asked = self.upgrade_websocket && self.upgrade_nominated;
        let upgrade = (asked && parts.version == Version::HTTP_11 && parts.method == Method::GET).then_some(Upgrade::WebSocket);
        let (authority, name_length, port) = match authority(parts, self.host)? {
            Some((value, name_length, port)) => (Some(value), name_length, port),
            None => (None, 0, None),
        };
        Ok(Head { authority, name_length, port, upgrade: extended.or(upgrade), trailers: self.trailers, fields: self.fields })
    }
}

/// The one host that a request asks for, the length of its name, and its port.
fn authority(parts: &Parts, field: Option<&HeaderValue>) -> Result<Option<(HeaderValue, usize, Option<u16>)>, HeadError> {
    let targeted = parts.uri.authority().map(|authority| authority.as_str());
    let written = field.map(|value| value.to_str().map_err(|_| HeadError::Host(TargetError::HostName))).transpose()?;
    let Some(raw) = targeted.or(written) else {
        return if parts.version >= Version::HTTP_11 { Err(HeadError::HostMissing) } else { Ok(None) };
    };
    // A target in absolute form does not excuse HTTP/1.1 from sending a Host (RFC 9112 3.2).
    if parts.version == Version::HTTP_11 && field.is_none() {
        return Err(HeadError::HostMissing);
    }
    let host = target::host(raw)?;
    if let (Some(_), Some(written)) = (targeted, written)
        && written != raw
    {
        let default = if parts.uri.scheme_str() == Some("https") { 443 } else { 80 };
        let other = target::host(written)?;
        if other.name != host.name || other.port.unwrap_or(default) != host.port.unwrap_or(default) {
            return Err(HeadError::HostDiffers);
        }
    }

    let name_length = host.name.len();
    let normal = host.name == raw[..name_length.min(raw.len())] && matches!(raw.as_bytes().get(name_length), None | Some(b':'));
    let value = match (normal, field, host.port) {
        (true, Some(value), _) if written == Some(raw) => value.clone(),
        (true, ..) => HeaderValue::from_str(raw).map_err(|_| HeadError::Host(TargetError::HostName))?,
        (false, _, None) => HeaderValue::from_str(&host.name).expect("a host in normal form is ASCII"),
        (false, _, Some(port)) => HeaderValue::try_from(format!("{}:{port}", host.name)).expect("a host in normal form is ASCII"),
    };
    Ok(Some((value, name_length, host.port)))
}

fn is_length(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit) && str::from_utf8(value).is_ok_and(|digits| digits.parse::<u64>().is_ok())
}

/// Removes from a request what must not reach an endpoint: the fields of its connection, those that only shoal may set,
/// and, unless `trusted` sent them, those that say where it comes from.
///
/// `te` is left only as `trailers`. `Host` is left as it is. Cookies that HTTP/2 has taken apart are one field again,
/// because only HTTP/2 may (RFC 9113 8.2.3).
pub fn strip(headers: &mut HeaderMap, head: &Head, trusted: bool) {
    strip_connection(headers, &head.fields, connection::may_nominate);
    if head.trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let fields = &head.fields;
    if fields.has(Field::Trailer) {
        headers.remove(TRAILER);
    }
    if fields.has(Field::Crumbs) {
        let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let cookie = HeaderValue::try_from(crumbs.join(&b"; "[..])).expect("values joined by a semicolon are a value");
        headers.insert(COOKIE, cookie);
    }
    if fields.has(Field::Identity) || (fields.has(Field::Origin) && !trusted) {
        remove_all(headers, |field| field == Field::Identity || (field == Field::Origin && !trusted));
    }
}

/// Whether an answer's head says how long its body is in one way only, and is one that was asked for.
///
/// hyper prefers an encoding to a length that stands beside it, and takes an encoding that it does not know for a body that
/// ends with its connection: either would be written anew as something that the endpoint has not said.
pub fn is_plain<B>(response: &Response<B>) -> bool {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return false;
    }
    let headers = response.headers();
    // A list of equal lengths is one length to hyper, and might not be to the caller.
    if !headers.get_all(CONTENT_LENGTH).iter().all(|length| is_length(length.as_bytes())) {
        return false;
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => true,
        (Some(encoding), None) => encoding.as_bytes().eq_ignore_ascii_case(b"chunked") && !headers.contains_key(CONTENT_LENGTH),
        (Some(_), Some(_)) => false,
    }
}

/// Removes from an answer the fields of its connection. `Trailer` stays: it says which trailers may follow.
///
/// An endpoint that nominates an end-to-end field is not obeyed.
pub fn strip_response(headers: &mut HeaderMap) {
    let mut fields = Fields::default();
    for (name, value) in &*headers {
        let field = Field::of(name.as_str());
        fields.note(field);
        if field == Field::Connection && connection::read_leniently(value).others {
            fields.note(Field::Nominated);
        }
    }
    strip_connection(headers, &fields, connection::may_nominate);
}

fn strip_connection(headers: &mut HeaderMap, fields: &Fields, may_nominate: impl Fn(&[u8]) -> bool) {
    if fields.has(Field::Nominated) {
        let lines: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        for token in lines.iter().flat_map(connection::tokens).filter(|token| may_nominate(token)) {
            if let Ok(name) = HeaderName::from_bytes(token) {
                headers.remove(name);
            }
        }
    }
    for (field, name) in &field::HOP_BY_HOP {
        if fields.has(*field) {
            headers.remove(name);
        }
    }
}

fn remove_all(headers: &mut HeaderMap, which: impl Fn(Field) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| which(Field::of(name.as_str()))).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
