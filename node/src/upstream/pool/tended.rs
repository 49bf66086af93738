//! What the actor of a pool does with it, about once a second: it counts, closes what has been idle for too long, and
//! opens what will be needed. Requests need none of it.

use super::{H2, STREAMS_MAX, Upstream, lock};
use crate::upstream::{
    connect::{Dialed, Purpose},
    h1::H1,
};
use actors::pool::{Reap, Seen};
use cluster::World;
use config::PoolPolicy;
use std::{
    sync::atomic::Ordering::Relaxed,
    task::{Context, Waker},
    time::{Duration, Instant},
};

impl Upstream {
    pub(crate) fn policy(&self) -> PoolPolicy {
        *lock(&self.policy)
    }

    /// Takes the choices of another revision. Connections stay.
    pub(crate) fn reconfigure(&self, policy: PoolPolicy) {
        *lock(&self.policy) = policy;
        self.bounds.set(&policy);
    }

    /// The endpoint is not wanted any more: what comes back is closed.
    pub(crate) fn leave(&self, now: Instant) {
        lock(&self.left).get_or_insert(now);
        self.leaving.store(true, Relaxed);
    }

    /// The endpoint is wanted again.
    pub(crate) fn stay(&self) {
        *lock(&self.left) = None;
        self.leaving.store(false, Relaxed);
    }

    pub(crate) fn left(&self) -> Option<Instant> {
        *lock(&self.left)
    }

    pub(crate) fn seen(&self) -> Seen {
        let shared = lock(&self.shared);
        let unused = shared.iter().filter(|connection| connection.streams.load(Relaxed) == 0).count();
        drop(shared);
        Seen {
            open: self.open_connections(),
            idle: self.idle.load(Relaxed) + unused,
            in_flight: self.load.in_flight() as usize,
            waiting: self.counts.waiting.load(Relaxed),
            streams: if self.prefers_h2() { STREAMS_MAX } else { 1 },
            lost: self.lost.load(Relaxed),
        }
    }

    /// Closes idle connections that have to go or that the endpoint has closed. Those that came back first lie at the
    /// bottom of their shelf.
    pub(crate) fn reap(&self, mut reap: Reap) {
        let now = self.tick.load(Relaxed);
        let mut cx = Context::from_waker(Waker::noop());
        for shelf in &self.shelves {
            // Connections are closed outside the lock: closing is a system call each.
            let mut done = Vec::new();
            let mut shelf = lock(shelf);
            let mut index = 0;
            while let Some(connection) = shelf.get_mut(index) {
                let [idle, age] = [connection.idle_since, connection.opened].map(|since| seconds(now, since));
                if reap.takes(idle, age) || !connection.is_alive(&mut cx) {
                    self.idle.fetch_sub(1, Relaxed);
                    done.push(shelf.remove(index));
                } else {
                    index += 1;
                }
            }
            drop(shelf);
        }
        // An HTTP/2 connection that goes takes no new stream; it ends when its last one does.
        lock(&self.shared).retain_mut(|connection| {
            if connection.streams.load(Relaxed) > 0 {
                connection.used = now;
            }
            let H2 { used, opened, .. } = *connection;
            connection.sender.is_ready() && !reap.takes(seconds(now, used), seconds(now, opened))
        });
    }

    /// Opens a connection that nobody has asked for. `false` where it could not be opened, or there may be no more.
    pub(crate) async fn warm(&self, world: &dyn World, within: Duration) -> bool {
        let Some(permit) = self.permit() else { return false };
        let dialed = self.target.dial(world, self.tls.load().as_deref(), Purpose::Requests, within).await;
        let Ok(Dialed { stream, h2 }) = dialed else { return false };
        self.speaks_h2.store(h2, Relaxed);
        if h2 {
            return tokio::time::timeout(within, self.share(stream, permit)).await.is_ok_and(|shared| shared.is_ok());
        }
        self.give_back(H1::open(stream, permit, self.tick.load(Relaxed)));
        true
    }

    /// Closes everything, whatever it carries.
    pub(crate) fn close_all(&self) {
        self.counts.cut_all();
        for shelf in &self.shelves {
            let closed = std::mem::take(&mut *lock(shelf));
            self.idle.fetch_sub(closed.len(), Relaxed);
        }
        lock(&self.shared).clear();
    }
}

/// Between two ticks.
fn seconds(now: u32, since: u32) -> Duration {
    Duration::from_secs(now.wrapping_sub(since).into())
}
