//! The moving average of an endpoint's latency, in one word.

use std::time::Duration;

/// In this time the weight of the past falls to 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// The average in nanoseconds, and when it was last told something, in milliseconds since the epoch. They change
/// together, in one word. After 49 days of silence the stamp comes round, and the average may be believed once more.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Average {
    pub(super) nanos: f32,
    stamp: u32,
}

impl Average {
    pub(super) fn unpack(word: u64) -> Self {
        Self { nanos: f32::from_bits((word >> 32) as u32), stamp: word as u32 }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.nanos.to_bits()) << 32 | u64::from(self.stamp)
    }

    /// An average that has seen nothing but this sample.
    pub(super) fn of(nanos: f32, stamp: u32) -> Self {
        Self { nanos, stamp }
    }

    /// What is left of the past at `stamp`. A clock that lags behind sees all of it.
    fn weight(self, stamp: u32) -> f32 {
        match stamp.wrapping_sub(self.stamp).cast_signed() {
            ..=0 => 1.0,
            passed => (-(passed as f32) / DECAY.as_millis() as f32).exp(),
        }
    }

    pub(super) fn at(self, stamp: u32) -> f32 {
        self.nanos * self.weight(stamp)
    }

    pub(super) fn observe(self, sample: f32, stamp: u32) -> Self {
        let weight = self.weight(stamp);
        let nanos = if sample > self.nanos { sample } else { self.nanos * weight + sample * (1.0 - weight) };
        let stamp = if stamp.wrapping_sub(self.stamp).cast_signed() > 0 { stamp } else { self.stamp };
        Self { nanos, stamp }
    }
}
