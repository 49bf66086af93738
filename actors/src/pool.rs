//! Decides how many connections there should be to one address, and which of them have to go.
//!
//! Requests take connections and give them back without asking, and open new ones where none is idle. What is left to
//! decide is what no request waits for: to open some ahead of demand, to close those that are too long idle or too old, to
//! mistrust those that may only seem to be open, and to let all of them go when the address has left.
//!
//! It counts and does not hold: a body looks at its connections about once a second, tells what it saw ([`Pool::observe`])
//! and does what follows. Dead connections are not decided about: whoever looks at one that the endpoint has closed drops it.

mod actor;

pub use self::actor::{Connections, Order, child};

use crate::service::backoff;
use config::PoolPolicy;
use std::time::{Duration, Instant};

/// Between two looks.
pub const TICK: Duration = Duration::from_secs(1);

/// Connections opened ahead of demand at one look: an endpoint that has just started is not run over.
const OPEN_MOST: usize = 8;

/// Of the connections, one of so many is closed for its age at one look, so that those that were opened together are not
/// all replaced together.
const OLD_PART: usize = 8;

/// Connections that were dead when they were taken, since the last look, before the others are mistrusted: one may always
/// meet the endpoint's own idle timeout.
const LOST_MIN: u64 = 2;

/// How long demand is remembered at most: by then half of it is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// Connections that were to be opened and of which nothing was heard in this time are not coming.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// Between attempts to open connections ahead of demand to an endpoint that takes none.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What a body saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Connections that count against the bound: busy, idle, or being opened.
    pub open: usize,
    pub idle: usize,
    /// Requests that hold a connection or a share of one.
    pub in_flight: usize,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Requests that one connection can carry at the same time: 1, or the streams of HTTP/2.
    pub streams: usize,
    /// Counted up for ever: idle connections that turned out to be dead when a request used them.
    pub lost: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Open so many, ahead of demand; [`Pool::opened`] wants to hear of each.
    Open(usize),
    /// Look at the idle connections, and close those that it takes.
    Reap(Reap),
    /// Close everything, whatever it carries.
    CloseAll,
}

/// Which idle connections have to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reap {
    idle_max: Duration,
    age_max: Duration,
    /// How many may still go for their age.
    old_most: usize,
}

impl Reap {
    /// All of them.
    pub const ALL: Self = Self { idle_max: Duration::ZERO, age_max: Duration::ZERO, old_most: usize::MAX };

    /// Whether an idle connection has to go. Those that were idle longest should be shown first.
    pub fn takes(&mut self, idle_for: Duration, age: Duration) -> bool {
        if idle_for >= self.idle_max {
            return true;
        }
        if age < self.age_max || self.old_most == 0 {
            return false;
        }
        self.old_most -= 1;
        true
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Serving,
    /// The address has left: nothing new, and what is in flight ends until then.
    Draining {
        until: Instant,
    },
    /// It has left, and nothing is open any more.
    Gone,
}

/// What there is to see of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    pub seen: Seen,
    /// How many connections there should be at least.
    pub target: usize,
    pub opening: usize,
    /// Failures to open connections ahead of demand, in a row.
    pub failures: u32,
}

/// The connections to one address, as counts.
#[derive(Debug)]
pub struct Pool {
    policy: PoolPolicy,
    phase: Phase,
    seen: Seen,
    observed: Instant,
    /// The most requests at a time, fading.
    peak: f64,
    /// Asked for and not heard of yet, and when the last of them was asked for.
    opening: usize,
    asked: Instant,
    failures: u32,
    retry_at: Instant,
    effects: Vec<Effect>,
}

impl Pool {
    /// A pool without connections, to be looked at at once.
    pub fn new(policy: PoolPolicy, now: Instant) -> Self {
        Self {
            policy,
            phase: Phase::Serving,
            seen: Seen::default(),
            observed: now.checked_sub(TICK).unwrap_or(now),
            peak: 0.0,
            opening: 0,
            asked: now,
            failures: 0,
            retry_at: now,
            effects: Vec::new(),
        }
    }

    /// Takes what there is now, and decides what to do about it.
    pub fn observe(&mut self, seen: Seen, now: Instant) {
        let lost = seen.lost.saturating_sub(self.seen.lost);
        self.remember(seen, now);
        self.seen = seen;
        self.observed = now;
        if now.saturating_duration_since(self.asked) >= OPENING_MAX {
            self.opening = 0;
        }
        match self.phase {
            Phase::Serving => {
                self.reap(lost);
                self.open(now);
            }
            Phase::Draining { .. } if seen.open == 0 => self.phase = Phase::Gone,
            Phase::Draining { until } if until <= now => self.effects.push(Effect::CloseAll),
            Phase::Draining { .. } => self.effects.push(Effect::Reap(Reap::ALL)),
            // Somebody was faster than the word that the address had left.
            Phase::Gone if seen.open > 0 => self.effects.push(Effect::CloseAll),
            Phase::Gone => {}
        }
    }

    /// Takes what there is after an [`Effect::Reap`] was done: connections that grow old together are closed together, and what
    /// should always be there is opened again at once.
    pub fn reaped(&mut self, seen: Seen, now: Instant) {
        if self.phase == Phase::Serving {
            self.seen = Seen { lost: self.seen.lost, ..seen };
            self.open(now);
        }
    }

    /// One connection of an [`Effect::Open`] is there, or could not be opened.
    pub fn opened(&mut self, succeeded: bool, now: Instant, chance: u64) {
        self.opening = self.opening.saturating_sub(1);
        if succeeded {
            self.failures = 0;
            self.retry_at = now;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.retry_at = now + backoff(self.failures, chance, RETRY_MIN, RETRY_MAX);
        }
    }

    /// When to look again.
    pub fn deadline(&self) -> Option<Instant> {
        let tick = self.observed + TICK;
        match self.phase {
            Phase::Serving => Some(tick),
            // The last moment is met exactly, and then as often as any other.
            Phase::Draining { until } if self.observed < until => Some(tick.min(until)),
            Phase::Draining { .. } => Some(tick),
            Phase::Gone => None,
        }
    }

    /// The address has left. What is idle is closed, and what is in flight may end within the policy's bound.
    pub fn retire(&mut self, now: Instant) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Draining { until: now + self.policy.drain };
            self.opening = 0;
            self.effects.retain(|effect| !matches!(effect, Effect::Open(_)));
            self.effects.push(Effect::Reap(Reap::ALL));
        }
    }

    /// The address is back, before or after the last connection to it was gone.
    pub fn revive(&mut self, now: Instant) {
        if self.phase != Phase::Serving {
            self.phase = Phase::Serving;
            self.effects.clear();
            self.failures = 0;
            self.retry_at = now;
        }
    }

    /// Takes other choices of a reload. Connections stay.
    pub fn reconfigure(&mut self, policy: PoolPolicy) {
        self.policy = policy;
    }

    /// What to do, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn sizes(&self) -> Sizes {
        Sizes { seen: self.seen, target: self.target(), opening: self.opening, failures: self.failures }
    }

    /// A connection for each request that there was at a time lately, and those that are always there.
    fn target(&self) -> usize {
        if self.phase != Phase::Serving {
            return 0;
        }
        let demand = (self.peak / self.seen.streams.max(1) as f64).round() as usize;
        demand.max(self.policy.warm).min(self.policy.max_connections)
    }

    fn remember(&mut self, seen: Seen, now: Instant) {
        // By the time that connections are closed as idle, what they were opened for has to be forgotten.
        let half_life = HALF_LIFE.min(self.policy.idle / 8).max(Duration::from_millis(1));
        let halves = now.saturating_duration_since(self.observed).as_secs_f64() / half_life.as_secs_f64();
        self.peak = (self.peak * 0.5f64.powf(halves)).max((seen.in_flight + seen.waiting) as f64);
    }

    fn reap(&mut self, lost: u64) {
        if self.seen.idle == 0 && self.seen.streams <= 1 {
            return;
        }
        // The endpoint has begun anew, or something in between has forgotten the connections without a word: what has not
        // been used since the last look may be just as dead, and every request would find out by itself.
        let suspect = lost >= LOST_MIN && 4 * lost >= self.seen.idle as u64;
        let idle_max = if suspect { self.policy.idle.min(TICK) } else { self.policy.idle };
        let old_most = (self.seen.open / OLD_PART).max(1);
        self.effects.push(Effect::Reap(Reap { idle_max, age_max: self.policy.age_max, old_most }));
    }

    fn open(&mut self, now: Instant) {
        let missing = self.target().saturating_sub(self.seen.open + self.opening);
        let room = self.policy.max_idle.saturating_sub(self.seen.idle + self.opening);
        // One attempt is enough to find out whether an endpoint that took none takes some now.
        let most = if self.failures == 0 { OPEN_MOST } else { 1 };
        let opens = missing.min(room).min(most);
        if opens > 0 && self.retry_at <= now && (self.failures == 0 || self.opening == 0) {
            self.opening += opens;
            self.asked = now;
            self.effects.push(Effect::Open(opens));
        }
    }
}

#[cfg(test)]
mod tests;
