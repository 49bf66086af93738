//! What can be played, and what every performance has in common: one seed, one thread, one trace.

mod smoke;

use crate::{
    faults::Faults,
    history::{Answer, History},
    invariants::{Promises, Run, Violation},
    trace::Trace,
};
use clap::ValueEnum;
use std::{collections::BTreeMap, fmt, panic};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Scenario {
    /// One node, one service and a handful of callers.
    Smoke,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smoke => "smoke",
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
    /// Plays the scenario on this thread, whose clock and entropy must be the seed's already.
    pub(crate) fn play(self, seed: u64) -> Performance {
        let trace = Trace::default();
        let history = History::new(trace.clone());
        let witness = history.clone();
        panic::set_hook(Box::new(move |panic| witness.panicked(panic)));
        let (faults, promises) = match self {
            Self::Smoke => smoke::play(seed, &trace, &history),
        };
        // The default one again: what panics from here on is the simulator itself.
        drop(panic::take_hook());
        conclude(&trace, &history, &faults, &promises)
    }
}

fn conclude(trace: &Trace, history: &History, faults: &Faults, promises: &Promises) -> Performance {
    let record = history.record();
    let violations = Run { record: &record, faults, promises }.violations();
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
