//! Our connections to one endpoint.
//!
//! An [`Upstream`] is known by its service, its host and address, its TLS and its protocol, and outlives reloads: a revision that
//! does not change an endpoint changes nothing about it, not even an idle connection.
//!
//! HTTP/1.1 connections are not driven by tasks of their own. The request that holds one also polls it, so that an
//! exchange costs no wake-up between tasks; an idle connection costs nothing at all until someone takes it or the
//! pool's actor looks at it. HTTP/2 connections are shared by many requests and do have a task.

mod connect;
mod h1;
mod permit;
mod pool;
mod probe;
pub(crate) mod resolve;

pub(crate) use connect::{ConnectError, Purpose, Target};
pub(crate) use h1::{ExchangeError, H1, RequestHead, Tunnel};
pub(crate) use pool::{Lease, Stream, Upstream};
pub(crate) use probe::Probing;

use self::resolve::NameServers;
use crate::tls::UpstreamTls;
use actors::service::{Breaker, Load, names::Located};
use arc_swap::ArcSwap;
use config::{Endpoint, EndpointTls, Protocol, Service, ServiceName};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

/// What two endpoints must agree on to be the same upstream.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Two services that name the same endpoint have their own bounds, and their own opinion of it.
    service: ServiceName,
    endpoint: Endpoint,
    /// One host may be several endpoints.
    address: Option<SocketAddr>,
    protocol: Protocol,
    tls: Option<EndpointTls>,
}

/// Every upstream of a node, so that a new revision finds those of the one before.
#[derive(Default)]
pub(crate) struct Upstreams {
    // Weak: an upstream that no revision and no request uses any more closes its connections by itself.
    known: Mutex<HashMap<Key, Weak<Upstream>>>,
    pub(crate) name_servers: NameServers,
    /// Regions whose members say that a service is unwell there, by service.
    pub(crate) doubted: ArcSwap<Doubts>,
    /// Seconds, by which the age of connections is told, so that giving one back needs no clock.
    tick: Arc<AtomicU32>,
}

/// By the name of the service.
pub(crate) type Doubts = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

impl Upstreams {
    /// Whether this region's endpoints of the service come after those of others that are as far away.
    pub(crate) fn doubts(&self, service: &Service, region: Option<&Arc<str>>) -> bool {
        region.is_some_and(|region| self.doubted.load().get(service.name.as_str()).is_some_and(|regions| regions.contains(region)))
    }

    /// The upstream of an endpoint: the one already there, or a new one without connections.
    ///
    /// `tls` is there where the endpoint speaks it; `breaker` is the service's, and judges what is new.
    pub(crate) fn adopt(
        &self,
        service: &Service,
        located: &Located,
        tls: Option<Arc<UpstreamTls>>,
        breaker: &Arc<Breaker>,
        now: Instant,
    ) -> Arc<Upstream> {
        let key = Key {
            service: service.name.clone(),
            tls: located.endpoint.tls.then(|| service.tls.clone()),
            endpoint: located.endpoint.identity(),
            address: located.address,
            protocol: service.protocol,
        };
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.retain(|_, upstream| upstream.strong_count() > 0);
        // A service that was gone for a while has a breaker of its own again.
        let same = |upstream: &Arc<Upstream>| Arc::ptr_eq(upstream.load.breaker(), breaker);
        if let Some(upstream) = known.get(&key).and_then(Weak::upgrade).filter(same) {
            upstream.renew_tls(tls);
            return upstream;
        }
        let target = Target::new(located, service.protocol, self.name_servers.clone());
        let load = Arc::new(Load::judged(breaker.clone(), now));
        let upstream = Arc::new(Upstream::new(target, tls, service.pool, self.tick.clone(), load));
        known.insert(key, Arc::downgrade(&upstream));
        upstream
    }

    /// Counts seconds for as long as the node runs. It is no actor's business, so that connections age whatever becomes of
    /// actors.
    pub(crate) async fn count_ticks(&self) {
        loop {
            tokio::time::sleep(pool::TICK).await;
            self.tick.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
