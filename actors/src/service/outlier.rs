//! Finds endpoints that fail more of their requests than the others do, and lets probes end an ejection early.
//!
//! Runs of failures are judged where they happen, by the request that ends them ([`Load`]). What is left here needs
//! a look at all endpoints of a service at once: every interval their counters are compared with what they were, and an
//! endpoint whose success rate is too far below the mean, or whose failures are too large a share, is ejected. The worst goes
//! first, since there may be places for some only. The method and the names are Envoy's.

use super::{
    breaker::Breaker,
    load::{Load, Tally},
    verdict::{Verdict, Why},
};
use config::OutlierPolicy;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// An endpoint this little below the mean is no outlier, however alike the others are: among endpoints that never fail, one in a
/// thousand is many standard deviations away.
const MARGIN: f64 = 0.05;

/// Compares the endpoints of one service.
#[derive(Debug)]
pub struct Outlier {
    policy: Option<OutlierPolicy>,
    breaker: Arc<Breaker>,
    due: Instant,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    endpoint: Arc<str>,
    load: Arc<Load>,
    /// What its counters were when the interval began.
    before: Tally,
    /// Probes in a row that have passed while it was ejected.
    passes: u32,
}

/// What an endpoint did in an interval.
#[derive(Clone, Copy, Debug)]
struct Record {
    member: usize,
    requests: u64,
    failures: u64,
}

impl Record {
    fn success_rate(self) -> f64 {
        1.0 - self.failures as f64 / self.requests as f64
    }
}

impl Outlier {
    /// `breaker` is the one that the service's loads were made with.
    pub fn new(policy: Option<&OutlierPolicy>, breaker: Arc<Breaker>, now: Instant) -> Self {
        let due = now + policy.map_or(Duration::ZERO, |policy| policy.interval);
        Self { policy: policy.cloned(), breaker, due, members: Vec::new() }
    }

    /// Follows another policy; the interval that has begun is judged by it.
    pub fn renew(&mut self, policy: Option<&OutlierPolicy>, now: Instant) {
        self.due = now + policy.map_or(Duration::ZERO, |policy| policy.interval);
        self.policy = policy.cloned();
    }

    /// Takes the endpoints of the service. Those it had before keep their interval. Where fewer are left than there are places to be
    /// out, those whose time would end first are brought back.
    pub fn set_endpoints(&mut self, endpoints: impl IntoIterator<Item = (Arc<str>, Arc<Load>)>, now: Instant) {
        let mut known = std::mem::take(&mut self.members);
        self.members = endpoints
            .into_iter()
            .map(|(endpoint, load)| match known.iter().position(|member| Arc::ptr_eq(&member.load, &load)) {
                Some(at) => known.swap_remove(at),
                None => Member { endpoint, before: load.tally(), load, passes: 0 },
            })
            .collect();
        self.members.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        self.restore_surplus(now);
    }

    /// When the interval ends; `None` if nothing is compared.
    pub fn deadline(&self) -> Option<Instant> {
        self.policy.as_ref().map(|_| self.due)
    }

    /// Judges the interval, if it is over. Returns how many it has ejected. `chance` decides on jitters.
    pub fn expire(&mut self, chance: u64, now: Instant) -> usize {
        if now < self.due {
            return 0;
        }
        let Some(policy) = self.policy.clone() else { return 0 };
        self.due = now + policy.interval;
        let records = self.records(now);
        let mut outliers = by_success_rate(&policy, &records);
        outliers.extend(by_failure_percentage(&policy, &records));
        // By name where they are as bad as each other, which is the order they are in.
        outliers.sort_by(|(a, _), (b, _)| a.success_rate().total_cmp(&b.success_rate()));
        let eject = |(record, why): &(Record, Why)| {
            let chance = chance.wrapping_add(record.member as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.members[record.member].load.eject(*why, chance, now)
        };
        outliers.iter().filter(|outlier| eject(outlier)).count()
    }

    /// Hears of a probe's outcome. Once as many have passed in a row as an endpoint needs to count as healthy, times the ejections in
    /// a row, its ejection ends: requests may try it. Returns whether that has happened.
    pub fn probed(&mut self, endpoint: &str, passed: bool, healthy: u32, now: Instant) -> bool {
        let unejects = self.policy.as_ref().is_some_and(|policy| policy.successful_active_health_check_uneject_host);
        let Ok(at) = self.members.binary_search_by(|member| (*member.endpoint).cmp(endpoint)) else { return false };
        let member = &mut self.members[at];
        if !passed || !unejects || member.load.verdict(now) != Verdict::Ejected {
            member.passes = 0;
            return false;
        }
        member.passes += 1;
        if member.passes < healthy.saturating_mul(member.load.times_out(now)) {
            return false;
        }
        member.passes = 0;
        member.load.relent(now)
    }

    /// What endpoints that are in did since the last time.
    fn records(&mut self, now: Instant) -> Vec<Record> {
        let mut records = Vec::with_capacity(self.members.len());
        for (at, member) in self.members.iter_mut().enumerate() {
            let tally = member.load.tally();
            let before = std::mem::replace(&mut member.before, tally);
            let requests = tally.outcomes().saturating_sub(before.outcomes());
            let failures = tally.failures().saturating_sub(before.failures());
            if requests > 0 && member.load.verdict(now) == Verdict::Healthy {
                records.push(Record { member: at, requests, failures });
            }
        }
        records
    }

    fn restore_surplus(&self, now: Instant) {
        let mut ejected: Vec<&Member> = self.members.iter().filter(|member| member.load.verdict(now) == Verdict::Ejected).collect();
        ejected.sort_by_key(|member| member.load.out_for(now));
        for member in ejected {
            if self.breaker.out() <= self.breaker.out_max() {
                break;
            }
            member.load.restore(now);
        }
    }
}

fn by_success_rate(policy: &OutlierPolicy, records: &[Record]) -> Vec<(Record, Why)> {
    let enough = |record: &&Record| record.requests >= u64::from(policy.success_rate_request_volume);
    let records: Vec<Record> = records.iter().filter(enough).copied().collect();
    if policy.success_rate_stdev_factor == 0 || records.len() < policy.success_rate_minimum_hosts as usize {
        return Vec::new();
    }
    let count = records.len() as f64;
    let mean = records.iter().map(|record| record.success_rate()).sum::<f64>() / count;
    let variance = records.iter().map(|record| (record.success_rate() - mean).powi(2)).sum::<f64>() / count;
    let below = (variance.sqrt() * f64::from(policy.success_rate_stdev_factor) / 1_000.0).max(MARGIN);
    let outlier = |record: &Record| record.success_rate() < mean - below;
    records.into_iter().filter(outlier).map(|record| (record, Why::SuccessRate)).collect()
}

fn by_failure_percentage(policy: &OutlierPolicy, records: &[Record]) -> Vec<(Record, Why)> {
    let Some(threshold) = policy.failure_percentage_threshold else { return Vec::new() };
    let enough = |record: &&Record| record.requests >= u64::from(policy.failure_percentage_request_volume);
    let records: Vec<Record> = records.iter().filter(enough).copied().collect();
    if records.len() < policy.failure_percentage_minimum_hosts as usize {
        return Vec::new();
    }
    let outlier = |record: &Record| record.failures as f64 >= record.requests as f64 * threshold.0;
    records.into_iter().filter(outlier).map(|record| (record, Why::FailurePercentage)).collect()
}

#[cfg(test)]
mod tests;
