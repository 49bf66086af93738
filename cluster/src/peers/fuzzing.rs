//! Doors for a fuzzer: what judges the first frame of a peer, and what learns from its beats.

use super::{
    EnrolReply, Me, Unreachable,
    clock::Clock,
    dial,
    hello::{self, Peer},
};
use crate::trust::Identity;
use proto::{Hello, Refusal, frame::Beat};
use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

/// What a node says first.
pub fn greeting(me: &Me, dial: u64) -> Hello {
    hello::greeting(me, dial)
}

/// Whether a node links with who greets it so.
pub fn judge(me: &Me, identity: &Identity, hello: &Hello) -> Result<Peer, Refusal> {
    hello::judge(me, identity, hello)
}

/// The same, with members of the other side's region.
pub fn introducing(hello: Hello, members: &[SocketAddr]) -> Hello {
    hello::introducing(hello, members)
}

/// Whom a node dials because it was greeted so.
pub fn introduced(hello: &Hello) -> Vec<SocketAddr> {
    hello::introduced(hello).collect()
}

/// What whoever asked for a certificate makes of an answer, before it looks at the certificate.
pub fn admitted(reply: EnrolReply) -> Result<EnrolReply, Unreachable> {
    dial::admitted(reply)
}

/// What a link's beats tell.
pub struct Beats(Clock);

impl Beats {
    pub fn new(now: Instant) -> Self {
        Self(Clock::new(now))
    }

    pub fn learn(&mut self, beat: &Beat, now: Instant, wall: SystemTime) -> bool {
        self.0.heard(now);
        self.0.learn(beat, now, wall)
    }

    pub fn answer(&self, now: Instant, wall: SystemTime) -> Beat {
        self.0.beat(now, wall)
    }

    pub fn round_trip(&self) -> Option<Duration> {
        self.0.round_trip()
    }

    pub fn offset_micros(&self) -> Option<i64> {
        self.0.offset_micros()
    }
}
