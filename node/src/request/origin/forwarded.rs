//! Reads `Forwarded` (RFC 7239) by the letter, from its near end to the first mistake.
//!
//! What stands at the near end was written by the proxy that is trusted; what stands behind it may be a caller's, who
//! must not be able to spoil it: without it the caller would be taken for the proxy.

use super::{HOPS_MAX, Scheme, address};
use crate::request::target;
use http::{HeaderMap, header::FORWARDED};
use std::net::IpAddr;

/// What one proxy said about whom it served.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Element<'a> {
    /// `None` for `unknown`, for an obfuscated name and where there is no `for`.
    pub(super) address: Option<IpAddr>,
    pub(super) scheme: Option<Scheme>,
    pub(super) host: Option<&'a str>,
}

#[derive(PartialEq, Eq, Debug)]
pub(super) struct Elements<'a> {
    nearest_first: [Element<'a>; HOPS_MAX],
    length: usize,
}

impl<'a> Elements<'a> {
    pub(super) fn nearest_first(&self) -> impl Iterator<Item = &Element<'a>> {
        self.nearest_first[..self.length].iter()
    }
}

/// All lines as one list, up to what is malformed and to as many as can be believed; `None` where that leaves nothing.
pub(super) fn parse(headers: &HeaderMap) -> Option<Elements<'_>> {
    let mut elements = Elements { nearest_first: Default::default(), length: 0 };
    let lines = headers.get_all(FORWARDED).into_iter().rev();
    let pieces = lines.flat_map(|line| line.as_bytes().rsplit(outside_quotes()));
    for (place, piece) in elements.nearest_first.iter_mut().zip(pieces) {
        let Some(element) = element(piece.trim_ascii()) else { break };
        *place = element;
        elements.length += 1;
    }
    (elements.length > 0).then_some(elements)
}

/// Which commas separate elements. There are no escapes to heed: an element that has one is malformed.
fn outside_quotes() -> impl FnMut(&u8) -> bool {
    let mut quoted = false;
    move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    }
}

fn element(piece: &[u8]) -> Option<Element<'_>> {
    let mut text = str::from_utf8(piece).ok().filter(|text| text.is_ascii())?;
    let mut element = Element::default();
    let mut seen = [false; 4];
    loop {
        let (name, behind) = text.split_once('=')?;
        let (value, behind) = value(behind)?;
        let parameter = ["for", "proto", "host", "by"].iter().position(|known| name.eq_ignore_ascii_case(known));
        if let Some(at) = parameter
            && std::mem::replace(&mut seen[at], true)
        {
            return None;
        }
        match parameter {
            Some(0) => element.address = node(value)?,
            Some(1) => element.scheme = Some(Scheme::read(value)?),
            Some(2) => element.host = Some(value).filter(|host| target::host(host).is_ok()).map(Some)?,
            Some(_) => drop(node(value)?),
            None if is_token(name) => {}
            None => return None,
        }
        match behind.strip_prefix(';') {
            Some(more) => text = more,
            None => return behind.is_empty().then_some(element),
        }
    }
}

/// Reads a token, or a quoted string without escapes: no address, scheme or host needs one.
fn value(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').filter(|(inside, _)| !inside.contains('\\')),
        None => {
            let end = text.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(text.len());
            (end > 0).then(|| text.split_at(end))
        }
    }
}

/// `Some(None)` for a node that keeps its address to itself; `None` for what is no node.
fn node(value: &str) -> Option<Option<IpAddr>> {
    let name = value.rsplit_once(':').map_or(value, |(name, _)| name);
    let hidden = name.eq_ignore_ascii_case("unknown") || name.strip_prefix('_').is_some_and(is_obfuscated);
    if hidden {
        return Some(None);
    }
    // A bare IPv6 address is right in the other header but not in this one.
    let bare = value.bytes().filter(|byte| *byte == b':').count() > 1 && !value.starts_with('[');
    address(value).filter(|_| !bare).map(Some)
}

fn is_obfuscated(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    /// The addresses, nearest first, or `None` where the value is dropped.
    fn check(value: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, HeaderValue::from_str(value).expect("the test's value is one"));
        let shown = |element: &Element| element.address.map_or("-".to_string(), |address| address.to_string());
        let found = parse(&headers).map(|elements| elements.nearest_first().map(shown).collect::<Vec<_>>().join(" "));
        assert_eq!(found.as_deref(), expected, "{value}");
    }

    #[test]
    fn a_well_formed_list_is_read_from_its_near_end() {
        check("for=192.0.2.1", Some("192.0.2.1"));
        check("For=\"192.0.2.1:80\";PROTO=https;by=_me;host=\"a.b:80\" ,\tfor=\"[2001:db8::1]\"", Some("2001:db8::1 192.0.2.1"));
        check("for=unknown, for=_hidden, for=\"_x:_y\"", Some("- - -"));
        check("proto=http", Some("-"));
        check("for=192.0.2.1;secret=abc", Some("192.0.2.1"));
        for hops in [HOPS_MAX, HOPS_MAX + 1] {
            check(&vec!["for=10.0.0.1"; hops].join(","), Some(&vec!["10.0.0.1"; HOPS_MAX].join(" ")));
        }
    }

    #[test]
    fn a_mistake_drops_only_what_stands_behind_it() {
        for behind in ["", "x", "\"", "\\\"", "for=", "for=\"a, b", "for=1;for=2", "a\tb", "for=192.0.2.9,"] {
            check(&format!("{behind}, for=192.0.2.1"), Some("192.0.2.1"));
            check(&format!("for=192.0.2.3,{behind},for=192.0.2.2;by=_me , for=\"192.0.2.1\""), Some("192.0.2.1 192.0.2.2"));
        }
    }

    #[test]
    fn a_mistake_at_the_near_end_leaves_nothing() {
        for value in [
            "",
            ",",
            "for=192.0.2.1,",
            "for",
            "for=",
            "for=192.0.2.1;",
            "for=192.0.2.1; proto=http",
            "for =192.0.2.1",
            "for=192.0.2.1 for=192.0.2.2",
            "for=192.0.2.1;for=192.0.2.2",
            "for=2001:db8::1",
            "for=\"2001:db8::1\"",
            "for=[2001:db8::1]",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\"x",
            "for=\"192\\.0.2.1\"",
            "for=256.0.0.1",
            "for=example",
            "proto=gopher",
            "host=\"a b\"",
            "=x",
        ] {
            check(value, None);
        }
    }

    proptest! {
        #[test]
        fn nobody_behind_a_trusted_proxy_can_spoil_what_it_says(behind in prop::collection::vec(any::<u8>(), 0..60), own_line: bool) {
            let mut headers = HeaderMap::new();
            let mut value: Vec<u8> = behind.into_iter().filter(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)).collect();
            if own_line {
                headers.append(FORWARDED, HeaderValue::from_bytes(&value).expect("a value"));
                value.clear();
            } else {
                value.extend(b", ");
            }
            value.extend(b"for=192.0.2.1");
            headers.append(FORWARDED, HeaderValue::from_bytes(&value).expect("a value"));
            let nearest = parse(&headers).and_then(|elements| elements.nearest_first().next().copied().map(|element| element.address));
            prop_assert_eq!(nearest, Some(Some(IpAddr::from([192, 0, 2, 1]))));
        }

        #[test]
        fn any_value_is_answered(value in "[a-zA-Z0-9=;,\" \\[\\]:._\\\\-]{0,40}") {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED, HeaderValue::from_str(&value).expect("visible ASCII"));
            let _ = parse(&headers);
        }
    }
}
