//! Picks an endpoint for a request, from what is published about each of them and one number of chance.
//!
//! Whatever the method, the same endpoints come first: those that are eligible and that this request has not tried yet; then
//! those it has tried; and if nobody is eligible, everybody is: sending requests to endpoints that look broken is
//! better than refusing them all because the look may be wrong.
//!
//! A pick allocates nothing and locks nothing. It does not count as a request: [`Load::begin`] does.

mod order;

use self::order::in_turn;
use super::load::Load;
use config::Balance;
use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

/// How often chance is asked for a better endpoint before all are looked at. Each draw that misses makes it likelier that
/// the neighbour of those that are left out gets more than its part: with half of them out, by less than a percent.
const DRAWS: u32 = 8;

/// One endpoint, as a balancer is told of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its part of the requests, relative to the others'. With 0 it gets none, unless all have 0.
    pub weight: u32,
    /// Stays the same across reloads and on every node: hashing goes by it.
    pub id: u64,
    pub load: Arc<Load>,
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
    candidates: Box<[Candidate]>,
    /// Sums of the weights, to draw by; empty if all are equal.
    sums: Box<[u64]>,
    method: Method,
}

#[derive(Debug)]
struct Candidate {
    load: Arc<Load>,
    /// Where it stands in the list that the balancer was made of.
    endpoint: usize,
    /// Its weight over the mean weight.
    share: f64,
    /// Its id, mixed.
    hash: u64,
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
struct Turn(AtomicUsize);

/// How far the wish for an eligible endpoint that has not been tried is given up.
#[derive(Clone, Copy)]
enum Wish {
    Fresh,
    Eligible,
    Untried,
    Any,
}

const WISHES: [Wish; 4] = [Wish::Fresh, Wish::Eligible, Wish::Untried, Wish::Any];

impl Candidate {
    fn meets(&self, wish: Wish, tried: Tried) -> bool {
        match wish {
            Wish::Fresh => self.load.eligible() && !tried.contains(self.endpoint),
            Wish::Eligible => self.load.eligible(),
            Wish::Untried => !tried.contains(self.endpoint),
            Wish::Any => true,
        }
    }
}

impl Balancer {
    pub fn new(balance: &Balance, targets: Vec<Target>) -> Self {
        let all_zero = targets.iter().all(|target| target.weight == 0);
        let weight = |target: &Target| if all_zero { 1 } else { target.weight };
        let weights: Vec<u32> = targets.iter().map(weight).filter(|weight| *weight > 0).collect();
        let sum: u64 = weights.iter().copied().map(u64::from).sum();
        let candidates: Box<[Candidate]> = targets
            .iter()
            .enumerate()
            .filter(|(_, target)| weight(target) > 0)
            .map(|(endpoint, target)| Candidate {
                load: Arc::clone(&target.load),
                endpoint,
                share: f64::from(weight(target)) * weights.len() as f64 / sum as f64,
                hash: mix(target.id),
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
        Self { candidates, sums, method }
    }

    /// The endpoint to send a request to, as its place in the list that the balancer was made of; `None` only if that is empty.
    /// `key` is what a hashing balancer goes by, hashed already; without one it goes by chance.
    pub fn pick(&self, chance: u64, now: Instant, key: Option<u64>, tried: Tried) -> Option<usize> {
        self.choose(chance, now, key, tried, |next| next.0.fetch_add(1, Relaxed))
    }

    /// What [`Balancer::pick`] would answer, without taking anybody's turn.
    pub fn peek(&self, chance: u64, now: Instant, key: Option<u64>, tried: Tried) -> Option<usize> {
        let looked = Cell::new(0);
        self.choose(chance, now, key, tried, |next| next.0.load(Relaxed).wrapping_add(looked.replace(looked.get() + 1)))
    }

    fn choose(&self, chance: u64, now: Instant, key: Option<u64>, tried: Tried, turn: impl Fn(&Turn) -> usize) -> Option<usize> {
        let picked = match &*self.candidates {
            [] => return None,
            [only] => only,
            _ => match &self.method {
                Method::PeakEwma => self.better_of_two(chance, tried, |candidate| candidate.load.cost(candidate.share, now)),
                Method::LeastRequests => {
                    self.better_of_two(chance, tried, |candidate| f64::from(candidate.load.in_flight()) / candidate.share)
                }
                Method::RoundRobin { order, next } => self.next_in_turn(order, tried, || turn(next)),
                Method::Hash { bound } => self.by_hash(key.unwrap_or(chance), *bound, tried),
            },
        };
        Some(picked.endpoint)
    }

    /// Draws two by their weights and takes the one that costs less, the first of them if they cost the same. Comparing two
    /// keeps the worst ones free without sending everybody to the best one.
    fn better_of_two(&self, chance: u64, tried: Tried, cost: impl Fn(&Candidate) -> f64) -> &Candidate {
        let mut chance = Chance(chance);
        for wish in WISHES {
            let Some(first) = self.draw(&mut chance, |at| self.candidates[at].meets(wish, tried)) else { continue };
            let second = self.draw(&mut chance, |at| at != first && self.candidates[at].meets(wish, tried));
            let first = &self.candidates[first];
            return match second.map(|at| &self.candidates[at]) {
                Some(second) if cost(second) < cost(first) => second,
                _ => first,
            };
        }
        unreachable!("any candidate meets the last wish, and there are at least two")
    }

    /// A candidate that `fits`, drawn by weight; by position if chance does not find one soon.
    fn draw(&self, chance: &mut Chance, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let mut drawn = 0;
        for _ in 0..DRAWS {
            drawn = match self.sums.last() {
                None => chance.below(self.candidates.len() as u64) as usize,
                Some(sum) => {
                    let at = chance.below(*sum);
                    self.sums.partition_point(|sum| *sum <= at)
                }
            };
            if fits(drawn) {
                return Some(drawn);
            }
        }
        (drawn..self.candidates.len()).chain(0..drawn).find(|at| fits(*at))
    }

    /// Who is left out gives its turn to the next, and that one's turn moves on with it: among those who are left, the
    /// order stays what it is.
    fn next_in_turn(&self, order: &[u32], tried: Tried, turn: impl Fn() -> usize) -> &Candidate {
        for wish in WISHES {
            for _ in 0..order.len() {
                let at = turn() % order.len();
                let candidate = &self.candidates[order[at] as usize];
                if candidate.meets(wish, tried) {
                    return candidate;
                }
            }
        }
        &self.candidates[0]
    }

    /// The first in the key's own order of endpoints (rendezvous hashing) that is not above its bound: `bound` times its
    /// share of all requests in flight, this one included and rounded up. An endpoint that leaves moves only its own keys.
    fn by_hash(&self, key: u64, bound: f64, tried: Tried) -> &Candidate {
        let home = self.first_by_hash(key, tried, |_| true);
        // The bound is never below one request, so a free endpoint needs no sum over the others.
        if home.load.in_flight() == 0 {
            return home;
        }
        let none_eligible = !self.candidates.iter().any(|candidate| candidate.load.eligible());
        let (mut in_flight, mut shares) = (1.0, 0.0);
        for candidate in self.candidates.iter().filter(|candidate| none_eligible || candidate.load.eligible()) {
            in_flight += f64::from(candidate.load.in_flight());
            shares += candidate.share;
        }
        self.first_by_hash(key, tried, |candidate| {
            f64::from(candidate.load.in_flight()) < (bound * in_flight * candidate.share / shares).ceil()
        })
    }

    fn first_by_hash(&self, key: u64, tried: Tried, below_bound: impl Fn(&Candidate) -> bool) -> &Candidate {
        let rank = |candidate: &Candidate| {
            let standing = (candidate.load.eligible(), !tried.contains(candidate.endpoint), below_bound(candidate));
            (standing, self.score(candidate, key))
        };
        let first = (&self.candidates[0], rank(&self.candidates[0]));
        let (best, _) = self.candidates[1..].iter().fold(first, |best, candidate| {
            let rank = rank(candidate);
            if rank > best.1 { (candidate, rank) } else { best }
        });
        best
    }

    /// The highest comes first in a key's order. Each candidate comes first for its share of all keys, whoever the others are.
    fn score(&self, candidate: &Candidate, key: u64) -> f64 {
        let even = ((mix(candidate.hash ^ key) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        if self.sums.is_empty() { even } else { -candidate.share / even.ln() }
    }
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

/// One number of chance, made into as many as a pick needs (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mix(self.0)) * u128::from(bound)) >> 64) as u64
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
