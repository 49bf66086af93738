//! What all connections and requests of one node have in common.

use crate::{
    cluster::part::Part,
    drain::{Drain, Leaving, Stage},
    listener::{Census, Limits, LiveListener, Settings},
    request::Probe,
    snapshot::{LiveService, Snapshot},
    supervision::Supervision,
    telemetry::{
        access_log::AccessLog,
        metrics::{LimitMetrics, Metrics, NodeMetrics, Noun, ProcessMetrics, RouteMetrics},
    },
    tls::{ServerTls, SystemRoots},
    upstream::Upstreams,
};
use actors::{
    inspect::View,
    limiter::Limiter,
    service::{Counted, LEVELS_MAX, Verdict},
};
use arc_swap::ArcSwap;
use cluster::{World, store::Memory};
use config::ListenerName;
use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use tokio::sync::watch;

/// What actors there may be.
const CLASSES: [&str; 5] = ["duty", "pool", "service", "shard", "supervisor"];

/// By name, and by the address as it is written: what the task that accepts there serves.
pub(crate) type Listeners = BTreeMap<(ListenerName, SocketAddr), watch::Sender<Arc<LiveListener>>>;

/// One shoal process, or one of several in a simulation.
pub(crate) struct Node {
    pub(crate) world: Arc<dyn World>,
    /// The revision that is served.
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) upstreams: Upstreams,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) supervision: Arc<Supervision>,
    pub(crate) roots: SystemRoots,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) numbers: Numbers,
    pub(crate) access_log: AccessLog,
    pub(crate) census: Arc<Census>,
    /// The listeners that accept, by name and address.
    pub(crate) listeners: Mutex<Listeners>,
    pub(crate) drain: Drain,
    pub(crate) started: AtomicBool,
    /// What an operator has asked for, to be done by whoever runs the node.
    pub(crate) told_to_leave: watch::Sender<Option<Leaving>>,
    /// In its cluster, if it belongs to one.
    pub(crate) part: Option<Arc<Part>>,
    /// What outlives the process, if there is a place for it.
    pub(crate) memory: Option<Arc<Memory>>,
}

/// The numbers that the node counts whatever its revision.
pub(crate) struct Numbers {
    pub(crate) node: NodeMetrics,
    /// Requests for which there is no route.
    pub(crate) none: RouteMetrics,
    pub(crate) process: ProcessMetrics,
    /// Names of the certificates that are told of.
    certificates: Mutex<HashSet<String>>,
}

impl Numbers {
    pub(crate) fn new(metrics: &Arc<Metrics>, world: &dyn World) -> Self {
        Self {
            node: NodeMetrics::new(metrics),
            none: RouteMetrics::none(metrics),
            process: ProcessMetrics::new(metrics, world.wall()),
            certificates: Mutex::default(),
        }
    }

    /// Tells which revision serves, and until when its certificates hold.
    pub(crate) fn revision<'a>(&self, revision: &config::Revision, tls: impl Iterator<Item = &'a ServerTls>) {
        self.node.config(env!("CARGO_PKG_VERSION"), &revision.0);
        let mut names = HashSet::new();
        for (file, not_after) in tls.flat_map(ServerTls::not_after) {
            let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
            self.node.certificate(&name, not_after);
            names.insert(name);
        }
        *self.certificates.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = names;
    }

    fn certificates(&self) -> HashSet<String> {
        self.certificates.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Node {
    pub(crate) fn limits(&self) -> Limits {
        let node = &self.snapshot.load().gateway.node;
        Limits { total: node.max_connections, per_address: node.max_connections_per_address }
    }

    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.snapshot.load().gateway.node.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// Whether a load balancer should send new connections here.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_started() && !self.drain.is_announced()
    }

    /// The answer to a question about the node itself.
    pub(crate) fn is_well(&self, probe: Probe) -> bool {
        match probe {
            Probe::Live => true,
            Probe::Ready => self.is_ready(),
            Probe::Started => self.is_started(),
        }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.load(SeqCst)
    }

    pub(crate) fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Brings up to date what is counted elsewhere. Reads files.
    pub(crate) fn observe(&self) {
        self.numbers.process.observe(&*self.world.disk());
        let snapshot = self.snapshot.load();
        for live in &snapshot.services {
            self.observe_service(live, &snapshot.gateway.node.region);
        }
        self.observe_actors();
        if let Some(part) = &self.part {
            part.observe(&self.metrics);
        }
        for limited in snapshot.limits() {
            let counts = limited.policy.counts();
            let metrics = LimitMetrics::new(&self.metrics, limited.limit.name.as_str());
            metrics.allow.reach(counts.granted);
            metrics.deny.reach(counts.refused);
            metrics.shadow_deny.reach(counts.shadow_refused);
        }
    }

    fn observe_service(&self, live: &LiveService, region: &Arc<str>) {
        let endpoints = live.endpoints.load();
        let open: usize = endpoints.upstreams.iter().map(|upstream| upstream.open_connections()).sum();
        live.metrics.open_connections.set(open as f64);
        let verdicts = live.watch.verdicts(self.world.now());
        let mut counts = BTreeMap::new();
        for located in endpoints.located.iter() {
            let (name, region) = (located.name(), located.endpoint.region.as_ref().unwrap_or(region));
            let judged = verdicts.of(&name);
            for verdict in Verdict::ALL {
                let count: &mut usize = counts.entry((region.clone(), verdict.as_str())).or_default();
                *count += usize::from(judged.is_some_and(|judged| judged.verdict == verdict));
            }
        }
        live.metrics.endpoints(&counts);
        let shares = endpoints.balancer.shares();
        let panicking = (0..LEVELS_MAX).filter(|level| shares.is_panicking(*level)).count();
        let open = verdicts.endpoints.iter().filter(|judged| judged.verdict == Verdict::Open).count();
        live.metrics.trouble(panicking, open);
        let Counted { probes_passed, probes_failed, ejections } = live.watch.counted();
        if live.service.health.is_some() {
            live.metrics.probes(probes_passed, probes_failed);
        }
        for (why, count) in ejections {
            live.metrics.ejections(why.as_str(), count);
        }
    }

    fn observe_actors(&self) {
        let tree = self.supervision.tree();
        // A class of which nobody is left has empty mailboxes, not the last that were seen.
        let mut classes: BTreeMap<&'static str, (u64, f64)> = CLASSES.into_iter().map(|class| (class, (0, 0.0))).collect();
        for View { kind, depth, bound, .. } in tree.views() {
            let (waiting, fullest) = classes.entry(kind).or_default();
            *waiting += depth;
            if bound > 0 {
                *fullest = fullest.max(depth as f64 / bound as f64);
            }
        }
        for (class, (depth, fill)) in classes {
            self.numbers.node.mailboxes(class, depth, fill);
        }
        for (class, reason, count) in tree.restarts() {
            self.numbers.node.restarts(class, reason, count);
        }
    }

    /// Takes away the series of whatever the newest revision does not name any more.
    pub(crate) fn retire_series(&self) {
        let snapshot = self.snapshot.load_full();
        let gateway = &snapshot.gateway;
        let limits: HashSet<&str> = snapshot.limits().map(|limited| limited.limit.name.as_str()).collect();
        let services: HashSet<&str> = gateway.services.iter().map(|service| service.name.as_str()).collect();
        let listeners: HashSet<&str> = gateway.listeners.iter().map(|listener| listener.name.as_str()).collect();
        let certificates = self.numbers.certificates();
        self.metrics.retire(|noun, name| match noun {
            Noun::Route => gateway.routes.get(name).is_none(),
            Noun::Service => !services.contains(name),
            Noun::Limit => !limits.contains(name),
            Noun::Listener => !listeners.contains(name),
            Noun::Certificate => !certificates.contains(name),
        });
    }

    pub(crate) fn listener_settings(&self) -> Vec<Arc<Settings>> {
        self.listeners().values().map(|serves| serves.borrow().settings.load_full()).collect()
    }

    /// Takes the whole node to a stage of leaving.
    pub(crate) fn leave(&self, stage: Stage) {
        self.drain.advance(stage);
        for serves in self.listeners().values() {
            serves.borrow().drain.advance(stage);
        }
    }
}
