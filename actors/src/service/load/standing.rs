//! What is believed of an endpoint, in one word that a request reads and anybody may exchange.
//!
//! An endpoint that is out has a time to come back. When it has passed, nobody has to do anything: from that instant
//! the word means half-open, a stated number of requests may try the endpoint, and each of them takes its place in the word
//! itself. The end of the time names the round, so that what comes late from an earlier round changes nothing.
//! Beside that stand flags, which only their owners raise and lower: drained by an operator, unhealthy by probes, withdrawn by the
//! configuration, and no member of its service any more.
//!
//! Everything here is a function from one word to the next; [`super::Load`] does the exchanging.

use crate::service::verdict::Why;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Standing(pub(super) u64);

/// Why requests are kept away for a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Out {
    /// Others are preferred.
    Ejected = 1,
    /// It is not asked, even if nobody else is left.
    Open = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    In,
    Out(Out),
    HalfOpen(Out),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flag {
    Draining,
    Unhealthy,
    Withdrawn,
    Retired,
}

/// Nobody is out for longer. The stamp comes round after 49 days, and an end further ahead than this is one that has passed.
const LONGEST: u32 = 4_000_000;

/// Ejections in a row are counted so far.
const TIMES_MAX: u64 = 127;

#[derive(Clone, Copy)]
struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    const fn mask(self) -> u64 {
        ((1 << self.bits) - 1) << self.shift
    }

    const fn of(self, word: u64) -> u32 {
        ((word & self.mask()) >> self.shift) as u32
    }

    const fn put(self, word: u64, value: u64) -> u64 {
        (word & !self.mask()) | ((value << self.shift) & self.mask())
    }
}

const DRAINING: Field = Field { shift: 0, bits: 1 };
const UNHEALTHY: Field = Field { shift: 1, bits: 1 };
const RETIRED: Field = Field { shift: 2, bits: 1 };
const OUT: Field = Field { shift: 3, bits: 2 };
/// Requests that try it in this round, and how many of them have passed.
const ADMITTED: Field = Field { shift: 5, bits: 6 };
const PASSED: Field = Field { shift: 11, bits: 6 };
/// How often it was out in a row, as of the stamp.
const TIMES: Field = Field { shift: 17, bits: 7 };
const WHY: Field = Field { shift: 24, bits: 4 };
const WITHDRAWN: Field = Field { shift: 28, bits: 1 };
/// In milliseconds since the epoch: when its time out ends, or, once it is in, when it came back.
const STAMP: Field = Field { shift: 32, bits: 32 };

const FREE: u64 = DRAINING.mask() | UNHEALTHY.mask() | OUT.mask();

impl Standing {
    /// Whether nothing keeps requests away: what almost every look finds.
    pub(super) fn is_free(self) -> bool {
        self.0 & FREE == 0
    }

    /// Whether it takes one of the places of those of a service that may be out. Who is leaving takes none, since the places are
    /// counted by those that stay.
    pub(super) fn is_counted(self) -> bool {
        self.0 & (UNHEALTHY.mask() | OUT.mask()) != 0 && self.0 & (DRAINING.mask() | WITHDRAWN.mask() | RETIRED.mask()) == 0
    }

    pub(super) fn has(self, flag: Flag) -> bool {
        flag.field().of(self.0) == 1
    }

    pub(super) fn phase(self, now: u32) -> Phase {
        let out = match OUT.of(self.0) {
            0 => return Phase::In,
            1 => Out::Ejected,
            _ => Out::Open,
        };
        if (1..=LONGEST).contains(&self.stamp().wrapping_sub(now)) { Phase::Out(out) } else { Phase::HalfOpen(out) }
    }

    /// Whether a request that has the choice goes here.
    pub(super) fn is_eligible(self, now: u32, half_open: u32) -> bool {
        let held = self.has(Flag::Draining) || self.has(Flag::Unhealthy);
        !held
            && match self.phase(now) {
                Phase::In => true,
                Phase::Out(_) => false,
                Phase::HalfOpen(_) => self.has_room(half_open),
            }
    }

    pub(super) fn why(self) -> Option<Why> {
        Why::of(WHY.of(self.0))
    }

    pub(super) fn stamp(self) -> u32 {
        STAMP.of(self.0)
    }

    /// How often it was out in a row, one being forgotten in every `forget` that it has been in.
    pub(super) fn times(self, now: u32, forget: u32) -> u32 {
        let times = TIMES.of(self.0);
        if OUT.of(self.0) != 0 {
            return times;
        }
        times.saturating_sub(now.wrapping_sub(self.stamp()) / forget.max(1))
    }

    /// Takes it out for the `length` that suits how often that happened in a row.
    pub(super) fn taken_out(self, out: Out, why: Why, now: u32, forget: u32, length: impl Fn(u32) -> u32) -> Option<Self> {
        if OUT.of(self.0) != 0 {
            return None;
        }
        let times = self.times(now, forget) + 1;
        let word = WHY.put(OUT.put(self.0, out as u64), why as u64);
        Some(Self(word).until(now, times, length(times)))
    }

    fn until(self, now: u32, times: u32, length: u32) -> Self {
        let word = TIMES.put(self.0, u64::from(times).min(TIMES_MAX));
        Self(ADMITTED.put(PASSED.put(word, 0), 0)).ending(now.wrapping_add(length.min(LONGEST)))
    }

    /// Zero is left to those who try nothing out.
    fn ending(self, stamp: u32) -> Self {
        Self(STAMP.put(self.0, u64::from(stamp.max(1))))
    }

    /// Lets one more request try it.
    pub(super) fn tried(self, now: u32, half_open: u32) -> Option<Self> {
        let room = matches!(self.phase(now), Phase::HalfOpen(_)) && self.has_room(half_open);
        room.then(|| Self(ADMITTED.put(self.0, u64::from(ADMITTED.of(self.0)) + 1)))
    }

    /// Whether one more may try it in this round. Where all that tried it have passed, a revision has lowered what it takes in
    /// the middle of the round, and it is the next to pass that brings the endpoint back.
    fn has_room(self, half_open: u32) -> bool {
        let admitted = ADMITTED.of(self.0);
        admitted < half_open || admitted == PASSED.of(self.0)
    }

    /// One that tried it in this round was answered well; the last of them brings it back.
    pub(super) fn passed(self, round: u32, half_open: u32, now: u32) -> Option<Self> {
        let passed = PASSED.of(self.0) + 1;
        let next = if passed >= half_open { self.back(now)? } else { Self(PASSED.put(self.0, u64::from(passed))) };
        self.is_round(round, now).then_some(next)
    }

    /// One that tried it in this round failed.
    pub(super) fn failed(self, round: u32, now: u32, length: impl Fn(Out, u32) -> u32) -> Option<Self> {
        let Phase::HalfOpen(out) = self.phase(now) else { return None };
        let times = (TIMES.of(self.0) + 1).min(TIMES_MAX as u32);
        self.is_round(round, now).then(|| self.until(now, times, length(out, times)))
    }

    /// One that tried it in this round went away without an outcome, and another may take its place.
    pub(super) fn given_up(self, round: u32, now: u32) -> Option<Self> {
        let admitted = ADMITTED.of(self.0).checked_sub(1)?;
        self.is_round(round, now).then(|| Self(ADMITTED.put(self.0, u64::from(admitted))))
    }

    fn is_round(self, round: u32, now: u32) -> bool {
        matches!(self.phase(now), Phase::HalfOpen(_)) && self.stamp() == round
    }

    /// Ends an ejection, but not the doubt: it is half-open from now on.
    pub(super) fn relented(self, now: u32) -> Option<Self> {
        (self.phase(now) == Phase::Out(Out::Ejected)).then(|| self.ending(now))
    }

    pub(super) fn back(self, now: u32) -> Option<Self> {
        let word = STAMP.put(OUT.put(self.0, 0), u64::from(now));
        (OUT.of(self.0) != 0).then(|| Self(WHY.put(ADMITTED.put(PASSED.put(word, 0), 0), 0)))
    }

    pub(super) fn flagged(self, flag: Flag, raised: bool) -> Option<Self> {
        let next = Self(flag.field().put(self.0, u64::from(raised)));
        (next != self).then_some(next)
    }
}

impl Flag {
    const fn field(self) -> Field {
        match self {
            Self::Draining => DRAINING,
            Self::Unhealthy => UNHEALTHY,
            Self::Withdrawn => WITHDRAWN,
            Self::Retired => RETIRED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_OPEN: u32 = 2;

    /// Plays events at milliseconds on one word, and shows after each what it is: `in`, `out END`, `half ADMITTED`; `-` is an event
    /// that changed nothing. `e` ejects, `t` tries, `p` and `f` are a pass and a failure of the round that began last.
    fn check(events: &str, expected: &str) {
        let mut standing = Standing::default();
        let shown: Vec<String> = events
            .split(", ")
            .map(|event| {
                let (at, what) = event.split_once(' ').expect("an event has a time");
                let now: u32 = at.parse().expect("milliseconds");
                let length = |times: u32| times * 100;
                let next = match what {
                    "e" => standing.taken_out(Out::Ejected, Why::Consecutive5xx, now, 1_000, length),
                    "t" => standing.tried(now, HALF_OPEN),
                    "p" => standing.passed(standing.stamp(), HALF_OPEN, now),
                    "late" => standing.passed(standing.stamp() - 1, HALF_OPEN, now),
                    "f" => standing.failed(standing.stamp(), now, |_, times| length(times)),
                    "g" => standing.given_up(standing.stamp(), now),
                    "r" => standing.relented(now),
                    "look" => Some(standing),
                    other => panic!("{other}"),
                };
                let Some(next) = next else { return "-".to_string() };
                standing = next;
                match standing.phase(now) {
                    Phase::In => "in".to_string(),
                    Phase::Out(_) => format!("out {}", standing.stamp()),
                    Phase::HalfOpen(_) => format!("half {}", ADMITTED.of(standing.0)),
                }
            })
            .collect();
        assert_eq!(shown.join(", "), expected, "{events}");
    }

    #[test]
    fn time_alone_opens_half_the_door() {
        check("0 e, 99 look, 99 t, 100 look, 100 t, 101 t, 101 t", "out 100, out 100, -, half 0, half 1, half 2, -");
    }

    #[test]
    fn all_that_try_must_pass() {
        check("0 e, 100 t, 100 t, 110 p, 110 look, 120 p", "out 100, half 1, half 2, half 2, half 2, in");
        check("0 e, 100 t, 100 t, 110 p, 120 f, 321 look", "out 100, half 1, half 2, half 2, out 320, half 0");
    }

    #[test]
    fn what_comes_late_changes_nothing() {
        check("0 e, 50 p, 50 f, 100 t, 110 late", "out 100, -, -, half 1, -");
        check("0 e, 10 e, 100 e", "out 100, -, -");
    }

    #[test]
    fn a_place_that_was_given_up_is_free_again() {
        check("0 e, 100 t, 100 t, 110 g, 110 t, 110 t", "out 100, half 1, half 2, half 1, half 2, -");
        check("0 e, 100 g", "out 100, -");
    }

    #[test]
    fn each_time_in_a_row_is_longer_and_calm_is_forgiven() {
        check(
            "0 e, 100 t, 100 f, 300 t, 300 f, 600 t, 600 t, 600 p, 600 p",
            "out 100, half 1, out 300, half 1, out 600, half 1, half 2, half 2, in",
        );
        check("0 e, 100 t, 100 t, 100 p, 100 p, 200 e", "out 100, half 1, half 2, half 2, in, out 400");
        check("0 e, 100 t, 100 t, 100 p, 100 p, 1100 e", "out 100, half 1, half 2, half 2, in, out 1200");
    }

    #[test]
    fn relenting_ends_the_time_and_not_the_doubt() {
        check("0 e, 10 r, 10 look, 10 t, 11 r", "out 100, half 0, half 0, half 1, -");
    }

    #[test]
    fn a_clock_that_comes_round_does_not_keep_anybody_out() {
        let out = Standing::default().taken_out(Out::Open, Why::ErrorRatio, u32::MAX - 10, 1, |_| 100).expect("it was in");
        assert_eq!(out.phase(u32::MAX), Phase::Out(Out::Open));
        assert_eq!(out.phase(80), Phase::Out(Out::Open));
        assert_eq!(out.phase(90), Phase::HalfOpen(Out::Open));
        // A month later nobody has looked, and half the circle is behind.
        assert_eq!(out.phase(90 + (1 << 31) + 1), Phase::HalfOpen(Out::Open));
    }

    #[test]
    fn flags_and_times_out_are_apart() {
        let out = Standing::default().taken_out(Out::Ejected, Why::SuccessRate, 0, 1, |_| 10).expect("it was in");
        let both = out.flagged(Flag::Unhealthy, true).expect("it was not raised");
        assert_eq!(both.flagged(Flag::Unhealthy, true), None);
        assert!(!both.is_eligible(20, HALF_OPEN) && out.is_eligible(20, HALF_OPEN));
        let back = both.back(20).expect("it was out");
        assert!(!back.is_free() && back.has(Flag::Unhealthy));
        assert!(back.flagged(Flag::Unhealthy, false).expect("it was raised").is_free());
        let retired = out.flagged(Flag::Retired, true).expect("it was a member");
        assert!(out.is_counted() && !retired.is_counted());
    }
}
