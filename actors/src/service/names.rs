//! Decides which endpoints a service has, from what is written and from what its names stand for.
//!
//! An endpoint that is written with an address is what it says. One with a name becomes one for each of its addresses; as long
//! as it has none it stays as it is written, to be looked up by whoever connects to it, so that a service serves from its first
//! moment on. SRV records bring endpoints of their own, and nothing stands in for them.
//!
//! The list is in the order of the configuration, and within a name in that of its [`Discovery`]: it does not depend on who
//! answered first. [`Effect::Ask`] says what to ask, [`Names::observe`] takes what came of it.

use super::discovery::{self, Answer, Discovery, Found, Known, Question, State, Wanted};
use config::{DiscoveryPolicy, Endpoint, Service, SrvLookup};
use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Instant};

/// An endpoint, and where it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Located {
    /// As it is written, or as its SRV record has it. Its host is who it is called, for TLS and `Host`, wherever it is.
    pub endpoint: Endpoint,
    /// `None` where its host is to be looked up by whoever connects.
    pub address: Option<SocketAddr>,
}

impl Located {
    /// As it is written: looked up by nobody where it is an address, and otherwise by whoever connects.
    pub fn written(endpoint: Endpoint) -> Self {
        Self { address: endpoint.address(), endpoint }
    }

    /// What operators and hashes know it by: its address and port, after the host that they were found by; or its host and port,
    /// as long as that is all there is.
    pub fn name(&self) -> String {
        match self.address {
            Some(address) if self.endpoint.address().is_none() => format!("{}@{address}", self.endpoint.host),
            _ => self.endpoint.authority(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// To be asked of a resolver, and its outcome to be observed.
    Ask(Question),
    /// All endpoints from now on. May be empty, where only SRV records say which there are.
    Endpoints(Arc<[Located]>),
    /// A name has more addresses or targets than are used; said once until it is over.
    TooMany { name: Arc<str>, found: usize, used: usize },
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct Names {
    sources: Vec<Source>,
    endpoints: Arc<[Located]>,
    effects: Vec<Effect>,
}

/// Where endpoints come from.
#[derive(Debug)]
enum Source {
    Written(Located),
    Name { written: Endpoint, discovery: Discovery },
    Services { lookup: SrvLookup, discovery: Discovery },
}

impl Names {
    /// Nothing is known of any name, and everything is to be asked at once.
    pub fn new(service: &Service, now: Instant) -> Self {
        Self::resume(service, &Known::new(), now)
    }

    /// Goes on with what another life knew, and asks everything at once.
    pub fn resume(service: &Service, known: &Known, now: Instant) -> Self {
        let mut names = Self { sources: Vec::new(), endpoints: Arc::new([]), effects: Vec::new() };
        names.arrange(service, known, now);
        names.endpoints = names.list().into();
        names
    }

    /// Takes the service as a reload has it. What is known of names that stay is kept.
    pub fn reconfigure(&mut self, service: &Service, now: Instant) {
        // What was known of a name counts for whatever else it is looked up for from now on.
        let known = self.known();
        self.arrange(service, &known, now);
        self.settle();
    }

    /// Takes what came of a question. `chance` spreads the next one, so that a fleet does not ask in step. An answer to what is
    /// not asked any more is ignored.
    pub fn observe(&mut self, question: &Question, answer: &Answer, now: Instant, chance: u64) {
        for discovery in self.sources.iter_mut().filter_map(Source::discovery_mut) {
            discovery.observe(question, answer.clone(), now, chance);
        }
        self.settle();
    }

    /// When there is something to ask, or something that was kept runs out. `None` where no name is written.
    pub fn deadline(&self) -> Option<Instant> {
        self.sources.iter().filter_map(Source::discovery).filter_map(Discovery::deadline).min()
    }

    /// Asks what is due.
    pub fn expire(&mut self, now: Instant, chance: u64) {
        for discovery in self.sources.iter_mut().filter_map(Source::discovery_mut) {
            discovery.expire(now, chance);
        }
        self.settle();
    }

    /// Brings the questions forward that lead to a host, as far as its bounds allow: nothing can be reached there, and perhaps it
    /// is elsewhere by now.
    pub fn doubt(&mut self, host: &str, now: Instant) {
        for discovery in self.sources.iter_mut().filter_map(Source::discovery_mut) {
            if **discovery.name() == *host || discovery.found().iter().any(|found| *found.host == *host) {
                discovery.doubt(now);
            }
        }
    }

    /// What to do, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// All endpoints as of now.
    pub fn endpoints(&self) -> &Arc<[Located]> {
        &self.endpoints
    }

    /// How well each name is known, in the order of the configuration.
    pub fn states(&self) -> impl Iterator<Item = (&Arc<str>, State)> {
        self.sources.iter().filter_map(Source::discovery).map(|discovery| (discovery.name(), discovery.state()))
    }

    /// What another life may go on with.
    pub fn known(&self) -> Known {
        let all = self.sources.iter().filter_map(Source::discovery).flat_map(Discovery::known);
        all.map(|(question, records)| (question.clone(), records.to_vec())).collect()
    }

    /// Makes the sources those that are written.
    fn arrange(&mut self, service: &Service, known: &Known, now: Instant) {
        let policy = &service.discovery;
        let mut before: Vec<Discovery> = std::mem::take(&mut self.sources).into_iter().filter_map(Source::into_discovery).collect();
        let mut discovery = |name: &Arc<str>, wanted: Wanted| adopt(&mut before, name, wanted, policy, known, now);
        let services = policy.srv.iter().map(|lookup| (lookup, discovery(&lookup.name, Wanted::Services)));
        self.sources.extend(services.map(|(lookup, discovery)| Source::Services { lookup: lookup.clone(), discovery }));
        for endpoint in &service.endpoints {
            self.sources.push(match endpoint.address() {
                Some(_) => Source::Written(Located::written(endpoint.clone())),
                None => {
                    let discovery = discovery(&endpoint.host, Wanted::Addresses { port: endpoint.port });
                    Source::Name { written: endpoint.clone(), discovery }
                }
            });
        }
    }

    /// Collects what the names want done, and says so if they come to other endpoints.
    fn settle(&mut self) {
        let mut asked = HashSet::new();
        for discovery in self.sources.iter_mut().filter_map(Source::discovery_mut) {
            for effect in discovery.take_effects() {
                match effect {
                    // One name at several ports is asked for once.
                    discovery::Effect::Ask(question) if asked.insert(question.clone()) => self.effects.push(Effect::Ask(question)),
                    discovery::Effect::TooMany { found, used } => {
                        self.effects.push(Effect::TooMany { name: Arc::clone(discovery.name()), found, used });
                    }
                    // What they come to is read from the whole.
                    discovery::Effect::Ask(_)
                    | discovery::Effect::Added(_)
                    | discovery::Effect::Changed(_)
                    | discovery::Effect::Removed(_) => {}
                }
            }
        }
        let endpoints = self.list();
        if endpoints[..] != self.endpoints[..] {
            self.endpoints = endpoints.into();
            self.effects.push(Effect::Endpoints(Arc::clone(&self.endpoints)));
        }
    }

    /// Two sources may come to the same host at the same address: the first counts.
    fn list(&self) -> Vec<Located> {
        let mut seen = HashSet::new();
        let all = self.sources.iter().flat_map(Source::endpoints);
        all.filter(|located| seen.insert(located.name())).collect()
    }
}

/// The discovery of a name: the one that was there, told of the policy, or a new one that goes on with what is known.
fn adopt(before: &mut Vec<Discovery>, name: &Arc<str>, wanted: Wanted, policy: &DiscoveryPolicy, known: &Known, now: Instant) -> Discovery {
    match before.iter().position(|known| known.name() == name && *known.wanted() == wanted) {
        Some(at) => {
            let mut known = before.swap_remove(at);
            known.reconfigure(policy.clone(), now);
            known
        }
        None => Discovery::resume(Arc::clone(name), wanted, policy.clone(), known, now),
    }
}

impl Source {
    fn discovery(&self) -> Option<&Discovery> {
        match self {
            Self::Written(_) => None,
            Self::Name { discovery, .. } | Self::Services { discovery, .. } => Some(discovery),
        }
    }

    fn discovery_mut(&mut self) -> Option<&mut Discovery> {
        match self {
            Self::Written(_) => None,
            Self::Name { discovery, .. } | Self::Services { discovery, .. } => Some(discovery),
        }
    }

    fn into_discovery(self) -> Option<Discovery> {
        match self {
            Self::Written(_) => None,
            Self::Name { discovery, .. } | Self::Services { discovery, .. } => Some(discovery),
        }
    }

    fn endpoints(&self) -> Vec<Located> {
        match self {
            Self::Written(located) => vec![located.clone()],
            Self::Name { written, discovery } if discovery.found().is_empty() => {
                vec![Located::written(written.clone())]
            }
            Self::Name { written, discovery } => {
                let located = |found: &Found| Located { endpoint: written.clone(), address: Some(found.address) };
                discovery.found().iter().map(located).collect()
            }
            Self::Services { lookup, discovery } => discovery.found().iter().map(|found| service(lookup, found)).collect(),
        }
    }
}

/// What an SRV record says of an address.
fn service(lookup: &SrvLookup, found: &Found) -> Located {
    let endpoint = Endpoint {
        weight: found.weight,
        priority: found.priority,
        ..Endpoint::new(lookup.tls, Arc::clone(&found.host), found.address.port())
    };
    Located { endpoint, address: Some(found.address) }
}

#[cfg(test)]
mod tests;
