//! Single values: words, names, addresses, and lists of them.

use super::{
    endpoint::EndpointScheme,
    reader::{Node, Read, Reader, Words, near},
    shape::{Shape, Text, one_of},
};
use crate::{
    ClientAuth, Family, KeyPart, LimitMode, Missing, Protocol, TlsVersion,
    document::{Span, Spanned},
    pattern::key_part,
    problem::codes,
};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use toml::de::DeValue;

/// Any text.
impl Read for Words {
    fn shape() -> Shape {
        Shape::text("a string", "…")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        r.text(node, &Self::shape()).map(Arc::from)
    }
}

impl Read for bool {
    fn shape() -> Shape {
        Shape::Boolean
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::Boolean(value) => Some(*value),
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}

/// Makes an enum readable from fixed words; words of versions to come are told apart from slips.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),* $(,)? } $(later { $($later:literal),* })?) => {
        impl Read for $name {
            fn shape() -> Shape {
                Shape::Words(&[$($word),*])
            }

            fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
                let text = r.text(node, &Self::shape())?;
                match text {
                    $($word => return Some(Self::$variant),)*
                    $($($later)|* => {
                        r.found.error(codes::NOT_IN_THIS_VERSION, node.at, format!("this version of shoal does not have `{text}`"));
                        return None;
                    })?
                    _ => {}
                }
                unknown_word(text, &[$($word),*], node.at, r)
            }
        }
    };
}

pub(crate) fn unknown_word<T>(text: &str, words: &[&str], at: Span, r: &mut Reader<'_>) -> Option<T> {
    let key = r.key();
    let near = near(text, words.iter().copied()).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
    let expected = one_of(words.iter().map(|word| format!("\"{word}\"")));
    r.found.error(codes::UNKNOWN_WORD, at, format!("`{key}` is {expected}, not \"{text}\"{near}"));
    None
}

words!(Protocol { Auto = "auto", H1 = "h1", H2 = "h2" });
words!(ClientAuth { Required = "required", Optional = "optional", None = "none" });
words!(TlsVersion { Tls12 = "1.2", Tls13 = "1.3" });
words!(LimitMode { Enforce = "enforce", Shadow = "shadow" });
words!(Missing { Share = "share", Skip = "skip", Refuse = "refuse" });
words!(EndpointScheme { Http = "http", Https = "https", H2c = "h2c" });
words!(Family { Auto = "auto", Ipv4 = "ipv4", Ipv6 = "ipv6", Both = "both" });

/// What is looked up of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LookupKind {
    Dns,
    Srv,
}
words!(LookupKind { Dns = "dns", Srv = "srv" });

/// A protocol that a listener speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Http {
    H1,
    H2,
}
words!(Http { H1 = "h1", H2 = "h2" });

/// Endpoints for callers that a listener can answer itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Serve {
    Health,
}
words!(Serve { Health = "health" } later { "auth", "jwks", "ratelimit" });

/// Over what a limit counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    Node,
}
words!(Scope { Node = "node" } later { "cluster", "region" });

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MetricsAccess {
    Token,
    Open,
}
words!(MetricsAccess { Token = "token", Open = "open" });

/// What happens to something unusual in a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tolerance {
    Keep,
    Reject,
}
words!(Tolerance { Keep = "keep", Reject = "reject" });

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum QueryOfRedirect {
    Keep,
    Drop,
}
words!(QueryOfRedirect { Keep = "keep", Drop = "drop" });

/// The version of the language.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version;

impl Read for Version {
    fn shape() -> Shape {
        Shape::Whole { min: 1, max: 1 }
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::Integer(number) if number.as_str() == "1" => Some(Self),
            DeValue::Integer(number) => {
                r.found.error(codes::VERSION, node.at, format!("this shoal speaks version 1 of its language, not {number}"));
                None
            }
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}

/// A name that appears in metrics and paths.
#[derive(Clone, Debug)]
pub(crate) struct Name(pub(crate) Arc<str>);

impl Name {
    pub(crate) fn is_valid(text: &str) -> bool {
        (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
    }

    pub(crate) fn complain(text: &str, at: Span, r: &mut Reader<'_>) {
        r.found
            .error(codes::BAD_NAME, at, format!("`{text}` cannot be a name"))
            .help("names consist of up to 128 letters, digits and `-`, `_`, `.`, `~`");
    }
}

impl Read for Name {
    fn shape() -> Shape {
        Shape::Text(Text { what: "a name", example: "orders", pattern: Some("^[A-Za-z0-9._~-]{1,128}$") })
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        if !Self::is_valid(text) {
            Self::complain(text, node.at, r);
            return None;
        }
        Some(Self(text.into()))
    }
}

impl Read for IpNet {
    fn shape() -> Shape {
        Shape::text("a network", "10.0.0.0/8")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        let parsed = text.parse::<Self>().ok().or_else(|| text.parse::<IpAddr>().ok().map(Self::from));
        match parsed {
            Some(network) if network.trunc() == network => Some(network),
            Some(network) => {
                r.found.error(codes::BAD_NETWORK, node.at, format!("`{text}` has bits behind its prefix")).help(format!(
                    "write {} for the network, or {} for the address",
                    network.trunc(),
                    network.addr()
                ));
                None
            }
            None => {
                r.found
                    .error(codes::BAD_NETWORK, node.at, format!("`{text}` is no network"))
                    .help("a network is an address and the length of its prefix, as in 10.0.0.0/8 or 2001:db8::/32");
                None
            }
        }
    }
}

impl Read for SocketAddr {
    fn shape() -> Shape {
        Shape::text("an address and port", "127.0.0.1:8080")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let port = port.map_or("8080".to_string(), |port| port.to_string());
        r.found
            .error(codes::BAD_ADDRESS, node.at, format!("`{text}` is no address to listen on"))
            .help(format!("write 127.0.0.1:{port} for this machine alone, 0.0.0.0:{port} for everyone, [::]:{port} for everyone by IPv6"));
        None
    }
}

/// A resolver; on port 53 where only an address is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DnsServer(pub(crate) SocketAddr);

impl Read for DnsServer {
    fn shape() -> Shape {
        Shape::text("an address and port", "10.0.0.10:53")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        let address = text.parse().ok().or_else(|| text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
        let usable = address.filter(|address| address.port() != 0 && !address.ip().is_unspecified());
        if usable.is_none() {
            r.found
                .error(codes::BAD_ADDRESS, node.at, format!("`{text}` is no address of a resolver"))
                .help("a resolver is written 10.0.0.10:53 or [2001:db8::10]:53: finding it by name would need one");
        }
        usable.map(Self)
    }
}

impl Read for KeyPart {
    fn shape() -> Shape {
        Shape::Text(Text { what: "a key", example: "client_ip", pattern: Some("^(client_ip|host|route|(header|cookie|path):.+)$") })
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        match key_part(text) {
            Ok(part) => Some(part),
            Err(error) => error.report(node.at, text, r),
        }
    }
}

/// A list, each entry with its place. What is wrong with one entry does not keep the others from being read.
pub(crate) type List<T> = Vec<Spanned<T>>;

impl<T: Read> Read for List<T> {
    fn shape() -> Shape {
        Shape::list(T::shape())
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Array(entries) = node.value else { return r.wrong_type(node, &Self::shape()) };
        let mut list = Vec::with_capacity(entries.len());
        for entry in entries {
            let at = r.span(entry.span());
            list.extend(T::read(Node { value: entry.get_ref(), at }, r).map(|value| Spanned { value, at }));
        }
        Some(list)
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) List<T>);

impl<T: Read> Read for OneOrMany<T> {
    fn shape() -> Shape {
        Shape::Any(vec![T::shape(), Shape::list(T::shape())])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::Array(_) => List::read(node, r).map(Self),
            _ => T::read(node, r).map(|value| Self(vec![Spanned { value, at: node.at }])),
        }
    }
}

/// A table whose keys are chosen by the operator, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<(Spanned<Arc<str>>, Spanned<T>)>);

impl<T: Read> Read for Named<T> {
    fn shape() -> Shape {
        Shape::Named(Box::new(T::shape()))
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Table(table) = node.value else { return r.wrong_type(node, &Self::shape()) };
        let mut named = Vec::with_capacity(table.len());
        for (key, value) in table {
            let name = Spanned { value: Arc::from(&**key.get_ref()), at: r.span(key.span()) };
            let at = r.span(value.span());
            let value = r.below(&name, |r| T::read(Node { value: value.get_ref(), at }, r));
            named.extend(value.map(|value| (name, Spanned { value, at })));
        }
        named.sort_by_key(|(name, _)| name.at);
        Some(Self(named))
    }
}
