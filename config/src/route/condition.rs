//! Whether a request meets what a route asks for beside its host and path.

use super::{Ask, Lost};
use crate::{Matcher, ValueMatch};
use std::borrow::Cow;

/// Returns the first condition that the request does not meet. The cheap ones are asked first.
pub(super) fn unmet(matcher: &Matcher, ask: &Ask<'_>) -> Option<Lost> {
    if !matcher.listeners.is_empty() && !matcher.listeners.contains(ask.listener) {
        return Some(Lost::Listener);
    }
    if !matcher.methods.is_empty() && !matcher.methods.contains(ask.method) {
        return Some(Lost::Method);
    }
    let header = |(name, wanted): &(http::HeaderName, ValueMatch)| {
        let values = ask.headers.get_all(name).iter().map(|value| Value::Header(value.as_bytes()));
        !meets(wanted, values)
    };
    if let Some(index) = matcher.headers.iter().position(header) {
        return Some(Lost::Header(index));
    }
    let parameter = |(name, wanted): &(std::sync::Arc<str>, ValueMatch)| !meets(wanted, parameters(ask.query, name));
    if let Some(index) = matcher.query.iter().position(parameter) {
        return Some(Lost::Query(index));
    }
    matcher.path_regex.as_ref().filter(|regex| !regex.is_match(ask.path)).map(|_| Lost::PathRegex)
}

/// Of several values with one name, any may be the one that is wanted.
fn meets<'a>(wanted: &ValueMatch, mut values: impl Iterator<Item = Value<'a>>) -> bool {
    match wanted {
        ValueMatch::Exact(exact) => values.any(|value| value.is(exact)),
        ValueMatch::Regex(regex) => values.any(|value| value.text().is_some_and(|text| regex.is_match(&text))),
        ValueMatch::Present => values.next().is_some(),
        ValueMatch::Absent => values.next().is_none(),
    }
}

enum Value<'a> {
    Header(&'a [u8]),
    /// Still encoded.
    Parameter(&'a str),
}

impl<'a> Value<'a> {
    fn is(&self, exact: &str) -> bool {
        match self {
            Self::Header(bytes) => *bytes == exact.as_bytes(),
            Self::Parameter(text) => decoded(text).eq(exact.bytes()),
        }
    }

    fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Header(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Parameter(text) if !text.contains(['%', '+']) => Some(Cow::Borrowed(text)),
            Self::Parameter(text) => String::from_utf8(decoded(text).collect()).ok().map(Cow::Owned),
        }
    }
}

/// The values that a query has for a name. Names are compared decoded, so that `a%62c` does not hide from `abc`.
fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Value<'a>> {
    query.split('&').filter(|pair| !pair.is_empty()).filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        decoded(key).eq(name.bytes()).then_some(Value::Parameter(value))
    })
}

/// Bytes of an `application/x-www-form-urlencoded` text (WHATWG URL, 5.1). A `%` that encodes nothing stands for itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (step, byte) = match byte {
            b'+' => (1, b' '),
            b'%' => match (hex(at + 1), hex(at + 2)) {
                (Some(high), Some(low)) => (3, (high * 16 + low) as u8),
                _ => (1, b'%'),
            },
            byte => (1, byte),
        };
        at += step;
        Some(byte)
    })
}
