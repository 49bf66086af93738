//! How much of one peer is listened to: so many frames and bytes a second, with a second's worth at once.
//!
//! What comes faster is not lost, it is read later: the connection fills up and the peer, whose outbox is state and not a
//! queue, sends less. A peer can slow down itself by this and nobody else.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// A second.
    pub frames: u32,
    pub bytes: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Bound {
    frames: Bucket,
    bytes: Bucket,
}

impl Bound {
    pub(super) fn new(rates: Rates, now: Instant) -> Self {
        Self { frames: Bucket::new(rates.frames, now), bytes: Bucket::new(rates.bytes, now) }
    }

    /// A frame came; says how long to wait before the next one is read.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        self.frames.take(1, now).max(self.bytes.take(bytes as u64, now))
    }
}

/// A moment that runs ahead of the clock by what was taken: at most a second's worth of it is free.
#[derive(Clone, Debug)]
struct Bucket {
    each: Duration,
    paid_until: Instant,
}

/// What may be taken at once, in time.
const BURST: Duration = Duration::from_secs(1);

impl Bucket {
    fn new(rate: u32, now: Instant) -> Self {
        Self { each: BURST / rate.max(1), paid_until: now }
    }

    fn take(&mut self, n: u64, now: Instant) -> Duration {
        let price = Duration::from_nanos((self.each.as_nanos() as u64).saturating_mul(n));
        self.paid_until = self.paid_until.max(now) + price;
        self.paid_until.saturating_duration_since(now + BURST)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes up its clock, which has to begin somewhere")]
mod tests {
    use super::*;
    use proptest::{prelude::any, prop_assert, proptest};

    const RATES: Rates = Rates { frames: 10, bytes: 1000 };

    #[test]
    fn a_burst_is_free_and_what_follows_waits() {
        let start = Instant::now();
        for (frames, bytes, last_wait) in [(10, 1, 0), (11, 1, 100), (13, 1, 300), (2, 500, 0), (2, 1000, 1000), (1, 1000, 0)] {
            let mut bound = Bound::new(RATES, start);
            let waits: Vec<Duration> = (0..frames).map(|_| bound.take(bytes, start)).collect();
            assert_eq!(waits.last(), Some(&Duration::from_millis(last_wait)), "{frames} frames of {bytes} bytes");
        }
    }

    proptest! {
        #[test]
        fn who_waits_as_told_never_gets_more_than_the_rate_and_one_burst(sizes in proptest::collection::vec(0..2000_usize, 1..200), pause in any::<bool>()) {
            let start = Instant::now();
            let (mut now, mut bytes) = (start, 0);
            let mut bound = Bound::new(RATES, now);
            for (frames, size) in sizes.into_iter().enumerate() {
                let elapsed = now.duration_since(start).as_secs_f64();
                prop_assert!(frames as f64 <= 10.0 * (elapsed + 1.0) + 1e-3, "{frames} frames in {elapsed} s");
                prop_assert!(bytes as f64 <= 1000.0 * (elapsed + 1.0) + 1e-3, "{bytes} bytes in {elapsed} s");
                now += bound.take(size, now) + if pause { Duration::from_millis(7) } else { Duration::ZERO };
                bytes += size;
            }
        }
    }
}
