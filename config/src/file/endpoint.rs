//! Hosts, and endpoints that are reached at them.

use super::{
    EndpointTable,
    reader::{Node, Read, Reader},
    shape::{Shape, Text},
};
use crate::{document::Spanned, pattern, problem::codes};
use http::HeaderValue;
use std::{ops::Range, sync::Arc};
use toml::de::DeValue;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndpointScheme {
    Http,
    Https,
    H2c,
}

/// `http://host:port`, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EndpointUrl {
    pub(crate) scheme: EndpointScheme,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl EndpointUrl {
    /// What is wrong is told by the part of the text and what would be right.
    fn parse(text: &str) -> Result<Self, (Range<usize>, &'static str)> {
        const FORM: &str = "an endpoint is written http://host:port, https://host:port or h2c://host:port";
        let (scheme, rest) = text.split_once("://").ok_or((0..text.len(), FORM))?;
        let (scheme, port) = match scheme {
            "http" => (EndpointScheme::Http, 80),
            "https" => (EndpointScheme::Https, 443),
            "h2c" => (EndpointScheme::H2c, 80),
            _ => return Err((0..scheme.len(), FORM)),
        };
        let at = text.len() - rest.len();
        if let Some(end) = rest.rfind('@') {
            return Err((
                at..at + end + 1,
                "credentials do not belong into an endpoint; set the header `authorization` in a route's `request.set`",
            ));
        }
        if let Some(slash) = rest.find(['/', '?', '#']) {
            return Err((at + slash..text.len(), "an endpoint has no path; a route's `request` rewrites paths"));
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (rest, port),
            Some((host, digits)) => {
                let valid = digits.parse::<u16>().ok().filter(|port| *port > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
                (host, valid.ok_or((text.len() - digits.len()..text.len(), "a port is a number from 1 to 65535"))?)
            }
            None => (rest, port),
        };
        if !is_host(host) {
            return Err((at..at + host.len(), "a host is a name, an IPv4 address, or an IPv6 address in brackets"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Self { scheme, host: host.into(), port })
    }
}

impl Read for EndpointUrl {
    fn shape() -> Shape {
        Shape::Text(Text { what: "an endpoint", example: "http://127.0.0.1:3000", pattern: Some("^(https?|h2c)://[^/?#@]+$") })
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        match Self::parse(text) {
            Ok(url) => Some(url),
            Err((range, right)) => {
                let at = r.documents.within(node.at, text, range.clone());
                let message = if text[range.clone()].contains('@') {
                    r.documents.hide(at);
                    "an endpoint has no credentials".to_string()
                } else if range.is_empty() || range == (0..text.len()) {
                    format!("`{text}` is no endpoint")
                } else {
                    format!("`{}` cannot stand in an endpoint", &text[range])
                };
                r.found.error(codes::BAD_ENDPOINT, at, message).help(right);
                None
            }
        }
    }
}

/// An endpoint, by its address alone or with more to be known of it.
#[derive(Clone, Debug)]
pub(crate) struct EndpointChoice {
    pub(crate) url: EndpointUrl,
    pub(crate) weight: u32,
    pub(crate) region: Option<Spanned<Arc<str>>>,
    pub(crate) zone: Option<Spanned<Arc<str>>>,
    pub(crate) priority: u16,
    pub(crate) drain: bool,
}

impl From<EndpointUrl> for EndpointChoice {
    fn from(url: EndpointUrl) -> Self {
        Self { url, weight: 1, region: None, zone: None, priority: 0, drain: false }
    }
}

impl Read for EndpointChoice {
    fn shape() -> Shape {
        Shape::Any(vec![EndpointUrl::shape(), EndpointTable::shape()])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(_) => EndpointUrl::read(node, r).map(Self::from),
            DeValue::Table(_) => {
                let table = EndpointTable::read(node, r)?;
                Some(Self {
                    url: table.url?.value,
                    weight: table.weight.get(),
                    region: table.region,
                    zone: table.zone,
                    priority: table.priority.get(),
                    drain: table.drain.value,
                })
            }
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum HostChoice {
    Keep,
    Endpoint,
    Name(HeaderValue),
}

impl Read for HostChoice {
    fn shape() -> Shape {
        Shape::Any(vec![Shape::Words(&["keep", "endpoint"]), Shape::text("a host", "shop.example.com")])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match r.text(node, &Self::shape())? {
            "keep" => Some(Self::Keep),
            "endpoint" => Some(Self::Endpoint),
            text if is_authority(text) => HeaderValue::from_str(text).ok().map(Self::Name),
            text => {
                let message = format!("`{text}` is no host");
                r.found
                    .error(codes::BAD_HOST, node.at, message)
                    .help("write \"keep\", \"endpoint\", or a name such as \"shop.example.com\"");
                None
            }
        }
    }
}

/// `host` or `host:port`.
pub(super) fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    is_host(host) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => pattern::is_host(&text.to_ascii_lowercase()),
    }
}

/// A name that DNS is asked for. Unlike a host's, its labels may have underscores, as SRV records do.
#[derive(Clone, Debug)]
pub(crate) struct LookupName(pub(crate) Arc<str>);

impl LookupName {
    pub(super) fn is_valid(text: &str) -> bool {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        text.len() <= 253 && text.split('.').all(label)
    }
}

impl Read for LookupName {
    fn shape() -> Shape {
        Shape::text("a name", "orders.shop.internal")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        let help = if text.parse::<std::net::IpAddr>().is_ok() {
            "an address needs no lookup; write it in `endpoints`"
        } else if Self::is_valid(text) {
            return Some(Self(text.to_ascii_lowercase().into()));
        } else {
            "write a name such as \"orders.shop.internal\", without a scheme or a port"
        };
        r.found.error(codes::BAD_HOST, node.at, format!("`{text}` is no name to look up")).help(help);
        None
    }
}

/// A name to be found in a certificate or a location.
#[derive(Clone, Debug)]
pub(crate) struct ServerName(pub(crate) Arc<str>);

impl Read for ServerName {
    fn shape() -> Shape {
        Shape::text("a host", "shop.example.com")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        if !is_host(text) {
            r.found.error(codes::BAD_HOST, node.at, format!("`{text}` is no host")).help("write a name such as \"shop.example.com\"");
            return None;
        }
        Some(Self(text.to_ascii_lowercase().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_to_look_up_is_made_of_labels() {
        let check = |text: &str, expected: bool| assert_eq!(LookupName::is_valid(text), expected, "{text}");
        check("orders", true);
        check("orders.shop.internal", true);
        check("orders.shop.internal.", false);
        check("_http._tcp.orders", true);
        check("", false);
        check(".", false);
        check("a..b", false);
        check("-a.b", false);
        check("a b", false);
        check("http://a", false);
        check("a:53", false);
        check(&"a".repeat(64), false);
        check(&format!("{}a", "a.".repeat(126)), true);
        check(&format!("{}a", "a.".repeat(127)), false);
    }

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        let check = |text: &str, expected: &str| {
            let found = match EndpointUrl::parse(text) {
                Ok(url) => format!("{:?} {} {}", url.scheme, url.host, url.port),
                Err((range, _)) => format!("not `{}`", &text[range]),
            };
            assert_eq!(found, expected, "{text}");
        };
        check("http://127.0.0.1:3000", "Http 127.0.0.1 3000");
        check("http://Example.com", "Http example.com 80");
        check("https://example.com", "Https example.com 443");
        check("h2c://[::1]:9000", "H2c ::1 9000");
        check("https://[::1]", "Https ::1 443");
        check("127.0.0.1:3000", "not `127.0.0.1:3000`");
        check("ftp://x", "not `ftp`");
        check("http://u:p@x", "not `u:p@`");
        check("http://x/", "not `/`");
        check("http://x:0", "not `0`");
        check("http://x:+1", "not `+1`");
        check("http://", "not ``");
        check("http://a b", "not `a b`");
        check("http://::1", "not `::1`");
    }
}
