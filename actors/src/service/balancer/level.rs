//! One level: the endpoints that are as near as each other, and how one of them is picked.

use super::{Capacity, Chance, Rank, Target, Tried, mix, order::in_turn, ramp::Ramp};
use crate::service::load::Load;
use config::Balance;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

/// How often chance is asked for a better endpoint before all are looked at. Each draw that misses makes it likelier that
/// the neighbour of those that are left out gets more than its part: with half of them out, by less than a percent.
const DRAWS: u32 = 8;

#[derive(Debug)]
pub(super) struct Level {
    pub(super) rank: Rank,
    pub(super) candidates: Box<[Candidate]>,
    /// Sums of the weights, to draw by; empty if all are equal.
    sums: Box<[u64]>,
    method: Method,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) load: Arc<Load>,
    /// Where it stands in the list that the balancer was made of.
    endpoint: usize,
    weight: u32,
    /// Its weight over the mean weight of the level.
    share: f64,
    /// Its id, mixed.
    pub(super) hash: u64,
    /// By the configuration; an operator's wish stands with its load.
    drain: bool,
}

#[derive(Debug)]
enum Method {
    PeakEwma,
    LeastRequests,
    RoundRobin { order: Box<[u32]>, next: Turn },
    Hash { bound: f64 },
}

/// Every pick in turn writes it, and nobody else should wait for that.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Turn(AtomicUsize);

impl Turn {
    pub(super) fn advance(&self) -> usize {
        self.0.fetch_add(1, Relaxed)
    }

    pub(super) fn ahead(&self, steps: usize) -> usize {
        self.0.load(Relaxed).wrapping_add(steps)
    }
}

/// How far the wish for a usable endpoint that has not been tried is given up.
#[derive(Clone, Copy)]
pub(super) enum Wish {
    Fresh,
    Usable,
    Untried,
    Staying,
    /// From here on only those that are leaving are left.
    UntriedLeaving,
    Any,
}

impl Wish {
    pub(super) const ALL: [Self; 6] = [Self::Fresh, Self::Usable, Self::Untried, Self::Staying, Self::UntriedLeaving, Self::Any];
}

/// What one pick goes by.
pub(super) struct Look<'a> {
    pub(super) ramp: &'a Ramp,
    pub(super) now: Instant,
    pub(super) key: u64,
    pub(super) tried: Tried,
    /// Whether health is ignored in the level that is looked at.
    pub(super) panicking: bool,
}

impl Candidate {
    pub(super) fn is_draining(&self) -> bool {
        self.drain || self.load.is_draining()
    }

    fn is_usable(&self, look: &Look<'_>) -> bool {
        !self.is_draining() && (look.panicking || self.load.eligible(look.now))
    }

    fn meets(&self, wish: Wish, look: &Look<'_>) -> bool {
        let untried = || !look.tried.contains(self.endpoint);
        match wish {
            Wish::Fresh => self.is_usable(look) && untried(),
            Wish::Usable => self.is_usable(look),
            Wish::Untried => !self.is_draining() && untried(),
            Wish::Staying => !self.is_draining(),
            Wish::UntriedLeaving => untried(),
            Wish::Any => true,
        }
    }

    /// Its share as far as its slow start has come.
    fn grown(&self, look: &Look<'_>) -> f64 {
        self.share * look.ramp.factor(&self.load, look.now)
    }
}

impl Level {
    /// The targets with their places in the service's list, none of them without weight.
    pub(super) fn new(balance: &Balance, rank: Rank, targets: Vec<(usize, Target)>) -> Self {
        let weights: Vec<u32> = targets.iter().map(|(_, target)| target.weight).collect();
        let sum: u64 = weights.iter().copied().map(u64::from).sum();
        let candidates = targets
            .into_iter()
            .map(|(endpoint, target)| Candidate {
                load: target.load,
                endpoint,
                weight: target.weight,
                share: f64::from(target.weight) * weights.len() as f64 / sum as f64,
                hash: mix(target.id),
                drain: target.drain,
            })
            .collect();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let sums = if equal { Box::default() } else { running_sums(&weights) };
        let method = match balance {
            Balance::PeakEwma => Method::PeakEwma,
            Balance::LeastRequests => Method::LeastRequests,
            Balance::RoundRobin => Method::RoundRobin { order: in_turn(&weights), next: Turn::default() },
            Balance::Hash { bound, .. } => Method::Hash { bound: bound.max(1.0) },
        };
        Self { rank, candidates, sums, method }
    }

    /// The endpoint, if there is only one.
    pub(super) fn single(&self) -> Option<usize> {
        match &*self.candidates {
            [only] => Some(only.endpoint),
            _ => None,
        }
    }

    pub(super) fn candidate(&self, endpoint: usize) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.endpoint == endpoint)
    }

    pub(super) fn capacity(&self, now: Instant) -> Capacity {
        let mut capacity = Capacity { rank: self.rank, total: 0, staying: 0, healthy: 0 };
        for candidate in &self.candidates {
            let weight = u64::from(candidate.weight);
            capacity.total += weight;
            if !candidate.is_draining() {
                capacity.staying += weight;
                capacity.healthy += if candidate.load.eligible(now) { weight } else { 0 };
            }
        }
        capacity
    }

    /// An endpoint that meets the wish, as its place in the service's list; `None` if there is none.
    pub(super) fn pick(&self, wish: Wish, look: &Look<'_>, chance: &mut Chance, turn: impl Fn(&Turn) -> usize) -> Option<usize> {
        let picked = match &self.method {
            Method::PeakEwma => self.better_of_two(wish, look, chance, |candidate, share| candidate.load.cost(share, look.now)),
            Method::LeastRequests => {
                self.better_of_two(wish, look, chance, |candidate, share| f64::from(candidate.load.in_flight()) / share)
            }
            Method::RoundRobin { order, next } => self.next_in_turn(wish, look, chance, order, || turn(next)),
            Method::Hash { bound } => self.by_hash(wish, look, *bound),
        };
        picked.map(|candidate| candidate.endpoint)
    }

    /// Draws two by their weights and takes the one that costs less, the first of them if they cost the same. Comparing two
    /// keeps the worst ones free without sending everybody to the best one. One whose weight is still growing enters as
    /// often as its weight says.
    fn better_of_two(&self, wish: Wish, look: &Look<'_>, chance: &mut Chance, cost: impl Fn(&Candidate, f64) -> f64) -> Option<&Candidate> {
        let fits = |at: usize| self.candidates[at].meets(wish, look);
        let grown = |at: usize| look.ramp.factor(&self.candidates[at].load, look.now);
        let first = self.draw(chance, |at, chance| fits(at) && chance.grants(grown(at)), fits)?;
        let other = |at: usize| at != first && fits(at);
        // Beside one that fails, whose weight is still growing is welcome.
        let welcome = self.candidates[first].load.is_failing();
        let second = self.draw(chance, |at, _| other(at), other).filter(|at| welcome || chance.grants(grown(*at)));
        let first = &self.candidates[first];
        Some(match second.map(|at| &self.candidates[at]) {
            Some(second) if cost(second, second.grown(look)) < cost(first, first.grown(look)) => second,
            _ => first,
        })
    }

    /// A candidate that is `wanted`, drawn by weight; by position, one that `fits`, if chance does not find one soon.
    fn draw(&self, chance: &mut Chance, wanted: impl Fn(usize, &mut Chance) -> bool, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let mut drawn = 0;
        for _ in 0..DRAWS {
            drawn = match self.sums.last() {
                None => chance.below(self.candidates.len() as u64) as usize,
                Some(sum) => {
                    let at = chance.below(*sum);
                    self.sums.partition_point(|sum| *sum <= at)
                }
            };
            if wanted(drawn, chance) {
                return Some(drawn);
            }
        }
        (drawn..self.candidates.len()).chain(0..drawn).find(|at| fits(*at))
    }

    /// Who is left out gives its turn to the next, and that one's turn moves on with it: among those who are left, the
    /// order stays what it is. One whose weight is still growing takes as many of its turns as its weight says.
    fn next_in_turn(
        &self,
        wish: Wish,
        look: &Look<'_>,
        chance: &mut Chance,
        order: &[u32],
        turn: impl Fn() -> usize,
    ) -> Option<&Candidate> {
        let mut growing = None;
        for step in 0..order.len() {
            let candidate = &self.candidates[order[turn() % order.len()] as usize];
            if candidate.meets(wish, look) {
                if chance.grants(look.ramp.factor(&candidate.load, look.now)) {
                    return Some(candidate);
                }
                growing = growing.or(Some(candidate));
            } else if step == 0 && !self.candidates.iter().any(|candidate| candidate.meets(wish, look)) {
                // A round of turns may be long, and would be for nothing.
                return None;
            }
        }
        growing
    }

    /// The first in the key's own order of endpoints (rendezvous hashing) that is not above its bound: `bound` times its
    /// share of all requests in flight, this one included and rounded up. An endpoint that leaves moves only its own keys, and
    /// one whose weight is still growing has as many keys as its weight says.
    fn by_hash(&self, wish: Wish, look: &Look<'_>, bound: f64) -> Option<&Candidate> {
        let home = self.first_by_hash(wish, look, |_| true)?;
        // The bound is never below one request, so a free endpoint needs no sum over the others.
        if home.load.in_flight() == 0 {
            return Some(home);
        }
        let none_usable = !self.candidates.iter().any(|candidate| candidate.is_usable(look));
        let (mut in_flight, mut shares) = (1.0, 0.0);
        for candidate in self.candidates.iter().filter(|candidate| none_usable || candidate.is_usable(look)) {
            in_flight += f64::from(candidate.load.in_flight());
            shares += candidate.grown(look);
        }
        self.first_by_hash(wish, look, |candidate| {
            f64::from(candidate.load.in_flight()) < (bound * in_flight * candidate.grown(look) / shares).ceil()
        })
    }

    fn first_by_hash(&self, wish: Wish, look: &Look<'_>, below_bound: impl Fn(&Candidate) -> bool) -> Option<&Candidate> {
        let alike = self.sums.is_empty() && self.candidates.iter().all(|candidate| look.ramp.factor(&candidate.load, look.now) == 1.0);
        let rank = |candidate: &Candidate| (below_bound(candidate), score(candidate, look, alike));
        let mut best: Option<(&Candidate, (bool, f64))> = None;
        for candidate in self.candidates.iter().filter(|candidate| candidate.meets(wish, look)) {
            let rank = rank(candidate);
            if best.is_none_or(|(_, best)| rank > best) {
                best = Some((candidate, rank));
            }
        }
        best.map(|(candidate, _)| candidate)
    }
}

/// The highest comes first in a key's order. Each candidate comes first for its share of all keys, whoever the others are.
/// Where all are alike, leaving the share out changes no order.
fn score(candidate: &Candidate, look: &Look<'_>, alike: bool) -> f64 {
    let even = ((mix(candidate.hash ^ look.key) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    if alike { even } else { -candidate.grown(look) / even.ln() }
}

fn running_sums(weights: &[u32]) -> Box<[u64]> {
    weights
        .iter()
        .scan(0, |sum, weight| {
            *sum += u64::from(*weight);
            Some(*sum)
        })
        .collect()
}
