//! One limit of a whole cluster: what is promised of it, regime by regime, beside what came out.
//!
//! Each row is a cluster of its own, played by [`Fleet`]: the production types on a wire, without nodes around them. The table that comes out is the
//! trace. `docs/limits.md` says why each bound is what it is.

use crate::{
    chance::Chance,
    fleet::{FAIR, Fleet, Load, Setup, Weather},
    invariants::Violation,
    trace::Trace,
};
use config::Rate;
use std::{fmt::Display, ops::RangeInclusive, time::Duration};

pub(super) fn play(seed: u64, trace: &Trace) -> Vec<Violation> {
    let mut table = Table { seed, trace, violations: Vec::new() };
    table.line(format_args!("{:56} {:28} {:>14} {:>8}", "what happens", "what is measured", "promised", "measured"));
    table.overload("3 nodes, 1 region", 3, 1, FAIR);
    table.overload("3 nodes, 3 regions", 3, 3, FAIR);
    table.overload("30 nodes, 3 regions", 30, 3, FAIR);
    let bad = Weather { lost: 100, twice: 20, late: (20, 200), ..FAIR };
    table.overload("30 nodes, one message in ten lost", 30, 3, bad);
    table.enough();
    table.sequential(20, 1);
    table.sequential(20, 3);
    table.cut();
    table.isolated(3);
    table.isolated(5);
    table.owners_die();
    table.two_owners();
    table.amended();
    table.violations
}

struct Table<'a> {
    seed: u64,
    trace: &'a Trace,
    violations: Vec<Violation>,
}

fn per_second(count: u64) -> Rate {
    Rate { count, per: Duration::from_secs(1) }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// So much a second in all, the same for every node.
fn evenly(total: f64, nodes: usize) -> Load {
    Box::new(move |_, _| total / nodes as f64)
}

impl Table<'_> {
    fn line(&self, line: impl Display) {
        self.trace.line("limits", line);
    }

    fn row(&mut self, what: &str, measure: &str, promised: RangeInclusive<f64>, measured: f64) {
        let promise = format!("{} to {}", promised.start(), promised.end());
        let line = format!("{what:56} {measure:28} {promise:>14} {measured:>8.3}");
        if !promised.contains(&measured) {
            self.violations.push(Violation::new(30, "a limit of a cluster keeps what its page promises", line.clone()));
        }
        self.line(line);
    }

    /// 1,000 a second with a burst of 100, unless another limit is meant.
    fn fleet(&self, nodes: usize, regions: usize, weather: Weather) -> Fleet {
        Fleet::new(Setup { seed: self.seed, nodes, regions, rate: per_second(1_000), burst: 100, weather })
    }

    fn overload(&mut self, what: &str, nodes: usize, regions: usize, weather: Weather) {
        let mut fleet = self.fleet(nodes, regions, weather);
        fleet.play(seconds(25.0), &evenly(4_000.0, nodes));
        let what = &format!("four times the rate, {what}");
        let (least, most) = fleet.log.windows(1.0, 5.0, 25.0);
        self.row(what, "any second, of the rate", 0.9..=1.05, most / 1_000.0);
        self.row(what, "the least of any second", 0.9..=1.05, least / 1_000.0);
        let (least, most) = fleet.log.windows(10.0, 5.0, 25.0);
        self.row(what, "any ten seconds", 0.99..=1.01, most / 10_000.0);
        self.row(what, "the least of any ten", 0.99..=1.01, least / 10_000.0);
        self.row(what, "KB/s a node", 0.0..=1.0, fleet.log.bytes as f64 / nodes as f64 / 25.0 / 1_000.0);
    }

    fn enough(&mut self) {
        let mut fleet = self.fleet(30, 3, FAIR);
        fleet.play(seconds(25.0), &evenly(800.0, 30));
        self.row(
            "four fifths of the rate, 30 nodes",
            "of what one bucket admits",
            0.997..=1.0,
            fleet.log.admitted(0.0, 25.0) / fleet.log.ideal(0.0, 25.0),
        );
    }

    /// One caller that asks one node after the other, by chance, and never twice within what word needs to travel.
    fn sequential(&mut self, nodes: usize, regions: usize) {
        let rate = Rate { count: 5, per: Duration::from_secs(60) };
        let mut fleet = Fleet::new(Setup { seed: self.seed, nodes, regions, rate, burst: 5, weather: FAIR });
        let mut chance = Chance::of(self.seed, "caller");
        let (mut wrong, mut next) = (0, Duration::ZERO);
        while fleet.now < seconds(300.0) {
            fleet.tick();
            if fleet.now >= next {
                let before = fleet.log.ideal(0.0, 300.0);
                let granted = fleet.ask(chance.between(0..=nodes as u64 - 1) as usize);
                wrong += u32::from(granted != (fleet.log.ideal(0.0, 300.0) > before));
                next = fleet.now + chance.millis(1_000..=9_000);
            }
        }
        let what = format!("5 a minute, one caller, {nodes} nodes, {regions} regions");
        // A level that came from another region is as old as its way was long: a token at that very moment is granted a little later.
        self.row(&what, "decided otherwise", 0.0..=if regions == 1 { 0.0 } else { 2.0 }, f64::from(wrong));
    }

    fn cut(&mut self) {
        let mut fleet = self.fleet(30, 3, FAIR);
        let load = evenly(2_000.0, 30);
        fleet.play(seconds(15.0), &load);
        fleet.cut(0, 1);
        fleet.cut(0, 2);
        fleet.play(seconds(35.0), &load);
        fleet.heal();
        fleet.play(seconds(50.0), &load);
        let what = "one region of three cut off, demand as before";
        self.row(what, "while it is", 0.97..=1.03, fleet.log.admitted(15.0, 35.0) / 20_000.0);
        self.row(what, "the least second after it", 0.9..=1.1, fleet.log.windows(1.0, 35.0, 45.0).0 / 1_000.0);
    }

    /// The worst case: one region has all of the rate when all are cut off, and then all want it.
    fn isolated(&mut self, regions: usize) {
        let mut fleet = self.fleet(30, regions, FAIR);
        let one: Load = Box::new(move |node, _| if node % regions == 0 { 400.0 } else { 0.0 });
        let all = evenly(5_000.0, 30);
        fleet.play(seconds(10.0), &one);
        (0..regions).flat_map(|one| (0..one).map(move |other| (one, other))).for_each(|(one, other)| fleet.cut(one, other));
        fleet.play(seconds(12.0), &one);
        fleet.play(seconds(30.0), &all);
        fleet.heal();
        fleet.play(seconds(45.0), &all);
        let what = format!("all {regions} regions cut off, demand moves everywhere");
        let most = 2.0 - 1.0 / regions as f64;
        self.row(&what, "while they are", 1.0..=(most * 100.0).ceil() / 100.0, fleet.log.admitted(15.0, 30.0) / 15_000.0);
        self.row(&what, "the least second after it", 0.9..=2.0, fleet.log.windows(1.0, 30.0, 45.0).0 / 1_000.0);
        self.row(&what, "from a second after it on", 0.95..=1.05, fleet.log.admitted(31.0, 41.0) / 10_000.0);
    }

    /// The owners of all regions and others with them, noticed after two seconds.
    fn owners_die(&mut self) {
        let mut fleet = self.fleet(30, 3, FAIR);
        let load = evenly(3_000.0, 30);
        fleet.play(seconds(10.0), &load);
        let mut dead: Vec<usize> = (0..3).filter_map(|region| fleet.owner_of(region)).collect();
        for other in [3, 10, 20] {
            if !dead.contains(&other) {
                dead.push(other);
            }
        }
        dead.iter().for_each(|node| fleet.kill(*node));
        fleet.play(seconds(12.0), &load);
        fleet.all_see();
        fleet.play(seconds(25.0), &load);
        dead.iter().for_each(|node| fleet.restart(*node));
        fleet.play(seconds(26.0), &load);
        fleet.all_see();
        fleet.play(seconds(35.0), &load);
        let what = "the owners and three more of 30 nodes die";
        self.row(what, "the least second of it", 0.7..=1.0, fleet.log.windows(1.0, 10.0, 16.0).0 / 1_000.0);
        self.row(what, "from five seconds on", 0.97..=1.03, fleet.log.admitted(15.0, 25.0) / 10_000.0);
        // Each of the six begins with a burst of its own.
        self.row("they come back", "the most of any second", 0.9..=1.7, fleet.log.windows(1.0, 25.0, 35.0).1 / 1_000.0);
        self.row("they come back", "from three seconds after it on", 0.95..=1.05, fleet.log.admitted(28.0, 35.0) / 7_000.0);
    }

    fn two_owners(&mut self) {
        let mut fleet = self.fleet(12, 1, FAIR);
        let load = evenly(3_000.0, 12);
        fleet.play(seconds(10.0), &load);
        (0..12).for_each(|node| fleet.sees(node, if node < 6 { (0..6).collect() } else { (6..12).collect() }));
        fleet.play(seconds(25.0), &load);
        self.row("two halves of a region, each with its owner", "while it is so", 0.95..=1.5, fleet.log.admitted(10.0, 25.0) / 15_000.0);
        (0..12).for_each(|node| fleet.sees(node, if node < 8 { (0..8).collect() } else { (8..12).collect() }));
        fleet.play(seconds(40.0), &load);
        self.row("two thirds and a third of a region", "while it is so", 0.95..=1.5, fleet.log.admitted(26.0, 40.0) / 14_000.0);
        fleet.all_see();
        fleet.play(seconds(50.0), &load);
        self.row("one owner again", "ten seconds after it", 0.9..=1.05, fleet.log.admitted(40.0, 50.0) / 10_000.0);
    }

    fn amended(&mut self) {
        let mut fleet = self.fleet(30, 3, FAIR);
        let load = evenly(4_000.0, 30);
        fleet.play(seconds(10.0), &load);
        fleet.amend(per_second(500), 50);
        fleet.play(seconds(25.0), &load);
        fleet.amend(per_second(2_000), 200);
        fleet.play(seconds(40.0), &load);
        self.row("the rate is halved", "from a second after it on", 0.98..=1.02, fleet.log.admitted(11.0, 25.0) / 7_000.0);
        self.row("and made four times as much", "from a second after it on", 0.98..=1.02, fleet.log.admitted(26.0, 40.0) / 28_000.0);
    }
}
