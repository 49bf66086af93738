//! How long to wait before dialing again: twice as long each time, with as much chance in it as without.

use std::time::Duration;

pub(super) const FIRST: Duration = Duration::from_millis(100);
pub(super) const LONGEST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// Between half of what is due and all of it, so that those who lost the same peer do not come back together.
    pub(super) fn wait(&mut self, chance: u64) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(LONGEST);
        let half = due / 2;
        half + Duration::from_nanos(chance % (half.as_nanos() as u64 + 1))
    }

    /// What was wrong will not be right a moment later: somebody has to change something first.
    pub(super) fn refused(&mut self) {
        self.next = LONGEST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::any, prop_assert, proptest};

    #[test]
    fn it_doubles_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..9).map(|_| backoff.next.as_millis().max(backoff.wait(0).as_millis())).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let mut refused = Backoff::default();
        refused.refused();
        assert_eq!(refused.wait(0), LONGEST / 2);
    }

    proptest! {
        #[test]
        fn every_wait_is_between_half_of_what_is_due_and_all_of_it(chances in proptest::collection::vec(any::<u64>(), 1..20)) {
            let mut backoff = Backoff::default();
            for chance in chances {
                let due = backoff.next;
                let wait = backoff.wait(chance);
                prop_assert!(due / 2 <= wait && wait <= due, "{wait:?} where {due:?} is due");
            }
        }
    }
}
