//! How long things took, counted in buckets that were fixed beforehand.
//!
//! Recording is two relaxed additions and a search among seventeen bounds; nothing is ever locked or allocated. The
//! count is not kept: it is the sum of the buckets, so that it can never disagree with them.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets in nanoseconds, inclusive and rising. One more bucket takes what lies above the last.
pub type Bounds = [u64; 17];

const MS: u64 = 1_000_000;
const US: u64 = 1_000;

/// From one millisecond to ten seconds: what OpenTelemetry advises for HTTP, with bounds at 1, 2 and 200 ms beside.
pub const REQUEST: Bounds = [
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    75 * MS,
    100 * MS,
    200 * MS,
    250 * MS,
    500 * MS,
    750 * MS,
    1_000 * MS,
    2_500 * MS,
    5_000 * MS,
    7_500 * MS,
    10_000 * MS,
];

/// From ten microseconds to a tenth of a second: what a node itself adds to a request would all fall into the first
/// bucket of [`REQUEST`].
pub const OVERHEAD: Bounds = [
    10 * US,
    20 * US,
    30 * US,
    50 * US,
    75 * US,
    100 * US,
    150 * US,
    200 * US,
    300 * US,
    500 * US,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
];

#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    buckets: [AtomicU64; 18],
    /// Nanoseconds. It wraps after 584 years spent in requests, which reads as a counter's restart.
    sum: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub bounds: &'static Bounds,
    /// How many took at most as long as the bound of the same index; the last is the count of all.
    pub cumulative: [u64; 18],
    /// Nanoseconds.
    pub sum: u64,
}

impl Histogram {
    pub fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, buckets: Default::default(), sum: AtomicU64::new(0) }
    }

    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < nanos);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
    }

    /// Buckets and sum are read one after the other: a record that arrives meanwhile may be in one and not the other.
    pub fn snapshot(&self) -> Snapshot {
        let mut total = 0;
        let cumulative = std::array::from_fn(|bucket| {
            total += self.buckets[bucket].load(Relaxed);
            total
        });
        Snapshot { bounds: self.bounds, cumulative, sum: self.sum.load(Relaxed) }
    }
}

impl Snapshot {
    pub fn count(&self) -> u64 {
        self.cumulative[17]
    }
}

/// The facade speaks seconds. What is not a number is not recorded; what is below zero counts as nothing.
impl metrics::HistogramFn for Histogram {
    fn record(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let duration = match value.is_sign_negative() {
            true => Duration::ZERO,
            false => Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX),
        };
        Self::record(self, duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Records one duration and says which bucket, counted from 0, it fell into.
    fn check(bounds: &'static Bounds, duration: Duration, bucket: usize) {
        let histogram = Histogram::new(bounds);
        histogram.record(duration);
        let snapshot = histogram.snapshot();
        let expected = std::array::from_fn(|index| u64::from(index >= bucket));
        assert_eq!(snapshot.cumulative, expected, "{duration:?}");
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        check(&REQUEST, Duration::ZERO, 0);
        check(&REQUEST, Duration::from_millis(1), 0);
        check(&REQUEST, Duration::from_nanos(1_000_001), 1);
        check(&REQUEST, Duration::from_millis(200), 8);
        check(&REQUEST, Duration::from_nanos(200_000_001), 9);
        check(&REQUEST, Duration::from_secs(10), 16);
        check(&REQUEST, Duration::from_secs(11), 17);
        check(&REQUEST, Duration::MAX, 17);
        check(&OVERHEAD, Duration::from_micros(40), 3);
    }

    #[test]
    fn the_facade_cannot_record_nonsense() {
        let histogram = Histogram::new(&REQUEST);
        for value in [f64::NAN, -1.0, f64::INFINITY, 0.003] {
            metrics::HistogramFn::record(&histogram, value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.cumulative[0], snapshot.cumulative[2], snapshot.count()), (1, 2, 3));
    }

    #[test]
    fn bounds_rise() {
        assert!(REQUEST.is_sorted_by(|a, b| a < b) && OVERHEAD.is_sorted_by(|a, b| a < b));
    }

    proptest! {
        #[test]
        fn nothing_recorded_is_lost(nanos in prop::collection::vec(0u64..20_000_000_000, 0..200)) {
            let histogram = Histogram::new(&REQUEST);
            for nanos in &nanos {
                histogram.record(Duration::from_nanos(*nanos));
            }
            let snapshot = histogram.snapshot();
            prop_assert_eq!(snapshot.count(), nanos.len() as u64);
            prop_assert_eq!(snapshot.sum, nanos.iter().sum::<u64>());
            for (index, bound) in REQUEST.iter().enumerate() {
                prop_assert_eq!(snapshot.cumulative[index], nanos.iter().filter(|n| *n <= bound).count() as u64);
            }
        }
    }
}
