//! Whether this node should be in the ring of the world: because it speaks for its region, or because it has a link into one that
//! nobody hears.
//!
//! Nobody is elected: each node computes who speaks for its region from what it sees, and what it sees changes often while a
//! cluster starts or is restarted. So it waits a little before it enters, and longer before it leaves.

use crate::topology::Fnv;
use std::time::{Duration, Instant};

/// A node that would speak for its region for so long does, and one that would not for so long stops.
pub(super) const ELECTED_FOR: Duration = Duration::from_secs(1);
const UNELECTED_FOR: Duration = Duration::from_secs(5);

/// A node with a link into a region that nobody hears stays for so long after it is heard: by then those who speak for the
/// two have links of their own.
pub(super) const BRIDGES_FOR: Duration = Duration::from_secs(20);

/// Who could bridge waits for so long for each member of its region, and at most the most, whether another one does.
const TURN_STEP: Duration = Duration::from_millis(250);
const TURN_MOST: Duration = Duration::from_secs(6);

/// In the ring for so long, a node knows what it has to pass on.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// How long the goodbye to the ring takes.
pub(super) const GOODBYE_FOR: Duration = Duration::from_millis(1_500);

#[derive(Default)]
pub(super) struct Election {
    elected_since: Option<Instant>,
    unelected_since: Option<Instant>,
    /// Since when there is a link into a region that is not heard, and when there last was for long enough.
    bridges_since: Option<Instant>,
    bridged: Option<Instant>,
    entered: Option<Instant>,
    leaving: Option<Instant>,
}

impl Election {
    pub(super) fn entered(&mut self, now: Instant) {
        (self.entered, self.leaving) = (Some(now), None);
    }

    pub(super) fn left(&mut self) {
        (self.entered, self.leaving) = (None, None);
    }

    /// Whether it says goodbye.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(super) fn is_settled(&self, now: Instant) -> bool {
        lasts(self.entered, SETTLED_AFTER, now)
    }

    /// Whether the node should be in the ring, if it is elected now, or could be a bridge, which it is after some patience.
    pub(super) fn decide(&mut self, elected: bool, bridges: bool, patience: Duration, now: Instant) -> bool {
        if elected {
            (self.elected_since, self.unelected_since) = (self.elected_since.or(Some(now)), None);
        } else {
            (self.elected_since, self.unelected_since) = (None, self.unelected_since.or(Some(now)));
        }
        self.bridges_since = if bridges { self.bridges_since.or(Some(now)) } else { None };
        if lasts(self.bridges_since, patience, now) {
            self.bridged = Some(now);
        }
        let bridges = self.bridged.is_some_and(|bridged| now < bridged + BRIDGES_FOR);
        if self.entered.is_none() {
            return bridges || lasts(self.elected_since, ELECTED_FOR, now);
        }
        let leaves = lasts(self.unelected_since, UNELECTED_FOR, now) && !bridges;
        self.leaving = if leaves { self.leaving.or(Some(now)) } else { None };
        !lasts(self.leaving, GOODBYE_FOR, now)
    }

    /// Whether time alone will change what it decides.
    pub(super) fn is_undecided(&self) -> bool {
        let elections = if self.entered.is_some() { self.unelected_since } else { self.elected_since };
        self.bridges_since.is_some() || elections.is_some()
    }
}

/// How long a member waits where all might have a link into the same region, as they have where all start with one seed. Half of
/// them wait for the longest, half of the rest a step less, and so on: however many there are, about one begins at once, and few
/// do before they hear of it.
pub(super) fn turn(name: &str, members: usize) -> Duration {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    let steps = members.checked_next_power_of_two().map_or(u32::BITS, u32::ilog2);
    let mut hash = Fnv::default();
    hash.add(name.as_bytes());
    let halvings = hash.mixed().leading_zeros().min(steps);
    TURN_STEP.saturating_mul(members).min(TURN_MOST) * (steps - halvings) / steps.max(1)
}

fn lasts(since: Option<Instant>, long: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now >= since + long)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word for each second: `e` elected, `b` a bridge, `.` neither; and whether the node is in the ring then, `+` or `-`.
    fn check(seconds: &str, expected: &str) {
        #[expect(clippy::disallowed_methods, reason = "any instant does")]
        let mut now = Instant::now();
        let mut election = Election::default();
        let mut inside = false;
        let mut seen = String::new();
        for second in seconds.chars() {
            let decided = election.decide(second == 'e', second == 'b', Duration::from_secs(1), now);
            match (inside, decided) {
                (false, true) => election.entered(now),
                (true, false) => election.left(),
                (true, true) | (false, false) => {}
            }
            inside = decided;
            seen.push(if inside { '+' } else { '-' });
            now += Duration::from_secs(1);
        }
        assert_eq!(seen, expected, "{seconds}");
    }

    #[test]
    fn who_is_elected_for_a_moment_only_does_not_enter() {
        check("e.e.e", "-----");
        check("eee", "-++");
    }

    #[test]
    fn who_is_not_elected_for_a_moment_only_does_not_leave() {
        check("eee....e....e", "-++++++++++++");
        check("eee........", "-+++++++++-");
    }

    #[test]
    fn of_many_who_could_bridge_few_do_before_they_hear_of_the_first() {
        assert_eq!(turn("a", 1), Duration::ZERO, "nobody else is there");
        for members in [2, 3, 10, 30, 100, 300, 1_000] {
            let mut turns: Vec<Duration> = (0..members).map(|number| turn(&format!("n-{number:03}"), members)).collect();
            turns.sort();
            let soon = turns[0] + Duration::from_secs(1);
            let early = turns.iter().filter(|turn| **turn < soon).count();
            assert!(turns[0] <= Duration::from_secs(1), "{members}: the first waits for {:?}", turns[0]);
            assert!(members < 10 || early <= 12, "{members}: {early} within a second");
            assert!(turns[members - 1] <= TURN_MOST);
        }
        assert!(turn("a", usize::MAX) <= TURN_MOST);
    }

    #[test]
    fn a_bridge_that_nobody_forestalls_enters_and_stays_until_others_have_links() {
        check("b.b.b.", "------");
        check("bb.........................", "-++++++++++++++++++++++----");
    }
}
