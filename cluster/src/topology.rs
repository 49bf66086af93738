//! Who keeps a link to whom, and who speaks for a region: nothing is elected, everybody computes it from what it sees.
//!
//! Inside a region all are linked with all. Between regions the representatives are linked, up to three of each region, so
//! that the number of links between regions does not depend on the number of nodes. Two nodes that see different members may
//! compute different representatives for a while; then there are a few links too many, and none too few.

use crate::member::{By, Member, Seen, State, View};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

mod ways;

pub use ways::ways;

/// Two could be lost in one rolling restart; more would only cost.
pub const REPRESENTATIVES: usize = 3;

/// Of the members of its region that are gone, a node dials so many: others dial others, and one that answers is enough.
const GONE_DIALED: usize = 16;

/// A peer to keep a link to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target {
    pub name: Arc<str>,
    pub address: SocketAddr,
}

/// Whom this node keeps links to: everyone in its region who has not said goodbye, and, if it speaks for its region, who
/// speaks for the others. Some of those who are gone are dialed too: nothing else would end a partition.
pub fn links(view: &View) -> Vec<Target> {
    let mut targets = BTreeSet::new();
    let target = |member: &Member| Target { name: Arc::clone(&member.name), address: member.facts.address };
    let wanted = |member: &&Member| member.name != view.me && member.seen != Seen::Left;
    let (alive, gone): (Vec<&Member>, Vec<&Member>) = view.of_region(&view.region).filter(wanted).partition(|member| member.is_alive());
    targets.extend(alive.into_iter().map(target));
    targets.extend(lost(&view.me, gone).map(target));
    if representatives(view, &view.region).contains(&view.me) {
        for region in view.regions.keys().filter(|region| **region != view.region) {
            let speakers = representatives(view, region);
            targets.extend(speakers.iter().filter_map(|name| view.members.get(name)).filter(wanted).map(target));
        }
    }
    targets.into_iter().collect()
}

/// Of those who are gone, some that were lost last, not the same ones for each node.
fn lost<'a>(me: &str, mut gone: Vec<&'a Member>) -> impl Iterator<Item = &'a Member> {
    let since = |member: &Member| match member.seen {
        Seen::Gone { since } => Some(since),
        Seen::Alive | Seen::Left => None,
    };
    gone.sort_by_key(|member| std::cmp::Reverse(since(member)));
    gone.truncate(4 * GONE_DIALED);
    gone.sort_by_key(|member| score(me, &member.name));
    gone.into_iter().take(GONE_DIALED)
}

/// Who speaks for a region, the first one first. Of a region where nobody is alive, who might when it comes back.
pub fn representatives(view: &View, region: &str) -> Vec<Arc<str>> {
    // Of a region that is split, whoever is beyond the split speaks for its own part.
    let here = |member: &&Member| *region != *view.region || member.by == By::Itself;
    let alive = view.of_region(region).filter(|member| member.is_alive()).filter(here);
    let chosen = choose(region, alive);
    if !chosen.is_empty() {
        return chosen;
    }
    choose(region, view.of_region(region).filter(|member| matches!(member.seen, Seen::Gone { .. })))
}

/// The highest scores, taken from different zones as long as there are any. Who serves comes before who does not yet, and
/// who drains comes last, so that a node in a rolling restart has handed over before it goes.
pub fn choose<'a>(region: &str, members: impl Iterator<Item = &'a Member>) -> Vec<Arc<str>> {
    let readiness = |member: &Member| match member.facts.state {
        State::Serving => 0,
        State::Joining => 1,
        State::Draining => 2,
        State::Left => 3,
    };
    let mut ranked: Vec<(u8, u64, &Member)> = members
        .map(|member| (readiness(member), u64::MAX - score(region, &member.name), member))
        .filter(|(readiness, ..)| *readiness < 3)
        .collect();
    ranked.sort_by_key(|(readiness, score, member)| (*readiness, *score, &member.name));

    let mut chosen: Vec<&Member> = Vec::with_capacity(REPRESENTATIVES);
    // Zones are spread among those who are equally ready: a zone more is not worth a representative that is about to go.
    let mut rest = ranked;
    while chosen.len() < REPRESENTATIVES && !rest.is_empty() {
        let ready = rest[0].0;
        let elsewhere = |(readiness, _, member): &(u8, u64, &Member)| {
            *readiness == ready && !chosen.iter().any(|chosen| chosen.facts.zone == member.facts.zone)
        };
        let next = rest.iter().position(elsewhere).unwrap_or(0);
        chosen.push(rest.remove(next).2);
    }
    chosen.into_iter().map(|member| Arc::clone(&member.name)).collect()
}

/// Rendezvous hashing: each name has its own score in each region, so that one member more or less changes one place.
fn score(region: &str, name: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.add(region.as_bytes());
    hash.add(b"/");
    hash.add(name.as_bytes());
    hash.mixed()
}

/// FNV-1a with 64 bits, mixed at the end because its upper bits are poor for short texts. Nodes compare what it gives.
#[derive(Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn mixed(self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
