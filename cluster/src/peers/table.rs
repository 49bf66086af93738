//! The links there are, one for each peer, and which of two is kept.
//!
//! Both ends of a link come to the same answer without asking each other: they order the links between them by the same
//! three things, and keep the highest. One that has fallen silent counts for nothing, and a peer that has started again
//! has forgotten the links of its earlier life.

use super::hello::{Peer, refusal};
use proto::{Reason, Refusal};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

#[cfg(test)]
mod tests;

#[derive(Debug)]
pub(super) struct Table<L> {
    us: Arc<str>,
    links: BTreeMap<Arc<str>, Entry<L>>,
    links_max: usize,
}

#[derive(Debug)]
struct Entry<L> {
    claim: Claim,
    link: L,
}

/// What decides whether a link is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    pub peer: Arc<Peer>,
    /// Otherwise the peer has dialed.
    pub dialed_by_us: bool,
    /// The number that whoever dialed has given this attempt.
    pub dial: u64,
}

impl<L> Table<L> {
    pub(super) fn new(us: Arc<str>, links_max: usize) -> Self {
        Self { us, links: BTreeMap::new(), links_max }
    }

    /// Whether a link would be kept if it were there now. `silent` tells of a link whether its peer has fallen silent.
    pub(super) fn admits(&self, claim: &Claim, silent: impl Fn(&L) -> bool) -> Result<(), Refusal> {
        let (us, them) = (&self.us, &claim.peer.node);
        let same_address = |entry: &&Entry<L>| entry.claim.peer.address == claim.peer.address && entry.claim.peer.node != *them;
        if let Some(other) = self.links.values().filter(same_address).find(|entry| !silent(&entry.link)) {
            let (other, address) = (&other.claim.peer.node, claim.peer.address);
            return Err(refusal(Reason::Address, format_args!("{them} says that it is reached at {address}, and so does {other}")));
        }
        let Some(known) = self.links.get(them) else {
            let full = self.links.len() >= self.links_max;
            let busy = || refusal(Reason::Busy, format_args!("{us} has {} links and takes no more", self.links_max));
            return if full { Err(busy()) } else { Ok(()) };
        };
        if silent(&known.link) || self.rank(claim) > self.rank(&known.claim) {
            return Ok(());
        }
        let (older, newer) = (claim.peer.generation, known.claim.peer.generation);
        Err(if older < newer {
            refusal(
                Reason::Generation,
                format_args!(
                    "{us} has a link to {them} of generation {newer}, and this is {older}: two nodes use one name, or this one is over"
                ),
            )
        } else {
            refusal(Reason::Duplicate, format_args!("{us} and {them} have a link already"))
        })
    }

    /// Puts the link in, and hands back the one whose place it takes.
    pub(super) fn insert(&mut self, claim: Claim, link: L, silent: impl Fn(&L) -> bool) -> Result<Option<L>, Refusal> {
        self.admits(&claim, silent)?;
        let replaced = self.links.insert(Arc::clone(&claim.peer.node), Entry { claim, link });
        Ok(replaced.map(|entry| entry.link))
    }

    /// Takes the link out, unless another one has taken its place. True if it was there.
    pub(super) fn remove(&mut self, node: &str, is: impl Fn(&L) -> bool) -> bool {
        let there = self.links.get(node).is_some_and(|entry| is(&entry.link));
        if there {
            self.links.remove(node);
        }
        there
    }

    pub(super) fn get(&self, node: &str) -> Option<&L> {
        self.links.get(node).map(|entry| &entry.link)
    }

    /// The peer that says it is reached there; the one that is heard, if two say so.
    pub(super) fn at(&self, address: SocketAddr, silent: impl Fn(&L) -> bool) -> Option<&L> {
        let there = self.links.values().filter(|entry| entry.claim.peer.address == address).map(|entry| &entry.link);
        there.min_by_key(|link| silent(link))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &L> {
        self.links.values().map(|entry| &entry.link)
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// The same at both ends, of links between the same two lives.
    fn rank(&self, claim: &Claim) -> (u64, bool, u64) {
        let smaller_is_ours = self.us < claim.peer.node;
        (claim.peer.generation, claim.dialed_by_us == smaller_is_ours, claim.dial)
    }
}
