//! Picks an endpoint for a request, from what is published about each of them and one number of chance.
//!
//! Endpoints stand in levels: by priority, and within one priority by how far away they are. How much of the traffic each
//! level gets is decided elsewhere ([`Levels`]) and published here as one word; a pick draws a level by it and then
//! an endpoint within the level.
//!
//! Whatever the method, the same endpoints come first: those that are usable and that this request has not tried yet; then
//! those it has tried; and if nobody is usable, everybody is: sending requests to endpoints that look broken is
//! better than refusing them all because the look may be wrong. Each time the other levels are asked before the wish is
//! given up, so that a level that dies between two decisions costs nobody an answer. An endpoint that is draining comes
//! after all that are not.
//!
//! A pick allocates nothing and locks nothing. It does not count as a request: [`Load::begin`] does.

mod level;
mod levels;
mod order;
mod ramp;
mod shares;

pub use self::{
    levels::{Capacity, Levels},
    shares::{LEVELS_MAX, Shares},
};

use self::{
    level::{Level, Look, Turn, Wish},
    ramp::Ramp,
};
use super::load::Load;
use config::{Balance, Locality, SpreadPolicy};
use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// Levels are drawn by a key's other half, so that which endpoint a key has says nothing about its level.
const LEVEL_SALT: u64 = 0x1d8e_4e27_c47d_124f;

/// One endpoint, as a balancer is told of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its part of the requests, relative to the others'. With 0 it gets none, unless all have 0.
    pub weight: u32,
    /// Stays the same across reloads and on every node: hashing goes by it.
    pub id: u64,
    pub rank: Rank,
    /// Whether the configuration takes it out of service.
    pub drain: bool,
    pub load: Arc<Load>,
}

/// Where an endpoint comes in the order in which traffic spills; the least is the nearest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rank {
    pub priority: u16,
    pub locality: Locality,
    /// The nodes of its region say that it has too few usable endpoints: those of other regions that are as far away come
    /// first. What is known here of the endpoint itself counts as it did.
    pub doubted: bool,
}

/// Endpoints that a request has been sent to already. Past 128 endpoints, two that are 128 apart are not told apart,
/// which at worst leaves out one that might have been preferred.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tried(u128);

impl Tried {
    #[must_use]
    pub fn and(self, endpoint: usize) -> Self {
        Self(self.0 | 1 << (endpoint % 128))
    }

    pub fn contains(self, endpoint: usize) -> bool {
        self.0 >> (endpoint % 128) & 1 == 1
    }
}

/// Picks among the endpoints of one revision of a service.
#[derive(Debug)]
pub struct Balancer {
    /// Nearest first, none of them empty.
    levels: Box<[Level]>,
    /// What each level gets: see [`Shares`].
    shares: AtomicU64,
    ramp: Ramp,
}

impl Balancer {
    /// Every level gets what it should by what is published of its endpoints now; later decisions are told by
    /// [`Balancer::publish`].
    pub fn new(balance: &Balance, spread: &SpreadPolicy, targets: Vec<Target>, now: Instant) -> Self {
        let all_zero = targets.iter().all(|target| target.weight == 0);
        let mut ranks: Vec<Rank> = Vec::new();
        let mut members: Vec<Vec<(usize, Target)>> = Vec::new();
        let mut weighted: Vec<(usize, Target)> = targets
            .into_iter()
            .enumerate()
            .map(|(at, target)| (at, Target { weight: if all_zero { 1 } else { target.weight }, ..target }))
            .filter(|(_, target)| target.weight > 0)
            .collect();
        weighted.sort_by_key(|(_, target)| target.rank);
        for (at, target) in weighted {
            // Beyond the last level that is told apart, all are the last.
            if ranks.last() != Some(&target.rank) && ranks.len() < LEVELS_MAX {
                ranks.push(target.rank);
                members.push(Vec::new());
            }
            members.last_mut().expect("the first target opens a level").push((at, target));
        }
        let levels: Box<[Level]> = ranks.into_iter().zip(members).map(|(rank, members)| Level::new(balance, rank, members)).collect();
        let balancer = Self { levels, shares: AtomicU64::new(0), ramp: Ramp::new(spread.slow_start) };
        balancer.publish(Levels::new(*spread, &balancer.capacities(now)).shares());
        balancer
    }

    /// The endpoint to send a request to, as its place in the list that the balancer was made of; `None` only if that is empty.
    /// `key` is what a hashing balancer goes by, hashed already; without one it goes by chance.
    pub fn pick(&self, chance: u64, now: Instant, key: Option<u64>, tried: Tried) -> Option<usize> {
        self.choose(chance, now, key, tried, |next| next.advance())
    }

    /// What [`Balancer::pick`] would answer, without taking anybody's turn.
    pub fn peek(&self, chance: u64, now: Instant, key: Option<u64>, tried: Tried) -> Option<usize> {
        let looked = Cell::new(0);
        self.choose(chance, now, key, tried, |next| next.ahead(looked.replace(looked.get() + 1)))
    }

    fn choose(&self, chance: u64, now: Instant, key: Option<u64>, tried: Tried, turn: impl Fn(&Turn) -> usize) -> Option<usize> {
        let shares = self.shares();
        let mut draws = Chance(chance);
        let home = match &*self.levels {
            [] => return None,
            [only] => {
                if let Some(endpoint) = only.single() {
                    return Some(endpoint);
                }
                0
            }
            levels => shares.level(key.map_or_else(|| draws.next(), |key| mix(key ^ LEVEL_SALT))).min(levels.len() - 1),
        };
        let mut look = Look { ramp: &self.ramp, now, key: key.unwrap_or(chance), tried, panicking: false };
        for wish in Wish::ALL {
            for at in std::iter::once(home).chain((0..self.levels.len()).filter(|at| *at != home)) {
                look.panicking = shares.is_panicking(at);
                if let Some(endpoint) = self.levels[at].pick(wish, &look, &mut draws, &turn) {
                    return Some(endpoint);
                }
            }
        }
        unreachable!("any candidate meets the last wish, and no level is empty")
    }

    /// What each level gets now.
    pub fn shares(&self) -> Shares {
        Shares(self.shares.load(Relaxed))
    }

    /// Takes a decision of [`Levels`] about what [`Balancer::capacities`] told it.
    pub fn publish(&self, shares: Shares) {
        self.shares.store(shares.0, Relaxed);
    }

    /// What each level could carry, as it is published of its endpoints now; nearest first.
    pub fn capacities(&self, now: Instant) -> Vec<Capacity> {
        self.levels.iter().map(|level| level.capacity(now)).collect()
    }

    /// The level of an endpoint, counted from the nearest, for those who explain a pick; `None` if it has no weight.
    pub fn level_of(&self, endpoint: usize) -> Option<usize> {
        self.levels.iter().position(|level| level.candidate(endpoint).is_some())
    }

    /// The share of its weight that an endpoint has at `now`: less than 1 while its slow start lasts, 0 if it has no weight.
    pub fn ramp_of(&self, endpoint: usize, now: Instant) -> f64 {
        let candidate = self.levels.iter().find_map(|level| level.candidate(endpoint));
        candidate.map_or(0.0, |candidate| self.ramp.factor(&candidate.load, now))
    }

    /// Whether an endpoint is leaving, by its configuration or by hand.
    pub fn is_draining(&self, endpoint: usize) -> bool {
        self.levels.iter().find_map(|level| level.candidate(endpoint)).is_some_and(|candidate| candidate.is_draining())
    }

    /// Makes this the successor of `before`: who was taken out by hand stays out, levels that are the same keep their
    /// shares, and endpoints that are new beside others begin slowly. Where all are new, nobody is worse than the others and
    /// nobody waits.
    pub fn adopt(&self, before: &Self, now: Instant) {
        let candidates = |balancer: &'_ Self| -> Vec<(u64, bool)> {
            balancer
                .levels
                .iter()
                .flat_map(|level| &level.candidates)
                .map(|candidate| (candidate.hash, candidate.load.is_draining()))
                .collect()
        };
        let known: BTreeMap<u64, bool> = candidates(before).into_iter().collect();
        let all_new = !candidates(self).iter().any(|(hash, _)| known.contains_key(hash));
        for candidate in self.levels.iter().flat_map(|level| &level.candidates) {
            match known.get(&candidate.hash) {
                // Its load may be another, where how it is spoken to has changed.
                Some(true) => candidate.load.set_draining(true, now),
                None if !all_new && self.ramp.is_on() => candidate.load.join(now),
                Some(false) | None => {}
            }
        }
        let ranks = |balancer: &'_ Self| -> Vec<Rank> { balancer.levels.iter().map(|level| level.rank).collect() };
        if ranks(self) == ranks(before) {
            self.publish(before.shares());
        }
    }
}

/// One number of chance, made into as many as a pick needs (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether something comes true that does so with this probability.
    fn grants(&mut self, probability: f64) -> bool {
        probability >= 1.0 || ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

/// The finaliser of splitmix64: every bit of the input changes half the bits of the output.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests;
