//! A limit of a whole cluster on a wire that loses, repeats and delays: the production types, and nothing else, on a clock of milliseconds.
//!
//! Every node has a limiter and whoever reports for it, every region an owner for each key, and what they say to each other takes its time.
//! Requests arrive as a scenario says, by chance. What is admitted is compared with one bucket that sees all requests at once.

use crate::chance::Chance;
use actors::limiter::{Key, Limiter, Options, Policy, Reporter, SHARDS, Take};
use cluster::limits::{Account, Exchange, Grant, Report, Stamp, Surroundings, Terms, placement};
use config::{Limit, LimitMode, Missing, Place, Rate, Scope};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How unkind the wire is.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Of 1,000 messages, so many are lost, and so many come twice.
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    /// Microseconds inside a region, and between two.
    pub(crate) near: (u64, u64),
    pub(crate) far: (u64, u64),
    /// Of 1,000 messages, so many come so many milliseconds late, out of order.
    pub(crate) late: (u64, u64),
}

pub(crate) const FAIR: Weather = Weather { lost: 0, twice: 0, near: (500, 1_500), far: (40_000, 100_000), late: (0, 0) };

/// Requests of one node in a second, at an instant.
pub(crate) type Load = Box<dyn Fn(usize, Duration) -> f64>;

pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) regions: usize,
    pub(crate) rate: Rate,
    pub(crate) burst: u64,
    pub(crate) weather: Weather,
}

pub(crate) struct Fleet {
    setup: Setup,
    start: Instant,
    pub(crate) now: Duration,
    chance: Chance,
    key: Key,
    nodes: Vec<Node>,
    /// Which regions cannot hear each other.
    cut: BTreeMap<(usize, usize), Duration>,
    under_way: BTreeMap<(Duration, u64), Parcel>,
    posted: u64,
    ideal: Ideal,
    pub(crate) log: Log,
}

struct Node {
    region: usize,
    up: bool,
    incarnation: u32,
    limiter: Limiter,
    policy: Arc<Policy>,
    reporter: Reporter,
    accounts: BTreeMap<Key, Owned>,
    /// Who of its region it sees alive.
    sees: Vec<usize>,
    number: u32,
    waits: f64,
}

struct Owned {
    account: Account,
    due: Duration,
}

#[derive(Clone)]
enum Parcel {
    Report { to: usize, key: Key, stamp: Stamp, report: Report, terms: Terms },
    Grant { from: usize, to: usize, key: Key, stamp: Stamp, grant: Grant },
    Hint { to: usize, key: Key, level: f32 },
    Exchange { from: usize, to: usize, key: Key, stamp: Stamp, exchange: Exchange },
}

/// One bucket that sees everything.
struct Ideal {
    rate: f64,
    burst: f64,
    level: f64,
    at: Duration,
}

/// What happened, by milliseconds, and what it took.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) admitted: Vec<u32>,
    pub(crate) ideal: Vec<u32>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Ideal {
    fn take(&mut self, now: Duration) -> bool {
        self.level = (self.level + (now - self.at).as_secs_f64() * self.rate).min(self.burst);
        self.at = now;
        let granted = self.level >= 1.0;
        if granted {
            self.level -= 1.0;
        }
        granted
    }
}

fn limit(rate: Rate, burst: u64) -> Limit {
    Limit {
        name: "limit".into(),
        rate,
        burst,
        key: Vec::new(),
        mode: LimitMode::Enforce,
        missing: Missing::Share,
        scope: Scope::Cluster,
        place: Place { file: Arc::new("limits.toml".into()), line: 1, column: 1 },
    }
}

impl Fleet {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    pub(crate) fn new(setup: Setup) -> Self {
        let start = Instant::now();
        let seconds = setup.rate.per.as_secs_f64() / setup.rate.count as f64;
        let ideal = Ideal { rate: 1.0 / seconds, burst: setup.burst as f64, level: setup.burst as f64, at: Duration::ZERO };
        let chance = Chance::of(setup.seed, "fleet");
        let mut fleet = Self {
            start,
            now: Duration::ZERO,
            chance,
            key: policy_key(&setup, start),
            nodes: Vec::new(),
            cut: BTreeMap::new(),
            under_way: BTreeMap::new(),
            posted: 0,
            ideal,
            log: Log::default(),
            setup,
        };
        for at in 0..fleet.setup.nodes {
            let node = fleet.node(at, 1);
            fleet.nodes.push(node);
        }
        fleet.all_see();
        fleet
    }

    fn node(&self, at: usize, incarnation: u32) -> Node {
        let Setup { rate, burst, regions, .. } = self.setup;
        let limiter = Limiter::new(Options { capacity: 64, seed: [7; 16], epoch: self.start });
        let policy = limiter.policy(&limit(rate, burst));
        let reporter = Reporter::new(shard(self.key), at as u32, incarnation);
        Node {
            region: at % regions,
            up: true,
            incarnation,
            limiter,
            policy,
            reporter,
            accounts: BTreeMap::new(),
            sees: Vec::new(),
            number: 0,
            waits: 0.0,
        }
    }

    /// Everybody sees exactly those of its region who are up.
    pub(crate) fn all_see(&mut self) {
        for at in 0..self.nodes.len() {
            let region = self.nodes[at].region;
            let sees = (0..self.nodes.len()).filter(|other| self.nodes[*other].up && self.nodes[*other].region == region).collect();
            self.nodes[at].sees = sees;
        }
    }

    /// Who of its region a node sees from here on.
    pub(crate) fn sees(&mut self, node: usize, sees: Vec<usize>) {
        self.nodes[node].sees = sees;
    }

    pub(crate) fn owner_of(&self, region: usize) -> Option<usize> {
        let node = (0..self.nodes.len()).find(|at| self.nodes[*at].up && self.nodes[*at].region == region)?;
        self.owner_for(node)
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.nodes[node].accounts.clear();
    }

    pub(crate) fn restart(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation + 1;
        self.nodes[node] = self.node(node, incarnation);
        self.nodes[node].sees = vec![node];
    }

    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        let now = self.now;
        self.cut.insert((one, other), now);
        self.cut.insert((other, one), now);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn amend(&mut self, rate: Rate, burst: u64) {
        self.setup.rate = rate;
        self.setup.burst = burst;
        let seconds = rate.per.as_secs_f64() / rate.count as f64;
        self.ideal.rate = 1.0 / seconds;
        self.ideal.burst = burst as f64;
        self.ideal.level = self.ideal.level.min(burst as f64);
        for node in &mut self.nodes {
            node.policy = node.limiter.policy(&limit(rate, burst));
        }
    }

    /// Plays on until `until`; each node is asked for what `load` says.
    pub(crate) fn play(&mut self, until: Duration, load: &Load) {
        while self.now < until {
            self.tick();
            let mut requests = Vec::new();
            for at in 0..self.nodes.len() {
                let mut waits = self.nodes[at].waits - load(at, self.now) / 1_000.0;
                while waits < 0.0 {
                    let draw = (self.chance.draw() >> 11) as f64 / (1_u64 << 53) as f64;
                    waits += -(1.0 - draw).ln();
                    requests.push(at);
                }
                self.nodes[at].waits = waits;
            }
            for from in 1..requests.len() {
                let to = self.chance.between(0..=from as u64) as usize;
                requests.swap(from, to);
            }
            for at in requests {
                self.ask(at);
            }
        }
    }

    /// One request at one node, now.
    pub(crate) fn ask(&mut self, at: usize) -> bool {
        let now = self.start + self.now;
        let millis = self.now.as_millis() as usize;
        for series in [&mut self.log.admitted, &mut self.log.ideal] {
            if series.len() <= millis {
                series.resize(millis + 1, 0);
            }
        }
        self.log.ideal[millis] += u32::from(self.ideal.take(self.now));
        let node = &self.nodes[at];
        let granted = node.up && node.limiter.admit(&[Take { policy: &node.policy, key: self.key, cost: 1 }], now).granted();
        if granted {
            self.log.admitted[millis] += 1;
        }
        granted
    }

    /// Goes on by a millisecond.
    pub(crate) fn tick(&mut self) {
        self.now += Duration::from_millis(1);
        while let Some(entry) = self.under_way.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let parcel = entry.remove();
            self.deliver(parcel);
        }
        let now = self.start + self.now;
        for at in 0..self.nodes.len() {
            if !self.nodes[at].up {
                continue;
            }
            let alone = 1.0 / self.setup.nodes as f64;
            let node = &mut self.nodes[at];
            let said = node.reporter.turn(&node.limiter, alone, now);
            for said in said {
                let Some(to) = self.owner_for(at) else { continue };
                let parcel = Parcel::Report { to, key: said.key, stamp: said.stamp, report: said.report, terms: said.terms };
                self.post(at, to, 25, parcel);
            }
            let due: Vec<Key> = self.nodes[at].accounts.iter().filter(|(_, owned)| owned.due <= self.now).map(|(key, _)| *key).collect();
            for key in due {
                self.step(at, key);
            }
        }
    }

    fn step(&mut self, at: usize, key: Key) {
        let region = self.nodes[at].region;
        let cut: BTreeMap<u8, Instant> = (0..self.setup.regions)
            .filter_map(|other| {
                let since = self.cut.get(&(region, other)).filter(|since| self.now >= **since + Duration::from_secs(1))?;
                Some((other as u8, self.start + *since))
            })
            .collect();
        let seen = self.nodes[at].sees.len();
        let known = (0..self.nodes.len()).filter(|other| self.nodes[*other].region == region).count();
        let around =
            Surroundings { regions: self.setup.regions, cut, nodes: seen, part: cluster::limits::part(seen, known, Duration::ZERO) };
        let now = self.start + self.now;
        let Some(owned) = self.nodes[at].accounts.get_mut(&key) else { return };
        let outcome = owned.account.step(&around, now);
        match outcome.next {
            Some(next) => owned.due = next - self.start,
            None => {
                self.nodes[at].accounts.remove(&key);
            }
        }
        self.nodes[at].number += 1;
        let stamp = Stamp { sender: at as u32, incarnation: self.nodes[at].incarnation, number: self.nodes[at].number };
        for (to, grant) in outcome.grants {
            self.post(at, to as usize, 23, Parcel::Grant { from: at, to: to as usize, key, stamp, grant });
        }
        if let Some(level) = outcome.hint {
            let knows = |to: usize| self.nodes[at].accounts.get(&key).is_some_and(|owned| owned.account.knows(to as u32));
            let others: Vec<usize> = self.nodes[at].sees.iter().copied().filter(|to| !knows(*to)).collect();
            for to in others {
                self.post(at, to, 13, Parcel::Hint { to, key, level });
            }
        }
        if let Some(exchange) = outcome.exchange {
            for other in (0..self.setup.regions).filter(|other| *other != region) {
                if let Some(to) = self.owner_of(other) {
                    self.post(at, to, 23, Parcel::Exchange { from: at, to, key, stamp, exchange });
                }
            }
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        let now = self.start + self.now;
        let here = self.now;
        match parcel {
            Parcel::Report { to, key, stamp, report, terms } => {
                let node = &mut self.nodes[to];
                if !node.up {
                    return;
                }
                let owned = node.accounts.entry(key).or_insert_with(|| Owned { account: Account::new(terms, now), due: here });
                owned.account.amend(terms);
                owned.account.report(stamp, report, now);
                owned.due = owned.due.min(owned.account.due(now).saturating_duration_since(self.start)).max(here);
            }
            Parcel::Grant { from, to, key, stamp, grant } => {
                if self.owner_for(to) != Some(from) || !self.nodes[to].up {
                    return;
                }
                let begin = (self.chance.draw() >> 40) as f32 / (1 << 24) as f32;
                let node = &mut self.nodes[to];
                node.reporter.granted(&node.limiter, key, stamp, grant, begin, now);
            }
            Parcel::Hint { to, key, level } => {
                let node = &self.nodes[to];
                if node.up {
                    node.limiter.hint(&node.policy, key, f64::from(level), now);
                }
            }
            Parcel::Exchange { from, to, key, stamp, exchange } => {
                let region = self.nodes[from].region as u8;
                let terms = self.terms();
                let node = &mut self.nodes[to];
                if !node.up {
                    return;
                }
                let owned = node.accounts.entry(key).or_insert_with(|| Owned { account: Account::new(terms, now), due: here });
                owned.account.exchange(region, stamp, exchange, now);
                owned.due = owned.due.min(owned.account.due(now).saturating_duration_since(self.start)).max(here);
            }
        }
    }

    fn terms(&self) -> Terms {
        Terms { rate: self.ideal.rate, burst: self.ideal.burst }
    }

    fn post(&mut self, from: usize, to: usize, bytes: u64, parcel: Parcel) {
        if from == to {
            self.deliver(parcel);
            return;
        }
        self.log.messages += 1;
        self.log.bytes += bytes;
        let (one, other) = (self.nodes[from].region, self.nodes[to].region);
        let copies = 1 + u64::from(self.chance.draw() % 1_000 < self.setup.weather.twice);
        for _ in 0..copies {
            if self.cut.contains_key(&(one, other)) || self.chance.draw() % 1_000 < self.setup.weather.lost {
                continue;
            }
            let (least, most) = if one == other { self.setup.weather.near } else { self.setup.weather.far };
            let mut delay = Duration::from_micros(self.chance.between(least..=most));
            let (often, late) = self.setup.weather.late;
            if self.chance.draw() % 1_000 < often {
                delay += Duration::from_millis(late);
            }
            self.posted += 1;
            self.under_way.insert((self.now + delay, self.posted), parcel.clone());
        }
    }

    /// Who owns the key for this node.
    fn owner_for(&self, node: usize) -> Option<usize> {
        let sees = &self.nodes[node].sees;
        let names: Vec<String> = sees.iter().map(|at| format!("n{at}")).collect();
        placement::owner(placement::part(self.key.bits()), names.iter().map(String::as_str)).map(|at| sees[at])
    }
}

fn shard(key: Key) -> usize {
    (key.bits() >> 58) as usize % SHARDS
}

fn policy_key(setup: &Setup, start: Instant) -> Key {
    let limiter = Limiter::new(Options { capacity: 64, seed: [7; 16], epoch: start });
    let mut hasher = limiter.policy(&limit(setup.rate, setup.burst)).key();
    hasher.value(b"caller");
    hasher.finish()
}

impl Log {
    fn sum(series: &[u32], from: usize, to: usize) -> f64 {
        series.get(from.min(series.len())..to.min(series.len())).unwrap_or_default().iter().map(|count| f64::from(*count)).sum()
    }

    /// Admitted between two seconds.
    pub(crate) fn admitted(&self, from: f64, to: f64) -> f64 {
        Self::sum(&self.admitted, (from * 1_000.0) as usize, (to * 1_000.0) as usize)
    }

    pub(crate) fn ideal(&self, from: f64, to: f64) -> f64 {
        Self::sum(&self.ideal, (from * 1_000.0) as usize, (to * 1_000.0) as usize)
    }

    /// The least and the most that was admitted in any span of so many seconds between two others.
    pub(crate) fn windows(&self, span: f64, from: f64, to: f64) -> (f64, f64) {
        let (span, from, to) = ((span * 1_000.0) as usize, (from * 1_000.0) as usize, (to * 1_000.0) as usize);
        let to = to.min(self.admitted.len());
        if to < from + span {
            return (f64::NAN, f64::NAN);
        }
        let mut sum = Self::sum(&self.admitted, from, from + span);
        let (mut least, mut most) = (sum, sum);
        for at in from + span..to {
            sum += f64::from(self.admitted[at]) - f64::from(self.admitted[at - span]);
            least = least.min(sum);
            most = most.max(sum);
        }
        (least, most)
    }
}
