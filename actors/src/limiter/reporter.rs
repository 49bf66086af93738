//! What a node tells the owners of the keys that it is asked for, and what it makes of their answers.
//!
//! A key is watched from its first request until it has been quiet for a while. Each is looked at a few times a second, and
//! reported if something about it is news; at once if others may admit what is not there any more because they do not know of it.

use super::{
    Limiter, Rule,
    cell::{Cell, WATCHED, WOKEN},
    key::Key,
    lease::Bond,
};
use cluster::limits::{Grant, Lease, Report, SILENT_AFTER, Stamp, Terms};
use config::LimitName;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Between two reports of one key that cannot wait.
const AT_ONCE: Duration = Duration::from_millis(2);
/// The same where a token more or less is not much.
const AT_ONCE_LARGE: Duration = Duration::from_millis(10);
/// While what is asked for is changing.
const SOON: Duration = Duration::from_millis(50);
/// While something is admitted.
const STEADY: Duration = Duration::from_millis(100);
/// While there is nothing new.
const ALIVE: Duration = Duration::from_millis(250);

/// Keys of one shard that are watched at the same time. Others are held to their own buckets until one of these is quiet.
const WATCHED_MAX: usize = 1 << 16;

/// Watches the keys of one of the [`super::SHARDS`].
#[derive(Debug)]
pub struct Reporter {
    shard: usize,
    /// Of the last report.
    stamp: Stamp,
    keys: BTreeMap<Key, Watch>,
    due: BTreeSet<(Instant, Key)>,
}

/// One report, and what it is about.
#[derive(Clone, PartialEq, Debug)]
pub struct Said {
    pub limit: LimitName,
    pub terms: Terms,
    pub key: Key,
    pub stamp: Stamp,
    pub report: Report,
}

#[derive(Debug)]
struct Watch {
    limit: u32,
    demand: Demand,
    /// As of the last look.
    offered: u64,
    looked: Instant,
    told: Option<(Instant, Report)>,
    began: Instant,
    /// When the owner last answered, and in which order.
    granted: Option<(Instant, Stamp)>,
    due: Instant,
}

impl Reporter {
    /// `incarnation` tells this process from earlier ones of the same `node`.
    pub fn new(shard: usize, node: u32, incarnation: u32) -> Self {
        Self { shard, stamp: Stamp { sender: node, incarnation, number: 0 }, keys: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// When the next look is due, unless a key is woken before.
    pub fn due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Looks at every key that is due or was woken. `alone` is the part of a limit that this node takes for a key whose owner never answered.
    pub fn turn(&mut self, limiter: &Limiter, alone: f64, now: Instant) -> Vec<Said> {
        for (key, limit) in limiter.wakes.drain(self.shard) {
            self.wake(limiter, key, limit, now);
        }
        let mut said = Vec::new();
        while let Some((due, key)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, key));
            if let Some(next) = self.look(limiter, key, alone, now, &mut said) {
                if let Some(watch) = self.keys.get_mut(&key) {
                    watch.due = next;
                }
                self.due.insert((next, key));
            } else {
                self.keys.remove(&key);
            }
        }
        said
    }

    /// The owner's answer for one key. `begin` of a token is in a hand that was not bound before: chosen by chance, so
    /// that not all nodes have their first one at the same time.
    pub fn granted(&mut self, limiter: &Limiter, key: Key, stamp: Stamp, grant: Grant, begin: f32, now: Instant) {
        let Some(watch) = self.keys.get_mut(&key) else { return };
        if watch.granted.is_some_and(|(_, before)| stamp.is_stale(before)) {
            return;
        }
        let Some((_, rule)) = limiter.rule(watch.limit) else { return };
        let Some(cell) = limiter.table.find(key) else { return };
        watch.granted = Some((now, stamp));
        cell.confirm(grant.seen);
        let ticks = limiter.clock.ticks(now);
        if grant.binds {
            cell.lend(Bond::new(grant.lease, ticks), begin, ticks);
        } else {
            let freed = Lease { portion: 0.0, ..grant.lease };
            cell.lend(Bond::new(freed, limiter.clock.ticks(now + SILENT_AFTER)), 0.0, ticks);
            let unseen = (cell.admitted() as u32).wrapping_sub(grant.seen);
            let unseen = if unseen < u32::MAX / 2 { unseen } else { 0 };
            let left = f64::from(grant.level) - f64::from(unseen);
            cell.raise(ticks.saturating_add(rule.debt_of(left)));
        }
    }

    fn wake(&mut self, limiter: &Limiter, key: Key, limit: u32, now: Instant) {
        if let Some(watch) = self.keys.get_mut(&key) {
            let apart = if watch.demand.value() > 20.0 { AT_ONCE_LARGE } else { AT_ONCE };
            let soonest = watch.told.map_or(now, |(told, _)| told + apart).max(now);
            if soonest < watch.due {
                self.due.remove(&(watch.due, key));
                watch.due = soonest;
                self.due.insert((soonest, key));
            }
            return;
        }
        if self.keys.len() >= WATCHED_MAX {
            if let Some(cell) = limiter.table.find(key) {
                cell.unflag(WATCHED | WOKEN);
            }
            return;
        }
        let watch = Watch {
            limit,
            demand: Demand::new(),
            // The request that woke it is the first one.
            offered: limiter.table.find(key).map_or(0, |cell| cell.offered().saturating_sub(1)),
            looked: now,
            told: None,
            began: now,
            granted: None,
            due: now,
        };
        self.keys.insert(key, watch);
        self.due.insert((now, key));
    }

    /// When to look again; `None`: it is not watched any more.
    fn look(&mut self, limiter: &Limiter, key: Key, alone: f64, now: Instant, said: &mut Vec<Said>) -> Option<Instant> {
        let watch = self.keys.get_mut(&key)?;
        let (limit, rule) = limiter.rule(watch.limit)?;
        let cell = limiter.table.find(key)?;
        let ticks = limiter.clock.ticks(now);
        let offered = cell.offered();
        watch.demand.add(offered.saturating_sub(watch.offered), now.saturating_duration_since(watch.looked));
        watch.looked = now;
        watch.offered = offered;
        let woken = cell.woken();
        cell.unflag(WOKEN);

        let silent = match watch.granted {
            Some((granted, _)) => now >= granted + SILENT_AFTER,
            None => now >= watch.began + SILENT_AFTER,
        };
        if silent {
            watch.go_alone(cell, rule, alone, ticks);
        }

        let bond = cell.bond();
        let held = if bond.binds(ticks) { bond.lease().rate.max(f32::MIN_POSITIVE) } else { 0.0 };
        let demand = watch.demand.value();
        let report = Report {
            admitted: cell.admitted() as u32,
            demand,
            left: rule.left(cell.word().debt(ticks)) as f32,
            held,
            confirmed: cell.confirmed(),
            refused: woken && held == 0.0,
        };
        let due = match watch.told {
            None => true,
            Some((at, told)) => {
                let since = now.saturating_duration_since(at);
                let more = report.admitted != told.admitted;
                let turned = report.refused != told.refused;
                let changes = (report.demand - told.demand).abs() > 0.25 * told.demand;
                since >= AT_ONCE && woken && (more || turned)
                    || since >= SOON && changes
                    || since >= STEADY && more
                    || since >= ALIVE && demand > 0.0
            }
        };
        if due {
            self.stamp.number += 1;
            let stamp = self.stamp;
            watch.told = Some((now, report));
            said.push(Said { limit, terms: rule.terms(), key, stamp, report });
        }
        if demand == 0.0 && watch.told.is_some_and(|(_, told)| told.demand == 0.0 && told.admitted == report.admitted) {
            if held == 0.0 {
                cell.lend(Bond::NONE, 0.0, ticks);
            }
            cell.unflag(WATCHED | WOKEN);
            return None;
        }
        let told = watch.told.map_or(now, |(at, _)| at);
        let next = if watch.demand.is_settled() { STEADY } else { SOON };
        Some((told + next).max(now + AT_ONCE))
    }
}

impl Watch {
    /// Nobody answers: what binds from here on is what was lent last, and by time, or else this node's part of the limit.
    fn go_alone(&self, cell: &Cell, rule: Rule, alone: f64, now: u64) {
        let bond = cell.bond();
        let rate = if bond == Bond::NONE { (rule.terms().rate * alone) as f32 } else { bond.lease().rate };
        if bond == Bond::NONE || bond.lease().portion > 0.0 || !bond.binds(now) {
            cell.lend(Bond::new(Lease { rate, portion: 0.0 }, now), 0.0, now);
        }
    }
}

/// What is asked for, in tokens a second, from counts at any distance in time.
#[derive(Clone, Copy, Debug)]
struct Demand {
    fast: f32,
    slow: f32,
    /// Seconds without a request.
    quiet: f32,
}

/// In seconds.
const FAST: f32 = 0.06;
const SLOW_LEAST: f32 = 0.3;
const SLOW_MOST: f32 = 3.0;
/// With fewer requests than this in [`FAST`], a sudden change is no change but chance.
const SAMPLES: f32 = 3.0;

impl Demand {
    fn new() -> Self {
        Self { fast: 0.0, slow: 0.0, quiet: 0.0 }
    }

    fn add(&mut self, asked: u64, passed: Duration) {
        let passed = passed.as_secs_f32().max(0.001);
        let rate = asked as f32 / passed;
        let toward = |mean: f32, time: f32| mean + (rate - mean) * (1.0 - (-passed / time).exp());
        self.fast = toward(self.fast, FAST);
        let time = if self.slow > 0.0 { (3.0 / self.slow).clamp(SLOW_LEAST, SLOW_MOST) } else { SLOW_MOST };
        self.slow = toward(self.slow, time);
        if self.is_moving() {
            self.slow = self.fast;
        }
        self.quiet = if asked > 0 { 0.0 } else { self.quiet + passed };
        if self.quiet > (5.0 / self.slow.max(f32::MIN_POSITIVE)).clamp(1.0, 5.0) {
            (self.fast, self.slow) = (0.0, 0.0);
        }
    }

    fn is_moving(&self) -> bool {
        self.fast.max(self.slow) * FAST >= SAMPLES && (self.fast < 0.3 * self.slow || self.fast > 2.0 * self.slow)
    }

    fn is_settled(&self) -> bool {
        (self.fast - self.slow).abs() <= 0.25 * self.slow
    }

    fn value(&self) -> f32 {
        self.slow
    }
}

#[cfg(test)]
mod tests;
