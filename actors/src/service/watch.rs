//! What is known and decided of one service beside the path: where its actor finds it, and where it leaves it.
//!
//! A [`Watch`] belongs to the node and outlives reloads and every life of the actor. Verdicts themselves stand in the
//! [`Load`]s, and what each level gets in the [`Balancer`]; here is who they are, what probes said last, and what has been counted.

use super::{
    Verdict, Verdicts,
    balancer::Balancer,
    breaker::Breaker,
    discovery::{Known, State},
    health::ProbeError,
    load::Load,
    names::{Located, Names},
    verdict::{LastError, Why},
};
use arc_swap::ArcSwap;
use cluster::BoxFuture;
use config::{HealthPolicy, Service};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// The endpoints of a service at one time, and how they are to be judged.
pub struct Roster {
    pub service: Arc<Service>,
    pub located: Arc<[Located]>,
    pub balancer: Arc<Balancer>,
    /// In the order of `located`.
    pub endpoints: Vec<Watched>,
}

/// One of them.
#[derive(Clone)]
pub struct Watched {
    /// Its address, by which it is shown; unique among them.
    pub endpoint: Arc<str>,
    /// Whether the configuration takes it out of service: then it is none of those of whom a share must stay in.
    pub drain: bool,
    pub load: Arc<Load>,
    pub prober: Arc<dyn Prober>,
}

impl Roster {
    /// Those that get requests by their weights: all of them, if none has any.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Watched> {
        let weightless = self.located.iter().all(|located| located.endpoint.weight == 0);
        let asked = move |located: &Located| weightless || located.endpoint.weight > 0;
        self.located.iter().zip(&self.endpoints).filter(move |(located, _)| asked(located)).map(|(_, watched)| watched)
    }
}

impl Watched {
    /// Whether it is leaving, by the configuration or by hand.
    pub fn is_draining(&self) -> bool {
        self.drain || self.load.is_draining()
    }
}

/// Whoever can ask an endpoint how it is.
pub trait Prober: Send + Sync + 'static {
    /// Asks once, within the policy's timeout, over a connection of its own.
    fn probe(&self, policy: &HealthPolicy) -> BoxFuture<'static, Result<(), ProbeError>>;
}

/// By endpoint, what its last failed probe said, and when.
type Said = BTreeMap<Arc<str>, (Arc<str>, Instant)>;

/// One service, watched.
pub struct Watch {
    breaker: Arc<Breaker>,
    roster: ArcSwap<Roster>,
    /// Held while the roster is exchanged, or an operator's wish is carried out: none is lost between two rosters.
    exchange: Mutex<()>,
    /// Of those in the roster.
    said: Mutex<Said>,
    resolved: ArcSwap<Resolved>,
    passed: AtomicU64,
    failed: AtomicU64,
    ejections: [AtomicU64; Why::ALL.len()],
}

/// What is known of the names of a service.
#[derive(Default)]
pub struct Resolved {
    /// What another life of the actor, or another revision of the service, goes on with.
    pub known: Known,
    /// In the order of the configuration.
    pub states: Vec<(Arc<str>, State)>,
}

/// What has been counted of a service, since its beginning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    pub probes_passed: u64,
    pub probes_failed: u64,
    /// Times that endpoints went out, by what led to it.
    pub ejections: Vec<(Why, u64)>,
}

impl Watch {
    /// `breaker` is the one that the loads of all endpoints are made with, now and later.
    pub fn new(breaker: Arc<Breaker>, roster: Roster) -> Arc<Self> {
        let watch = Self {
            breaker,
            roster: ArcSwap::from_pointee(roster),
            exchange: Mutex::default(),
            said: Mutex::default(),
            resolved: ArcSwap::default(),
            passed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            ejections: Default::default(),
        };
        let roster = watch.roster();
        roster.endpoints.iter().for_each(|watched| watched.load.set_withdrawn(watched.drain));
        watch.apply(&roster);
        Arc::new(watch)
    }

    /// Watches these from now on. Who has left takes no place of those that may be out, and who is back is a newcomer. An operator's
    /// wish stays with the endpoint, however it is spoken to, until that has left. Whoever watches should be told to look.
    pub fn follow(&self, roster: Roster, now: Instant) {
        let _exchange = self.exchange();
        let before = self.roster.load_full();
        let drained = before.endpoints.iter().filter(|watched| watched.load.is_draining());
        let wishes: BTreeSet<&Arc<str>> = drained.map(|watched| &watched.endpoint).collect();
        for watched in &roster.endpoints {
            if watched.load.is_retired() {
                watched.load.join(now);
            }
            watched.load.set_withdrawn(watched.drain);
            watched.load.set_draining(wishes.contains(&watched.endpoint), now);
        }
        self.apply(&roster);
        self.said().retain(|endpoint, _| roster.endpoints.iter().any(|watched| watched.endpoint == *endpoint));
        let roster = Arc::new(roster);
        self.roster.store(Arc::clone(&roster));
        let stays = |load: &Arc<Load>| roster.endpoints.iter().any(|watched| Arc::ptr_eq(&watched.load, load));
        before.endpoints.iter().filter(|watched| !stays(&watched.load)).for_each(|watched| watched.load.retire());
    }

    pub(super) fn apply(&self, roster: &Roster) {
        let service = &roster.service;
        self.breaker.renew(&service.breaker, service.outlier.as_ref());
        let staying = roster.asked().filter(|watched| !watched.is_draining()).count();
        self.breaker.set_endpoints(staying, service.spread.panic_threshold);
    }

    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    pub fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    /// What is concluded of the endpoints, whether or not anybody watches them now.
    pub fn verdicts(&self, now: Instant) -> Verdicts {
        let roster = self.roster.load();
        let loads = roster.endpoints.iter().map(|watched| (&watched.endpoint, &*watched.load));
        let mut verdicts = Verdicts::read(&self.breaker, loads, now);
        let drained: BTreeSet<&Arc<str>> =
            roster.endpoints.iter().filter(|watched| watched.drain).map(|watched| &watched.endpoint).collect();
        let said = self.said();
        for judged in &mut verdicts.endpoints {
            // It gets nothing new, whatever its requests, its probes and operators say.
            if drained.contains(&judged.endpoint) {
                (judged.verdict, judged.why) = (Verdict::Draining, Some(Why::Drain));
            }
            let error = said.get(&judged.endpoint).filter(|_| roster.service.health.is_some());
            judged.last_probe_error = error.map(|(what, at)| LastError { what: Arc::clone(what), age: now.saturating_duration_since(*at) });
        }
        verdicts
    }

    /// What is known of names, whether or not anybody asks for them now.
    pub fn resolved(&self) -> Arc<Resolved> {
        self.resolved.load_full()
    }

    pub(super) fn learned(&self, names: &Names) {
        let states = names.states().map(|(name, state)| (Arc::clone(name), state)).collect();
        self.resolved.store(Arc::new(Resolved { known: names.known(), states }));
    }

    pub fn counted(&self) -> Counted {
        let ejections = Why::ALL.into_iter().zip(&self.ejections).map(|(why, count)| (why, count.load(Relaxed)));
        Counted {
            probes_passed: self.passed.load(Relaxed),
            probes_failed: self.failed.load(Relaxed),
            ejections: ejections.filter(|(why, _)| why.is_ejection()).collect(),
        }
    }

    pub(super) fn probed(&self, endpoint: &Arc<str>, outcome: &Result<(), ProbeError>, now: Instant) {
        match outcome {
            Ok(()) => {
                self.passed.fetch_add(1, Relaxed);
            }
            Err(error) => {
                self.failed.fetch_add(1, Relaxed);
                self.said().insert(Arc::clone(endpoint), (error.to_string().into(), now));
            }
        }
    }

    pub(super) fn ejected(&self, why: Why) {
        self.ejections[why as usize - 1].fetch_add(1, Relaxed);
    }

    pub(super) fn exchange(&self) -> MutexGuard<'_, ()> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
