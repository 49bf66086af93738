//! One question to a resolver: when to ask it again, and how long its last answer counts.

use super::{Absence, Answer, Record};
use crate::service::backoff;
use config::DiscoveryPolicy;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A question that was not answered in this time has failed, whatever became of whoever was to ask it.
const UNANSWERED: Duration = Duration::from_secs(10);

/// Of its time to live, an answer gives up so much at most, so that many nodes do not ask in the same moment.
const JITTER: f64 = 0.1;

#[derive(Debug)]
pub(super) struct Lookup {
    /// Of the last answer that had any, until they are given up.
    records: Vec<Record>,
    standing: Standing,
    next: Next,
    /// When it was answered last, in whatever way.
    heard: Option<Instant>,
    /// Since when, and why, it has not been answered with records.
    trouble: Option<(Instant, Arc<str>)>,
    /// Troubles in a row.
    troubles: u32,
}

/// What the last outcome says about the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Unheard,
    Fresh,
    /// Nothing is known since; the records stay.
    Failing,
    /// The name is said not to exist; the records stay for a while.
    Gone,
    /// The name is said to have none of this kind; the records stay for a while, unless it has others.
    Lacking,
}

impl Standing {
    fn is_absent(self) -> bool {
        matches!(self, Self::Gone | Self::Lacking)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Ask(Instant),
    /// Asked, and to be answered by then.
    Answered(Instant),
}

impl Lookup {
    pub(super) fn new(now: Instant) -> Self {
        Self { records: Vec::new(), standing: Standing::Unheard, next: Next::Ask(now), heard: None, trouble: None, troubles: 0 }
    }

    /// What was known in another life, to be asked about at once. Where there were no records, none are waited for.
    pub(super) fn resume(records: &[Record], now: Instant) -> Self {
        let standing = if records.is_empty() { Standing::Lacking } else { Standing::Fresh };
        Self { records: records.to_vec(), standing, ..Self::new(now) }
    }

    /// What another life may go on with; `None` where nothing has been heard.
    pub(super) fn known(&self) -> Option<&[Record]> {
        (!self.is_unheard()).then_some(&self.records)
    }

    pub(super) fn observe(&mut self, answer: Answer, policy: &DiscoveryPolicy, now: Instant, chance: u64) {
        self.heard = Some(now);
        let wait = match answer {
            Answer::Records { records, ttl } => {
                self.records = records;
                self.standing = Standing::Fresh;
                self.trouble = None;
                self.troubles = 0;
                lifetime(ttl, policy, chance)
            }
            Answer::Nothing(absence) => {
                // That there is nothing is news only once; since then the records are running out.
                if !self.standing.is_absent() {
                    self.trouble = None;
                }
                let (standing, why) = match absence {
                    Absence::NoName => (Standing::Gone, "the name does not exist"),
                    Absence::NoRecord => (Standing::Lacking, "the name has no such record"),
                };
                self.standing = standing;
                self.retry(why.into(), policy, now, chance)
            }
            Answer::Failed(why) => {
                // A resolver that fails after it said that the name is gone has taken nothing back.
                if !self.standing.is_absent() {
                    self.standing = Standing::Failing;
                }
                self.retry(why, policy, now, chance)
            }
        };
        self.next = Next::Ask(now + wait);
        self.give_up(policy, now);
    }

    /// Whether it is to be asked now.
    pub(super) fn expire(&mut self, policy: &DiscoveryPolicy, now: Instant, chance: u64) -> bool {
        self.give_up(policy, now);
        match self.next {
            Next::Ask(due) if due <= now => {
                self.next = Next::Answered(now + UNANSWERED);
                true
            }
            Next::Answered(due) if due <= now => {
                self.observe(Answer::Failed("the resolver did not answer in time".into()), policy, now, chance);
                false
            }
            Next::Ask(_) | Next::Answered(_) => false,
        }
    }

    pub(super) fn deadline(&self, policy: &DiscoveryPolicy) -> Instant {
        let (Next::Ask(next) | Next::Answered(next)) = self.next;
        self.gone_at(policy).map_or(next, |gone| gone.min(next))
    }

    /// Brings the next time to ask forward, as far as the bounds allow.
    pub(super) fn hasten(&mut self, policy: &DiscoveryPolicy, now: Instant) {
        if let Next::Ask(due) = self.next {
            let earliest = self.heard.map_or(now, |heard| heard + policy.ttl_min).max(now);
            self.next = Next::Ask(due.min(earliest));
        }
    }

    /// Brings the next time to ask within bounds that have changed.
    pub(super) fn clamp(&mut self, policy: &DiscoveryPolicy, now: Instant) {
        if let Next::Ask(due) = self.next {
            self.next = Next::Ask(due.min(self.heard.map_or(now, |heard| heard + policy.ttl_max)));
        }
    }

    /// Gives the records up before their time.
    pub(super) fn forget(&mut self) {
        self.records.clear();
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) fn is_unheard(&self) -> bool {
        self.standing == Standing::Unheard
    }

    pub(super) fn trouble(&self) -> Option<(Instant, Arc<str>)> {
        self.trouble.clone()
    }

    fn retry(&mut self, why: Arc<str>, policy: &DiscoveryPolicy, now: Instant, chance: u64) -> Duration {
        let since = self.trouble.as_ref().map_or(now, |(since, _)| *since);
        self.trouble = Some((since, why));
        self.troubles = self.troubles.saturating_add(1);
        backoff(self.troubles, chance, policy.ttl_min, policy.ttl_max)
    }

    fn give_up(&mut self, policy: &DiscoveryPolicy, now: Instant) {
        if self.gone_at(policy).is_some_and(|gone| gone <= now) {
            self.records.clear();
        }
    }

    /// When the records are given up.
    fn gone_at(&self, policy: &DiscoveryPolicy) -> Option<Instant> {
        let (since, _) = self.trouble.as_ref()?;
        (self.standing.is_absent() && !self.records.is_empty()).then(|| *since + policy.stale)
    }
}

/// How long an answer counts: its time to live within the bounds, less a part that chance decides.
fn lifetime(ttl: Duration, policy: &DiscoveryPolicy, chance: u64) -> Duration {
    let ttl = ttl.clamp(policy.ttl_min, policy.ttl_max.max(policy.ttl_min));
    let given_up = JITTER * (chance >> 11) as f64 / (1u64 << 53) as f64;
    ttl.mul_f64(1.0 - given_up).max(policy.ttl_min)
}
