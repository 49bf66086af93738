//! What can be played, and what every performance has in common: one seed, one thread, one trace.

mod client;
mod cuts;
mod depart;
mod limits;
#[cfg(test)]
mod links;
mod membership;
mod smoke;
mod upstreams;

use crate::{
    history::{Answer, History},
    invariants::{EXCUSED_ERRORS, Run, Violation},
    trace::Trace,
};
use clap::ValueEnum;
pub(crate) use membership::{SMALL, Size};
use std::{collections::BTreeMap, fmt, panic};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Scenario {
    /// One node, one service and a handful of callers.
    Smoke,
    /// One node, and endpoints that crash, are slow, flap and are cut off, while actors are killed and stalled.
    Upstreams,
    /// A cluster in two or three regions that is cut in every way there is, while nodes crash and come back.
    Cuts,
    /// Two dozen members in three regions that only gossip.
    Membership,
    /// One limit in clusters of every size, and what may happen to it.
    Limits,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smoke => "smoke",
            Self::Upstreams => "upstreams",
            Self::Cuts => "cuts",
            Self::Membership => "membership",
            Self::Limits => "limits",
        })
    }
}

/// What a seed came to.
pub(crate) struct Performance {
    pub(crate) trace: String,
    pub(crate) hash: u64,
    pub(crate) summary: String,
    pub(crate) violations: Vec<Violation>,
}

impl Scenario {
    /// Whether the scenario has a promise of its own about what may cause errors, because links and manners are not all there is.
    fn knows_causes(self) -> bool {
        matches!(self, Self::Upstreams | Self::Cuts)
    }

    /// Plays the scenario on this thread, whose clock and entropy must be the seed's already.
    pub(crate) fn play(self, seed: u64) -> Performance {
        if self == Self::Membership {
            return membership(seed, SMALL);
        }
        if self == Self::Limits {
            return limits(seed);
        }
        let trace = Trace::default();
        let history = History::new(trace.clone());
        let witness = history.clone();
        panic::set_hook(Box::new(move |panic| witness.panicked(panic)));
        let (faults, promises, mut violations) = match self {
            Self::Smoke => smoke::play(seed, &trace, &history),
            Self::Upstreams => upstreams::play(seed, &trace, &history),
            Self::Cuts => cuts::play(seed, &trace, &history),
            Self::Membership | Self::Limits => unreachable!("no node is in it, and it is played by itself"),
        };
        // The default one again: what panics from here on is the simulator itself.
        drop(panic::take_hook());
        let of_every_run = Run { record: &history.record(), faults: &faults, promises: &promises }.violations();
        violations.extend(of_every_run.into_iter().filter(|violation| violation.number != EXCUSED_ERRORS || !self.knows_causes()));
        violations.sort_by_key(|violation| violation.number);
        conclude(&trace, &history, violations)
    }
}

/// Plays members that only gossip, in a cluster of this size. There are no requests, so only its own promises hold.
pub(crate) fn membership(seed: u64, size: Size) -> Performance {
    let trace = if size.is_large() { Trace::aloud() } else { Trace::default() };
    let history = History::new(trace.clone());
    let witness = history.clone();
    panic::set_hook(Box::new(move |panic| witness.panicked(panic)));
    let (summary, violations) = membership::play(seed, size, &trace, &history);
    drop(panic::take_hook());
    let hash = trace.hash();
    Performance { trace: trace.take(), hash, summary, violations }
}

/// Plays limits without nodes around them.
fn limits(seed: u64) -> Performance {
    let trace = Trace::default();
    let violations = limits::play(seed, &trace);
    let hash = trace.hash();
    Performance { trace: trace.take(), hash, summary: format!("{} promises broken", violations.len()), violations }
}

fn conclude(trace: &Trace, history: &History, violations: Vec<Violation>) -> Performance {
    let record = history.record();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for (_, answer) in record.exchanges.values().flat_map(|exchange| &exchange.answers) {
        let outcome = match answer {
            Answer::Whole { status, .. } => status.as_u16().to_string(),
            Answer::Broken(_) => "broken".to_owned(),
            Answer::None(_) => "none".to_owned(),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    let outcomes: Vec<String> = outcomes.into_iter().map(|(outcome, count)| format!("{outcome}: {count}")).collect();
    let hash = trace.hash();
    Performance { trace: trace.take(), hash, summary: outcomes.join(", "), violations }
}
