//! A limit as the limiter applies it, and what is counted about it across reloads.

use super::{
    bucket::{Rule, duration},
    cell::Cell,
    key::{Key, KeyHasher},
};
use config::{Limit, LimitMode, LimitName, Scope};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Overflow cells of one limit, as a power of two: 64 KiB, allocated when the first key needs one.
pub(crate) const OVERFLOW_BITS: u32 = 10;

/// Counters are kept in eight places, by key, so that threads seldom meet on one.
const STRIPE_BITS: u32 = 3;

/// One limit of one revision of the configuration. Buckets and counters belong to the limit's name: two revisions of a limit share them.
#[derive(Debug)]
pub struct Policy {
    name: LimitName,
    rule: Rule,
    mode: LimitMode,
    /// Whether all nodes of the cluster count together.
    lent: bool,
    prefix: KeyHasher,
    ledger: Arc<Ledger>,
}

impl Policy {
    pub(crate) fn new(limit: &Limit, seed: &[u8; 16], ledger: Arc<Ledger>) -> Self {
        Self {
            name: limit.name.clone(),
            rule: Rule::new(limit.rate, limit.burst),
            mode: limit.mode,
            lent: limit.scope == Scope::Cluster,
            prefix: KeyHasher::new(seed, limit.name.as_str()),
            ledger,
        }
    }

    pub fn name(&self) -> &LimitName {
        &self.name
    }

    /// Begins a key of this limit.
    pub fn key(&self) -> KeyHasher {
        self.prefix
    }

    /// The most that one key is granted at once, in whole tokens.
    pub fn burst(&self) -> u64 {
        self.rule.burst
    }

    /// How long an empty bucket takes to be full again.
    pub fn refill(&self) -> Duration {
        duration(self.rule.tolerance)
    }

    /// Whether it counts and reports, and refuses nothing.
    pub fn shadow(&self) -> bool {
        self.mode == LimitMode::Shadow
    }

    /// Whether all nodes of the cluster count together.
    pub(crate) fn lent(&self) -> bool {
        self.lent
    }

    /// What happened since the limit was first seen, over all its revisions.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// Decisions of one limit. A request that another limit refused counts for that one alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Requests that this limit granted and that were admitted.
    pub granted: u64,
    /// Requests that this limit refused.
    pub refused: u64,
    /// Requests that this limit would have refused if it were not in shadow mode.
    pub shadow_refused: u64,
    /// Takes that met a shared bucket, because their key found no cell of its own.
    pub overflowed: u64,
    /// Tokens given back because another limit of the same request was lost to a faster one.
    pub returned: u64,
}

/// What outlives the revisions of a limit.
#[derive(Debug)]
pub(crate) struct Ledger {
    number: u32,
    stripes: [Stripe; 1 << STRIPE_BITS],
    overflow: OnceLock<Box<[Cell]>>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Stripe {
    pub(crate) granted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) shadow_refused: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    pub(crate) returned: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(number: u32) -> Self {
        Self { number, stripes: Default::default(), overflow: OnceLock::new() }
    }

    /// Tells the limits of this process apart in the cells; means nothing to other nodes.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn stripe(&self, key: Key) -> &Stripe {
        &self.stripes[key.place(STRIPE_BITS)]
    }

    /// The overflow cell of `key`, if any key of the limit ever needed one.
    pub(crate) fn overflow(&self, key: Key) -> Option<&Cell> {
        self.overflow.get().map(|cells| &cells[key.place(OVERFLOW_BITS)])
    }

    pub(crate) fn overflow_cell(&self, key: Key) -> &Cell {
        let cells = self.overflow.get_or_init(|| {
            let cells: Box<[Cell]> = (0..1 << OVERFLOW_BITS).map(|_| Cell::default()).collect();
            for cell in &cells {
                cell.settle(Key::OVERFLOW, self.number, 0);
            }
            cells
        });
        &cells[key.place(OVERFLOW_BITS)]
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.overflow.get().map_or(0, |cells| cells.len() * size_of::<Cell>())
    }

    fn counts(&self) -> Counts {
        let sum = |counter: fn(&Stripe) -> &AtomicU64| self.stripes.iter().map(|stripe| counter(stripe).load(Relaxed)).sum();
        Counts {
            granted: sum(|stripe| &stripe.granted),
            refused: sum(|stripe| &stripe.refused),
            shadow_refused: sum(|stripe| &stripe.shadow_refused),
            overflowed: sum(|stripe| &stripe.overflowed),
            returned: sum(|stripe| &stripe.returned),
        }
    }
}
