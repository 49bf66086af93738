//! Slow start: how the weight of an endpoint grows that is new or healthy again.

use crate::service::load::Load;
use config::SlowStart;
use std::time::{Duration, Instant};

/// The weight as a function of time: from `weight_min` to all of it, in a straight line over the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    window: Duration,
    weight_min: f64,
}

impl Ramp {
    pub(super) fn new(policy: SlowStart) -> Self {
        // A weight of nothing would never meet the request that warms it.
        Self { window: policy.window, weight_min: policy.weight_min.0.clamp(0.01, 1.0) }
    }

    pub(super) fn is_on(&self) -> bool {
        !self.window.is_zero()
    }

    /// The share of its weight that counts at `now`.
    pub(super) fn factor(&self, load: &Load, now: Instant) -> f64 {
        load.in_for(now).map_or(1.0, |grown| self.after(grown))
    }

    fn after(&self, grown: Duration) -> f64 {
        if grown >= self.window {
            return 1.0;
        }
        self.weight_min + (1.0 - self.weight_min) * grown.as_secs_f64() / self.window.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Ratio;
    use proptest::prelude::*;

    fn ramp(window: u64, weight_min: f64) -> Ramp {
        Ramp::new(SlowStart { window: Duration::from_millis(window), weight_min: Ratio(weight_min) })
    }

    #[test]
    fn the_weight_grows_in_a_straight_line() {
        let check = |window, weight_min, millis, expected: f64| {
            let after = ramp(window, weight_min).after(Duration::from_millis(millis));
            assert!((after - expected).abs() < 1e-9, "{window} {weight_min} {millis}: {after}");
        };
        check(30_000, 0.1, 0, 0.1);
        check(30_000, 0.1, 15_000, 0.55);
        check(30_000, 0.1, 29_999, 0.99997);
        check(30_000, 0.1, 30_000, 1.0);
        check(30_000, 0.0, 0, 0.01);
        check(30_000, 1.0, 0, 1.0);
        check(0, 0.1, 0, 1.0);
    }

    proptest! {
        #[test]
        fn the_weight_never_falls_and_ends_whole(window in 0..100_000u64, weight_min in 0.0..1.0f64, mut at in prop::collection::vec(0..200_000u64, 2..20)) {
            at.sort_unstable();
            let ramp = ramp(window, weight_min);
            let weights: Vec<f64> = at.iter().map(|at| ramp.after(Duration::from_millis(*at))).collect();
            prop_assert!(weights.windows(2).all(|pair| pair[0] <= pair[1]), "{weights:?}");
            prop_assert!(weights.iter().all(|weight| (0.01..=1.0).contains(weight)));
            prop_assert_eq!(ramp.after(Duration::from_millis(window)), 1.0);
        }
    }
}
