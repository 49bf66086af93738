//! Requests and failures in a window of time, in one word.
//!
//! Windows stand side by side and do not slide: each begins with the first outcome after the one before has ended. A burst of
//! failures across a border is therefore judged in two halves, which at worst delays an opening by the smallest number of
//! requests that counts.

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Window(pub(super) u64);

/// Of the tick of 64 ms in which a window began; ticks come round after twelve days.
const STAMP_BITS: u32 = 24;
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

impl Window {
    pub(super) fn total(self) -> u32 {
        (self.0 >> COUNT_BITS & COUNT_MAX) as u32
    }

    pub(super) fn failed(self) -> u32 {
        (self.0 & COUNT_MAX) as u32
    }

    /// Counts an outcome at `now`, in milliseconds, in a window of `length` milliseconds. Full counts are halved, which keeps the share.
    pub(super) fn and(self, failed: bool, now: u32, length: u32) -> Self {
        let tick = now >> 6 & ((1 << STAMP_BITS) - 1);
        let begun = (self.0 >> (2 * COUNT_BITS)) as u32;
        let passed = tick.wrapping_sub(begun) & ((1 << STAMP_BITS) - 1);
        let fresh = self.total() == 0 || passed >= (length >> 6).max(1);
        let (begun, total, failures) = match self.total() {
            _ if fresh => (tick, 0, 0),
            total if u64::from(total) == COUNT_MAX => (begun, total / 2, self.failed() / 2),
            total => (begun, total, self.failed()),
        };
        let (total, failures) = (u64::from(total + 1), u64::from(failures + u32::from(failed)));
        Self(u64::from(begun) << (2 * COUNT_BITS) | total << COUNT_BITS | failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `at.` is a success and `at!` a failure; the answer is `failed/total` after each.
    fn check(length: u32, events: &str, expected: &str) {
        let mut window = Window::default();
        let shown: Vec<String> = events
            .split(' ')
            .map(|event| {
                let failed = event.ends_with('!');
                let at = event.trim_end_matches(['!', '.']).parse().expect("milliseconds");
                window = window.and(failed, at, length);
                format!("{}/{}", window.failed(), window.total())
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{events}");
    }

    #[test]
    fn a_window_counts_until_it_is_over() {
        check(1_000, "0. 100! 900! 1100. 1200!", "0/1 1/2 2/3 0/1 1/2");
    }

    #[test]
    fn it_begins_with_the_first_outcome_and_not_with_the_clock() {
        check(1_000, "900! 1800! 1900!", "1/1 2/2 1/1");
        check(1_000, "4294967290! 4294967295!", "1/1 2/2");
    }

    #[test]
    fn full_counts_keep_their_share() {
        let full = (0..=COUNT_MAX).fold(Window::default(), |window, at| window.and(at % 4 == 0, 1, 10_000));
        assert!(full.total() > 500_000 && full.total() < 600_000);
        assert!((f64::from(full.failed()) / f64::from(full.total()) - 0.25).abs() < 0.001);
    }
}
