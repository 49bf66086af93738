//! Decides what becomes of the children of one supervisor: in which order they start, who is started again after a
//! failure and when, who has to stop along with whom, and when the supervisor itself gives up.
//!
//! The strategies are OTP's. What happens to failures is not: one child that fails again and again does not take its
//! supervisor with it. After more than five failures in ten seconds it is down, which everybody can see, and is tried again after
//! half a minute or more. A supervisor gives up only when many different children fail at the same time, because then it is
//! probably not the children; its own supervisor then starts it afresh, or keeps it down in turn.
//!
//! A failure counts as a failure whatever it came of, drills included.
//!
//! There are never two lives of one child: a child is started only after its earlier life is known to have ended.

pub(crate) mod actor;
mod branch;
mod member;
mod policy;

pub use self::{
    actor::Child,
    branch::{Branch, NotAdded},
    policy::{Policy, Restart, Strategy},
};

use self::member::{Member, Standing};
use crate::{
    inspect::{Id, State},
    service::backoff,
};
use std::time::{Duration, Instant};

/// How long a killed child may take to end before a supervisor that leaves goes without it.
const ABANDON_AFTER: Duration = Duration::from_secs(1);

/// One child, as its supervisor has to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    pub id: Id,
    pub restart: Restart,
    /// How long it may take to stop. Then it is killed.
    pub stop_within: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    Start(Id),
    /// Ask it to stop.
    Stop(Id),
    Kill(Id),
    /// Its last life ended and it does not come back, or comes back as somebody else.
    Forget(Id),
    Became {
        id: Id,
        state: State,
        until: Option<Instant>,
    },
    /// Nothing comes after it.
    Left(Outcome),
}

/// How a supervisor ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With the children that did not end although they were killed.
    Stopped {
        abandoned: Vec<Id>,
    },
    Escalated(String),
}

/// What became of a child that is not wanted any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// It had no life that could end; it is forgotten already.
    Done,
    /// [`Effect::Forget`] follows once its life has ended.
    Stopping,
    Unknown,
}

/// The children of one supervisor, in the order in which they start.
pub struct Supervisor {
    policy: Policy,
    children: Vec<Member>,
    phase: Phase,
    effects: Vec<Effect>,
}

enum Phase {
    Working,
    Leaving { outcome: Outcome, kill_at: Instant, abandon_at: Option<Instant> },
    Left,
}

impl Supervisor {
    pub fn new(policy: Policy) -> Self {
        Self { policy, children: Vec::new(), phase: Phase::Working, effects: Vec::new() }
    }

    /// Adds a child after all others. One of the same name that was removed and has not ended is waited for.
    pub fn add(&mut self, spec: Spec, now: Instant) -> Result<(), NotAdded> {
        if !matches!(self.phase, Phase::Working) {
            return Err(NotAdded::Leaving);
        }
        let at = self.position(&spec.id);
        if at.is_some_and(|at| self.children[at].wanted()) {
            return Err(NotAdded::Exists);
        }
        if self.children.iter().filter(|child| child.wanted()).count() >= self.policy.children_max {
            return Err(NotAdded::Full { max: self.policy.children_max });
        }
        if let Some(at) = at {
            self.children[at].removed = Some(Some(spec));
            return Ok(());
        }
        self.append(spec);
        self.settle(now);
        Ok(())
    }

    pub fn remove(&mut self, id: &Id, now: Instant) -> Removal {
        let Some(at) = self.position(id) else { return Removal::Unknown };
        let child = &mut self.children[at];
        let alive = child.alive();
        let removal = match &mut child.removed {
            Some(successor) => match successor.take() {
                Some(_) => Removal::Done,
                None => Removal::Unknown,
            },
            removed @ None if alive => {
                *removed = Some(None);
                Removal::Stopping
            }
            None => {
                self.children.remove(at);
                Removal::Done
            }
        };
        self.settle(now);
        removal
    }

    pub fn started(&mut self, id: &Id, now: Instant) {
        let Some(at) = self.position(id) else { return };
        if self.children[at].standing == Standing::Starting {
            self.stand(at, Standing::Running { since: now });
            self.settle(now);
        }
    }

    /// It could not be started yet because its earlier life has not ended. That is not held against it.
    pub fn postponed(&mut self, id: &Id, chance: u64, now: Instant) {
        let Some(at) = self.position(id) else { return };
        if self.children[at].standing != Standing::Starting {
            return;
        }
        if self.children[at].removed.is_some() {
            self.ended(at);
        } else {
            let wait = backoff(1, chance, self.policy.backoff_min, self.policy.backoff_max);
            self.children[at].recycled = false;
            self.stand(at, Standing::BackingOff { until: now + wait, down: false });
        }
        self.settle(now);
    }

    /// A life ended, or could not begin. `failed` tells whether it ended badly.
    pub fn exited(&mut self, id: &Id, failed: bool, chance: u64, now: Instant) {
        let Some(at) = self.position(id) else { return };
        let child = &self.children[at];
        if !child.alive() {
            return;
        }
        let asked = matches!(child.standing, Standing::Stopping { .. });
        let again = match child.spec.restart {
            Restart::Permanent => true,
            Restart::Transient => failed,
            Restart::Temporary => false,
        };
        if child.removed.is_some() {
            self.ended(at);
        } else if !matches!(self.phase, Phase::Working) {
            self.stand(at, Standing::Ended);
        } else if asked {
            match child.spec.restart {
                Restart::Temporary => self.ended(at),
                Restart::Permanent | Restart::Transient => {
                    self.children[at].recycled = false;
                    self.stand(at, Standing::Waiting);
                }
            }
        } else if again {
            self.failed(at, chance, now);
        } else if child.spec.restart == Restart::Temporary {
            self.ended(at);
        } else {
            self.children[at].recycled = false;
            self.stand(at, Standing::Ended);
        }
        self.settle(now);
    }

    /// Stops all children, the last first. [`Effect::Left`] follows within the time that the policy gives, and a second.
    pub fn leave(&mut self, now: Instant) {
        self.begin_to_leave(Outcome::Stopped { abandoned: Vec::new() }, now);
        self.settle(now);
    }

    pub fn deadline(&self) -> Option<Instant> {
        let children = self.children.iter().filter_map(|child| match child.standing {
            Standing::BackingOff { until, .. } => Some(until),
            Standing::Stopping { kill_at } => kill_at,
            _ => None,
        });
        let own = match &self.phase {
            Phase::Working => None,
            Phase::Leaving { kill_at, abandon_at, .. } => Some(abandon_at.unwrap_or(*kill_at)),
            Phase::Left => return None,
        };
        children.chain(own).min()
    }

    pub fn expire(&mut self, now: Instant) {
        for at in 0..self.children.len() {
            match self.children[at].standing {
                Standing::BackingOff { until, .. } if until <= now => self.stand(at, Standing::Waiting),
                Standing::Stopping { kill_at: Some(kill_at) } if kill_at <= now => self.kill(at),
                _ => {}
            }
        }
        self.expire_leaving(now);
        self.settle(now);
    }

    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// In the order in which they start, with where each stands.
    pub fn children(&self) -> impl Iterator<Item = (&Id, State, Option<Instant>)> {
        self.children.iter().map(|child| {
            let (state, until) = child.standing.shown();
            (&child.spec.id, state, until)
        })
    }

    fn expire_leaving(&mut self, now: Instant) {
        let Phase::Leaving { kill_at, abandon_at, .. } = &mut self.phase else { return };
        match abandon_at {
            None if *kill_at <= now => {
                *abandon_at = Some(now + ABANDON_AFTER);
                for at in (0..self.children.len()).rev() {
                    match self.children[at].standing {
                        Standing::Running { .. } | Standing::Stopping { kill_at: Some(_) } => self.kill(at),
                        _ => {}
                    }
                }
            }
            Some(abandon_at) if *abandon_at <= now => self.finish_leaving(),
            _ => {}
        }
    }

    /// What follows from where everybody stands: at most one child at a time stops or starts in its order.
    fn settle(&mut self, now: Instant) {
        match &self.phase {
            Phase::Working => {}
            Phase::Leaving { .. } => return self.settle_leaving(now),
            Phase::Left => return,
        }
        for at in 0..self.children.len() {
            if self.children[at].removed.is_some() && matches!(self.children[at].standing, Standing::Running { .. }) {
                self.stop(at, now);
            }
        }
        if let Some(at) = self.children.iter().rposition(|child| child.recycled && child.alive()) {
            if matches!(self.children[at].standing, Standing::Running { .. }) {
                self.stop(at, now);
            }
            // Nobody starts between those who stop: what they are to start upon is about to go.
            return;
        }
        if self.children.iter().any(|child| child.standing == Standing::Starting) {
            return;
        }
        let next = (0..self.children.len()).find(|at| self.children[*at].standing == Standing::Waiting && self.may_start(*at));
        if let Some(at) = next {
            self.stand(at, Standing::Starting);
            self.effects.push(Effect::Start(self.children[at].spec.id.clone()));
        }
    }

    fn may_start(&self, at: usize) -> bool {
        match self.policy.strategy {
            Strategy::OneForOne => true,
            Strategy::RestForOne => self.children[..at].iter().all(Member::ready),
            Strategy::OneForAll => self.children[..at].iter().all(Member::ready) && !self.children.iter().any(Member::backing_off),
        }
    }

    fn settle_leaving(&mut self, now: Instant) {
        match self.children.iter().rposition(Member::alive) {
            None => self.finish_leaving(),
            Some(at) if matches!(self.children[at].standing, Standing::Running { .. }) => self.stop(at, now),
            Some(_) => {}
        }
    }

    fn begin_to_leave(&mut self, outcome: Outcome, now: Instant) {
        if !matches!(self.phase, Phase::Working) {
            return;
        }
        self.phase = Phase::Leaving { outcome, kill_at: now + self.policy.stop_within, abandon_at: None };
        for at in 0..self.children.len() {
            if !self.children[at].alive() {
                self.stand(at, Standing::Ended);
            }
        }
    }

    fn finish_leaving(&mut self) {
        let Phase::Leaving { mut outcome, .. } = std::mem::replace(&mut self.phase, Phase::Left) else { return };
        if let Outcome::Stopped { abandoned } = &mut outcome {
            abandoned.extend(self.children.iter().filter(|child| child.alive()).map(|child| child.spec.id.clone()));
        }
        self.effects.push(Effect::Left(outcome));
    }

    /// A child failed that is to be started again.
    fn failed(&mut self, at: usize, chance: u64, now: Instant) {
        let Policy { window, restarts_max, .. } = self.policy;
        let recent = |failed: Instant| now.saturating_duration_since(failed) < window;
        let child = &mut self.children[at];
        if matches!(child.standing, Standing::Running { since } if !recent(since)) {
            child.downs = 0;
        }
        child.failures.retain(|failed| recent(*failed));
        child.failures.push_back(now);
        child.failed_last = Some(now);
        child.recycled = false;
        // One that was down and fails again before it has been up for a window is down at once.
        let down = child.downs > 0 || child.failures.len() > restarts_max as usize;
        let wait = if down {
            child.downs += 1;
            child.failures.clear();
            backoff(child.downs, chance, self.policy.down_min, self.policy.down_max)
        } else {
            backoff(child.failures.len() as u32, chance, self.policy.backoff_min, self.policy.backoff_max)
        };
        self.stand(at, Standing::BackingOff { until: now + wait, down });
        self.recycle_with(at);

        let all = self.children.len();
        let failing = || self.children.iter().filter(|child| child.failed_last.is_some_and(recent));
        if failing().count() > self.policy.failing_max.max(all / 4) {
            let reason = format!(
                "{} of {all} children failed within {}s, {} last",
                failing().count(),
                window.as_secs_f64(),
                self.children[at].spec.id
            );
            self.begin_to_leave(Outcome::Escalated(reason), now);
        }
    }

    /// Those who have to stop and start again along with a child that failed.
    fn recycle_with(&mut self, failed: usize) {
        let first = match self.policy.strategy {
            Strategy::OneForOne => return,
            Strategy::OneForAll => 0,
            Strategy::RestForOne => failed + 1,
        };
        for at in (first..self.children.len()).filter(|at| *at != failed) {
            if self.children[at].alive() {
                self.children[at].recycled = true;
            } else if self.children[at].standing == Standing::Ended {
                self.stand(at, Standing::Waiting);
            }
        }
    }

    fn stop(&mut self, at: usize, now: Instant) {
        self.stand(at, Standing::Stopping { kill_at: Some(now + self.children[at].spec.stop_within) });
        self.effects.push(Effect::Stop(self.children[at].spec.id.clone()));
    }

    fn kill(&mut self, at: usize) {
        self.stand(at, Standing::Stopping { kill_at: None });
        self.effects.push(Effect::Kill(self.children[at].spec.id.clone()));
    }

    /// The last life of a child ended.
    fn ended(&mut self, at: usize) {
        let child = self.children.remove(at);
        self.effects.push(Effect::Forget(child.spec.id));
        if let (Some(Some(successor)), Phase::Working) = (child.removed, &self.phase) {
            self.append(successor);
        }
    }

    fn append(&mut self, spec: Spec) {
        self.children.push(Member::new(spec));
        self.show(self.children.len() - 1);
    }

    fn stand(&mut self, at: usize, standing: Standing) {
        let before = std::mem::replace(&mut self.children[at].standing, standing);
        if before.shown() != standing.shown() {
            self.show(at);
        }
    }

    fn show(&mut self, at: usize) {
        let child = &self.children[at];
        let (state, until) = child.standing.shown();
        self.effects.push(Effect::Became { id: child.spec.id.clone(), state, until });
    }

    fn position(&self, id: &Id) -> Option<usize> {
        self.children.iter().position(|child| child.spec.id == *id)
    }
}

#[cfg(test)]
mod tests;
