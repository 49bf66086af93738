//! A pool's place in the tree, and what its actor may do to the connections.

use super::Supervision;
use crate::upstream::Upstream;
use actors::{
    handles::Reference,
    inspect::Id,
    pool::{self, Connections, Order, Reap, Seen},
    supervisor::{Branch, NotAdded},
};
use cluster::{BoxFuture, World};
use config::PoolPolicy;
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// How long opening a connection may take that nobody waits for.
const WARM_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Place {
    upstream: Arc<Upstream>,
    actor: Reference<Order>,
}

/// What the actor sees of the node.
struct Tended {
    id: Id,
    upstream: Arc<Upstream>,
    world: Arc<dyn World>,
    /// Weak, because the supervision holds the actor.
    supervision: Weak<Supervision>,
}

pub(super) fn id(service: &Branch, endpoint: &str) -> Id {
    service.id().child(&format!("pool:{endpoint}"))
}

impl Place {
    pub(super) fn add(
        supervision: &Arc<Supervision>,
        service: &Branch,
        endpoint: &str,
        upstream: &Arc<Upstream>,
    ) -> Result<Arc<Self>, NotAdded> {
        let tended = Tended {
            id: id(service, endpoint),
            upstream: upstream.clone(),
            world: supervision.ground.world.clone(),
            supervision: Arc::downgrade(supervision),
        };
        let (child, actor) = pool::child(service, endpoint, Arc::new(tended));
        service.add(child)?;
        upstream.stay();
        Ok(Arc::new(Self { upstream: upstream.clone(), actor }))
    }

    pub(super) fn id(&self) -> &Id {
        self.actor.id()
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub(super) fn look(&self) {
        // There is nobody to tell only where a supervisor has stopped, with the node.
        let _ = self.actor.send(Order::Look);
    }

    /// Lets what is in flight end as if the actor were still there, whose place is somebody else's now.
    pub(super) fn lead_out(&self, now: Instant, world: Arc<dyn World>) {
        let upstream = self.upstream.clone();
        upstream.leave(now);
        let until = now + upstream.policy().drain;
        tokio::spawn(async move {
            while upstream.left().is_some() && upstream.open_connections() > 0 {
                if world.now() >= until {
                    return upstream.close_all();
                }
                upstream.reap(Reap::ALL);
                tokio::time::sleep(pool::TICK).await;
            }
        });
    }
}

impl Connections for Tended {
    fn seen(&self) -> Seen {
        self.upstream.seen()
    }

    fn policy(&self) -> PoolPolicy {
        let policy = self.upstream.policy();
        // Who gets nothing new needs no connection that carries nothing: what is open then tells what is left.
        if self.upstream.load.is_leaving() { PoolPolicy { warm: 0, idle: Duration::ZERO, ..policy } } else { policy }
    }

    fn left(&self) -> Option<Instant> {
        self.upstream.left()
    }

    fn reap(&self, reap: Reap) {
        self.upstream.reap(reap);
    }

    fn open(&self) -> BoxFuture<'static, bool> {
        let (upstream, world) = (self.upstream.clone(), self.world.clone());
        Box::pin(async move { upstream.warm(&*world, WARM_WITHIN).await })
    }

    fn close_all(&self) {
        self.upstream.close_all();
    }

    fn gone(&self) {
        if let Some(supervision) = self.supervision.upgrade() {
            supervision.gone(&self.id);
        }
    }
}
