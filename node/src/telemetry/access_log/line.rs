//! One request as one line of JSON.
//!
//! The fields come always in the same order; one that has nothing to say is left away. There is no query string, no
//! value of a header that is to be redacted, and nothing longer than a kibibyte.

use crate::{json, telemetry::traces::Trace};
use config::{AccessLogTo, Node, Ratio, Revision};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::{
    io::Write,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Longer values are cut.
pub const FIELD_MAX: usize = 1024;

/// What stands in the place of a redacted value.
const REDACTED: &str = "[redacted]";

/// What is known of a request when it has ended.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub wall: SystemTime,
    pub request_id: &'a str,
    pub trace: Option<&'a Trace>,
    pub method: &'a str,
    pub host: Option<&'a str>,
    /// As it came. From a `?` on it is cut away.
    pub path: &'a str,
    /// The id of the route.
    pub route: Option<&'a str>,
    pub status: StatusCode,
    /// Of the rejection, where the node answered by itself.
    pub error_code: Option<&'a str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration: Duration,
    /// How much of it passed waiting for endpoints.
    pub upstream_duration: Option<Duration>,
    pub service: Option<&'a str>,
    /// The address of the last attempt.
    pub upstream: Option<&'a str>,
    pub retries: u32,
    /// The limit that refused.
    pub limit: Option<&'a str>,
    pub peer_ip: IpAddr,
    pub client_ip: IpAddr,
    /// As `TLSv1.3`.
    pub tls: Option<&'a str>,
    /// As `HTTP/2`.
    pub proto: &'a str,
    /// As the request came with them.
    pub headers: &'a HeaderMap,
}

/// Which requests are written, and what of them. Made once for a revision.
#[derive(Debug)]
pub struct Policy {
    success: Share,
    errors: Share,
    /// The fields that are the same on every line: node, region, config.
    origin: Box<[u8]>,
    headers: Box<[Shown]>,
    host: bool,
    user_agent: bool,
}

/// A header that is written beside the fixed fields.
#[derive(Debug)]
struct Shown {
    name: HeaderName,
    /// With quotes and colon.
    key: Box<[u8]>,
    redacted: bool,
}

/// Of 2³² requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Share(u64);

impl Policy {
    pub fn new(log: &config::AccessLog, node: &Node, revision: &Revision) -> Self {
        let redacted = |name: &HeaderName| log.redact.contains(name);
        let mut origin = Vec::new();
        for (key, value) in [(&b",\"node\":"[..], &node.name), (b",\"region\":", &node.region), (b",\"config\":", &revision.0)] {
            origin.extend_from_slice(key);
            json::text(&mut origin, value.as_bytes(), FIELD_MAX);
        }
        let shown = |name: &HeaderName| {
            let mut key = Vec::new();
            json::text(&mut key, name.as_str().as_bytes(), FIELD_MAX);
            key.push(b':');
            Shown { name: name.clone(), key: key.into(), redacted: redacted(name) }
        };
        let (success, errors) = match log.to {
            AccessLogTo::Off => (Share(0), Share(0)),
            AccessLogTo::Stdout | AccessLogTo::File(_) => (Share::of(log.success), Share::of(log.errors)),
        };
        Self {
            success,
            errors,
            origin: origin.into(),
            headers: log.headers.iter().map(shown).collect(),
            host: !redacted(&header::HOST),
            user_agent: !redacted(&header::USER_AGENT),
        }
    }

    /// Whether a request that was answered so is written.
    pub fn wants(&self, status: StatusCode, chance: u64) -> bool {
        let share = if status.as_u16() < 400 { self.success } else { self.errors };
        chance >> 32 < share.0
    }

    /// Those fields of a request that a line may show, for the time when the request itself is gone. Empty, and free,
    /// where nothing is written.
    pub fn keep(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        if self.success == Share(0) && self.errors == Share(0) {
            return kept;
        }
        for name in [&header::USER_AGENT].into_iter().chain(self.headers.iter().map(|shown| &shown.name)) {
            if kept.contains_key(name) {
                continue;
            }
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        kept
    }

    /// Appends the line with its line feed.
    pub(super) fn encode(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ts\":\"");
        timestamp(out, line.wall);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(level(line.status).as_bytes());
        out.extend_from_slice(b"\",\"msg\":\"request\"");
        field(out, b",\"request_id\":", line.request_id);
        if let Some(trace) = line.trace {
            field(out, b",\"trace_id\":", &trace.trace_id.text());
            field(out, b",\"span_id\":", &trace.span_id.text());
        }
        out.extend_from_slice(&self.origin);
        field(out, b",\"method\":", line.method);
        optional(out, b",\"host\":", line.host.map(|host| if self.host { host } else { REDACTED }));
        field(out, b",\"path\":", line.path.split_once('?').map_or(line.path, |(path, _)| path));
        optional(out, b",\"route\":", line.route);
        count(out, b",\"status\":", line.status.as_u16().into());
        optional(out, b",\"error_code\":", line.error_code);
        count(out, b",\"bytes_in\":", line.bytes_in);
        count(out, b",\"bytes_out\":", line.bytes_out);
        millis(out, b",\"dur_ms\":", line.duration);
        if let Some(duration) = line.upstream_duration {
            millis(out, b",\"upstream_ms\":", duration);
        }
        optional(out, b",\"service\":", line.service);
        optional(out, b",\"upstream\":", line.upstream);
        count(out, b",\"retries\":", line.retries.into());
        optional(out, b",\"limit\":", line.limit);
        address(out, b",\"peer_ip\":\"", line.peer_ip);
        address(out, b",\"client_ip\":\"", line.client_ip);
        optional(out, b",\"tls\":", line.tls);
        field(out, b",\"proto\":", line.proto);
        if let Some(user_agent) = line.headers.get(&header::USER_AGENT) {
            out.extend_from_slice(b",\"ua\":");
            json::text(out, if self.user_agent { user_agent.as_bytes() } else { REDACTED.as_bytes() }, FIELD_MAX);
        }
        self.headers(line.headers, out);
        out.extend_from_slice(b"}\n");
    }

    fn headers(&self, headers: &HeaderMap, out: &mut Vec<u8>) {
        let mut separator: &[u8] = b",\"headers\":{";
        for shown in &self.headers {
            let mut values = headers.get_all(&shown.name).iter();
            let Some(first) = values.next() else { continue };
            out.extend_from_slice(separator);
            out.extend_from_slice(&shown.key);
            match values.next() {
                _ if shown.redacted => json::text(out, REDACTED.as_bytes(), FIELD_MAX),
                None => json::text(out, first.as_bytes(), FIELD_MAX),
                Some(second) => json::text(out, &joined([first, second].into_iter().chain(values)), FIELD_MAX),
            }
            separator = b",";
        }
        if separator == b"," {
            out.push(b'}');
        }
    }
}

/// Several values of one header, as RFC 9110 joins them; no longer than it takes to be cut.
fn joined<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Vec<u8> {
    let mut joined = Vec::new();
    for value in values {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value.as_bytes());
        if joined.len() > FIELD_MAX {
            break;
        }
    }
    joined
}

impl Share {
    fn of(ratio: Ratio) -> Self {
        Self((ratio.0 * (1u64 << 32) as f64).round() as u64)
    }
}

fn level(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..400 => "info",
        400..500 => "warn",
        500.. => "error",
    }
}

fn field(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    json::text(out, value.as_bytes(), FIELD_MAX);
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        field(out, key, value);
    }
}

fn count(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    json::number(out, value);
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, key: &[u8], duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    count(out, key, micros / 1000);
    out.push(b'.');
    json::digits::<3>(out, (micros % 1000) as u32);
}

/// The key brings the opening quote.
fn address(out: &mut Vec<u8>, key: &[u8], address: IpAddr) {
    out.extend_from_slice(key);
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                json::number(out, octet.into());
            }
        }
        IpAddr::V6(address) => write!(out, "{address}").expect("a vector takes whatever is written"),
    }
    out.push(b'"');
}

/// RFC 3339 in UTC with milliseconds: `2026-11-24T06:46:01.123Z`. A clock before 1970 shows 1970.
fn timestamp(out: &mut Vec<u8>, wall: SystemTime) {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, (since.as_secs() % 86_400) as u32);
    let (year, month, day) = date(days);
    json::digits::<4>(out, year);
    out.push(b'-');
    json::digits::<2>(out, month);
    out.push(b'-');
    json::digits::<2>(out, day);
    out.push(b'T');
    json::digits::<2>(out, second / 3600);
    out.push(b':');
    json::digits::<2>(out, second / 60 % 60);
    out.push(b':');
    json::digits::<2>(out, second % 60);
    out.push(b'.');
    json::digits::<3>(out, since.subsec_millis());
    out.push(b'Z');
}

/// The Gregorian date so many days after 1970-01-01. Years are counted from March, so that the leap day ends one; 400
/// of them have 146,097 days. What four digits cannot tell shows the end of 9999.
fn date(days: u64) -> (u32, u32, u32) {
    const LAST: u64 = 2_932_896;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days.min(LAST) as u32 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (year + era * 400, month, day)
}

#[cfg(test)]
mod tests;
