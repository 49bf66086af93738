//! Which nodes there are, what is cut between whom, and who crashes when: drawn from the seed before the run begins.
//!
//! A fault closes ways, each from one host to another. Several may close the same way; it is open again when the last of them
//! is over. So what is closed at any time follows from the plan alone, for the network as for the invariants.

use super::{ENDPOINTS, NODES, QUIET, SETTLED_WITHIN};
use crate::{chance::Chance, trace::Trace};
use std::{collections::BTreeSet, fmt, time::Duration};
use turmoil::Sim;

/// One node as it is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) region: usize,
    pub(super) zone: u64,
    /// When it is started for the first time.
    pub(super) starts: Duration,
}

/// A way through the network, from one host to another.
pub(super) type Way = (&'static str, &'static str);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Nothing that is sent on these ways arrives.
    Cut { what: &'static str, ways: BTreeSet<Way> },
    /// The process is gone and comes back; its disk stays.
    Crash { node: usize },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) begins: Duration,
    pub(super) ends: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) places: Vec<Place>,
    pub(super) regions: usize,
    /// Where every node looks for others.
    pub(super) seeds: Vec<usize>,
    /// In the order in which they begin.
    pub(super) faults: Vec<Fault>,
}

/// What happens in the network between two looks at the plan.
#[derive(Default)]
pub(super) struct Present {
    closed: BTreeSet<Way>,
    down: BTreeSet<usize>,
    told: BTreeSet<(usize, bool)>,
}

impl Plan {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let count = chance.between(4..=NODES.len() as u64) as usize;
        let regions = chance.between(2..=ENDPOINTS.len() as u64) as usize;
        let mut places: Vec<Place> = (0..count)
            .map(|number| Place {
                // Every region has a node; the others come as they come.
                region: if number < regions { number } else { chance.between(0..=regions as u64 - 1) as usize },
                zone: chance.between(1..=2),
                starts: chance.millis(0..=2_000),
            })
            .collect();
        let seeds: Vec<usize> = (0..chance.between(1..=2)).map(|_| chance.between(0..=count as u64 - 1) as usize).collect();
        if chance.one_in(4) {
            places.iter_mut().for_each(|place| place.starts = Duration::ZERO);
        }
        let mut plan = Self { places, regions, seeds, faults: Vec::new() };
        let mut at = plan.started() + if chance.one_in(3) { chance.millis(0..=4_000) } else { QUIET };
        for _ in 0..chance.between(1..=3) {
            let (ends, faults) = plan.episode(chance, at);
            plan.faults.extend(faults);
            // Some wounds have not healed when the next one comes.
            at = ends + if chance.one_in(2) { chance.millis(300..=4_000) } else { QUIET };
        }
        plan.faults.sort_by_key(|fault| fault.begins);
        plan
    }

    /// One to three faults at about the same time.
    fn episode(&self, chance: &mut Chance, begins: Duration) -> (Duration, Vec<Fault>) {
        // Long enough to be looked at when all have noticed, or so short that some have not.
        let lasts = if chance.one_in(3) { chance.millis(300..=8_000) } else { QUIET + chance.millis(0..=6_000) };
        let mut faults: Vec<Fault> = Vec::new();
        for _ in 0..chance.between(1..=3) {
            let kind = self.kind(chance);
            let crashes = |fault: &Fault| fault.kind == kind;
            if matches!(kind, Kind::Crash { .. }) && faults.iter().any(crashes) {
                continue;
            }
            let begins = begins + chance.millis(0..=1_000);
            faults.push(Fault { kind, begins, ends: begins + lasts + chance.millis(0..=1_000) });
        }
        (faults.iter().map(|fault| fault.ends).max().unwrap_or(begins), faults)
    }

    fn kind(&self, chance: &mut Chance) -> Kind {
        let nodes: Vec<&'static str> = NODES[..self.places.len()].to_vec();
        let other = |chance: &mut Chance, than: usize, count: usize| (than + chance.between(1..=count as u64 - 1) as usize) % count;
        match chance.between(0..=6) {
            0 => {
                let one = chance.between(0..=self.regions as u64 - 1) as usize;
                let two = other(chance, one, self.regions);
                cut(chance, "between two regions", &self.of_region(one), &self.of_region(two))
            }
            1 => {
                let alone = chance.between(0..=self.regions as u64 - 1) as usize;
                let rest: Vec<&'static str> =
                    (0..self.regions).filter(|region| *region != alone).flat_map(|region| self.of_region(region)).collect();
                cut(chance, "around a region", &self.of_region(alone), &rest)
            }
            2 => {
                // Within the region with the most nodes.
                let of = |region: usize| -> Vec<&'static str> {
                    self.of_region(region).into_iter().filter(|host| nodes.contains(host)).collect()
                };
                let members = (0..self.regions).map(of).max_by_key(Vec::len).unwrap_or_default();
                let (mut one, mut two) = (Vec::new(), Vec::new());
                for (number, member) in members.into_iter().enumerate() {
                    let first = number == 0 || (number > 1 && chance.one_in(2));
                    if first { one.push(member) } else { two.push(member) }
                }
                cut(chance, "inside a region", &one, &two)
            }
            3 => {
                let one = chance.between(0..=nodes.len() as u64 - 1) as usize;
                let two = other(chance, one, nodes.len());
                cut(chance, "between two nodes", &[nodes[one]], &[nodes[two]])
            }
            4 => {
                let mut ways = BTreeSet::new();
                for (at, one) in nodes.iter().enumerate() {
                    for two in &nodes[at + 1..] {
                        if chance.one_in(3) {
                            ways.extend([(*one, *two), (*two, *one)]);
                        }
                    }
                }
                Kind::Cut { what: "here and there", ways }
            }
            5 => {
                let alone = chance.between(0..=nodes.len() as u64 - 1) as usize;
                let rest: Vec<&'static str> = nodes.iter().copied().filter(|node| *node != nodes[alone]).collect();
                cut(chance, "around a node", &[nodes[alone]], &rest)
            }
            _ => Kind::Crash { node: chance.between(0..=nodes.len() as u64 - 1) as usize },
        }
    }

    /// The hosts of a region: its endpoint, and its nodes.
    fn of_region(&self, region: usize) -> Vec<&'static str> {
        let nodes = self.places.iter().zip(NODES).filter(|(place, _)| place.region == region).map(|(_, node)| node);
        nodes.chain([ENDPOINTS[region]]).collect()
    }

    /// When the last node has been started for the first time.
    fn started(&self) -> Duration {
        self.places.iter().map(|place| place.starts).max().unwrap_or_default()
    }

    /// When the last fault is over.
    pub(super) fn end(&self) -> Duration {
        self.faults.iter().map(|fault| fault.ends).max().unwrap_or_default().max(self.started())
    }

    pub(super) fn closed(&self, at: Duration) -> BTreeSet<Way> {
        let mut closed = BTreeSet::new();
        for fault in self.faults.iter().filter(|fault| (fault.begins..fault.ends).contains(&at)) {
            if let Kind::Cut { ways, .. } = &fault.kind {
                closed.extend(ways.iter().copied());
            }
        }
        closed
    }

    pub(super) fn is_down(&self, node: usize, at: Duration) -> bool {
        let crashed = |fault: &Fault| fault.kind == Kind::Crash { node } && (fault.begins..fault.ends).contains(&at);
        at < self.places[node].starts || self.faults.iter().any(crashed)
    }

    /// When anything about the network or the nodes last changed, up to this.
    pub(super) fn last_change(&self, at: Duration) -> Duration {
        let of_faults = self.faults.iter().flat_map(|fault| [fault.begins, fault.ends]);
        let all = of_faults.chain(self.places.iter().map(|place| place.starts));
        all.filter(|change| *change <= at).max().unwrap_or_default()
    }

    /// Whether all that there is to know has been known at this time for as long as it may take.
    pub(super) fn is_settled(&self, at: Duration) -> bool {
        at >= self.last_change(at) + SETTLED_WITHIN
    }

    /// Whom a node reaches, itself included, directly or by way of others: only what gets an answer is a connection. A way counts
    /// where one of its ends is `acquainted` with the other, because nobody dials a stranger.
    pub(super) fn reached_from(&self, node: usize, at: Duration, acquainted: impl Fn(usize, usize) -> bool) -> BTreeSet<usize> {
        let closed = self.closed(at);
        let open = |one: usize, two: usize| {
            let (here, there) = (NODES[one], NODES[two]);
            !closed.contains(&(here, there)) && !closed.contains(&(there, here)) && (acquainted(one, two) || acquainted(two, one))
        };
        let mut reached = BTreeSet::from([node]);
        let mut next = vec![node];
        while let Some(from) = next.pop() {
            for to in 0..self.places.len() {
                if !self.is_down(to, at) && open(from, to) && reached.insert(to) {
                    next.push(to);
                }
            }
        }
        reached
    }

    /// Begins and ends what is due. Returns the nodes that crash now.
    pub(super) fn apply(&self, present: &mut Present, sim: &mut Sim<'_>, trace: &Trace) -> Vec<usize> {
        let now = sim.elapsed();
        for (number, fault) in self.faults.iter().enumerate() {
            for (due, over) in [(fault.begins, false), (fault.ends, true)] {
                if due <= now && present.told.insert((number, over)) {
                    trace.line("network", format_args!("{fault}: {}", if over { "ends" } else { "begins" }));
                }
            }
        }
        let closed = self.closed(now);
        for (from, to) in closed.difference(&present.closed) {
            sim.partition_oneway(*from, *to);
        }
        for (from, to) in present.closed.difference(&closed) {
            sim.repair_oneway(*from, *to);
        }
        present.closed = closed;
        let mut crashed = Vec::new();
        for (node, (place, name)) in self.places.iter().zip(NODES).enumerate() {
            let down = now >= place.starts && self.is_down(node, now);
            if down && present.down.insert(node) {
                sim.crash(name);
                crashed.push(node);
            }
            if !down && present.down.remove(&node) {
                sim.bounce(name);
            }
        }
        crashed
    }
}

/// All ways between the hosts of two sets; now and then only those from the first to the second.
fn cut(chance: &mut Chance, what: &'static str, one: &[&'static str], two: &[&'static str]) -> Kind {
    let one_way = chance.one_in(3);
    let mut ways = BTreeSet::new();
    for from in one {
        for to in two {
            ways.insert((*from, *to));
            if !one_way {
                ways.insert((*to, *from));
            }
        }
    }
    Kind::Cut { what, ways }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}/z{}, and starts at {} ms", self.region + 1, self.zone, self.starts.as_millis())
    }
}

impl Fault {
    /// What it closes.
    pub(super) fn ways(&self) -> impl Iterator<Item = &Way> {
        match &self.kind {
            Kind::Cut { ways, .. } => Some(ways),
            Kind::Crash { .. } => None,
        }
        .into_iter()
        .flatten()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Crash { node } => write!(f, "crash of {}", NODES[*node]),
            Kind::Cut { what, ways } => {
                write!(f, "cut {what}")?;
                for (from, to) in ways {
                    let both = ways.contains(&(to, from));
                    if !both {
                        write!(f, " {from}>{to}")?;
                    } else if from < to {
                        write!(f, " {from}={to}")?;
                    }
                }
                Ok(())
            }
        }
    }
}
