//! The body around one shard of the limiter: it frees the cells of keys that have been idle.
//!
//! Requests find cells and take from them without it, and a full shard makes room for a new key by itself. What is
//! lost while nobody sweeps is memory that could have been given back sooner.

use super::{Limiter, Memory, SHARDS, Swept};
use crate::{
    body::{Body, Turn},
    handles::{Mailbox, Message},
    supervisor::{Branch, Child},
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Between the steps of two shards that follow each other: all are looked at every few seconds, and never together.
const STEP: Duration = Duration::from_millis(50);

/// Between two steps of one shard. One that is larger than a step goes on with the next.
const ROUND: Duration = STEP.saturating_mul(SHARDS as u32);

/// The actor of one of the [`SHARDS`], to be added below `limits`.
pub fn child(limits: &Branch, limiter: &Arc<Limiter>, shard: usize) -> Child {
    let mailbox = Mailbox::new(limits.id().child(&format!("shard:{shard:02}")), "shard");
    let limiter = Arc::clone(limiter);
    Child::actor(&mailbox, move |turn| Sweeping::new(Arc::clone(&limiter), shard, turn.now()))
}

/// Nobody has anything to say to a shard.
pub(super) enum Silence {}

impl Message for Silence {
    fn kind(&self) -> &'static str {
        match *self {}
    }
}

/// One life of who sweeps a shard.
struct Sweeping {
    limiter: Arc<Limiter>,
    shard: usize,
    next: Instant,
    /// Of this life.
    total: Swept,
    /// How often the shard has been gone through to its end.
    rounds: u64,
}

impl Sweeping {
    fn new(limiter: Arc<Limiter>, shard: usize, now: Instant) -> Self {
        let total = Swept { seen: 0, freed: 0, wrapped: false };
        Self { limiter, shard, next: now + STEP * (shard as u32 + 1), total, rounds: 0 }
    }
}

impl Body for Sweeping {
    type Message = Silence;

    fn handle(&mut self, message: Silence, _turn: &mut Turn<'_, Silence>) {
        match message {}
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next)
    }

    fn expire(&mut self, turn: &mut Turn<'_, Silence>) {
        let swept = self.limiter.sweep(self.shard, turn.now());
        self.total.seen += swept.seen;
        self.total.freed += swept.freed;
        self.rounds += u64::from(swept.wrapped);
        self.next = turn.now() + ROUND;
    }

    fn inspect(&self, now: Instant) -> Value {
        let Memory { keys, cells, bytes } = self.limiter.memory_of(self.shard);
        json!({
            "shard": self.shard,
            "keys": keys,
            "cells": cells,
            "bytes": bytes,
            "swept": { "seen": self.total.seen, "freed": self.total.freed, "rounds": self.rounds },
            "next_in_ms": self.next.saturating_duration_since(now).as_millis() as u64,
        })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;
    use crate::limiter::Options;

    #[test]
    fn shards_are_swept_one_after_the_other_once_a_round() {
        let epoch = Instant::now();
        let limiter = Arc::new(Limiter::new(Options { capacity: 1, seed: [0; 16], epoch }));
        let mut shards: Vec<Sweeping> = (0..SHARDS).map(|shard| Sweeping::new(Arc::clone(&limiter), shard, epoch)).collect();
        let mut swept = Vec::new();
        for _ in 0..2 * SHARDS {
            let first = shards.iter_mut().min_by_key(|sweeping| sweeping.next).expect("there are shards");
            let now = first.next;
            first.expire(&mut Turn::new(now, &|| 0, 0));
            swept.push((now - epoch, first.shard));
        }
        let expected: Vec<_> = (0..2 * SHARDS).map(|turn| (STEP * (turn as u32 + 1), turn % SHARDS)).collect();
        assert_eq!(swept, expected);
        assert_eq!(shards[0].inspect(epoch)["swept"], json!({ "seen": 0, "freed": 0, "rounds": 2 }));
    }
}
