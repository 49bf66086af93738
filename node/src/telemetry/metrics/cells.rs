//! What is counted in: one cell for each set of label values, shared by everybody who asked for it.

use super::Kind;
use crate::telemetry::histogram::Histogram;
use metrics::GaugeFn;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicI64, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};

/// Rises only.
#[derive(Clone, Default)]
pub struct Counter(pub(super) Arc<AtomicU64>);

/// Goes up and down.
#[derive(Clone, Default)]
pub struct Gauge(pub(super) Arc<Level>);

/// What is counted up and down by whole numbers is kept apart from what is set, so that counting is one addition and
/// never a loop. Their sum is the value.
#[derive(Default)]
pub(super) struct Level {
    whole: AtomicI64,
    /// The bits of an `f64`.
    base: AtomicU64,
}

/// Counts one on a gauge for as long as it lives.
#[must_use = "counted for as long as it is held"]
pub struct Hold(Gauge);

#[derive(Clone)]
pub(super) enum Cell {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Arc<Histogram>),
}

impl Cell {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Counter::default()),
            Kind::Gauge => Self::Gauge(Gauge::default()),
            Kind::Histogram(bounds) => Self::Histogram(Arc::new(Histogram::new(bounds))),
        }
    }
}

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// For what is counted elsewhere, as the kernel does; never goes back.
    pub fn reach(&self, count: u64) {
        self.0.fetch_max(count, Relaxed);
    }
}

impl Gauge {
    pub fn add(&self, count: i64) {
        self.0.whole.fetch_add(count, Relaxed);
    }

    pub fn sub(&self, count: i64) {
        self.0.whole.fetch_sub(count, Relaxed);
    }

    /// What was counted up and down so far is forgotten.
    pub fn set(&self, value: f64) {
        self.0.whole.store(0, Relaxed);
        self.0.base.store(value.to_bits(), Relaxed);
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.base.load(Relaxed)) + self.0.whole.load(Relaxed) as f64
    }

    pub fn hold(&self) -> Hold {
        self.add(1);
        Hold(self.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        let moved = |bits| Some((f64::from_bits(bits) + value).to_bits());
        self.base.fetch_update(AcqRel, Acquire, moved).expect("every value is a value");
    }

    fn decrement(&self, value: f64) {
        self.increment(-value);
    }

    fn set(&self, value: f64) {
        self.whole.store(0, Relaxed);
        self.base.store(value.to_bits(), Relaxed);
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {:?}", self.0)
    }
}
