//! How long to wait before a retry: exponential, with the jitter over the whole span.

use std::time::Duration;

/// The wait before retry number `attempt`, counted from 1: evenly drawn between `min` and `min × 2^attempt`, which is
/// cut to `max`. Callers that failed together therefore do not come back together.
pub fn backoff(attempt: u32, chance: u64, min: Duration, max: Duration) -> Duration {
    let max = max.max(min);
    let ceiling = min.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(max);
    // The upper 53 bits are as much as a fraction holds.
    min + (ceiling - min).mul_f64((chance >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(attempt: u32, chance: u64, expected: u64) {
        let (min, max) = (Duration::from_millis(25), Duration::from_millis(250));
        assert_eq!(backoff(attempt, chance, min, max).as_millis() as u64, expected, "attempt {attempt}, chance {chance:x}");
    }

    #[test]
    fn the_span_doubles_until_it_is_cut() {
        const HALF: u64 = 1 << 63;
        check(0, u64::MAX, 25);
        check(1, 0, 25);
        check(1, HALF, 37);
        check(1, u64::MAX, 50);
        check(2, u64::MAX, 100);
        check(3, u64::MAX, 200);
        check(4, HALF, 137);
        check(4, u64::MAX, 250);
        check(u32::MAX, u64::MAX, 250);
    }

    proptest! {
        #[test]
        fn it_stays_between_its_bounds(attempt: u32, chance: u64, min in 0..10_000u64, max in 0..10_000u64) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
            let wait = backoff(attempt, chance, min, max);
            prop_assert!(wait >= min && wait <= max.max(min));
        }
    }
}
