//! What goes wrong with which endpoint and which actor, and when: drawn from the seed before the run begins.

use super::{ENDPOINTS, TROUBLE_FOR};
use crate::{chance::Chance, trace::Trace};
use std::{fmt, time::Duration};
use turmoil::Sim;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Its process is gone and comes back.
    Crash,
    /// What is sent between it and the node is lost.
    Cut,
    /// It answers requests later than the node waits for, and probes in time.
    Slow,
    /// It answers requests with 500 in bursts of this length and with as long pauses, and probes well.
    Flap(Duration),
}

impl Kind {
    /// Whether it cannot be reached, so that probes and connections fail too.
    pub(super) fn unreachable(self) -> bool {
        matches!(self, Self::Crash | Self::Cut)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) endpoint: usize,
    pub(super) begins: Duration,
    pub(super) ends: Duration,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ahead,
    Present,
    Over,
}

/// What an operator breaks on purpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drill {
    pub(super) at: Duration,
    /// Chance for the choice among the actors that there are by then.
    pub(super) whom: u64,
    /// Killed if it does not stall.
    pub(super) stall: Option<Duration>,
}

pub(super) struct Plan {
    troubles: Vec<Trouble>,
    drills: Vec<Drill>,
}

/// How long a drill may keep an actor from its work, so that a stall is over when trouble has been forgotten.
const STALL_MAX_MS: u64 = 1_000;

impl Plan {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let mut kinds = vec![Kind::Crash, Kind::Cut, Kind::Slow, Kind::Flap(chance.millis(50..=400))];
        // Some seeds show one kind alone, most a mixture.
        kinds.retain(|_| !chance.one_in(4));
        let last = TROUBLE_FOR.as_millis() as u64;
        let spared = chance.between(0..=ENDPOINTS.len() as u64 - 1) as usize;
        let mut free: Vec<usize> = (0..ENDPOINTS.len()).filter(|at| *at != spared).collect();
        let mut troubles = Vec::new();
        for kind in kinds {
            // An endpoint of its own for each kind: what it is out for is then known.
            let endpoint = free.remove(chance.between(0..=free.len() as u64 - 1) as usize);
            let mut begins = chance.millis(500..=last);
            for _ in 0..chance.between(1..=2) {
                let ends = begins + chance.millis(400..=2_500);
                troubles.push(Trouble { kind, endpoint, begins, ends, state: State::Ahead });
                begins = ends + chance.millis(100..=1_500);
            }
        }
        troubles.sort_by_key(|trouble| (trouble.begins, trouble.endpoint));
        let mut drills: Vec<Drill> = (0..chance.between(0..=4))
            .map(|_| Drill {
                at: chance.millis(500..=last),
                whom: chance.draw(),
                stall: chance.one_in(2).then(|| chance.millis(100..=STALL_MAX_MS)),
            })
            .collect();
        drills.sort_by_key(|drill| drill.at);
        Self { troubles, drills }
    }

    pub(super) fn drills(&self) -> Vec<Drill> {
        self.drills.clone()
    }

    pub(super) fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    /// What an endpoint does wrong by itself.
    pub(super) fn manners(&self, endpoint: usize) -> Vec<Trouble> {
        let own = |trouble: &&Trouble| trouble.endpoint == endpoint && !trouble.kind.unreachable();
        self.troubles.iter().filter(own).cloned().collect()
    }

    /// Begins and ends what is due.
    pub(super) fn apply(&mut self, sim: &mut Sim<'_>, trace: &Trace) {
        let now = sim.elapsed();
        for trouble in &mut self.troubles {
            let host = ENDPOINTS[trouble.endpoint];
            if trouble.state == State::Ahead && trouble.begins <= now {
                trouble.state = State::Present;
                trace.line("network", format_args!("{trouble}: begins"));
                match trouble.kind {
                    Kind::Crash => sim.crash(host),
                    Kind::Cut => sim.partition("node", host),
                    Kind::Slow | Kind::Flap(_) => {}
                }
            }
            if trouble.state == State::Present && trouble.ends <= now {
                trouble.state = State::Over;
                trace.line("network", format_args!("{trouble}: ends"));
                match trouble.kind {
                    Kind::Crash => sim.bounce(host),
                    Kind::Cut => sim.repair("node", host),
                    Kind::Slow | Kind::Flap(_) => {}
                }
            }
        }
    }

    /// When the last trouble is over, and the last stall.
    pub(super) fn end(&self) -> Duration {
        let troubles = self.troubles.iter().map(|trouble| trouble.ends);
        let drills = self.drills.iter().map(|drill| drill.at + drill.stall.unwrap_or_default());
        troubles.chain(drills).max().unwrap_or(TROUBLE_FOR)
    }
}

#[cfg(test)]
impl Plan {
    /// One trouble of one endpoint, and nobody drilled.
    pub(super) fn of(kind: Kind, endpoint: usize, begins: Duration, ends: Duration) -> Self {
        Self { troubles: vec![Trouble { kind, endpoint, begins, ends, state: State::Over }], drills: Vec::new() }
    }
}

impl Trouble {
    /// Whether it is there at `at`, for what an endpoint does by itself.
    pub(super) fn present(&self, at: Duration) -> bool {
        (self.begins..self.ends).contains(&at)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = ENDPOINTS[self.endpoint];
        match self.kind {
            Kind::Crash => write!(f, "{host} is crashed"),
            Kind::Cut => write!(f, "{host} is cut off"),
            Kind::Slow => write!(f, "{host} is slow"),
            Kind::Flap(burst) => write!(f, "{host} flaps every {} ms", burst.as_millis()),
        }
    }
}
