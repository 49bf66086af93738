//! The incarnations that a ring's digest is made of, and how many there may be.
//!
//! chitchat keeps every incarnation that anyone has named until it has been dead for minutes, and breaks when its digest
//! outgrows a datagram. So who comes in is counted here, and incarnations of which nothing more is to be said are muted: they
//! are named to nobody, and nobody's word about them is listened to.

use super::{
    native::{self, Id},
    packing::short,
};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

/// chitchat answers into what its digest leaves of 65,507 bytes, and panics where that is less than a hundred.
const DIGEST_MAX: usize = 56_000;

pub(super) struct Roster {
    me: Id,
    known: BTreeMap<u32, Known>,
    /// Whom another one with the same short name keeps out of `known`, by that name. Never told in short; there is one in a
    /// million clusters, or as many as somebody who wants to do harm can make up.
    twins: BTreeMap<u32, BTreeSet<Id>>,
    muted: BTreeSet<Id>,
    /// The highest incarnation of each name.
    newest: BTreeMap<Arc<str>, (u64, SocketAddr)>,
    /// The length of chitchat's digest about all of them.
    length: usize,
}

pub(super) struct Known {
    pub(super) id: Id,
    pub(super) since: Instant,
    /// In the digest that is being observed.
    present: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    Welcome,
    Known,
    /// There is nothing more to be said of it.
    Muted,
    /// An incarnation of a name of which a newer one is known.
    Outdated,
    Full,
}

impl Roster {
    pub(super) fn new(me: Id, now: Instant) -> Self {
        let mut roster = Self {
            me: me.clone(),
            known: BTreeMap::new(),
            twins: BTreeMap::new(),
            muted: BTreeSet::new(),
            newest: BTreeMap::new(),
            length: 0,
        };
        roster.add(me, now);
        roster
    }

    pub(super) fn me(&self) -> &Id {
        &self.me
    }

    pub(super) fn len(&self) -> usize {
        self.known.len() + self.twins.values().map(BTreeSet::len).sum::<usize>()
    }

    /// Takes over what a digest of this node's own chitchat names: that is who it knows.
    pub(super) fn observe(&mut self, digest: &[native::Entry], now: Instant) {
        for entry in digest {
            let hash = short(&entry.id);
            match self.known.get_mut(&hash) {
                Some(known) if known.id == entry.id => known.present = true,
                Some(_) if contains(&self.twins, hash, &entry.id) => {}
                Some(_) | None => {
                    self.add(entry.id.clone(), now);
                    if let Some(known) = self.known.get_mut(&hash).filter(|known| known.id == entry.id) {
                        known.present = true;
                    }
                }
            }
        }
        if self.len() == digest.len() {
            self.known.values_mut().for_each(|known| known.present = false);
            return;
        }
        let named: BTreeSet<&Id> = if self.twins.is_empty() { BTreeSet::new() } else { digest.iter().map(|entry| &entry.id).collect() };
        self.twins.retain(|_, twins| {
            twins.retain(|twin| named.contains(twin));
            !twins.is_empty()
        });
        self.known.retain(|_, known| std::mem::take(&mut known.present));
        let ids = self.known.values().map(|known| &known.id).chain(self.twins.values().flatten());
        let mut newest: BTreeMap<Arc<str>, (u64, SocketAddr)> = BTreeMap::new();
        let mut length = 0;
        for id in ids {
            length += id.entry_len();
            let newest = newest.entry(Arc::clone(&id.name)).or_insert((id.incarnation, id.address));
            *newest = (*newest).max((id.incarnation, id.address));
        }
        (self.newest, self.length) = (newest, length);
    }

    /// Whether somebody that a peer names in full may come in; if so it is in.
    pub(super) fn admit(&mut self, id: &Id, now: Instant) -> Admission {
        if self.muted.contains(id) {
            return Admission::Muted;
        }
        if self.knows(id) {
            return Admission::Known;
        }
        if self.newest.get(&id.name).is_some_and(|newest| *newest > (id.incarnation, id.address)) {
            return Admission::Outdated;
        }
        if self.length + id.entry_len() > DIGEST_MAX {
            return Admission::Full;
        }
        self.add(id.clone(), now);
        Admission::Welcome
    }

    /// Of these nothing more is said or heard; replaces who was muted before.
    pub(super) fn mute(&mut self, ids: BTreeSet<Id>) {
        self.muted = ids;
    }

    pub(super) fn is_muted(&self, id: &Id) -> bool {
        self.muted.contains(id)
    }

    pub(super) fn muted(&self) -> impl Iterator<Item = &Id> {
        self.muted.iter()
    }

    pub(super) fn knows(&self, id: &Id) -> bool {
        let hash = short(id);
        self.known.get(&hash).is_some_and(|known| known.id == *id) || contains(&self.twins, hash, id)
    }

    /// Whom four bytes mean, unless they could mean two.
    pub(super) fn resolve(&self, hash: u32) -> Option<&Known> {
        self.known.get(&hash).filter(|_| !self.twins.contains_key(&hash))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &Id> {
        self.known.values().map(|known| &known.id).chain(self.twins.values().flatten())
    }

    /// Whether anyone at this address is worth a message.
    pub(super) fn is_worthwhile(&self, address: SocketAddr) -> bool {
        self.muted.is_empty() || self.ids().any(|id| id.address == address && !self.muted.contains(id))
    }

    fn add(&mut self, id: Id, since: Instant) {
        self.length += id.entry_len();
        let newest = self.newest.entry(Arc::clone(&id.name)).or_insert((id.incarnation, id.address));
        *newest = (*newest).max((id.incarnation, id.address));
        let hash = short(&id);
        match self.known.entry(hash) {
            Entry::Occupied(_) => _ = self.twins.entry(hash).or_default().insert(id),
            Entry::Vacant(free) => _ = free.insert(Known { id, since, present: false }),
        }
    }
}

fn contains(twins: &BTreeMap<u32, BTreeSet<Id>>, hash: u32, id: &Id) -> bool {
    twins.get(&hash).is_some_and(|twins| twins.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::native::Entry;

    fn id(name: &str) -> Id {
        Id { name: name.into(), incarnation: 1, address: ([10, 0, 0, 1], 7_400).into() }
    }

    /// Two members with one short name, and another one.
    fn twins() -> [Id; 3] {
        let mut seen = BTreeMap::new();
        let pair = (0..).find_map(|number| {
            let one = id(&format!("n{number}"));
            seen.insert(short(&one), one.clone()).map(|other| [other, one])
        });
        let [one, other] = pair.expect("among so many there are two");
        [one, other, id("single")]
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    fn a_short_name_of_two_means_nobody_until_one_of_them_is_gone() {
        let now = Instant::now();
        let [one, other, single] = twins();
        let mut roster = Roster::new(id("me"), now);
        for id in [&one, &other, &single] {
            assert_eq!(roster.admit(id, now), Admission::Welcome);
            assert_eq!(roster.admit(id, now), Admission::Known);
        }
        assert!(roster.len() == 4 && roster.ids().count() == 4);
        assert!(roster.resolve(short(&one)).is_none() && roster.knows(&one) && roster.knows(&other));
        assert!(roster.resolve(short(&single)).is_some_and(|known| known.id == single));

        let digest =
            |ids: &[&Id]| ids.iter().map(|id| Entry { id: (*id).clone(), heartbeat: 1, collected: 0, version: 0 }).collect::<Vec<_>>();
        let me = id("me");
        roster.observe(&digest(&[&me, &one, &other, &single]), now);
        assert_eq!(roster.len(), 4);
        roster.observe(&digest(&[&me, &one, &single]), now);
        assert!(roster.resolve(short(&one)).is_some_and(|known| known.id == one) && !roster.knows(&other));
    }
}
