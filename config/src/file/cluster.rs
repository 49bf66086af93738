//! Values of `[cluster]`: names that stand in certificates, and where nodes are.

use super::{
    endpoint::{LookupName, is_host},
    reader::{Node, Read, Reader},
    reference::Outside,
    shape::{Shape, Text},
};
use crate::{Seed, is_dns_label, problem::codes};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A label of DNS.
#[derive(Clone, Debug)]
pub(crate) struct ClusterName(pub(crate) Arc<str>);

impl Read for ClusterName {
    fn shape() -> Shape {
        Shape::Text(Text { what: "a name", example: "shop", pattern: Some("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$") })
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        if !is_dns_label(text) {
            r.found
                .error(codes::BAD_LABEL, node.at, format!("`{text}` cannot be the name of a cluster"))
                .help("write up to 63 lower-case letters, digits and `-`, as in \"shop\"");
            return None;
        }
        Some(Self(text.into()))
    }
}

/// An address, with a port or without; it often comes from the environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advertised {
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
}

impl Read for Advertised {
    fn shape() -> Shape {
        Outside::shape()
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = Outside::read(node, r)?.text;
        let bare = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok().map(|ip| Self { ip, port: None });
        let whole = || text.parse::<SocketAddr>().ok().map(|address| Self { ip: address.ip(), port: Some(address.port()) });
        let read = bare.or_else(whole).filter(|read| read.port != Some(0));
        if read.is_none() {
            r.found
                .error(codes::BAD_ADDRESS, node.at, format!("`{text}` is no address that other nodes could reach"))
                .help("write 192.0.2.7, 192.0.2.7:7900 or { env = \"POD_IP\" }; a name is not looked up here");
        }
        read
    }
}

/// Where other nodes may be found.
#[derive(Clone, Debug)]
pub(crate) struct SeedText(pub(crate) Seed);

impl Seed {
    /// As it is written in `join`, and printed.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("srv:") {
            return LookupName::is_valid(name).then(|| Self::Srv { name: name.into() });
        }
        let (dns, rest) = text.strip_prefix("dns:").map_or((false, text), |rest| (true, rest));
        let (host, digits) = rest.rsplit_once(':')?;
        let port = digits.parse::<u16>().ok().filter(|port| *port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        if dns {
            return LookupName::is_valid(host).then(|| Self::Dns { name: host.into(), port });
        }
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let usable = is_host(host) && (bracketed || !host.contains(':'));
        usable.then(|| Self::Host { host: host.trim_start_matches('[').trim_end_matches(']').into(), port })
    }
}

impl Read for SeedText {
    fn shape() -> Shape {
        Shape::text("a place to find nodes", "10.0.0.7:7900")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        let seed = Seed::parse(text);
        if seed.is_none() {
            r.found
                .error(codes::BAD_SEED, node.at, format!("`{text}` says nowhere where a node may be found"))
                .help("write \"host:port\", \"dns:name:port\" for every address of a name, or \"srv:_name._tcp.domain\"");
        }
        seed.map(Self)
    }
}
