//! A revision made ready to serve: what the request path needs of each route and service, looked up once.
//!
//! A snapshot is never changed. A journey holds one from beginning to end, so a reload never changes the rules
//! half-way.

use crate::{
    request::{quoted, seconds_up},
    telemetry::{
        access_log,
        metrics::{Metrics, RouteMetrics, ServiceMetrics},
    },
    tls::{Read, SystemRoots, TlsError, UpstreamTls},
    upstream::{Probing, Upstream, Upstreams},
};
use actors::{
    limiter::{Limiter, Policy},
    service::{
        Balancer, Breaker, Rank, RetryBudget, Roster, Target, Watch, Watched,
        names::{Located, Names},
    },
};
use arc_swap::ArcSwap;
use cluster::World;
use config::{Action, Gateway, KeyPart, LimitMode, Locality, Node, Redirect, Respond, Route, RouteTable, Service, ServiceName};
use http::HeaderValue;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Instant, SystemTime},
};

pub(crate) struct Snapshot {
    pub(crate) gateway: Arc<Gateway>,
    /// By `Route::number`.
    routes: Vec<Arc<LiveRoute>>,
    pub(crate) services: Vec<Arc<LiveService>>,
    pub(crate) log: access_log::Policy,
}

/// Why a revision cannot be made ready.
#[derive(Debug)]
pub(crate) struct PrepareError {
    pub(crate) service: ServiceName,
    pub(crate) error: TlsError,
}

/// A route with everything that it needs at hand.
pub(crate) struct LiveRoute {
    pub(crate) route: Arc<Route>,
    pub(crate) action: LiveAction,
    pub(crate) limits: Vec<LiveLimit>,
    /// What `RateLimit-Policy` says on this route; absent where no limit is enforced.
    pub(crate) limit_policies: Option<HeaderValue>,
    pub(crate) metrics: RouteMetrics,
}

pub(crate) struct LiveLimit {
    pub(crate) limit: Arc<config::Limit>,
    pub(crate) policy: Arc<Policy>,
    /// The name as a structured field's string.
    pub(crate) quoted: String,
}

pub(crate) enum LiveAction {
    Forward(LiveForward),
    Redirect(Redirect),
    Respond(Respond),
}

pub(crate) struct LiveForward {
    /// With the running total of weights, so that a number below the last total picks one.
    pub(crate) split: Vec<(u64, Arc<LiveService>)>,
    pub(crate) sticky: Option<KeyPart>,
}

pub(crate) struct LiveService {
    pub(crate) service: Arc<Service>,
    /// Who may be asked now. An attempt looks once.
    pub(crate) endpoints: ArcSwap<Endpoints>,
    /// Where an endpoint speaks it.
    tls: Option<Arc<UpstreamTls>>,
    /// What is known of them; the same over all revisions that have the service.
    pub(crate) watch: Arc<Watch>,
    pub(crate) budget: Arc<RetryBudget>,
    pub(crate) metrics: ServiceMetrics,
}

/// The endpoints of a service at one time.
pub(crate) struct Endpoints {
    /// Each with a name that no other has.
    pub(crate) located: Arc<[Located]>,
    /// In the order of the endpoints.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) balancer: Arc<Balancer>,
}

/// What outlives a revision and is found again by the next.
pub(crate) struct Lasting<'a> {
    pub(crate) upstreams: &'a Upstreams,
    pub(crate) limiter: &'a Limiter,
    pub(crate) metrics: &'a Arc<Metrics>,
    pub(crate) roots: &'a SystemRoots,
    pub(crate) world: &'a Arc<dyn World>,
    pub(crate) now: Instant,
    pub(crate) before: Option<&'a Snapshot>,
}

impl Snapshot {
    /// Makes a revision ready. Nothing that serves is touched: if this fails, the revision before goes on.
    pub(crate) fn prepare(gateway: Arc<Gateway>, lasting: &Lasting<'_>, read: Read<'_>, wall: SystemTime) -> Result<Self, PrepareError> {
        let mut services = HashMap::<ServiceName, Arc<LiveService>>::new();
        for service in &gateway.services {
            services.insert(
                service.name.clone(),
                Arc::new(
                    LiveService::prepare(service, &gateway.node, lasting, read, wall)
                        .map_err(|error| PrepareError { service: service.name.clone(), error })?,
                ),
            );
        }
        let routes = gateway.routes.iter().map(|route| Arc::new(LiveRoute::prepare(route, &services, lasting))).collect();
        let services = gateway.services.iter().map(|service| services[&service.name].clone()).collect();
        let log = access_log::Policy::new(&gateway.telemetry.access_log, &gateway.node, &gateway.revision);
        Ok(Self { gateway, routes, services, log })
    }

    pub(crate) fn table(&self) -> &RouteTable {
        &self.gateway.routes
    }

    pub(crate) fn live(&self, route: &Route) -> &Arc<LiveRoute> {
        &self.routes[route.number]
    }

    /// Every limit once, named or inline.
    pub(crate) fn limits(&self) -> impl Iterator<Item = &LiveLimit> {
        let mut seen = HashSet::new();
        self.routes.iter().flat_map(|live| &live.limits).filter(move |limited| seen.insert(limited.limit.name.clone()))
    }

    pub(crate) fn service(&self, name: &ServiceName) -> Option<&Arc<LiveService>> {
        self.services.iter().find(|live| live.service.name == *name)
    }
}

impl LiveService {
    fn prepare(service: &Arc<Service>, node: &Node, lasting: &Lasting<'_>, read: Read<'_>, wall: SystemTime) -> Result<Self, TlsError> {
        let tls = if speaks_tls(service) {
            Some(Arc::new(UpstreamTls::load(&service.tls, service.protocol, lasting.roots, read, wall)?))
        } else {
            None
        };
        let before = lasting.before.and_then(|before| before.service(&service.name));
        let breaker = match before {
            Some(before) => before.watch.breaker().clone(),
            None => Arc::new(Breaker::new(&service.breaker, service.outlier.as_ref())),
        };
        let budget = match before {
            Some(before) if before.service.retry == service.retry => before.budget.clone(),
            _ => Arc::new(RetryBudget::new(&service.retry, lasting.now)),
        };
        // What is known of names counts for the new revision from its first request on.
        let names = match before {
            Some(before) => Names::resume(service, &before.watch.resolved().known, lasting.now),
            None => Names::new(service, lasting.now),
        };
        let site = Site { service, tls: tls.as_ref(), breaker: &breaker, upstreams: lasting.upstreams, node, now: lasting.now };
        let was = before.map(|before| before.endpoints.load_full());
        let endpoints = Endpoints::new(names.endpoints().clone(), &site, was.as_deref());
        let watch = match before {
            Some(before) => before.watch.clone(),
            None => Watch::new(breaker, endpoints.roster(service, lasting.world)),
        };
        Ok(Self {
            service: service.clone(),
            endpoints: ArcSwap::from_pointee(endpoints),
            tls,
            watch,
            budget,
            metrics: ServiceMetrics::new(lasting.metrics, service.name.as_str()),
        })
    }

    /// Makes these the endpoints. Those that stay keep their connections and what is thought of them.
    pub(crate) fn locate(&self, located: Arc<[Located]>, upstreams: &Upstreams, node: &Node, now: Instant) {
        let site = Site { service: &self.service, tls: self.tls.as_ref(), breaker: self.watch.breaker(), upstreams, node, now };
        let endpoints = Endpoints::new(located, &site, Some(&self.endpoints.load()));
        self.endpoints.store(Arc::new(endpoints));
    }

    /// From now on this is what is watched. To be called when the revision serves, and when its endpoints have changed.
    pub(crate) fn take_over(&self, world: &Arc<dyn World>) {
        self.watch.follow(self.endpoints.load().roster(&self.service, world), world.now());
    }
}

/// Whether an endpoint of the service speaks TLS, or would if one were found.
pub(crate) fn speaks_tls(service: &Service) -> bool {
    service.endpoints.iter().any(|endpoint| endpoint.tls) || service.discovery.srv.as_ref().is_some_and(|lookup| lookup.tls)
}

/// What endpoints are made from, beside where they are.
struct Site<'a> {
    service: &'a Service,
    tls: Option<&'a Arc<UpstreamTls>>,
    breaker: &'a Arc<Breaker>,
    upstreams: &'a Upstreams,
    node: &'a Node,
    now: Instant,
}

impl Endpoints {
    /// Those at these places, of which the ones that were there before stay as they are.
    fn new(located: Arc<[Located]>, site: &Site<'_>, before: Option<&Self>) -> Self {
        let Site { service, tls, breaker, upstreams, node, now } = *site;
        let adopt = |located: &Located| upstreams.adopt(service, located, tls.filter(|_| located.endpoint.tls).cloned(), breaker, now);
        let rank = |located: &Located| {
            let locality = located.endpoint.locality(node);
            let doubted = locality == Locality::Elsewhere && upstreams.doubts(service, located.endpoint.region.as_ref());
            Rank { priority: located.endpoint.priority, locality, doubted }
        };
        let made: Vec<_> = located.iter().map(adopt).collect();
        let target = |(located, upstream): (&Located, &Arc<Upstream>)| Target {
            weight: located.endpoint.weight,
            id: identity(&located.name()),
            rank: rank(located),
            drain: located.endpoint.drain,
            load: upstream.load.clone(),
        };
        let targets = located.iter().zip(&made).map(target).collect();
        let balancer = Balancer::new(&service.balance, &service.spread, targets, now);
        if let Some(before) = before {
            balancer.adopt(&before.balancer, now);
        }
        Self { located, upstreams: made, balancer: Arc::new(balancer) }
    }

    fn roster(&self, service: &Arc<Service>, world: &Arc<dyn World>) -> Roster {
        let watched = |(located, upstream): (&Located, &Arc<Upstream>)| Watched {
            endpoint: located.name().into(),
            drain: located.endpoint.drain,
            load: upstream.load.clone(),
            prober: Arc::new(Probing::new(upstream, world)),
        };
        Roster {
            service: service.clone(),
            located: self.located.clone(),
            balancer: self.balancer.clone(),
            endpoints: self.located.iter().zip(&self.upstreams).map(watched).collect(),
        }
    }
}

impl LiveRoute {
    fn prepare(route: &Arc<Route>, services: &HashMap<ServiceName, Arc<LiveService>>, lasting: &Lasting<'_>) -> Self {
        let action = match &route.action {
            Action::Redirect(redirect) => LiveAction::Redirect(redirect.clone()),
            Action::Respond(respond) => LiveAction::Respond(respond.clone()),
            Action::Forward(forward) => {
                let mut total = 0;
                let mut split = Vec::with_capacity(forward.split.len());
                for (service, weight) in &forward.split {
                    total += u64::from(*weight);
                    split.push((total, services[&service.name].clone()));
                }
                LiveAction::Forward(LiveForward { split, sticky: forward.sticky.clone() })
            }
        };
        let limits: Vec<_> = route
            .limits
            .iter()
            .map(|limit| LiveLimit { limit: limit.clone(), policy: lasting.limiter.policy(limit), quoted: quoted(limit.name.as_str()) })
            .collect();
        let limit_policies = limit_policies(&limits);
        Self {
            route: route.clone(),
            action,
            limits,
            limit_policies,
            metrics: RouteMetrics::new(lasting.metrics, route.id.as_str(), path_template(route)),
        }
    }
}

/// The part of a match that says which paths it takes, as it was written.
fn path_template(route: &Route) -> Arc<str> {
    let written = &route.matcher.written;
    written.find('/').map_or_else(|| written.clone(), |slash| written[slash..].into())
}

/// `"name";q=BURST;w=SECONDS`, with the seconds that an empty bucket takes to fill.
fn limit_policies(limits: &[LiveLimit]) -> Option<HeaderValue> {
    let enforced = limits.iter().filter(|limited| limited.limit.mode == LimitMode::Enforce);
    let policies: Vec<_> = enforced
        .map(|limited| {
            let window = seconds_up(limited.policy.refill()).max(1);
            format!("{};q={};w={window}", limited.quoted, limited.policy.burst())
        })
        .collect();
    if policies.is_empty() { None } else { HeaderValue::try_from(policies.join(", ")).ok() }
}

impl LiveForward {
    /// The service that a number drawn by chance, or made from a caller's key, falls on.
    pub(crate) fn choose(&self, number: u64) -> &Arc<LiveService> {
        match self.split.as_slice() {
            [(_, only)] => only,
            split => {
                let total = split.last().map_or(1, |(total, _)| *total);
                // Multiply-shift instead of a remainder: as even, and without a division.
                let point = ((u128::from(number) * u128::from(total)) >> 64) as u64;
                let index = split.partition_point(|(upto, _)| *upto <= point);
                &split[index.min(split.len() - 1)].1
            }
        }
    }
}

/// FNV-1a with 64 bits: the same on every node and in every run. Nobody's secret and nobody's defence.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0
    }

    /// With every bit of the result depending on every bit before (the finisher of MurmurHash3): FNV's upper bits alone are
    /// poor, and they are the ones that choose.
    pub(crate) fn mixed(&self) -> u64 {
        let hash = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// What a consistent hash knows an endpoint by.
fn identity(name: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.add(name.as_bytes());
    hash.finish()
}
