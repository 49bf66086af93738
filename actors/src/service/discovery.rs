//! Decides which addresses stand behind a name, from what a resolver says about it.
//!
//! A name is asked for its addresses of both families, or first for SRV records and then each of their targets for theirs.
//! Every one of these questions is asked again when its answer has run out (`discovery/lookup.rs`); what all of them say
//! together is the set, in an order that does not depend on who answered first.
//!
//! Names fail more often than what is behind them. A resolver that fails or says nothing never takes an address away, and
//! one that says that a name is gone is believed only after a while. What an answer leaves out while it names others has left.
//!
//! Nothing here asks or waits: [`Effect::Ask`] says what to ask, [`Discovery::observe`] takes what came of it.

mod answer;
mod lookup;

pub use cluster::dns::{Absence, Answer, Question, Record, RecordKind};

use self::{
    answer::{Service, sensible},
    lookup::{Lookup, Standing},
};
use config::{DiscoveryPolicy, Family};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// Addresses of one name that are used at the same time. Of more, those that are used already stay, and then the least.
pub const ADDRESSES_MAX: usize = 256;

/// Targets of SRV records whose addresses are asked for.
pub const TARGETS_MAX: usize = 64;

/// How long the first answers wait for each other, so that the addresses of a name appear together and none of them is taken
/// for a newcomer beside the others.
const PATIENCE: Duration = Duration::from_secs(2);

/// An address that was found, with what was said of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub address: SocketAddr,
    /// Whose address it is: the name itself, or the target of its SRV record without the dot at the end. TLS is checked against
    /// it.
    pub host: Arc<str>,
    /// 0 unless an SRV record says otherwise.
    pub priority: u16,
    /// At least 1, as long as it is relative to others: a record of weight 0 gets next to nothing beside heavier ones.
    pub weight: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// To be asked of a resolver, and its outcome to be observed.
    Ask(Question),
    Added(Found),
    /// Its priority, its weight or its host; the connections to it can stay.
    Changed(Found),
    /// It gets nothing new, and its connections end within the pool's bound.
    Removed(SocketAddr),
    /// More addresses or targets than are used; said once until it is over.
    TooMany {
        found: usize,
        used: usize,
    },
}

/// What a name is looked up for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Every address of the name, at this port.
    Addresses { port: u16 },
    /// What its SRV records say.
    Services,
}

/// The records that count, by question that has been answered in whatever way, so that another life begins where this one ends.
pub type Known = BTreeMap<Question, Vec<Record>>;

/// How well a name is known, for those who watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing has been heard yet.
    Unknown,
    /// The last answers all count.
    Fresh,
    /// Something failed since; the addresses from before are used.
    Stale { since: Instant, why: Arc<str> },
    /// There is no address: nothing was ever found, or the name has been gone for long.
    Empty { since: Instant, why: Arc<str> },
}

/// The addresses of one name.
#[derive(Debug)]
pub struct Discovery {
    name: Arc<str>,
    wanted: Wanted,
    policy: DiscoveryPolicy,
    lookups: BTreeMap<Question, Lookup>,
    /// By priority and address.
    found: Vec<Found>,
    crowded: bool,
    empty_since: Instant,
    patience: Option<Instant>,
    effects: Vec<Effect>,
}

impl State {
    /// As it is shown to people.
    pub fn shown(&self, name: &str, now: Instant) -> Value {
        let (state, trouble) = match self {
            Self::Unknown => ("unknown", None),
            Self::Fresh => ("fresh", None),
            Self::Stale { since, why } => ("stale", Some((since, why))),
            Self::Empty { since, why } => ("empty", Some((since, why))),
        };
        let for_ms = trouble.map(|(since, _)| now.saturating_duration_since(*since).as_millis() as u64);
        json!({ "name": name, "state": state, "for_ms": for_ms, "why": trouble.map(|(_, why)| why) })
    }
}

impl Discovery {
    /// Nothing is known, and everything is to be asked at once.
    pub fn new(name: Arc<str>, wanted: Wanted, policy: DiscoveryPolicy, now: Instant) -> Self {
        Self::resume(name, wanted, policy, &Known::new(), now)
    }

    /// Goes on with what is known of its questions, and asks all of them at once. What it comes to is no news.
    pub fn resume(name: Arc<str>, wanted: Wanted, policy: DiscoveryPolicy, known: &Known, now: Instant) -> Self {
        let mut discovery = Self {
            name,
            wanted,
            policy,
            lookups: BTreeMap::new(),
            found: Vec::new(),
            crowded: false,
            empty_since: now,
            patience: Some(now + PATIENCE),
            effects: Vec::new(),
        };
        discovery.arrange_from(known, now);
        if !discovery.lookups.values().all(Lookup::is_unheard) {
            discovery.patience = None;
        }
        discovery.settle(now);
        discovery.effects.clear();
        discovery
    }

    /// Takes what came of a question. `chance` spreads the next one, so that a fleet does not ask in step. An answer to what is
    /// not asked any more is ignored.
    pub fn observe(&mut self, question: &Question, answer: Answer, now: Instant, chance: u64) {
        let Some(lookup) = self.lookups.get_mut(question) else { return };
        lookup.observe(sensible(question.kind, answer), &self.policy, now, chance);
        self.settle(now);
    }

    /// When there is something to ask, or something that was kept runs out.
    pub fn deadline(&self) -> Option<Instant> {
        self.lookups.values().map(|lookup| lookup.deadline(&self.policy)).chain(self.patience).min()
    }

    /// Asks what is due. A question that was not answered for long is taken to have failed.
    pub fn expire(&mut self, now: Instant, chance: u64) {
        for (question, lookup) in &mut self.lookups {
            if lookup.expire(&self.policy, now, chance) {
                self.effects.push(Effect::Ask(question.clone()));
            }
        }
        self.settle(now);
    }

    /// Asks everything again as soon as it is called, however fresh it is: every connection to an address failed, and perhaps
    /// the name points elsewhere by now. Not more often than `ttl_min` allows.
    pub fn doubt(&mut self, now: Instant) {
        self.lookups.values_mut().for_each(|lookup| lookup.hasten(&self.policy, now));
    }

    /// Takes other choices of a reload. What is known stays.
    pub fn reconfigure(&mut self, policy: DiscoveryPolicy, now: Instant) {
        self.policy = policy;
        self.lookups.values_mut().for_each(|lookup| lookup.clamp(&self.policy, now));
        self.arrange(now);
        self.settle(now);
    }

    /// What to do, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The addresses in use, by priority and address.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// What another life may go on with: nothing as long as first answers wait for each other.
    pub fn known(&self) -> impl Iterator<Item = (&Question, &[Record])> {
        let settled = self.lookups.iter().filter(|_| self.patience.is_none());
        settled.filter_map(|(question, lookup)| Some((question, lookup.known()?)))
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    pub fn state(&self) -> State {
        // What keeps old records in use counts before what brings none, and that a name has none of one family is the least.
        let weight = |lookup: &Lookup| (lookup.records().is_empty(), lookup.standing() == Standing::Lacking);
        let troubles = self.lookups.values().filter_map(|lookup| Some((weight(lookup), lookup.trouble()?)));
        let trouble = troubles.min_by_key(|(weight, (since, _))| (*weight, *since)).map(|(_, trouble)| trouble);
        if !self.found.is_empty() {
            return match trouble {
                Some((since, why)) if !self.is_complete() => State::Stale { since, why },
                _ => State::Fresh,
            };
        }
        match trouble {
            _ if self.lookups.values().any(Lookup::is_unheard) => State::Unknown,
            Some((_, why)) => State::Empty { since: self.empty_since, why },
            None => State::Empty { since: self.empty_since, why: "the name has no addresses".into() },
        }
    }

    /// Whether what is used comes from answers that count, and from none that was kept.
    fn is_complete(&self) -> bool {
        let roots_fresh = match self.wanted {
            Wanted::Services => self.root(RecordKind::Srv).is_some_and(|lookup| lookup.standing() == Standing::Fresh),
            Wanted::Addresses { .. } => true,
        };
        roots_fresh
            && self.hosts().iter().all(|host| {
                let lookups: Vec<&Lookup> = self.of(host).map(|(_, lookup)| lookup).collect();
                let fresh = lookups.iter().any(|lookup| lookup.standing() == Standing::Fresh);
                let kept = lookups.iter().any(|lookup| lookup.standing() == Standing::Failing && !lookup.records().is_empty());
                fresh && !kept
            })
    }

    /// Settles what follows from what is known now: which questions there are, and which addresses.
    fn settle(&mut self, now: Instant) {
        self.arrange(now);
        if self.patience.is_some_and(|until| now < until) && self.lookups.values().any(Lookup::is_unheard) {
            return;
        }
        self.patience = None;
        self.forget();
        let wanted = self.choose();
        let before: BTreeMap<SocketAddr, Found> = std::mem::take(&mut self.found).into_iter().map(|found| (found.address, found)).collect();
        let after: BTreeSet<SocketAddr> = wanted.iter().map(|found| found.address).collect();
        for found in &wanted {
            match before.get(&found.address) {
                None => self.effects.push(Effect::Added(found.clone())),
                Some(known) if known != found => self.effects.push(Effect::Changed(found.clone())),
                Some(_) => {}
            }
        }
        self.effects.extend(before.keys().filter(|address| !after.contains(address)).copied().map(Effect::Removed));
        if wanted.is_empty() && !before.is_empty() {
            self.empty_since = now;
        }
        self.found = wanted;
    }

    /// Makes the questions those that should be asked: new ones at once, and none of a target that is not named any more.
    fn arrange(&mut self, now: Instant) {
        self.arrange_from(&Known::new(), now);
    }

    fn arrange_from(&mut self, known: &Known, now: Instant) {
        let begun = |question: &Question| known.get(question).map_or_else(|| Lookup::new(now), |records| Lookup::resume(records, now));
        if self.wanted == Wanted::Services {
            let root = Question { name: Arc::clone(&self.name), kind: RecordKind::Srv };
            self.lookups.entry(root).or_insert_with_key(begun);
        }
        let hosts = self.hosts();
        let kinds: &[RecordKind] = match self.policy.family {
            Family::Ipv4 => &[RecordKind::A],
            Family::Ipv6 => &[RecordKind::Aaaa],
            Family::Auto | Family::Both => &[RecordKind::A, RecordKind::Aaaa],
        };
        let kept =
            |question: &Question| question.kind == RecordKind::Srv || (hosts.contains(&question.name) && kinds.contains(&question.kind));
        self.lookups.retain(|question, _| kept(question));
        for name in &hosts {
            for kind in kinds {
                self.lookups.entry(Question { name: Arc::clone(name), kind: *kind }).or_insert_with_key(begun);
            }
        }
    }

    /// While a host has addresses of one kind, that it is said to have none of the other is no riddle: it has none.
    fn forget(&mut self) {
        let known = |lookup: &Lookup| matches!(lookup.standing(), Standing::Fresh | Standing::Failing) && !lookup.records().is_empty();
        let hosts: BTreeSet<Arc<str>> = self
            .lookups
            .iter()
            .filter(|(question, lookup)| question.kind != RecordKind::Srv && known(lookup))
            .map(|(question, _)| Arc::clone(&question.name))
            .collect();
        for (question, lookup) in &mut self.lookups {
            if question.kind != RecordKind::Srv && lookup.standing() == Standing::Lacking && hosts.contains(&question.name) {
                lookup.forget();
            }
        }
    }

    /// Whose addresses are asked for.
    fn hosts(&self) -> BTreeSet<Arc<str>> {
        match self.wanted {
            Wanted::Addresses { .. } => BTreeSet::from([Arc::clone(&self.name)]),
            Wanted::Services => {
                let mut hosts = BTreeSet::new();
                for service in self.services() {
                    if hosts.len() < TARGETS_MAX {
                        hosts.insert(service.target);
                    }
                }
                hosts
            }
        }
    }

    /// The SRV records in use, those that come first in front.
    fn services(&self) -> Vec<Service> {
        let records = self.root(RecordKind::Srv).map(Lookup::records).unwrap_or_default();
        let mut services: Vec<Service> = records.iter().filter_map(Service::of).collect();
        services.sort();
        services.dedup_by(|a, b| (&a.target, a.port) == (&b.target, b.port));
        services
    }

    fn root(&self, kind: RecordKind) -> Option<&Lookup> {
        self.lookups.get(&Question { name: Arc::clone(&self.name), kind })
    }

    fn of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (&'a Question, &'a Lookup)> {
        self.lookups.iter().filter(move |(question, _)| *question.name == *host && question.kind != RecordKind::Srv)
    }

    /// The addresses that should be used, by priority and address.
    fn choose(&mut self) -> Vec<Found> {
        let mut candidates: Vec<Found> = Vec::new();
        let mut overlooked = 0;
        match &self.wanted {
            Wanted::Addresses { port } => {
                let found = |ip| Found { address: SocketAddr::new(ip, *port), host: Arc::clone(&self.name), priority: 0, weight: 1 };
                candidates.extend(self.addresses(&self.name).into_iter().map(found));
            }
            Wanted::Services => {
                let services = self.services();
                // Beside heavier ones a weight of 0 is next to nothing, and alone it is as good as any.
                let mixed = services.iter().any(|service| service.weight == 0) && services.iter().any(|service| service.weight > 0);
                let weight = |weight: u16| if mixed { (u32::from(weight) * 100).max(1) } else { u32::from(weight).max(1) };
                let hosts = self.hosts();
                for service in services {
                    if !hosts.contains(&service.target) {
                        overlooked += 1;
                        continue;
                    }
                    candidates.extend(self.addresses(&service.target).into_iter().map(|ip| Found {
                        address: SocketAddr::new(ip, service.port),
                        host: service.target.strip_suffix('.').unwrap_or(&service.target).into(),
                        priority: service.priority,
                        weight: weight(service.weight),
                    }));
                }
            }
        }
        // Two records may lead to one address: the one that comes first counts.
        candidates.sort_by(|a, b| (a.address, a.priority, &a.host).cmp(&(b.address, b.priority, &b.host)));
        candidates.dedup_by_key(|found| found.address);
        let all = candidates.len() + overlooked;
        if candidates.len() > ADDRESSES_MAX {
            let used: BTreeSet<SocketAddr> = self.found.iter().map(|found| found.address).collect();
            candidates.sort_by_key(|found| (!used.contains(&found.address), found.priority, found.address));
            candidates.truncate(ADDRESSES_MAX);
        }
        candidates.sort_by_key(|found| (found.priority, found.address));
        let crowded = all > candidates.len();
        if crowded && !self.crowded {
            self.effects.push(Effect::TooMany { found: all, used: candidates.len() });
        }
        self.crowded = crowded;
        candidates
    }

    /// The addresses of one host: those of every kind that has some, or of the first that has.
    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for (_, lookup) in self.of(host) {
            addresses.extend(lookup.records().iter().filter_map(|record| match record {
                Record::Address(ip) => Some(*ip),
                Record::Srv { .. } => None,
            }));
            if self.policy.family == Family::Auto && (!addresses.is_empty() || lookup.is_unheard()) {
                break;
            }
        }
        addresses
    }
}

#[cfg(test)]
mod tests;
