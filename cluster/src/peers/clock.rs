//! What a link's beats tell: whether the peer is there, how far away it is, and how far off its clock.
//!
//! The way there and back is measured on clocks that never step, each read by one side only, so that a wall clock that is
//! set does not change it. The offset of the wall clocks comes from the beat whose way was the shortest of the last few, as
//! NTP does it: what made other beats late made their offset wrong by as much.

use proto::frame::Beat;
use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How many beats are remembered.
const SAMPLES: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Clock {
    began: Instant,
    heard: Instant,
    /// The last beat that came: what it said, and when.
    last: Option<(u64, Instant)>,
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sample {
    round_trip: Duration,
    /// In microseconds; positive where the peer is ahead.
    offset: i64,
}

/// From when on nothing being heard means something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// The peer is silent: who waits for it should not.
    pub silent: Duration,
    /// The link has ended.
    pub dead: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sign {
    Alive,
    Silent,
    Dead,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, heard: now, last: None, samples: VecDeque::with_capacity(SAMPLES) }
    }

    /// What to send now.
    pub(super) fn beat(&self, now: Instant, wall: SystemTime) -> Beat {
        let (echo, held) = self.last.map_or((0, 0), |(sent, came)| (sent, micros(now.saturating_duration_since(came))));
        Beat { sent: self.reading(now), echo, held, wall: unix(wall) }
    }

    /// A frame came, whichever.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A beat came. False where it echoes what was never sent: nothing is learned from it.
    pub(super) fn learn(&mut self, beat: &Beat, now: Instant, wall: SystemTime) -> bool {
        self.last = Some((beat.sent, now));
        if beat.echo == 0 {
            return true;
        }
        let Some(round_trip) = self.reading(now).checked_sub(beat.echo).and_then(|away| away.checked_sub(beat.held)) else { return false };
        // Both fit: neither clock is further than 2^62 microseconds from 1970 unless the peer makes it up.
        let theirs = beat.wall.saturating_add(round_trip / 2).min(i64::MAX as u64) as i64;
        let ours = unix(wall).min(i64::MAX as u64) as i64;
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { round_trip: Duration::from_micros(round_trip), offset: theirs.saturating_sub(ours) });
        true
    }

    pub(super) fn sign(&self, patience: &Patience, now: Instant) -> Sign {
        let silence = self.silence(now);
        if silence >= patience.dead {
            Sign::Dead
        } else if silence >= patience.silent {
            Sign::Silent
        } else {
            Sign::Alive
        }
    }

    /// For how long nothing has been heard.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// The shortest of the last few.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.best().map(|sample| sample.round_trip)
    }

    /// How many microseconds the peer's wall clock is ahead of ours; wrong by at most half of the round trip.
    pub(super) fn offset_micros(&self) -> Option<i64> {
        self.best().map(|sample| sample.offset)
    }

    fn best(&self) -> Option<&Sample> {
        // The newest of equals.
        self.samples.iter().rev().min_by_key(|sample| sample.round_trip)
    }

    /// Never zero, which says "none" in a beat.
    fn reading(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.began)).saturating_add(1)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A clock that says a time before 1970 says nothing.
fn unix(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, micros)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes up its clock, which has to begin somewhere")]
mod tests {
    use super::*;
    use proptest::{prelude::any, prop_assert, proptest};

    const PATIENCE: Patience = Patience { silent: Duration::from_secs(1), dead: Duration::from_secs(5) };

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn wall(unix_ms: u64) -> SystemTime {
        UNIX_EPOCH + ms(unix_ms)
    }

    /// Two clocks that exchange beats: `there` and `back` are the ways, `ahead` is how far the second wall clock is.
    fn exchange(rounds: &[(u64, u64)], ahead_ms: u64) -> Clock {
        let start = Instant::now();
        let (mut near, mut far) = (Clock::new(start), Clock::new(start + ms(77)));
        let mut at = 100;
        for (there, back) in rounds {
            let sent = near.beat(start + ms(at), wall(1_000_000 + at));
            at += there;
            assert!(far.learn(&sent, start + ms(at), wall(1_000_000 + at + ahead_ms)));
            // It answers when its own time has come.
            at += 40;
            let answer = far.beat(start + ms(at), wall(1_000_000 + at + ahead_ms));
            at += back;
            assert!(near.learn(&answer, start + ms(at), wall(1_000_000 + at)));
        }
        near
    }

    #[test]
    fn the_round_trip_is_the_way_without_the_wait_and_the_offset_is_that_of_the_shortest() {
        for (rounds, ahead, round_trip, offset) in [
            (&[(10, 10)][..], 0, 20, 0),
            (&[(10, 10)], 250, 20, 250_000),
            // One way is longer than the other: the offset is wrong by half of the difference.
            (&[(30, 10)], 250, 40, 260_000),
            // What was late once does not count.
            (&[(10, 10), (500, 10), (10, 300)], 250, 20, 250_000),
            (&[(0, 0)], 5, 0, 5_000),
        ] {
            let clock = exchange(rounds, ahead);
            assert_eq!((clock.round_trip(), clock.offset_micros()), (Some(ms(round_trip)), Some(offset)), "{rounds:?}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_changes_the_offset_only() {
        let start = Instant::now();
        let (mut near, mut far) = (Clock::new(start), Clock::new(start));
        far.learn(&near.beat(start + ms(1), wall(9_000_000)), start + ms(2), wall(10));
        let answer = far.beat(start + ms(2), wall(10));
        assert!(near.learn(&answer, start + ms(3), wall(3)));
        assert_eq!(near.round_trip(), Some(ms(2)));
        assert_eq!(near.offset_micros(), Some(8_000));
    }

    #[test]
    fn a_beat_that_echoes_what_was_never_sent_teaches_nothing() {
        let start = Instant::now();
        let now = start + ms(50);
        for (echo, held) in [(60_000, 0), (10_000, 60_000), (u64::MAX, 0), (1, u64::MAX)] {
            let mut clock = Clock::new(start);
            assert!(!clock.learn(&Beat { sent: 1, echo, held, wall: 0 }, now, wall(5)), "{echo} {held}");
            assert_eq!((clock.round_trip(), clock.offset_micros()), (None, None));
        }
        let mut clock = Clock::new(start);
        assert!(clock.learn(&Beat { sent: u64::MAX, echo: 1, held: 0, wall: u64::MAX }, now, wall(5)), "a wall clock may say anything");
        assert_eq!(clock.beat(now, UNIX_EPOCH - ms(1)), Beat { sent: 50_001, echo: u64::MAX, held: 0, wall: 0 });
    }

    #[test]
    fn silence_is_counted_from_the_last_frame() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        clock.heard(start + ms(500));
        for (at, sign) in [
            (500, Sign::Alive),
            (1_499, Sign::Alive),
            (1_500, Sign::Silent),
            (5_499, Sign::Silent),
            (5_500, Sign::Dead),
            (90_000, Sign::Dead),
        ] {
            assert_eq!(clock.sign(&PATIENCE, start + ms(at)), sign, "after {at} ms");
        }
    }

    proptest! {
        #[test]
        fn no_beat_that_a_peer_can_make_up_breaks_anything(
            beats in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 1..40)
        ) {
            let start = Instant::now();
            let mut clock = Clock::new(start);
            for (n, (sent, echo, held, wall)) in beats.into_iter().enumerate() {
                let now = start + ms(n as u64);
                clock.learn(&Beat { sent, echo, held, wall }, now, self::wall(7));
                clock.beat(now, self::wall(7));
                prop_assert!(clock.samples.len() <= SAMPLES);
                prop_assert!(clock.round_trip().is_none_or(|way| way <= ms(n as u64 + 1)), "longer than the link has been there");
            }
        }
    }
}
