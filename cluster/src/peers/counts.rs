//! What has come and gone on all links of a node, for its metrics.

use proto::{Reason, frame::Kind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Counts {
    pub received: Traffic,
    pub sent: Traffic,
    /// Links that we refused, and that were refused to us, by [`Reason`] as it is numbered on the wire.
    pub refused: Reasons,
    pub refused_to_us: Reasons,
    /// Frames of kinds that this build does not know.
    pub skipped: AtomicU64,
    /// Frames that were not sent because newer ones overtook them, or because there was no room.
    pub dropped: AtomicU64,
    /// What was no frame, or a frame out of turn: each ended its link.
    pub malformed: AtomicU64,
    /// Beats that echo what was never sent.
    pub implausible: AtomicU64,
    /// Reads that had to wait because a peer sent faster than it may.
    pub throttled: AtomicU64,
    /// Connections closed at once because there were too many in their stage.
    pub turned_away: AtomicU64,
    /// Connections that ended before the other side was known.
    pub unfinished: AtomicU64,
    /// Attempts to dial that found nobody.
    pub unreached: AtomicU64,
    pub linked: AtomicU64,
    pub lost: AtomicU64,
}

/// Frames and bytes by kind.
#[derive(Debug, Default)]
pub struct Traffic {
    kinds: [(AtomicU64, AtomicU64); Kind::ALL.len()],
}

impl Traffic {
    pub fn add(&self, kind: Kind, bytes: usize) {
        let (frames, sum) = &self.kinds[kind as usize];
        frames.fetch_add(1, Relaxed);
        sum.fetch_add(bytes as u64, Relaxed);
    }

    pub fn frames(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize].0.load(Relaxed)
    }

    pub fn bytes(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize].1.load(Relaxed)
    }

    pub fn total(&self) -> (u64, u64) {
        Kind::ALL.into_iter().fold((0, 0), |(frames, bytes), kind| (frames + self.frames(kind), bytes + self.bytes(kind)))
    }
}

/// One count for each reason.
#[derive(Debug, Default)]
pub struct Reasons([AtomicU64; Self::ALL.len()]);

impl Reasons {
    pub const ALL: [Reason; 16] = [
        Reason::Unspecified,
        Reason::Cluster,
        Reason::Protocol,
        Reason::Name,
        Reason::Itself,
        Reason::Region,
        Reason::Secrets,
        Reason::Generation,
        Reason::Address,
        Reason::Malformed,
        Reason::Anonymous,
        Reason::Busy,
        Reason::Token,
        Reason::Untrusted,
        Reason::Duplicate,
        Reason::Unable,
    ];

    pub fn add(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Relaxed);
    }

    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_every_kind_has_a_place_of_its_own() {
        for (n, reason) in Reasons::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            assert_eq!(Reason::try_from(n as i32), Ok(reason));
        }
        assert!(Reason::try_from(Reasons::ALL.len() as i32).is_err(), "a reason is missing in the table");
        for (n, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, n);
        }
    }
}
