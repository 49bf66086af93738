//! What goes wrong in a simulation and when: drawn from the seed before it begins.
//!
//! Each seed switches kinds of trouble on and off, so that some runs show one kind alone and some a mixture. A run
//! without trouble is the strictest: the node has no excuse in it.

use crate::{chance::Chance, trace::Trace};
use std::{fmt, time::Duration};
use turmoil::Sim;

/// Disturbances of links, in no order.
pub(crate) struct Faults(Vec<Fault>);

#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) begins: Duration,
    pub(crate) ends: Duration,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// What is sent in either direction arrives when it is over.
    Stall,
    /// What is sent in either direction is lost. There is nothing in the simulation that sends it again: a connection that
    /// loses bytes is silent from then on.
    Cut,
    /// As a cut, from the first host to the second only.
    OneWayCut,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ahead,
    Present,
    Over,
}

impl Faults {
    /// Nothing goes wrong with links by itself.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Zero to two disturbances of each kind on each link, begun within `within`. The link to the caller only stalls: what it
    /// loses the node cannot answer.
    pub(crate) fn draw(chance: &mut Chance, within: Duration) -> Self {
        let mut faults = Vec::new();
        let last = within.as_millis() as u64;
        for (kind, from, to) in [
            (Kind::Stall, "caller", "node"),
            (Kind::Stall, "node", "service"),
            (Kind::Cut, "node", "service"),
            (Kind::OneWayCut, "node", "service"),
            (Kind::OneWayCut, "service", "node"),
        ] {
            if !chance.one_in(4) {
                continue;
            }
            for _ in 0..chance.between(1..=2) {
                let begins = chance.millis(200..=last);
                faults.push(Fault { kind, from, to, begins, ends: begins + chance.millis(20..=600), state: State::Ahead });
            }
        }
        // turmoil knows one state for each direction of a link: what began later would be ended by what began earlier.
        faults.sort_by_key(|fault| fault.begins);
        let mut free_at = Duration::ZERO;
        faults.retain(|fault| {
            let free = fault.begins >= free_at;
            if free {
                free_at = fault.ends + Duration::from_millis(1);
            }
            free
        });
        Self(faults)
    }

    /// Begins and ends what is due.
    pub(crate) fn apply(&mut self, sim: &Sim<'_>, trace: &Trace) {
        let now = sim.elapsed();
        for fault in &mut self.0 {
            if fault.state == State::Ahead && fault.begins <= now {
                fault.state = State::Present;
                trace.line("network", format_args!("{fault}: begins"));
                match fault.kind {
                    Kind::Stall => sim.hold(fault.from, fault.to),
                    Kind::Cut => sim.partition(fault.from, fault.to),
                    Kind::OneWayCut => sim.partition_oneway(fault.from, fault.to),
                }
            }
            if fault.state == State::Present && fault.ends <= now {
                fault.state = State::Over;
                trace.line("network", format_args!("{fault}: ends"));
                match fault.kind {
                    Kind::Stall => sim.release(fault.from, fault.to),
                    Kind::Cut => sim.repair(fault.from, fault.to),
                    Kind::OneWayCut => sim.repair_oneway(fault.from, fault.to),
                }
            }
        }
    }

    /// When the last of them is over.
    pub(crate) fn end(&self) -> Duration {
        self.0.iter().map(|fault| fault.ends).max().unwrap_or_default()
    }

    /// Whether the node may have waited in vain for the service while `from..to`. A connection that lost bytes in a cut is
    /// silent long after it, so that is an excuse for ever.
    pub(crate) fn behind_the_node(&self, from: Duration, to: Duration) -> bool {
        let mut of_service = self.0.iter().filter(|fault| fault.from != "caller" && fault.begins <= to);
        of_service.any(|fault| fault.kind != Kind::Stall || fault.ends >= from)
    }

    /// Whether bytes between the node and the service may have been lost while `from..to`.
    pub(crate) fn lossy(&self, from: Duration, to: Duration) -> bool {
        self.0.iter().any(|fault| fault.kind != Kind::Stall && fault.begins <= to && fault.ends >= from)
    }

    /// For how long the link to the caller stalls while `from..to`.
    pub(crate) fn stalled_for_callers(&self, from: Duration, to: Duration) -> Duration {
        let of_callers = self.0.iter().filter(|fault| fault.from == "caller");
        of_callers.map(|fault| fault.ends.min(to).saturating_sub(fault.begins.max(from))).sum()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, way) = match self.kind {
            Kind::Stall => ("stall", "and"),
            Kind::Cut => ("cut", "and"),
            Kind::OneWayCut => ("cut", "to"),
        };
        write!(f, "{kind} {} {way} {}", self.from, self.to)
    }
}
