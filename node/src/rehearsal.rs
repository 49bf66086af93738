//! A configuration made ready as for a start, with nothing bound: to find what only a start would find, and to be asked
//! what it would do.

use crate::{
    explain::{Door, Explanation, Question, Subject},
    listener::Settings,
    snapshot::{Lasting, PrepareError, Snapshot, speaks_tls},
    startup::{StartError, admin_tls, listener_settings, server_tls},
    telemetry::metrics::Metrics,
    tls::{SystemRoots, UpstreamTls},
    upstream::Upstreams,
};
use actors::limiter::{self, Limiter};
use cluster::World;
use config::{Gateway, Place};
use std::{path::Path, sync::Arc};

/// Nobody spends tokens here, so there are no keys to remember.
const LIMIT_KEYS: usize = 1;

pub struct Rehearsal {
    world: Arc<dyn World>,
    snapshot: Snapshot,
    limiter: Limiter,
    listeners: Vec<Arc<Settings>>,
}

/// Reads every certificate and prepares every route, as [`start`](crate::start) does. Blocks on files.
pub fn rehearse(world: Arc<dyn World>, gateway: Gateway) -> Result<Rehearsal, StartError> {
    let gateway = Arc::new(gateway);
    let metrics = Arc::new(Metrics::new(gateway.telemetry.max_series));
    let limiter = Limiter::new(limiter::Options { capacity: LIMIT_KEYS, seed: [0; 16], epoch: world.now() });
    let (upstreams, roots) = (Upstreams::default(), SystemRoots::default());
    let disk = world.disk();
    let read = |path: &Path| disk.read(path);
    let lasting = Lasting {
        upstreams: &upstreams,
        limiter: &limiter,
        metrics: &metrics,
        roots: &roots,
        world: &world,
        now: world.now(),
        before: None,
    };
    let snapshot = Snapshot::prepare(gateway.clone(), &lasting, &read, world.wall())?;
    let listeners = listener_settings(&gateway, &[], &read, &*world)?;
    admin_tls(&gateway, &read, &*world)?;
    Ok(Rehearsal { world, snapshot, limiter, listeners })
}

/// Something that a start would stumble over.
pub struct Obstacle {
    /// Where the part that it concerns begins; nothing for `[admin]`, of which there is one.
    pub place: Option<Place>,
    pub error: StartError,
}

/// Everything that [`rehearse`] would stumble over, not only the first. Blocks on files.
pub fn obstacles(world: &dyn World, gateway: &Gateway) -> Vec<Obstacle> {
    let (disk, roots, wall) = (world.disk(), SystemRoots::default(), world.wall());
    let read = |path: &Path| disk.read(path);
    let services = gateway.services.iter().filter(|service| speaks_tls(service)).filter_map(|service| {
        let error = UpstreamTls::load(&service.tls, service.protocol, &roots, &read, wall).err()?;
        let error = PrepareError { service: service.name.clone(), error }.into();
        Some(Obstacle { place: Some(service.place.clone()), error })
    });
    let listeners = gateway.listeners.iter().filter_map(|listener| {
        let part = format!("[listen.{}] tls", listener.name);
        let error = server_tls(&part, listener.tls.as_ref()?, listener.http1, listener.http2, &read, world).err()?;
        Some(Obstacle { place: Some(listener.place.clone()), error })
    });
    let admin = admin_tls(gateway, &read, world).err().map(|error| Obstacle { place: None, error });
    services.chain(listeners).chain(admin).collect()
}

impl Rehearsal {
    /// What would become of a request if this were served, with full buckets and idle endpoints; `Err` says what is wrong
    /// with the question.
    pub fn explain(&self, question: &Question) -> Result<Explanation, String> {
        let door = |settings: &Arc<Settings>| Door {
            settings: settings.clone(),
            ports: settings.listener.bind.iter().map(|address| address.port()).collect(),
        };
        let doors = self.listeners.iter().map(door).collect();
        Subject { world: &*self.world, snapshot: &self.snapshot, limiter: &self.limiter, doors }.explain(question)
    }
}
