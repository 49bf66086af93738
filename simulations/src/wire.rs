//! Brains alone on a lossy wire: many members in one process, without sockets, on a clock that jumps.
//!
//! A message takes its time, longer between regions than inside one, and now and then is lost. Between regions it needs
//! a link, and links are kept as `cluster::topology` says, so that what only works over links that nobody keeps does not work
//! here either. A seed of another region is the one link that is there from the start.

use crate::chance::Chance;
use bytes::Bytes;
use cluster::{
    gossip::{Gossip, Membership, Ring, Sender, To, Wire},
    topology,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How unkind the wire is.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// One in so many messages is lost.
    pub(crate) lost_one_in: u64,
    /// Microseconds inside a region, and between two.
    pub(crate) near: RangeInclusive<u64>,
    pub(crate) far: RangeInclusive<u64>,
}

/// As in the product.
const INTRODUCED_MAX: usize = 3;

/// What all members are plugged into.
#[derive(Clone)]
pub(crate) struct Net(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    posted: Notify,
    weather: Weather,
}

struct State {
    chance: Chance,
    number: u64,
    under_way: BTreeMap<(Instant, u64), Parcel>,
    plugged: BTreeMap<SocketAddr, Plugged>,
    cut: BTreeSet<(Arc<str>, Arc<str>)>,
    without_link: u64,
}

struct Parcel {
    from: Sender,
    to: SocketAddr,
    ring: Ring,
    bytes: Bytes,
}

struct Plugged {
    gossip: Arc<Gossip>,
    node: Arc<str>,
    region: Arc<str>,
    /// Whom it keeps links to, as of which version of its view.
    targets: BTreeSet<SocketAddr>,
    version: u64,
    seed: Option<SocketAddr>,
    /// Whom of its own region the seed told it of.
    introduced: Vec<SocketAddr>,
}

impl Net {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        let state = State {
            chance: Chance::of(seed, "wire"),
            number: 0,
            under_way: BTreeMap::new(),
            plugged: BTreeMap::new(),
            cut: BTreeSet::new(),
            without_link: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), posted: Notify::new(), weather }))
    }

    /// The wire as the member with this address has it in hand.
    pub(crate) fn end(&self, sender: Sender) -> Arc<dyn Wire> {
        Arc::new(End { net: self.clone(), sender })
    }

    /// From here on what is sent to its address reaches it. `seed` is whom it dials whatever it knows.
    pub(crate) fn plug(&self, sender: &Sender, gossip: Arc<Gossip>, seed: Option<SocketAddr>) {
        let (node, region) = (Arc::clone(&sender.node), Arc::clone(&sender.region));
        let mut state = self.state();
        let introduced = seed.map_or_else(Vec::new, |seed| state.introductions(seed, &region));
        let plugged = Plugged { gossip, node, region, targets: BTreeSet::new(), version: 0, seed, introduced };
        state.plugged.insert(sender.address, plugged);
    }

    pub(crate) fn unplug(&self, address: SocketAddr) {
        self.state().plugged.remove(&address);
    }

    /// Nothing passes between these regions in either direction.
    pub(crate) fn cut(&self, one: &Arc<str>, other: &Arc<str>) {
        let mut state = self.state();
        state.cut.insert((Arc::clone(one), Arc::clone(other)));
        state.cut.insert((Arc::clone(other), Arc::clone(one)));
    }

    pub(crate) fn mend(&self) {
        self.state().cut.clear();
    }

    /// Tells everybody whom it has links to.
    pub(crate) fn tell_links(&self) {
        let mut told = Vec::new();
        {
            let mut state = self.state();
            let mut links: BTreeMap<SocketAddr, BTreeSet<SocketAddr>> = BTreeMap::new();
            let all: Vec<SocketAddr> = state.plugged.keys().copied().collect();
            for one in &all {
                for other in state.wanted(*one).into_iter().filter(|other| state.reaches(*one, *other)) {
                    links.entry(*one).or_default().insert(other);
                    links.entry(other).or_default().insert(*one);
                }
            }
            for (address, links) in links {
                let peers = links.iter().filter_map(|other| state.plugged.get(other));
                let peers = peers.map(|peer| (Arc::clone(&peer.node), Arc::clone(&peer.region))).collect();
                told.extend(state.plugged.get(&address).map(|plugged| (Arc::clone(&plugged.gossip), peers)));
            }
        }
        told.into_iter().for_each(|(gossip, peers)| gossip.linked(peers));
    }

    /// Messages that had no link to go over.
    pub(crate) fn without_link(&self) -> u64 {
        self.state().without_link
    }

    /// Delivers for ever.
    pub(crate) async fn carry(&self) {
        loop {
            let next = self.state().under_way.keys().next().map(|(at, _)| *at);
            match next {
                None => self.0.posted.notified().await,
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = sleep_until(at) => self.deliver(at),
                        () = self.0.posted.notified() => {}
                    }
                }
            }
        }
    }

    fn deliver(&self, until: Instant) {
        while let Some((parcel, gossip)) = self.state().take(until) {
            if let Some(gossip) = gossip {
                gossip.receive(&parcel.from, parcel.ring, parcel.bytes);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next message that has arrived by then, and who it is for, if it is still there and can be reached.
    fn take(&mut self, until: Instant) -> Option<(Parcel, Option<Arc<Gossip>>)> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= until)?;
        let parcel = first.remove();
        let plugged = self.plugged.get(&parcel.to);
        let reached = plugged.filter(|plugged| !self.cut.contains(&(Arc::clone(&parcel.from.region), Arc::clone(&plugged.region))));
        let gossip = reached.map(|plugged| Arc::clone(&plugged.gossip));
        Some((parcel, gossip))
    }

    /// Whether the two keep a link, which either of them may have wanted.
    fn linked(&mut self, one: SocketAddr, other: SocketAddr) -> bool {
        self.wants(one, other) || self.wants(other, one)
    }

    fn wants(&mut self, one: SocketAddr, other: SocketAddr) -> bool {
        self.refresh(one);
        self.plugged.get(&one).is_some_and(|plugged| plugged.targets.contains(&other) || plugged.others().any(|known| known == other))
    }

    fn wanted(&mut self, one: SocketAddr) -> Vec<SocketAddr> {
        self.refresh(one);
        self.plugged.get(&one).into_iter().flat_map(|plugged| plugged.targets.iter().copied().chain(plugged.others())).collect()
    }

    /// Whom the one that is dialed tells the one that dials of, because they are of its region.
    fn introductions(&mut self, seed: SocketAddr, region: &Arc<str>) -> Vec<SocketAddr> {
        if self.plugged.get(&seed).is_none_or(|seed| seed.region == *region) {
            return Vec::new();
        }
        let of_region = self.plugged.iter().filter(|(_, plugged)| plugged.region == *region);
        let of_region: Vec<SocketAddr> = of_region.map(|(address, _)| *address).collect();
        let view = self.plugged.get(&seed).map(|seed| seed.gossip.view());
        let seen: BTreeSet<SocketAddr> = view
            .iter()
            .flat_map(|view| view.of_region(region).filter(|member| member.is_alive()).map(|member| member.facts.address))
            .collect();
        let mut known: Vec<SocketAddr> = of_region.into_iter().filter(|other| seen.contains(other) || self.linked(seed, *other)).collect();
        let mut introduced = Vec::new();
        while introduced.len() < INTRODUCED_MAX && !known.is_empty() {
            let place = self.chance.between(0..=u64::try_from(known.len() - 1).expect("few members"));
            introduced.push(known.swap_remove(usize::try_from(place).expect("few members")));
        }
        introduced
    }

    fn reaches(&self, one: SocketAddr, other: SocketAddr) -> bool {
        let (Some(one), Some(other)) = (self.plugged.get(&one), self.plugged.get(&other)) else { return false };
        !self.cut.contains(&(Arc::clone(&one.region), Arc::clone(&other.region)))
    }

    fn refresh(&mut self, one: SocketAddr) {
        let Some(plugged) = self.plugged.get_mut(&one) else { return };
        let view = plugged.gossip.view();
        if plugged.version != view.version {
            plugged.version = view.version;
            plugged.targets = topology::links(&view).into_iter().map(|target| target.address).collect();
        }
    }

    /// Somebody that there is a link to, for a message to anyone.
    fn anyone(&mut self, sender: &Sender, ring: Ring) -> Option<SocketAddr> {
        let fits = |plugged: &Plugged| (plugged.region == sender.region) == (ring == Ring::Region);
        let others = self.plugged.iter().filter(|(address, plugged)| **address != sender.address && fits(plugged));
        let others: Vec<SocketAddr> = others.map(|(address, _)| *address).collect();
        let others: Vec<SocketAddr> = others.into_iter().filter(|other| self.linked(sender.address, *other)).collect();
        let place = self.chance.between(0..=u64::try_from(others.len().max(1) - 1).expect("few members"));
        others.get(usize::try_from(place).expect("few members")).copied()
    }
}

impl Plugged {
    /// Whom it dialed, whatever it has come to see since.
    fn others(&self) -> impl Iterator<Item = SocketAddr> {
        self.introduced.iter().copied().chain(self.seed)
    }
}

struct End {
    net: Net,
    sender: Sender,
}

impl Wire for End {
    #[expect(clippy::disallowed_methods, reason = "the wire is part of the simulated world: its clock is tokio's, which jumps")]
    fn send(&self, to: To, ring: Ring, bytes: Bytes) {
        let weather = &self.net.0.weather;
        let mut state = self.net.state();
        if !state.plugged.contains_key(&self.sender.address) {
            return;
        }
        let to = match to {
            To::Member(to) => Some(to),
            To::Anyone => state.anyone(&self.sender, ring),
        };
        let Some(to) = to else { return };
        let near = state.plugged.get(&to).is_none_or(|plugged| plugged.region == self.sender.region);
        if !near && !state.linked(self.sender.address, to) {
            state.without_link += 1;
            return;
        }
        if state.chance.one_in(weather.lost_one_in) {
            return;
        }
        let range = if near { weather.near.clone() } else { weather.far.clone() };
        let arrives = Instant::now() + Duration::from_micros(state.chance.between(range));
        state.number += 1;
        let number = state.number;
        state.under_way.insert((arrives, number), Parcel { from: self.sender.clone(), to, ring, bytes });
        drop(state);
        self.net.0.posted.notify_one();
    }
}
