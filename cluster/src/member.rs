//! Who belongs to the cluster, what each says of itself, and how it is seen from here.
//!
//! A member is its name. A process of that name is an incarnation, numbered by its generation; of two, the one with the
//! higher number speaks for the member. What a member says of itself are its [`Facts`]; whether it is there is not its own
//! to say, except once: that it has [left](State::Left). Everything else is [seen](Seen) by others.

use crate::{health::Summary, views::Row};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

/// The longest name of a node, a region or a zone.
pub const NAME_MAX: usize = 63;

/// What a member says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub region: Arc<str>,
    pub zone: Arc<str>,
    /// Where its peers reach it.
    pub address: SocketAddr,
    /// The oldest and the newest version of the peer protocol that it speaks.
    pub protocol: (u16, u16),
    pub build: Arc<str>,
    pub state: State,
    /// A hash of the configuration that it serves.
    pub configuration: Arc<str>,
    /// Percent of what it can do. Told within a region only.
    pub load: u8,
    /// How many endpoints of each service it judges usable. Told within a region only; regions tell each other the sum.
    pub health: BTreeMap<Arc<str>, Summary>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// It has not served yet.
    Joining,
    Serving,
    /// It finishes what it has and takes nothing new.
    Draining,
    /// It has said goodbye: nobody needs to miss it.
    Left,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Left => "left",
        }
    }
}

/// One member as it is known here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub name: Arc<str>,
    pub generation: u64,
    pub facts: Arc<Facts>,
    pub seen: Seen,
    pub by: By,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Alive,
    /// It has not said goodbye and is not heard of any more.
    Gone {
        since: Instant,
    },
    Left,
}

/// Whose word stands behind what is known of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum By {
    /// This node's own: it is the member, or hears it in the ring of the region.
    Itself,
    /// A representative's, which hears it in its region's ring or heard of it from there.
    Representative(Arc<str>),
}

/// All that is known at one time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Grows with each change.
    pub version: u64,
    pub me: Arc<str>,
    pub region: Arc<str>,
    /// This node among them. Who has left stays for some seconds, who is gone stays until it is forgotten or a day has passed.
    pub members: BTreeMap<Arc<str>, Member>,
    /// This node's own region among them.
    pub regions: BTreeMap<Arc<str>, Region>,
    /// What each member of the own region says of whom it sees; this node's own row is always there.
    pub rows: BTreeMap<Arc<str>, Row>,
}

/// What is known of a region as a whole.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Region {
    /// Whether one of its representatives is heard of, directly or by way of other regions.
    pub reachable: bool,
    /// Who speaks for it, in the order in which they do.
    pub representatives: Vec<Arc<str>>,
    /// The regions that it says it hears.
    pub sees: BTreeSet<Arc<str>>,
    /// What its members agree on about each service's endpoints.
    pub health: BTreeMap<Arc<str>, Summary>,
}

impl Member {
    pub fn is_alive(&self) -> bool {
        self.seen == Seen::Alive
    }
}

impl View {
    /// Whoever is heard of, this node included.
    pub fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.is_alive())
    }

    pub fn of_region<'a>(&'a self, region: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.values().filter(move |member| &*member.facts.region == region)
    }

    /// The configurations that members serve, and who serves which: more than one is worth a warning once it lasts.
    pub fn configurations(&self) -> BTreeMap<&str, Vec<&Arc<str>>> {
        let mut held: BTreeMap<&str, Vec<&Arc<str>>> = BTreeMap::new();
        for member in self.alive() {
            held.entry(&member.facts.configuration).or_default().push(&member.name);
        }
        held
    }
}

/// Whom to forget: an operator's word that a member, or all of a region, is not coming back as it was.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Forget {
    Member(Arc<str>),
    Region(Arc<str>),
}

/// Whether it can be the name of a node, a region or a zone: DNS labels joined by dots.
pub fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= NAME_MAX && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_dns_labels() {
        let long = "a".repeat(64);
        for (text, good) in [
            ("n1", true),
            ("shoal-7f9c.eu-west", true),
            ("A-1", true),
            ("", false),
            (".", false),
            ("a..b", false),
            ("-a", false),
            ("a-", false),
            ("a b", false),
            ("ä", false),
            ("a/b", false),
            (&long[..63], true),
            (&long, false),
        ] {
            assert_eq!(is_name(text), good, "{text:?}");
        }
    }
}
