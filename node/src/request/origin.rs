//! Decides who calls, and what the endpoint is told about it.
//!
//! The connection says where a request comes from; forwarded headers say where it is said to come from. They are
//! believed only as far as trusted proxies vouch for them: the chain is walked from the near end, and the first address
//! that is not trusted is the caller. Whatever stands behind it was written by that caller and is dropped. By default
//! no network is trusted, so every forwarded header is overwritten.
//!
//! Where a trusted proxy sends both `X-Forwarded-For` and `Forwarded` (RFC 7239), the former counts: a proxy that knows
//! only that one hands the other through as its caller wrote it.

mod forwarded;
mod text;

use self::text::Text;
use super::target;
use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use ipnet::IpNet;
use std::net::IpAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How many proxies are believed in a row.
const HOPS_MAX: usize = 20;

/// What the connection says about its other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connected {
    pub peer: IpAddr,
    /// The source that a PROXY header named; it was read only if the peer may send one.
    pub proxied: Option<IpAddr>,
    pub tls: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            _ if text.eq_ignore_ascii_case("https") => Some(Self::Https),
            _ if text.eq_ignore_ascii_case("http") => Some(Self::Http),
            _ => None,
        }
    }
}

/// Where a request comes from, as far as it can be believed.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The caller. Never an IPv4 address in IPv6 clothes.
    pub client_ip: IpAddr,
    /// What the caller spoke to the first proxy that is trusted, or to us.
    pub scheme: Scheme,
    /// What the caller asked that proxy for, if the proxy says so and it is a host. The request's own `Host` otherwise.
    pub host: Option<HeaderValue>,
    /// Who sent us the request.
    hop: IpAddr,
    hop_trusted: bool,
    chain: Chain,
}

/// Where the addresses between the caller and us are written, and how many of them are believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chain {
    None,
    XForwardedFor(usize),
    Forwarded(usize),
}

impl Origin {
    /// Walks the chain of a request whose last part is `connected`. Looks at no header unless that part is trusted.
    pub fn find(connected: Connected, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let hop = connected.proxied.unwrap_or(connected.peer).to_canonical();
        let scheme = if connected.tls { Scheme::Https } else { Scheme::Http };
        let mut origin = Self { client_ip: hop, scheme, host: None, hop, hop_trusted: false, chain: Chain::None };
        if is_trusted(hop, trusted) {
            origin.hop_trusted = true;
            origin.believe(headers, trusted);
        }
        origin
    }

    fn believe(&mut self, headers: &HeaderMap, trusted: &[IpNet]) {
        if headers.contains_key(X_FORWARDED_FOR) {
            self.chain = Chain::XForwardedFor(self.walk(addresses(headers), trusted));
        } else if let Some(elements) = forwarded::parse(headers) {
            let believed = self.walk(elements.nearest_first().map(|element| element.address), trusted);
            self.chain = Chain::Forwarded(believed);
            if let Some(first) = elements.nearest_first().take(believed).last() {
                self.scheme = first.scheme.unwrap_or(self.scheme);
                self.host = first.host.and_then(|host| HeaderValue::from_str(host).ok());
            }
        }
        if let Some(scheme) = nearest(headers, &X_FORWARDED_PROTO).and_then(Scheme::read) {
            self.scheme = scheme;
        }
        if let Some(value) = headers.get_all(X_FORWARDED_HOST).iter().next_back()
            && value.to_str().is_ok_and(|text| target::host(text).is_ok())
        {
            self.host = Some(value.clone());
        }
    }

    /// Moves the caller along `hops` for as long as the one before is trusted. Returns how many were passed.
    fn walk(&mut self, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &[IpNet]) -> usize {
        let mut believed = 0;
        for hop in hops.take(HOPS_MAX) {
            let Some(hop) = hop else { break };
            self.client_ip = hop;
            believed += 1;
            if !is_trusted(hop, trusted) {
                break;
            }
        }
        believed
    }

    /// Whether what sent us the request is a trusted proxy.
    pub fn is_vouched_for(&self) -> bool {
        self.hop_trusted
    }

    /// Makes the forwarded headers of a request say what is believed, for the endpoint. `host` is what the request's
    /// own `Host` said. One allocation, and one more where a trusted proxy sent `Forwarded`.
    pub fn write(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        let (chain, hops) = self.believed(headers);
        let chain = &chain[..hops];
        let rewrite_forwarded = headers.contains_key(FORWARDED) && self.hop_trusted && forwarded::parse(headers).is_some();

        let addresses = if chain.is_empty() { list::<48>(&[self.hop], &[]) } else { list::<1024>(chain, &[self.hop]) };
        headers.insert(X_FORWARDED_FOR, addresses);
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme.as_str()));
        let host = self.host.as_ref().or(host);
        match host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host.clone()),
            None => headers.remove(X_FORWARDED_HOST),
        };
        if rewrite_forwarded {
            headers.insert(FORWARDED, self.forwarded(chain, host));
        } else {
            headers.remove(FORWARDED);
        }
    }

    /// The believed part of the chain, farthest first, and its length.
    fn believed(&self, headers: &HeaderMap) -> ([IpAddr; HOPS_MAX], usize) {
        let mut chain = [self.hop; HOPS_MAX];
        let mut hops = 0;
        let mut keep = |address: Option<IpAddr>| {
            if let Some(address) = address {
                chain[hops] = address;
                hops += 1;
            }
        };
        match self.chain {
            Chain::None => {}
            Chain::XForwardedFor(believed) => addresses(headers).take(believed).for_each(&mut keep),
            Chain::Forwarded(believed) => {
                let elements = forwarded::parse(headers);
                elements.iter().flat_map(|elements| elements.nearest_first().take(believed)).for_each(|element| keep(element.address));
            }
        }
        chain[..hops].reverse();
        (chain, hops)
    }

    fn forwarded(&self, chain: &[IpAddr], host: Option<&HeaderValue>) -> HeaderValue {
        let mut text = Text::<2048>::new();
        for (at, address) in chain.iter().chain([&self.hop]).enumerate() {
            text.separate(", ");
            match address {
                IpAddr::V4(_) => text.push("for="),
                IpAddr::V6(_) => text.push("for=\"["),
            }
            text.push_address(*address);
            if address.is_ipv6() {
                text.push("]\"");
            }
            if at == 0 {
                text.push(";proto=");
                text.push(self.scheme.as_str());
                if let Some(host) = host.and_then(|host| host.to_str().ok()) {
                    text.push(";host=\"");
                    text.push(host);
                    text.push("\"");
                }
            }
        }
        text.value()
    }
}

fn list<const N: usize>(far: &[IpAddr], near: &[IpAddr]) -> HeaderValue {
    let mut text = Text::<N>::new();
    for address in far.iter().chain(near) {
        text.separate(", ");
        text.push_address(*address);
    }
    text.value()
}

/// The entries of `X-Forwarded-For`, nearest first; `None` for one that is no address.
fn addresses(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    let entries = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    entries.filter(|entry| !entry.is_empty()).map(|entry| str::from_utf8(entry).ok().and_then(address))
}

/// Reads an address as proxies write it: bare, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let read = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (inside, behind) = bracketed.split_once(']')?;
            let port = behind.strip_prefix(':');
            (behind.is_empty() || port.is_some_and(is_port)).then_some(())?;
            IpAddr::V6(inside.parse().ok()?)
        }
        None => match text.split_once(':') {
            Some((before, port)) if is_port(port) => IpAddr::V4(before.parse().ok()?),
            _ => text.parse().ok()?,
        },
    };
    Some(read.to_canonical())
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What the nearest proxy wrote: the end of the last line.
fn nearest<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    Some(line.rsplit(',').next().unwrap_or(line).trim())
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// What a limit counts an address as: IPv4 whole, IPv6 by its /64, because a caller owns at least that much of it.
pub fn client_key(address: IpAddr) -> [u8; 17] {
    let mut key = [0; 17];
    match address.to_canonical() {
        IpAddr::V4(address) => {
            key[0] = 4;
            key[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            key[0] = 6;
            key[1..9].copy_from_slice(&address.octets()[..8]);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRUSTED: &str = "10.0.0.0/8 fd00::/8";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("the test's value is one"));
        }
        headers
    }

    fn find(peer: &str, headers: &HeaderMap) -> Origin {
        let trusted: Vec<IpNet> = TRUSTED.split(' ').map(|network| network.parse().expect("a network")).collect();
        Origin::find(Connected { peer: peer.parse().expect("an address"), proxied: None, tls: false }, headers, &trusted)
    }

    /// `lines` arrive from `peer`; the endpoint is told `expected`, every line of it.
    fn check(peer: &str, lines: &[(&'static str, &str)], client: &str, expected: &[(&'static str, &str)]) {
        let mut headers = headers(lines);
        let origin = find(peer, &headers);
        assert_eq!(origin.client_ip.to_string(), client, "{lines:?}");
        origin.write(&mut headers, Some(&HeaderValue::from_static("shop.example")));
        let mut told: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        told.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(told, expected, "from {peer}: {lines:?}");
    }

    #[test]
    fn a_caller_that_is_not_trusted_is_not_believed() {
        check(
            "192.0.2.1",
            &[
                ("x-forwarded-for", "198.51.100.7"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "evil"),
                ("forwarded", "for=198.51.100.7"),
            ],
            "192.0.2.1",
            &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "shop.example")],
        );
    }

    #[test]
    fn the_walk_ends_at_the_first_address_that_is_not_trusted() {
        for (sent, client, told) in [
            ("198.51.100.7", "198.51.100.7", "198.51.100.7, 10.0.0.1"),
            ("203.0.113.9, 198.51.100.7", "198.51.100.7", "198.51.100.7, 10.0.0.1"),
            ("203.0.113.9,198.51.100.7 , 10.0.0.2", "198.51.100.7", "198.51.100.7, 10.0.0.2, 10.0.0.1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3", "10.0.0.3, 10.0.0.2, 10.0.0.1"),
            ("198.51.100.7, garbage, 10.0.0.2", "10.0.0.2", "10.0.0.2, 10.0.0.1"),
            ("unknown", "10.0.0.1", "10.0.0.1"),
            ("", "10.0.0.1", "10.0.0.1"),
            ("198.51.100.7:4711,,", "198.51.100.7", "198.51.100.7, 10.0.0.1"),
            ("[2001:db8::7]:4711", "2001:db8::7", "2001:db8::7, 10.0.0.1"),
            ("2001:db8::7, fd00::1", "2001:db8::7", "2001:db8::7, fd00::1, 10.0.0.1"),
            ("::ffff:198.51.100.7", "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        ] {
            check(
                "10.0.0.1",
                &[("x-forwarded-for", sent)],
                client,
                &[("x-forwarded-for", told), ("x-forwarded-proto", "http"), ("x-forwarded-host", "shop.example")],
            );
        }
    }

    #[test]
    fn lines_of_a_header_are_one_list() {
        check(
            "10.0.0.1",
            &[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "198.51.100.7, 10.0.0.2")],
            "198.51.100.7",
            &[("x-forwarded-for", "198.51.100.7, 10.0.0.2, 10.0.0.1"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "shop.example")],
        );
    }

    #[test]
    fn a_trusted_proxy_says_what_its_caller_spoke_and_asked_for() {
        for (proto, host, told_proto, told_host) in [
            ("https", "www.example", "https", "www.example"),
            ("http, HTTPS", "www.example:8443", "https", "www.example:8443"),
            ("gopher", "not a host", "http", "shop.example"),
        ] {
            check(
                "10.0.0.1",
                &[("x-forwarded-proto", proto), ("x-forwarded-host", host)],
                "10.0.0.1",
                &[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", told_proto), ("x-forwarded-host", told_host)],
            );
        }
    }

    #[test]
    fn forwarded_is_read_and_written_where_a_trusted_proxy_speaks_it() {
        check(
            "10.0.0.1",
            &[("forwarded", "for=203.0.113.9, for=\"[2001:db8::7]:47\";proto=https;host=www.example, for=10.0.0.2;proto=http")],
            "2001:db8::7",
            &[
                ("forwarded", "for=\"[2001:db8::7]\";proto=https;host=\"www.example\", for=10.0.0.2, for=10.0.0.1"),
                ("x-forwarded-for", "2001:db8::7, 10.0.0.2, 10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "www.example"),
            ],
        );
    }

    #[test]
    fn x_forwarded_for_counts_where_both_are_sent() {
        check(
            "10.0.0.1",
            &[("forwarded", "for=203.0.113.9"), ("x-forwarded-for", "198.51.100.7")],
            "198.51.100.7",
            &[
                ("forwarded", "for=198.51.100.7;proto=http;host=\"shop.example\", for=10.0.0.1"),
                ("x-forwarded-for", "198.51.100.7, 10.0.0.1"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "shop.example"),
            ],
        );
    }

    #[test]
    fn a_caller_cannot_spoil_what_a_trusted_proxy_says_of_it() {
        check(
            "10.0.0.1",
            &[("forwarded", "for=\"oops"), ("forwarded", "garbage, for=198.51.100.7;proto=https")],
            "198.51.100.7",
            &[
                ("forwarded", "for=198.51.100.7;proto=https;host=\"shop.example\", for=10.0.0.1"),
                ("x-forwarded-for", "198.51.100.7, 10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "shop.example"),
            ],
        );
    }

    #[test]
    fn a_malformed_forwarded_is_dropped() {
        check(
            "10.0.0.1",
            &[("forwarded", "for=198.51.100.7;for=203.0.113.9")],
            "10.0.0.1",
            &[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "shop.example")],
        );
    }

    #[test]
    fn no_more_than_twenty_hops_are_walked() {
        let sent = vec!["10.9.9.9"; 30].join(", ");
        let headers = headers(&[("x-forwarded-for", &sent)]);
        let origin = find("10.0.0.1", &headers);
        assert_eq!(origin.chain, Chain::XForwardedFor(HOPS_MAX));
        assert_eq!(origin.believed(&headers).1, HOPS_MAX);
    }

    #[test]
    fn a_proxy_header_stands_for_the_peer() {
        let connected = Connected { peer: "10.0.0.1".parse().expect("an address"), proxied: "::ffff:192.0.2.1".parse().ok(), tls: true };
        let origin = Origin::find(connected, &headers(&[("x-forwarded-for", "203.0.113.9")]), &["10.0.0.0/8".parse().expect("a network")]);
        assert_eq!((origin.client_ip.to_string().as_str(), origin.scheme), ("192.0.2.1", Scheme::Https));
    }

    #[test]
    fn a_limit_counts_an_ipv6_caller_by_its_network() {
        let key = |text: &str| client_key(text.parse().expect("an address"));
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    }

    proptest! {
        #[test]
        fn the_first_address_told_is_the_caller(sent in "[0-9a-f.:, \\[\\]]{0,60}", peer in prop::sample::select(vec!["10.0.0.1", "192.0.2.1"])) {
            let mut headers = headers(&[("x-forwarded-for", &sent)]);
            let origin = find(peer, &headers);
            origin.write(&mut headers, None);
            let client = origin.client_ip.to_string();
            let told = headers[X_FORWARDED_FOR].to_str().expect("text").to_string();
            prop_assert_eq!(told.split(", ").next(), Some(client.as_str()));
            prop_assert!(told.ends_with(peer));
        }
    }
}
