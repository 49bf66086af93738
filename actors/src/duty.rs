//! What a node does for as long as it runs, as one task: gossip, the links to its peers, one of them.
//!
//! A duty holds no state of its own. What it works on is an `Arc` that outlives it, so that whoever takes it up again goes
//! on where it was left. It never ends by itself: a duty that does has failed, and its supervisor takes it up anew.

mod actor;

pub use self::actor::child;

use cluster::BoxFuture;
use serde_json::Value;
use std::{sync::Arc, time::Instant};

pub trait Duty: Send + Sync + 'static {
    /// Does it. What it returns is why it could not go on, in one sentence.
    fn perform(self: Arc<Self>) -> BoxFuture<'static, String>;

    /// What is known of it, for people. No secrets.
    fn inspect(&self, now: Instant) -> Value;
}
