//! One limit for a whole cluster, without a store and without waiting for anybody.
//!
//! Each node decides by what it has in hand, and tells the *owner* of the key in its region what it admitted and what it
//! was asked for ([`Report`]). The owner ([`Account`]) is whichever member `placement` names; it keeps nothing that reports do
//! not bring back. It answers ([`Grant`]) with one of two things:
//!
//! - While there is enough, the level of the region's bucket. A node lowers its own bucket to it, never raises it. Every
//!   node then sees one bucket, a moment late.
//! - While there is not, a lease: a rate that the node may admit by itself, or a portion of what it is asked for. Leases together
//!   come to what the region may admit, so that being late costs nothing.
//!
//! Owners of the same key in different regions tell each other what their regions admitted and were asked for
//! ([`Exchange`]), and each takes the max-min share (`share`) of its region. What all admitted is charged to the level; what was too much
//! is paid back, and what was too little made up for, by admitting a little less or more than the rate.
//!
//! Everything that is told is cumulative, or replaces what was told before. Losing, repeating or reordering it is harmless.

pub mod account;
pub mod placement;
pub mod share;

pub use account::{Account, Outcome, Surroundings};

use std::time::Duration;

/// What a limit allows one key, in tokens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Terms {
    /// A second.
    pub rate: f64,
    pub burst: f64,
}

/// Orders what one sender says: later incarnations replace earlier ones, and within one, later numbers. What different
/// senders say has no order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub sender: u32,
    pub incarnation: u32,
    pub number: u32,
}

impl Stamp {
    /// Whether the same sender said this before, or at the same time.
    pub fn is_stale(self, known: Self) -> bool {
        self.sender == known.sender && (self.incarnation, self.number) <= (known.incarnation, known.number)
    }
}

/// What a node tells the owner of a key in its region.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Report {
    /// Tokens admitted since the node began to count this key; goes round at 2³².
    pub admitted: u32,
    /// Tokens asked for in a second, granted or not.
    pub demand: f32,
    /// What the node believes to be left in the bucket.
    pub left: f32,
    /// The rate of the lease that binds the node; zero while none does.
    pub held: f32,
    /// What `admitted` was when an owner last answered for it: all after that may be news to whoever owns the key now.
    pub confirmed: u32,
    /// Something was refused for want of tokens since the report before.
    pub refused: bool,
}

/// What the owner of a key tells a node that reported it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Grant {
    /// Tokens in the region's bucket, what the node has admitted up to `seen` included; negative while it owes.
    pub level: f32,
    /// [`Report::admitted`] as the owner knows it.
    pub seen: u32,
    pub lease: Lease,
    /// Whether the lease binds now. If not, it does once the owner has been silent for [`SILENT_AFTER`].
    pub binds: bool,
}

/// What a node may admit by itself.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Lease {
    /// Tokens a second; what binds while the owner is silent.
    pub rate: f32,
    /// Of what is asked for, the part that may be admitted: in place of the rate where a node's part of it would be a token now
    /// and then. Zero where the rate counts.
    pub portion: f32,
}

/// What the owner of a key tells the owners of the same key in other regions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exchange {
    /// Tokens that the region has admitted, as far as this owner was told.
    pub admitted: f64,
    /// Tokens that the region is asked for in a second.
    pub demand: f32,
    /// The level as this owner knows it.
    pub level: f32,
    /// For how long this owner has had the account.
    pub age: Duration,
}

/// What a part of a region that sees `seen` of its `known` members may take of the region's share, the others being lost for `lost`.
///
/// Nobody can tell members that have died from members that are cut off. Whoever sees more than half of the region takes
/// the rest for dead; others take their part alone, until the rest has been away for so long that it may count as dead.
/// However a region is split, its parts take no more than one and a half times its share together until then.
pub fn part(seen: usize, known: usize, lost: Duration) -> f64 {
    if 2 * seen > known {
        return 1.0;
    }
    let part = seen as f64 / known as f64;
    1.0 - (1.0 - part) * account::left_after(lost)
}

/// After so long without a word of it, a node no longer goes by what its owner said of the level, and an owner by what a
/// node said.
pub const SILENT_AFTER: Duration = Duration::from_secs(1);

/// What a lease by time holds ready for requests that come in a bunch: what it earns in so many seconds, and at least so many tokens. With
/// one token it would earn nothing between having it and the next request.
pub const LEASE_DEPTH: f32 = 0.06;
pub const LEASE_DEPTH_LEAST: f32 = 2.0;
