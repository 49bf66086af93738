//! What the owner of a key in a region knows of it, and whom it tells what.
//!
//! The *level* is the bucket of all regions as this one sees it: it gains the rate, and loses what this region's nodes report and what other
//! regions are predicted to admit until they say. While a region cannot be heard, it is the bucket of this region's own share instead.

use super::{Exchange, Grant, Lease, Report, SILENT_AFTER, Stamp, Terms, share};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Between two looks at an account that is in use.
const TICK: Duration = Duration::from_millis(20);

/// Every node that reports is answered at least so often.
const REFRESH: Duration = Duration::from_millis(250);

/// Between two grants for a node, unless it cannot wait.
const GRANT_EVERY: Duration = Duration::from_millis(100);

/// Between two words to other regions.
const EXCHANGE_EVERY: Duration = Duration::from_millis(100);
const EXCHANGE_SOON: Duration = Duration::from_millis(5);
/// While there is not enough, nodes that were not asked for the key yet are told so.
const HINT_EVERY: Duration = Duration::from_secs(1);

const EXCHANGE_ALIVE: Duration = Duration::from_millis(500);

/// A region that is not cut off and says nothing for so long is asked for nothing.
const REGION_QUIET: Duration = Duration::from_millis(1_300);

/// An account nobody has reported to for so long, or for as long as the bucket takes to be full if that is longer, is closed.
const CLOSED_AFTER: Duration = Duration::from_secs(5);

/// So long an owner goes by what nodes hold rather than by what it would give them: it may not have heard of all yet.
const LEARNS_FOR: Duration = Duration::from_millis(500);

/// How fast what is left over is handed out, and what is owed is saved up, in seconds.
const SURPLUS_TIME: f64 = 0.25;
const DEBT_TIME: f64 = 1.0;
/// Where others pay back at the same time, and what is owed is known late.
const DEBT_TIME_SHARED: f64 = 2.0;

/// Of the rate, what may be withheld to pay back, and given on top where other regions do the same.
const WITHHELD_MAX: f64 = 0.5;
const ON_TOP_MAX: f64 = 0.3;

/// Below so many requests a second, two that come before one has been heard of are too rare to divide anything.
const FLOOD: f64 = 3.3;

/// A little more than was asked for last is lent, so that a demand that grows is not refused.
const AHEAD: f64 = 1.15;
const AHEAD_REGION: f64 = 1.06;

/// After so long without a word a region's share is given to others, half of what is left in each further time.
pub const HOLD: Duration = Duration::from_secs(60);
pub const HALVED_IN: Duration = Duration::from_secs(30);

/// What an owner has to know of the cluster.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Regions that the cluster has, this one included.
    pub regions: usize,
    /// Those that cannot be heard, with since when.
    pub cut: BTreeMap<u8, Instant>,
    /// Live nodes of this region.
    pub nodes: usize,
    /// What of the region's share is for those who are seen: [`super::part`].
    pub part: f64,
}

/// What follows from a look at an account.
#[derive(Debug, Default)]
pub struct Outcome {
    pub grants: Vec<(u32, Grant)>,
    /// For the owners in all other regions.
    pub exchange: Option<Exchange>,
    /// The level, for the nodes of the region that have not reported the key: whoever meets it for the first time begins from it.
    pub hint: Option<f32>,
    /// When to look again; `None`: the account is to be closed.
    pub next: Option<Instant>,
}

#[derive(Debug)]
pub struct Account {
    terms: Terms,
    level: f64,
    at: Instant,
    opened: Instant,
    reported: Instant,
    nodes: BTreeMap<u32, Node>,
    /// The owners of other regions; two of one region while that one does not agree.
    regions: BTreeMap<(u8, u32), Region>,
    /// Regions that could not be heard: since when, and until when that was so.
    silent: BTreeMap<u8, (Instant, Instant)>,
    saturated: bool,
    /// Some region cannot be heard, and the level is that of this region's share.
    blind: bool,
    /// This region's part of the rate, and its average while all could be heard.
    share: f64,
    calm: f64,
    /// Tokens that the region admitted since the account was opened.
    admitted: f64,
    told: Option<Told>,
    hinted: Option<Instant>,
    /// Something was charged that others should hear of.
    spent: bool,
}

#[derive(Debug)]
struct Node {
    stamp: Stamp,
    admitted: u32,
    demand: f64,
    held: f64,
    heard: Instant,
    sent: Option<(Instant, Grant)>,
    /// It waits for an answer.
    asks: bool,
}

#[derive(Debug)]
struct Region {
    stamp: Stamp,
    /// `None`: what it says next is where counting begins.
    admitted: Option<f64>,
    demand: f64,
    /// Charged ahead of what it says.
    predicted: f64,
    heard: Instant,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    admitted: f64,
    demand: f64,
}

impl Account {
    pub fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            level: terms.burst,
            at: now,
            opened: now,
            reported: now,
            nodes: BTreeMap::new(),
            regions: BTreeMap::new(),
            silent: BTreeMap::new(),
            saturated: false,
            blind: false,
            share: 1.0,
            calm: 0.0,
            admitted: 0.0,
            told: None,
            hinted: None,
            spent: false,
        }
    }

    /// A node's word. What comes late, or twice, changes nothing.
    pub fn report(&mut self, stamp: Stamp, report: Report, now: Instant) {
        let node = stamp.sender;
        let known = self.nodes.get(&node);
        if known.is_some_and(|known| stamp.is_stale(known.stamp)) {
            return;
        }
        self.reported = now;
        let charged = match known {
            // A count that went back began anew: a cell was given up and claimed again, or the node was restarted.
            Some(known) if known.stamp.incarnation == stamp.incarnation => {
                let more = report.admitted.wrapping_sub(known.admitted);
                if more < u32::MAX / 2 { more } else { report.admitted }
            }
            // What another owner knew is in what the node believes to be left.
            _ => {
                let unknown = report.admitted.wrapping_sub(report.confirmed);
                self.level = self.level.min(f64::from(report.left) + f64::from(unknown));
                unknown
            }
        };
        let charged = f64::from(charged);
        self.level -= charged;
        self.admitted += charged;
        self.spent |= charged > 0.0;
        let first = known.is_none_or(|known| known.sent.is_none());
        let sent = known.and_then(|known| known.sent);
        // A node that was just refused by its own bucket may not know what there is; one that has a lease does.
        let asks = first || report.refused && report.held == 0.0 || report.held > 0.0 && !self.saturated;
        let asks = asks || known.is_some_and(|known| known.asks);
        let (demand, held) = (f64::from(report.demand), f64::from(report.held));
        self.nodes.insert(node, Node { stamp, admitted: report.admitted, demand, held, heard: now, sent, asks });
    }

    /// The word of another region's owner.
    pub fn exchange(&mut self, region: u8, stamp: Stamp, exchange: Exchange, now: Instant) {
        let id = (region, stamp.sender);
        let known = self.regions.get(&id);
        if known.is_some_and(|known| stamp.is_stale(known.stamp)) {
            return;
        }
        let known = known.filter(|known| known.stamp.incarnation == stamp.incarnation);
        let (predicted, charged) = match known {
            Some(Region { admitted: Some(before), predicted, .. }) if *before <= exchange.admitted => {
                (*predicted, exchange.admitted - before)
            }
            // It closed the account, and opened it again.
            Some(Region { admitted: Some(_), predicted, .. }) => (*predicted, exchange.admitted),
            // What was admitted while it could not be heard is forgiven.
            Some(Region { admitted: None, .. }) => (0.0, 0.0),
            // It has just begun, and this one knew nothing of what it admitted.
            None if exchange.age < now.saturating_duration_since(self.opened) => (0.0, exchange.admitted),
            // This one has just begun, and the other one knew nothing of what was admitted here.
            None => (0.0, (self.level - (f64::from(exchange.level) - self.admitted)).max(0.0)),
        };
        if !self.blind {
            self.level += predicted - charged;
            self.spent |= charged > 0.0;
        }
        self.silent.remove(&region);
        let (admitted, demand) = (Some(exchange.admitted), f64::from(exchange.demand));
        self.regions.insert(id, Region { stamp, admitted, demand, predicted: 0.0, heard: now });
    }

    /// Gives another rate or burst from here on; what is owed stays.
    pub fn amend(&mut self, terms: Terms) {
        self.level = self.level.min(terms.burst);
        self.terms = terms;
    }

    /// When something is to be done, after a report or an exchange.
    pub fn due(&self, now: Instant) -> Instant {
        if self.nodes.values().any(|node| node.asks) || self.spent && self.is_small(1) { now } else { self.at + TICK }
    }

    pub fn step(&mut self, around: &Surroundings, now: Instant) -> Outcome {
        let Terms { rate, burst } = self.terms;
        let around = &self.beyond(around, now);
        self.blind = !around.cut.is_empty() || around.part < 1.0;
        self.forget(around, now);
        let (demand, others) = self.demands();
        self.advance(demand, &others, around, now);
        let saturated = self.saturates(demand, &others);
        let turned = saturated != self.saturated;
        self.saturated = saturated;

        let mut outcome = Outcome::default();
        let leases = self.leases(demand, others.values().sum::<f64>() > 0.0 || self.blind);
        let learning = now < self.opened + LEARNS_FOR;
        let (level, small) = (self.level, self.is_small(around.nodes));
        for (id, node) in &mut self.nodes {
            // Until all have been heard of, whoever holds a lease goes on with it.
            let Some(lease) = leases.get(id).filter(|_| !learning || node.held == 0.0) else { continue };
            let grant = Grant { level: level as f32, seen: node.admitted, lease: *lease, binds: saturated };
            let send = match &node.sent {
                None => true,
                Some((at, before)) => {
                    let since = now.saturating_duration_since(*at);
                    let expected = (f64::from(before.level) + rate * since.as_secs_f64()).min(burst);
                    let differs =
                        if saturated { before.lease.differs(lease, 0.05) } else { (expected - level).abs() > (0.1 * burst).max(0.9) };
                    let much = saturated && before.lease.differs(lease, 0.5) || !saturated && (small || level < 0.25 * burst);
                    turned
                        || node.asks
                        || since >= REFRESH
                        || differs && (since >= GRANT_EVERY || much && since >= TICK)
                        || differs && small && !saturated
                }
            };
            if send {
                node.sent = Some((now, grant));
                node.asks = false;
                outcome.grants.push((*id, grant));
            }
        }
        outcome.exchange = self.tell(demand, around, now);
        let others = around.nodes > self.nodes.values().filter(|node| node.demand > 0.0).count();
        let renews = self.hinted.is_none_or(|hinted| now >= hinted + HINT_EVERY);
        if others && level < 0.5 * burst && (small && self.spent || saturated && renews) {
            self.hinted = Some(now);
            outcome.hint = Some(if saturated { level.min(0.0) } else { level } as f32);
        }
        self.spent = false;
        let full_in = Duration::try_from_secs_f64((burst - level) / rate).unwrap_or(Duration::MAX);
        let closes = (self.reported + CLOSED_AFTER).max(now.checked_add(full_in).unwrap_or(now));
        outcome.next = if demand > 0.0 { Some(now + TICK) } else { (now < closes).then(|| closes.min(now + EXCHANGE_ALIVE)) };
        outcome
    }

    /// Tokens in the bucket, or owed.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Whether the node watches the key, so that it is told by grants and needs no hint.
    pub fn knows(&self, node: u32) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.demand > 0.0)
    }

    pub fn is_saturated(&self) -> bool {
        self.saturated
    }

    pub fn share(&self) -> f64 {
        self.share
    }

    /// A region that can be heard again counts as cut off until it has said something of this key, or had the time to.
    fn beyond(&mut self, around: &Surroundings, now: Instant) -> Surroundings {
        self.silent.retain(|_, (_, seen)| now < *seen + SILENT_AFTER);
        self.silent.extend(around.cut.iter().map(|(region, since)| (*region, (*since, now))));
        let cut = self.silent.iter().map(|(region, (since, _))| (*region, *since)).collect();
        Surroundings { cut, ..around.clone() }
    }

    fn forget(&mut self, around: &Surroundings, now: Instant) {
        for node in self.nodes.values_mut().filter(|node| now >= node.heard + SILENT_AFTER) {
            node.demand = 0.0;
        }
        let keep = CLOSED_AFTER;
        self.nodes.retain(|_, node| now < node.heard + keep);
        for ((id, _), region) in &mut self.regions {
            if around.cut.contains_key(id) {
                // What it does meanwhile is its share; counting begins anew when it is back.
                region.admitted = None;
                region.predicted = 0.0;
                region.heard = now;
            } else if now >= region.heard + REGION_QUIET {
                region.demand = 0.0;
            }
        }
        // What the last owner of a region said is remembered as long as the account is: it may say nothing for hours.
        let newest: BTreeMap<u8, Instant> = self.regions.iter().fold(BTreeMap::new(), |mut newest, ((id, _), region)| {
            let heard = newest.entry(*id).or_insert(region.heard);
            *heard = region.heard.max(*heard);
            newest
        });
        self.regions.retain(|(id, _), region| now < region.heard + HOLD || newest.get(id) == Some(&region.heard));
    }

    /// What this region is asked for, and each of the others, as far as is known; of what is cut off, what was.
    fn demands(&self) -> (f64, BTreeMap<u8, f64>) {
        let demand = self.nodes.values().map(|node| node.demand).sum();
        let mut others = BTreeMap::new();
        for ((id, _), region) in self.regions.iter().filter(|(_, region)| region.demand > 0.0) {
            *others.entry(*id).or_insert(0.0) += region.demand;
        }
        (demand, others)
    }

    /// Moves the level to `now`, and finds the region's share.
    fn advance(&mut self, demand: f64, others: &BTreeMap<u8, f64>, around: &Surroundings, now: Instant) {
        let Terms { rate, burst } = self.terms;
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);

        let wanted = |demand: f64| AHEAD_REGION * demand + 0.001 * rate;
        let all: f64 = demand + others.values().sum::<f64>();
        let share_level = share::level(rate, std::iter::once(wanted(demand)).chain(others.values().map(|demand| wanted(*demand))));
        let fair = if share_level.is_finite() {
            wanted(demand).min(share_level) / rate
        } else {
            let wants = wanted(all);
            (wanted(demand) + (rate - wants).max(0.0) * if all > 0.0 { demand / all } else { 1.0 }) / rate
        };
        // What is held for regions that have been silent for long goes to those that can be heard, in proportion.
        let given = |(id, since): (&u8, &Instant)| {
            others.get(id).map_or(0.0, |demand| wanted(*demand).min(share_level) / rate) * (1.0 - fades(*since, now))
        };
        let given: f64 = around.cut.iter().map(given).sum();
        let fair = if others.is_empty() { 1.0 } else { (fair / (1.0 - given).max(fair)).min(1.0) };
        if !self.blind {
            self.share = fair;
            let weight = (passed / 1.0).min(1.0);
            self.calm = if self.calm == 0.0 { fair } else { self.calm + weight * (fair - self.calm) };
        } else if around.cut.is_empty() {
            self.share = around.part * fair;
        } else {
            let since = around.cut.values().max().copied().unwrap_or(now);
            let floor = self.calm.max(1.0 / around.regions.max(1) as f64);
            let kept = 1.0 - (1.0 - floor) * fades(since, now);
            self.share = around.part * fair.min(kept);
        }

        let gained = if !self.blind {
            let mut predicted = 0.0;
            // What is asked for now and then is better waited for than foretold.
            let foreseen = |region: &&mut Region| region.demand > 0.0 && all > FLOOD;
            for region in self.regions.values_mut().filter(foreseen) {
                let admits = region.demand.min(share_level);
                region.predicted += admits * passed;
                predicted += admits * passed;
            }
            rate * passed - predicted
        } else {
            self.share * rate * passed
        };
        let ceiling = if !self.blind { burst } else { (self.share * burst).max(1.0) };
        // Below the floor nothing is remembered: an outage of minutes is not paid for with an outage.
        self.level = (self.level + gained).clamp(-burst.max(rate / 2.0), ceiling.max(self.level.min(burst)));
    }

    fn saturates(&self, demand: f64, others: &BTreeMap<u8, f64>) -> bool {
        let Terms { rate, burst } = self.terms;
        let (asked, rate) = if !self.blind { (demand + others.values().sum::<f64>(), rate) } else { (demand, self.share * rate) };
        if asked <= FLOOD {
            return false;
        }
        if self.saturated {
            let enough = asked < 0.9 * rate || asked < rate && self.level > 0.5 * burst;
            return !enough;
        }
        asked > rate + self.level.max(0.0) / SURPLUS_TIME
    }

    /// What each node that is heard may admit by itself.
    fn leases(&self, demand: f64, shared: bool) -> BTreeMap<u32, Lease> {
        let rate = self.terms.rate;
        let correction = if self.level < 0.0 {
            (self.level / if shared { DEBT_TIME_SHARED } else { DEBT_TIME }).max(-WITHHELD_MAX * rate)
        } else {
            let surplus = self.level / SURPLUS_TIME;
            if shared { surplus.min(ON_TOP_MAX * rate) } else { surplus }
        };
        let correction = if self.saturated { correction } else { 0.0 };
        let budget = if self.blind { self.share * rate + correction } else { self.share * (rate + correction) };
        let heard = || self.nodes.iter().filter(|(_, node)| node.demand > 0.0);
        let active = heard().count().max(1) as f64;
        let wants = |node: &Node| AHEAD * node.demand;
        let level = share::level(budget, heard().map(|(_, node)| wants(node)));
        let left_over = if level.is_finite() { 0.0 } else { budget - heard().map(|(_, node)| wants(node)).sum::<f64>() };
        let sparse = budget * SURPLUS_TIME < active;
        let portion = if sparse && demand > 0.0 { (budget / demand).min(1.0) } else { 0.0 };
        let lease = |node: &Node| {
            let rate = if node.demand > 0.0 { wants(node).min(level) + left_over / active } else { 0.0 };
            Lease { rate: rate as f32, portion: if self.saturated { portion as f32 } else { 0.0 } }
        };
        self.nodes.iter().map(|(id, node)| (*id, lease(node))).collect()
    }

    /// What the other regions are told, if it is time.
    fn tell(&mut self, demand: f64, around: &Surroundings, now: Instant) -> Option<Exchange> {
        if around.regions < 2 {
            return None;
        }
        let due = match &self.told {
            None => true,
            Some(told) => {
                let since = now.saturating_duration_since(told.at);
                let moved = (self.admitted - told.admitted).abs();
                let differs = moved > 0.002 * self.terms.rate || (demand - told.demand).abs() > 0.05 * told.demand;
                let rose = demand > 1.25 * told.demand || demand == 0.0 && told.demand > 0.0;
                let spent = moved > 0.0 && self.is_small(around.nodes);
                since >= EXCHANGE_EVERY && differs || since >= EXCHANGE_SOON && (rose || spent) || since >= EXCHANGE_ALIVE && demand > 0.0
            }
        };
        if !due {
            return None;
        }
        self.told = Some(Told { at: now, admitted: self.admitted, demand });
        let age = now.saturating_duration_since(self.opened);
        Some(Exchange { admitted: self.admitted, demand: demand as f32, level: self.level as f32, age })
    }

    /// Whether single tokens count: every node that could be asked next has to know of each.
    fn is_small(&self, nodes: usize) -> bool {
        self.terms.rate < 5.0 && self.terms.burst < 4.0 * nodes.max(5) as f64
    }
}

impl Lease {
    /// Whether they are further apart than this part of the first one.
    fn differs(&self, other: &Self, part: f32) -> bool {
        let by_request = [self, other].map(|lease| lease.portion > 0.0);
        let (mine, others) = if by_request == [true; 2] { (self.portion, other.portion) } else { (self.rate, other.rate) };
        by_request[0] != by_request[1] || (mine - others).abs() > part * mine
    }
}

/// What is left, of one, of what was held for a region that has been silent since.
fn fades(since: Instant, now: Instant) -> f64 {
    left_after(now.saturating_duration_since(since))
}

/// The same after so long.
pub(super) fn left_after(silent: Duration) -> f64 {
    0.5_f64.powf(silent.saturating_sub(HOLD).as_secs_f64() / HALVED_IN.as_secs_f64())
}

#[cfg(test)]
mod tests;
