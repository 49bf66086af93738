//! Decides from probes alone whether an endpoint is healthy, and when it is asked next.
//!
//! A run of failed probes makes it unhealthy, a run of passed ones healthy, and an outcome of the other kind starts the count
//! again: a single slow answer decides nothing, and an endpoint that goes to and fro stays where it was. One that nevertheless changes
//! again and again has to be steady for longer each time before it is believed to be well.
//!
//! Every node asks on its own. The more nodes there are the less often each asks, except while a probe disagrees with the
//! verdict: then the question is open, and it is settled at the pace that the file says.

mod reply;

pub use self::reply::{ProbeError, Reply};

use super::verdict::LastError;
use config::{HealthPolicy, Ratio};
use std::time::{Duration, Instant};

/// Of the nodes of a cluster, so many stretch the interval at most.
const NODES_MAX: u32 = 10;

/// The first probe follows within this time, so that all the endpoints of a service are not asked at once.
const SPREAD: Duration = Duration::from_secs(1);

/// A probe whose outcome is not there so long after its time was lost on the way to us.
const GRACE: Duration = Duration::from_secs(1);

/// A fall so long after the one before it does not make a habit.
const CALM: Duration = Duration::from_secs(300);

/// A habit doubles the probes that have to pass so often at most.
const DOUBLINGS_MAX: u32 = 4;

/// One endpoint's health.
#[derive(Debug)]
pub struct Health {
    policy: HealthPolicy,
    nodes: u32,
    healthy: bool,
    since: Instant,
    /// Outcomes in a row that disagree with the verdict.
    dissent: u32,
    /// Falls in a row without calm between them, beyond the first; and the last one.
    falls: u32,
    fell: Option<Instant>,
    state: State,
    /// Of the probe that was sent last.
    number: u64,
    due: bool,
    last_error: Option<(ProbeError, Instant)>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting { until: Instant },
    Asked { until: Instant },
}

/// A probe to be sent now. Its outcome is told under its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    pub number: u64,
    pub timeout: Duration,
}

/// A verdict that has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    Recovered,
    Fell,
}

impl Health {
    /// Begins with the verdict that is published, so that whoever takes over from another changes nothing by it.
    pub fn new(policy: HealthPolicy, healthy: bool, chance: u64, now: Instant) -> Self {
        let first = now + policy.interval.min(SPREAD).mul_f64(fraction(chance));
        Self {
            policy,
            nodes: 1,
            healthy,
            since: now,
            dissent: 0,
            falls: 0,
            fell: None,
            state: State::Waiting { until: first },
            number: 0,
            due: false,
            last_error: None,
        }
    }

    /// Follows another policy. What was counted so far was counted by other rules, and the next probe is soon.
    pub fn renew(&mut self, policy: HealthPolicy, chance: u64, now: Instant) {
        let (nodes, since, number) = (self.nodes, self.since, self.number);
        *self = Self { nodes, since, number, ..Self::new(policy, self.healthy, chance, now) };
    }

    /// Says how many nodes ask this endpoint, this one included. It counts from the next interval on.
    pub fn set_nodes(&mut self, nodes: u32) {
        self.nodes = nodes.clamp(1, NODES_MAX);
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    pub fn since(&self) -> Instant {
        self.since
    }

    /// Probes in a row that have to pass before an endpoint that is unhealthy counts as healthy.
    pub fn needed(&self) -> u32 {
        self.policy.healthy << self.falls.min(DOUBLINGS_MAX)
    }

    pub fn last_error(&self, now: Instant) -> Option<LastError> {
        let (error, at) = self.last_error.as_ref()?;
        Some(LastError { what: error.to_string().into(), age: now.saturating_duration_since(*at) })
    }

    pub fn deadline(&self) -> Option<Instant> {
        let (State::Waiting { until } | State::Asked { until }) = self.state;
        Some(until)
    }

    /// Makes the next probe due, if it is time. A probe that was lost says nothing of the endpoint and is sent again.
    pub fn expire(&mut self, now: Instant) {
        if self.deadline().is_some_and(|until| now >= until) {
            self.number += 1;
            self.due = true;
            self.state = State::Asked { until: now + self.policy.timeout + GRACE };
        }
    }

    /// The probe to send, once.
    pub fn take_effects(&mut self) -> Option<Probe> {
        std::mem::take(&mut self.due).then_some(Probe { number: self.number, timeout: self.policy.timeout })
    }

    /// Hears what came of a probe. Returns the verdict if it has changed. An outcome that is not that of the last probe changes nothing.
    pub fn observe(&mut self, number: u64, outcome: Result<(), ProbeError>, chance: u64, now: Instant) -> Option<Turn> {
        if number != self.number || !matches!(self.state, State::Asked { .. }) {
            return None;
        }
        let passed = outcome.is_ok();
        if let Err(error) = outcome {
            self.last_error = Some((error, now));
        }
        let turn = self.count(passed, now);
        self.state = State::Waiting { until: now + self.wait(chance) };
        turn
    }

    fn count(&mut self, passed: bool, now: Instant) -> Option<Turn> {
        if passed == self.healthy {
            self.dissent = 0;
            return None;
        }
        self.dissent += 1;
        let needed = if self.healthy { self.policy.unhealthy } else { self.needed() };
        if self.dissent < needed {
            return None;
        }
        self.dissent = 0;
        self.healthy = passed;
        self.since = now;
        if passed {
            return Some(Turn::Recovered);
        }
        let habit = self.fell.is_some_and(|fell| now.saturating_duration_since(fell) < CALM);
        self.falls = if habit { (self.falls + 1).min(DOUBLINGS_MAX) } else { 0 };
        self.fell = Some(now);
        Some(Turn::Fell)
    }

    fn wait(&self, chance: u64) -> Duration {
        let Ratio(jitter) = self.policy.jitter;
        let stretch = if self.dissent > 0 { 1 } else { self.nodes };
        let even = 1.0 + jitter * (2.0 * fraction(chance) - 1.0);
        (self.policy.interval * stretch).mul_f64(even)
    }
}

/// Chance as a number from 0 to below 1: its upper 53 bits are as much as a fraction holds.
fn fraction(chance: u64) -> f64 {
    (chance >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
