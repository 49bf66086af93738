//! Our connections to one endpoint.
//!
//! An [`Upstream`] is known by its address, its TLS and its protocol, and outlives reloads: a revision that does not
//! change an endpoint changes nothing about it, not even an idle connection.
//!
//! HTTP/1.1 connections are not driven by tasks of their own. The request that holds one also polls it, so that an
//! exchange costs no wake-up between tasks; an idle connection costs nothing at all until someone takes it or the
//! reaper looks at it. HTTP/2 connections are shared by many requests and do have a task.

mod connect;
mod h1;
mod pool;

pub(crate) use connect::{ConnectError, Purpose, Target};
pub(crate) use h1::{ExchangeError, H1, RequestHead, Tunnel};
pub(crate) use pool::{Lease, Stream, Upstream};

use crate::tls::UpstreamTls;
use actors::service::Load;
use config::{Endpoint, EndpointTls, PoolPolicy, Protocol, Service};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Instant,
};

/// What two endpoints must agree on to be the same upstream.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    endpoint: Endpoint,
    protocol: Protocol,
    tls: Option<EndpointTls>,
    pool: PoolPolicy,
}

/// Every upstream of a node, so that a new revision finds those of the one before.
#[derive(Default)]
pub(crate) struct Upstreams {
    // Weak: an upstream that no revision and no request uses any more closes its connections by itself.
    known: Mutex<HashMap<Key, Weak<Upstream>>>,
}

impl Upstreams {
    /// The upstream of an endpoint: the one already there, or a new one without connections.
    ///
    /// `context` is asked for only where the endpoint speaks TLS and is new, or where its files may have changed.
    pub(crate) fn adopt(&self, service: &Service, endpoint: &Endpoint, tls: Option<Arc<UpstreamTls>>, now: Instant) -> Arc<Upstream> {
        // A weight says how often an endpoint is chosen, not who it is.
        let identity = Endpoint { weight: 1, ..endpoint.clone() };
        let key =
            Key { tls: endpoint.tls.then(|| service.tls.clone()), endpoint: identity, protocol: service.protocol, pool: service.pool };
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.retain(|_, upstream| upstream.strong_count() > 0);
        if let Some(upstream) = known.get(&key).and_then(Weak::upgrade) {
            upstream.renew_tls(tls);
            return upstream;
        }
        let target = Target::new(endpoint, service.protocol);
        let upstream = Arc::new(Upstream::new(target, tls, service.pool, Arc::new(Load::new(now))));
        known.insert(key, Arc::downgrade(&upstream));
        upstream
    }

    pub(crate) fn all(&self) -> Vec<Arc<Upstream>> {
        let known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.values().filter_map(Weak::upgrade).collect()
    }

    /// Looks at idle connections once a second: closes those that are too old, too long unused, or closed by the endpoint.
    pub(crate) async fn reap(&self) {
        loop {
            tokio::time::sleep(pool::TICK).await;
            for upstream in self.all() {
                upstream.tick();
            }
        }
    }
}
