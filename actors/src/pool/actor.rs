//! The body around the connections to one endpoint: it looks at them about once a second, and closes and opens what its
//! brain says.
//!
//! Requests take connections and give them back without it. Everything that it knows and that should outlive it (whether
//! the endpoint has left, and when; the policy) stands beside the connections, so a new life begins where the old one
//! ended.

use super::{Effect, Phase, Pool, Reap, Seen, Sizes};
use crate::{
    body::{Body, Turn},
    handles::{Full, Mailbox, Message, Reference},
    supervisor::{Branch, Child},
};
use cluster::BoxFuture;
use config::PoolPolicy;
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};

/// The connections to one endpoint, whoever holds them.
pub trait Connections: Send + Sync + 'static {
    fn seen(&self) -> Seen;

    fn policy(&self) -> PoolPolicy;

    /// Since when the endpoint is not wanted any more.
    fn left(&self) -> Option<Instant>;

    /// Closes the idle connections that have to go, those that were idle longest first, and those that are dead.
    fn reap(&self, reap: Reap);

    /// Opens a connection that nobody has asked for, and says whether there is one.
    fn open(&self) -> BoxFuture<'static, bool>;

    /// Closes everything, whatever it carries.
    fn close_all(&self);

    /// The endpoint has left and nothing is open any more: nobody needs the actor.
    fn gone(&self);
}

/// The actor of a pool, to be added below its service, and the way to it.
pub fn child(service: &Branch, endpoint: &str, connections: Arc<dyn Connections>) -> (Child, Reference<Order>) {
    let mailbox = Mailbox::new(service.id().child(&format!("pool:{endpoint}")), "pool");
    let reference = mailbox.lane(Full::KeepLatest);
    let child = Child::actor(&mailbox, move |turn| Tending::new(Arc::clone(&connections), turn.now()));
    (child, reference)
}

/// What a pool may be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Something about the connections has changed that should not wait for the next look.
    Look,
    /// A connection was opened ahead of demand, or could not be.
    Opened(bool),
}

impl Message for Order {
    fn kind(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Opened(_) => "opened",
        }
    }
}

/// One life of who tends a pool.
struct Tending {
    pool: Pool,
    connections: Arc<dyn Connections>,
    /// What had been lost before this life began, and is not held against anybody again.
    lost_before: u64,
}

impl Tending {
    fn new(connections: Arc<dyn Connections>, now: Instant) -> Self {
        let pool = Pool::new(connections.policy(), now);
        let lost_before = connections.seen().lost;
        Self { pool, connections, lost_before }
    }

    fn look(&mut self, turn: &mut Turn<'_, Order>) {
        let now = turn.now();
        self.pool.reconfigure(self.connections.policy());
        match self.connections.left() {
            Some(left) => self.pool.retire(left),
            None => self.pool.revive(now),
        }
        let seen = self.connections.seen();
        self.pool.observe(Seen { lost: seen.lost - self.lost_before, ..seen }, now);
        if self.perform(turn) {
            self.pool.reaped(self.connections.seen(), now);
            self.perform(turn);
        }
        if self.pool.phase() == Phase::Gone {
            self.connections.gone();
        }
    }

    /// Does what the brain wants. Returns whether idle connections were looked at, of which some may be closed now.
    fn perform(&mut self, turn: &mut Turn<'_, Order>) -> bool {
        let mut reaped = false;
        for effect in self.pool.take_effects() {
            match effect {
                Effect::Open(count) => (0..count).for_each(|_| self.open(turn)),
                Effect::Reap(reap) => {
                    self.connections.reap(reap);
                    reaped = true;
                }
                Effect::CloseAll => self.connections.close_all(),
            }
        }
        reaped
    }

    fn open(&mut self, turn: &mut Turn<'_, Order>) {
        let opening = self.connections.open();
        if turn.begin(Box::pin(async move { Order::Opened(opening.await) })).is_err() {
            self.pool.opened(false, turn.now(), turn.chance());
        }
    }
}

impl Body for Tending {
    type Message = Order;

    fn handle(&mut self, order: Order, turn: &mut Turn<'_, Order>) {
        match order {
            Order::Look => self.look(turn),
            Order::Opened(succeeded) => self.pool.opened(succeeded, turn.now(), turn.chance()),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.pool.deadline()
    }

    fn expire(&mut self, turn: &mut Turn<'_, Order>) {
        self.look(turn);
    }

    fn inspect(&self, now: Instant) -> Value {
        let Sizes { seen, target, opening, failures } = self.pool.sizes();
        let (phase, left) = match self.pool.phase() {
            Phase::Serving => ("serving", None),
            Phase::Draining { until } => ("draining", Some(until.saturating_duration_since(now).as_millis() as u64)),
            Phase::Gone => ("gone", None),
        };
        json!({
            "phase": phase,
            "closes_all_in_ms": left,
            "open": seen.open,
            "idle": seen.idle,
            "in_flight": seen.in_flight,
            "waiting": seen.waiting,
            "lost": seen.lost,
            "target": target,
            "opening": opening,
            "open_failures": failures,
        })
    }
}

#[cfg(test)]
mod tests;
