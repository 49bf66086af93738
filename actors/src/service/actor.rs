//! The body of a service's actor: it finds out which endpoints there are, asks them how they are, compares how their requests
//! fare, and decides what each level of them gets.
//!
//! It works on what is published and publishes what it concludes, so that a service whose actor is dead or busy goes on as
//! it was: requests eject and try out by themselves, and levels keep their shares. A new life begins with the verdicts that
//! it finds, and with the addresses in use. What is lost with a life are the outcomes of probes in a row that had not yet come to a verdict, and at most an
//! interval's comparison.

use super::{
    Verdicts,
    balancer::Levels,
    discovery::{Answer, Question},
    health::{self, Health, ProbeError},
    load::Load,
    names::{Effect, Located, Names},
    outlier::Outlier,
    verdict::{Failure, Judged, Verdict},
    watch::{Roster, Watch},
};
use crate::{
    body::{Body, Turn},
    handles::{Full, Mailbox, Message, Reference},
    supervisor::{Branch, Child},
};
use cluster::BoxFuture;
use config::Service;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How often it is looked what requests have changed by themselves. A level that dies in between is left by each pick
/// anyway.
const LOOK: Duration = Duration::from_millis(500);

/// The node, as the actor of a service sees it.
pub trait Outside: Send + Sync + 'static {
    /// Asks the DNS servers that the node names.
    fn lookup(&self, question: Question) -> BoxFuture<'static, Answer>;

    /// Makes these the endpoints of the service, for requests and in the roster. Nothing happens if another revision of the
    /// service serves by now, of which its actor is told.
    fn publish(&self, service: Arc<Service>, endpoints: Arc<[Located]>) -> BoxFuture<'static, ()>;

    /// Tells operators that a name has more than is used.
    fn too_many(&self, name: &str, found: usize, used: usize);
}

/// The actor of a service, to be added below its branch, and the way to it.
pub fn child(service: &Branch, watch: &Arc<Watch>, outside: Arc<dyn Outside>) -> (Child, Reference<Order>) {
    let mailbox = Mailbox::new(service.id().child("service"), "service");
    let reference = mailbox.lane(Full::KeepLatest);
    let watch = Arc::clone(watch);
    let child = Child::actor(&mailbox, move |turn| Watching::new(Arc::clone(&watch), Arc::clone(&outside), turn));
    (child, reference)
}

/// What a service's actor may be told.
#[derive(Debug)]
pub enum Order {
    /// What is to be watched has changed.
    Look,
    Probed(Probed),
    Answered(Answered),
    /// A publication is through.
    Published,
}

/// What came of a question about a name.
#[derive(Debug)]
pub struct Answered {
    question: Question,
    answer: Answer,
}

/// What came of a probe.
#[derive(Debug)]
pub struct Probed {
    endpoint: Arc<str>,
    number: u64,
    outcome: Result<(), ProbeError>,
}

impl Message for Order {
    fn kind(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Probed(_) => "probed",
            Self::Answered(_) => "answered",
            Self::Published => "published",
        }
    }
}

/// One life of who watches a service.
struct Watching {
    watch: Arc<Watch>,
    outside: Arc<dyn Outside>,
    roster: Arc<Roster>,
    names: Names,
    /// One after the other, so that an older one never ends last.
    publishing: bool,
    /// By endpoint; empty where nobody probes.
    healths: BTreeMap<Arc<str>, Health>,
    /// Those that the last probe could not connect to, or heard nothing of, and when that was.
    unheard: BTreeMap<Arc<str>, Instant>,
    outlier: Outlier,
    levels: Levels,
    verdicts: Verdicts,
    look: Instant,
    looked: Instant,
}

impl Watching {
    fn new(watch: Arc<Watch>, outside: Arc<dyn Outside>, turn: &Turn<'_, Order>) -> Self {
        let (now, roster) = (turn.now(), watch.roster());
        let levels = Levels::resume(roster.service.spread, &roster.balancer.capacities(now), roster.balancer.shares(), now);
        let mut watching = Self {
            names: Names::resume(&roster.service, &watch.resolved().known, now),
            publishing: false,
            healths: BTreeMap::new(),
            unheard: BTreeMap::new(),
            outlier: Outlier::new(roster.service.outlier.as_ref(), Arc::clone(watch.breaker()), now),
            levels,
            verdicts: watch.verdicts(now),
            look: now + LOOK,
            looked: now,
            watch,
            outside,
            roster,
        };
        watching.take_endpoints(turn);
        watching
    }

    /// Follows another roster.
    fn renew(&mut self, turn: &mut Turn<'_, Order>) {
        let now = turn.now();
        let before = std::mem::replace(&mut self.roster, self.watch.roster());
        let (was, is) = (&before.service, &self.roster.service);
        if was.outlier != is.outlier {
            self.outlier.renew(is.outlier.as_ref(), now);
        }
        if let Some(policy) = &is.health
            && was.health != is.health
        {
            self.healths.values_mut().for_each(|health| health.renew(policy.clone(), turn.chance(), now));
        }
        self.take_endpoints(turn);
        self.levels.reconfigure(self.roster.service.spread, now);
        self.levels.observe(&self.roster.balancer.capacities(now), now);
        // Another balancer may have begun with a decision of its own.
        self.roster.balancer.publish(self.levels.shares());
        if !Arc::ptr_eq(&before.service, &self.roster.service) {
            self.names.reconfigure(&self.roster.service, now);
            self.resolve(turn);
        }
    }

    /// Does what the names want done.
    fn resolve(&mut self, turn: &mut Turn<'_, Order>) {
        for effect in self.names.take_effects() {
            match effect {
                Effect::Ask(question) => {
                    let asking = self.outside.lookup(question.clone());
                    // Without room it counts as failed, and is asked again.
                    let _ = turn.begin(Box::pin(async move { Order::Answered(Answered { question, answer: asking.await }) }));
                }
                Effect::TooMany { name, found, used } => self.outside.too_many(&name, found, used),
                // What is published is compared with the whole.
                Effect::Endpoints(_) => {}
            }
        }
        self.watch.learned(&self.names);
        self.publish(turn);
    }

    /// Publishes the endpoints, where others are in use. A publication that comes to nothing is made up for at the next look.
    fn publish(&mut self, turn: &mut Turn<'_, Order>) {
        let endpoints = self.names.endpoints();
        if self.publishing || *endpoints == self.roster.located {
            return;
        }
        let publishing = self.outside.publish(Arc::clone(&self.roster.service), Arc::clone(endpoints));
        let begun = turn.begin(Box::pin(async move {
            publishing.await;
            Order::Published
        }));
        self.publishing = begun.is_ok();
    }

    /// Asks again for hosts that lately nobody could connect to at any of their addresses: neither a request nor, where there are
    /// none any more, a probe. Who drains is asked by nobody, and says nothing either way.
    fn doubt(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.looked);
        let mut hosts: BTreeMap<&Arc<str>, (bool, bool)> = BTreeMap::new();
        for (located, watched) in self.roster.located.iter().zip(&self.roster.endpoints) {
            if located.address.is_none() || located.endpoint.address().is_some() || watched.is_draining() {
                continue;
            }
            let probed = self.unheard.get(&watched.endpoint).map(|at| now.saturating_duration_since(*at));
            let failed = unreachable_for(&watched.load, now).into_iter().chain(probed).min();
            let (all, lately) = hosts.entry(&located.endpoint.host).or_insert((true, false));
            *all &= failed.is_some();
            *lately |= failed.is_some_and(|age| age <= since);
        }
        for (host, _) in hosts.into_iter().filter(|(_, (all, lately))| *all && *lately) {
            self.names.doubt(host, now);
        }
    }

    fn take_endpoints(&mut self, turn: &Turn<'_, Order>) {
        let now = turn.now();
        let mut before = std::mem::take(&mut self.healths);
        for watched in &self.roster.endpoints {
            match &self.roster.service.health {
                Some(policy) => {
                    let known = before.remove(&watched.endpoint).filter(|health| health.is_healthy() == watched.load.is_healthy());
                    let health = known.unwrap_or_else(|| Health::new(policy.clone(), watched.load.is_healthy(), turn.chance(), now));
                    self.healths.insert(Arc::clone(&watched.endpoint), health);
                }
                // Nobody would ever say that it is well again.
                None => watched.load.set_healthy(true, now),
            }
        }
        self.unheard.retain(|endpoint, _| self.healths.contains_key(endpoint));
        let loads = self.roster.endpoints.iter().map(|watched| (Arc::clone(&watched.endpoint), Arc::clone(&watched.load)));
        self.outlier.set_endpoints(loads, now);
    }

    fn probe(&mut self, turn: &mut Turn<'_, Order>) {
        let (Some(policy), now) = (&self.roster.service.health, turn.now()) else { return };
        for watched in &self.roster.endpoints {
            let Some(health) = self.healths.get_mut(&watched.endpoint) else { continue };
            health.expire(now);
            let Some(health::Probe { number, .. }) = health.take_effects() else { continue };
            let (endpoint, asking) = (Arc::clone(&watched.endpoint), watched.prober.probe(policy));
            // Without room it counts as lost, and is sent again.
            let _ = turn.begin(Box::pin(async move { Order::Probed(Probed { endpoint, number, outcome: asking.await }) }));
        }
    }

    fn observe(&mut self, probed: Probed, turn: &Turn<'_, Order>) {
        let Probed { endpoint, number, outcome } = probed;
        let now = turn.now();
        let Some(policy) = &self.roster.service.health else { return };
        let Some(watched) = self.roster.endpoints.iter().find(|watched| watched.endpoint == endpoint) else { return };
        let Some(health) = self.healths.get_mut(&endpoint) else { return };
        self.watch.probed(&endpoint, &outcome, now);
        match outcome {
            Err(ProbeError::Connect(_) | ProbeError::Timeout) => drop(self.unheard.insert(Arc::clone(&endpoint), now)),
            Ok(()) | Err(_) => drop(self.unheard.remove(&endpoint)),
        }
        let passed = outcome.is_ok();
        match health.observe(number, outcome, turn.chance(), now) {
            Some(health::Turn::Fell) => watched.load.set_healthy(false, now),
            Some(health::Turn::Recovered) => watched.load.set_healthy(true, now),
            None => {}
        }
        self.outlier.probed(&endpoint, passed, policy.healthy, now);
        self.look(now);
    }

    /// Takes note of what has changed, whoever changed it, and decides what each level gets.
    fn look(&mut self, now: Instant) {
        let verdicts = self.watch.verdicts(now);
        let is_out = |judged: &Judged| matches!(judged.verdict, Verdict::Ejected | Verdict::Open);
        for judged in verdicts.endpoints.iter().filter(|judged| is_out(judged)) {
            let before = self.verdicts.of(&judged.endpoint);
            // A trial that failed puts it out anew, whether or not anybody saw the trial.
            let anew = before.is_none_or(|before| !is_out(before) || judged.times_out > before.times_out);
            if let (true, Some(why)) = (anew, judged.why) {
                self.watch.ejected(why);
            }
        }
        self.verdicts = verdicts;
        if let Some(shares) = self.levels.observe(&self.roster.balancer.capacities(now), now) {
            self.roster.balancer.publish(shares);
        }
    }
}

/// How long ago connecting failed, if that is what came of it last.
fn unreachable_for(load: &Load, now: Instant) -> Option<Duration> {
    let (failure, age) = load.last_failure(now)?;
    (load.is_failing() && failure == Failure::Connect).then_some(age)
}

impl Body for Watching {
    type Message = Order;

    /// One for each endpoint and each question, where there are not very many.
    const TASKS_MAX: usize = 512;

    fn handle(&mut self, order: Order, turn: &mut Turn<'_, Order>) {
        match order {
            Order::Look => self.renew(turn),
            Order::Probed(probed) => self.observe(probed, turn),
            Order::Answered(Answered { question, answer }) => {
                self.names.observe(&question, &answer, turn.now(), turn.chance());
                self.resolve(turn);
            }
            Order::Published => {
                self.publishing = false;
                self.renew(turn);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let probes = self.healths.values().filter_map(Health::deadline);
        probes.chain(self.names.deadline()).chain(self.outlier.deadline()).chain(self.levels.deadline()).chain([self.look]).min()
    }

    fn expire(&mut self, turn: &mut Turn<'_, Order>) {
        let now = turn.now();
        self.probe(turn);
        self.outlier.expire(turn.chance(), now);
        if let Some(shares) = self.levels.expire(now) {
            self.roster.balancer.publish(shares);
        }
        if self.names.deadline().is_some_and(|due| due <= now) {
            self.names.expire(now, turn.chance());
            self.resolve(turn);
        }
        if now >= self.look {
            self.look(now);
            self.doubt(now);
            self.publish(turn);
            (self.looked, self.look) = (now, now + LOOK);
        }
    }

    fn inspect(&self, now: Instant) -> Value {
        let left = |until: Option<Instant>| until.map(|until| until.saturating_duration_since(now).as_millis() as u64);
        let probes: Vec<Value> = self
            .healths
            .iter()
            .map(|(endpoint, health)| {
                json!({
                    "endpoint": endpoint,
                    "healthy": health.is_healthy(),
                    "for_ms": now.saturating_duration_since(health.since()).as_millis() as u64,
                    "needed": health.needed(),
                    "next_in_ms": left(health.deadline()),
                    "last_error": health.last_error(now),
                })
            })
            .collect();
        json!({
            "endpoints": self.watch.verdicts(now),
            "names": self.names.states().map(|(name, state)| state.shown(name, now)).collect::<Vec<_>>(),
            "probes": probes,
            "outliers_compared_in_ms": left(self.outlier.deadline()),
            "levels": format!("{:?}", self.levels.shares()),
            "levels_change_in_ms": left(self.levels.deadline()),
        })
    }
}

#[cfg(test)]
mod tests;
