//! The order in which endpoints take turns, spread so that a heavy one never has its turns in a row where it need not.

/// Longer rounds are shortened to about so many turns, or four for each endpoint: weights are then kept to about a part in a thousand.
const TURNS_MAX: u64 = 4_096;

/// One round: each weight's index as often as its weight, divided by what all weights have in common. Turn `k` of a weight `w` lies at
/// `(k + ½) / w` of the round.
pub(super) fn in_turn(weights: &[u32]) -> Box<[u32]> {
    let common = weights.iter().copied().map(u64::from).fold(0, gcd).max(1);
    let sum: u64 = weights.iter().copied().map(u64::from).sum::<u64>() / common;
    let turns_max = TURNS_MAX.max(4 * weights.len() as u64);
    let turns = |weight: u32| {
        let weight = u64::from(weight) / common;
        if sum <= turns_max { weight } else { (weight * turns_max / sum).max(1) }
    };
    let mut order: Vec<(u64, u32)> = Vec::new();
    for (index, weight) in (0..).zip(weights) {
        let turns = turns(*weight);
        order.extend((0..turns).map(|turn| (((2 * turn + 1) << 32) / turns, index)));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weights: &[u32], expected: &str) {
        let order: String = in_turn(weights).iter().map(|index| char::from(b'a' + *index as u8)).collect();
        assert_eq!(order, expected, "{weights:?}");
    }

    #[test]
    fn a_round_is_exact_and_spread() {
        check(&[], "");
        check(&[7], "a");
        check(&[1, 1, 1], "abc");
        check(&[4, 2], "aba");
        check(&[5, 1, 1], "aaabcaa");
        check(&[3, 2], "ababa");
        check(&[1, 3], "babb");
    }

    #[test]
    fn a_long_round_is_shortened_and_leaves_nobody_out() {
        let order = in_turn(&[1_000_000, 999_983, 1]);
        assert!(order.len() <= TURNS_MAX as usize + 1);
        let turns = |index| order.iter().filter(|at| **at == index).count();
        assert_eq!((turns(0), turns(1), turns(2)), (2_048, 2_047, 1));
        assert_eq!(in_turn(&vec![1; 10_000]).len(), 10_000);
        assert_eq!(in_turn(&[u32::MAX; 3]).len(), 3);
    }
}
