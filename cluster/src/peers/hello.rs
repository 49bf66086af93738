//! The first frame of a link, and whether it is good enough: judged against who we are and what the certificate says.
//!
//! A refusal names both nodes, so that one line says the same in the logs of both.

use super::Me;
use crate::trust::Identity;
use proto::{Hello, PROTOCOLS, Reason, Refusal};
use std::{fmt, net::SocketAddr, sync::Arc};

#[cfg(test)]
mod tests;

/// A name of a node, a region or a zone: as long as a label of the domain name system.
pub const NAME_MAX: usize = 63;

/// A node that has introduced itself and was believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub node: Arc<str>,
    pub generation: u64,
    pub region: Arc<str>,
    pub zone: Arc<str>,
    /// Where it says that it is reached.
    pub address: SocketAddr,
    pub build: Arc<str>,
    /// What is spoken on the link: the newest protocol that both know.
    pub protocol: u32,
}

/// A link that will not be, told to both operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Otherwise the other side did.
    pub by_us: bool,
    /// Whom the certificate names, if it came to that.
    pub node: Option<Arc<str>>,
    pub address: SocketAddr,
    pub reason: Reason,
    pub message: String,
}

/// More are not told in a greeting, and not listened to.
pub(super) const INTRODUCED_MAX: usize = 3;

/// What we say first. `dial` is 0 for a link that the other side has dialed.
pub(super) fn greeting(me: &Me, dial: u64) -> Hello {
    Hello {
        cluster: me.cluster.to_string(),
        node: me.node.to_string(),
        generation: me.generation,
        protocol_min: *PROTOCOLS.start(),
        protocol_max: *PROTOCOLS.end(),
        region: me.region.to_string(),
        zone: me.zone.to_string(),
        address: me.address.to_string(),
        build: me.build.to_string(),
        secrets: u64::from_be_bytes(me.secrets),
        dial,
        introduced: String::new(),
    }
}

/// The same with members of the other side's region, for it to dial.
pub(super) fn introducing(hello: Hello, members: &[SocketAddr]) -> Hello {
    let introduced: Vec<String> = members.iter().take(INTRODUCED_MAX).map(SocketAddr::to_string).collect();
    Hello { introduced: introduced.join(" "), ..hello }
}

/// Whom a greeting introduces. What cannot be dialed is passed over.
pub(super) fn introduced(hello: &Hello) -> impl Iterator<Item = SocketAddr> + '_ {
    hello.introduced.split(' ').take(INTRODUCED_MAX).filter_map(|address| address.parse().ok()).filter(reachable)
}

/// Whether the name may be one: labels of letters, digits and hyphens, with dots between them.
pub fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= NAME_MAX && name.split('.').all(label)
}

/// Whether we link with who greets us so. Whether there is a link already is not looked at here.
pub(super) fn judge(me: &Me, identity: &Identity, hello: &Hello) -> Result<Peer, Refusal> {
    let (us, them) = (&*me.node, &*identity.node);
    if !is_name(&identity.node) || !is_name(&hello.node) {
        return Err(refusal(
            Reason::Name,
            format_args!("a name of a node is made of letters, digits, hyphens and dots, at most {NAME_MAX}"),
        ));
    }
    // Before what nobody else is, so that a node that reaches itself hears just that.
    if hello.node == us && identity.node == me.node && hello.generation == me.generation {
        return Err(refusal(Reason::Itself, format_args!("{us} has reached itself at {}", text(&hello.address))));
    }
    if hello.node != *identity.node {
        return Err(refusal(Reason::Name, format_args!("{them} has a certificate of that name and calls itself {}", text(&hello.node))));
    }
    if hello.node == us {
        return Err(refusal(Reason::Name, format_args!("two nodes are called {us}: names are unique in a cluster")));
    }
    if hello.cluster != *me.cluster {
        let theirs = text(&hello.cluster);
        return Err(refusal(Reason::Cluster, format_args!("{us} is of the cluster {}, {them} of the cluster {theirs}", me.cluster)));
    }
    let protocol = hello.protocol_max.min(*PROTOCOLS.end());
    if protocol < hello.protocol_min.max(*PROTOCOLS.start()) || hello.protocol_min > hello.protocol_max {
        let (ours_min, ours_max) = (PROTOCOLS.start(), PROTOCOLS.end());
        let (theirs_min, theirs_max, build) = (hello.protocol_min, hello.protocol_max, text(&hello.build));
        return Err(refusal(
            Reason::Protocol,
            format_args!(
                "{us} ({}) speaks protocols {ours_min} to {ours_max}, {them} ({build}) speaks {theirs_min} to {theirs_max}: upgrade one release at a time",
                me.build
            ),
        ));
    }
    if !is_name(&hello.region) || !(hello.zone.is_empty() || is_name(&hello.zone)) {
        return Err(refusal(
            Reason::Region,
            format_args!("the region and the zone of {them} are to be made of letters, digits, hyphens and dots, at most {NAME_MAX}"),
        ));
    }
    if let Some(certified) = identity.region.as_ref().filter(|region| ***region != *hello.region) {
        let claimed = &hello.region;
        return Err(refusal(Reason::Region, format_args!("{them} has a certificate of the region {certified} and says {claimed}")));
    }
    let secrets = hello.secrets.to_be_bytes();
    if secrets != me.secrets && !me.also.contains(&secrets) {
        let (ours, theirs) = (Hex(&me.secrets), Hex(&secrets));
        return Err(refusal(
            Reason::Secrets,
            format_args!("{them} uses a secret that {us} does not hold ({theirs}, not {ours}): add it on {us} before any node uses it"),
        ));
    }
    if hello.generation == 0 {
        return Err(refusal(Reason::Generation, format_args!("{them} does not say how often it has started")));
    }
    let Some(address) = hello.address.parse().ok().filter(reachable) else {
        let said = text(&hello.address);
        return Err(refusal(Reason::Address, format_args!("{them} says that it is reached at {said}, which is no address of one node")));
    };
    if hello.build.len() > NAME_MAX {
        return Err(refusal(Reason::Malformed, format_args!("the name of the build of {them} is longer than {NAME_MAX} bytes")));
    }
    Ok(Peer {
        node: Arc::clone(&identity.node),
        generation: hello.generation,
        region: hello.region.as_str().into(),
        zone: hello.zone.as_str().into(),
        address,
        build: text(&hello.build).to_string().into(),
        protocol,
    })
}

pub fn refusal(reason: Reason, message: impl fmt::Display) -> Refusal {
    Refusal { reason: reason.into(), message: text(&message.to_string()).to_string() }
}

impl Refused {
    pub fn new(by_us: bool, node: Option<Arc<str>>, address: SocketAddr, refusal: &Refusal) -> Self {
        Self { by_us, node, address, reason: refusal.reason(), message: text(&refusal.message).to_string() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.node.as_deref().unwrap_or("a peer without a known name");
        let verb = if self.by_us { "refused" } else { "refused by" };
        write!(f, "{verb} {who} at {}: {}", self.address, self.message)
    }
}

fn reachable(address: &SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

/// What a peer wrote, fit for a line of a log: nothing in it moves a cursor or turns the direction of what is read.
pub(super) fn text(written: &str) -> impl fmt::Display {
    const CHARACTERS_MAX: usize = 240;
    let clean = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    written.chars().take(CHARACTERS_MAX).map(clean).collect::<String>()
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
