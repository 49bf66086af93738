//! Who gets how much of what is not enough: max-min fairness, weighted by nothing but what is asked for.

/// The level up to which demands are met in full, so that together they get `capacity`: whoever asks for less gets what it
/// asks for, and everybody else gets the level. Infinite if there is enough for all.
///
/// Bertsekas and Gallager, Data Networks, section 6.5.2.
pub fn level(capacity: f64, demands: impl IntoIterator<Item = f64>) -> f64 {
    let mut demands: Vec<f64> = demands.into_iter().filter(|demand| *demand > 0.0).collect();
    demands.sort_by(f64::total_cmp);
    let mut left = capacity.max(0.0);
    for (met, demand) in demands.iter().enumerate() {
        let level = left / (demands.len() - met) as f64;
        if *demand > level {
            return level;
        }
        left -= demand;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whoever_asks_for_little_gets_it_and_the_others_share_the_rest() {
        let check = |capacity, demands: &[f64], expected: &[f64]| {
            let level = level(capacity, demands.iter().copied());
            let shares: Vec<f64> = demands.iter().map(|demand| demand.min(level)).collect();
            assert_eq!(shares, expected, "{capacity} among {demands:?}");
        };
        check(10.0, &[], &[]);
        check(10.0, &[3.0, 4.0], &[3.0, 4.0]);
        check(10.0, &[20.0], &[10.0]);
        check(10.0, &[20.0, 2.0], &[8.0, 2.0]);
        check(10.0, &[20.0, 2.0, 30.0], &[4.0, 2.0, 4.0]);
        check(10.0, &[4.0, 3.0, 5.0, 0.0], &[3.5, 3.0, 3.5, 0.0]);
        check(0.0, &[1.0, 2.0], &[0.0, 0.0]);
        check(-1.0, &[1.0], &[0.0]);
    }

    proptest! {
        #[test]
        fn all_that_there_is_and_no_more_is_given(capacity in 0.0..1e6f64, demands in prop::collection::vec(0.0..1e5f64, 0..50)) {
            let level = level(capacity, demands.iter().copied());
            let given: f64 = demands.iter().map(|demand| demand.min(level)).sum();
            let asked: f64 = demands.iter().sum();
            prop_assert!((given - capacity.min(asked)).abs() <= 1e-9 * capacity.max(1.0), "{given} of {capacity}, asked for {asked}");
        }
    }
}
