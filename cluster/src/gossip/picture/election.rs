//! Whether this node should be in the ring of the world: because it speaks for its region, or because it has a link into one that
//! nobody hears.
//!
//! Nobody is elected: each node computes who speaks for its region from what it sees, and what it sees changes often while a
//! cluster starts or is restarted. So it waits a little before it enters, and longer before it leaves.

use std::time::{Duration, Instant};

/// A node that would speak for its region for so long does, and one that would not for so long stops.
pub(super) const ELECTED_FOR: Duration = Duration::from_secs(1);
const UNELECTED_FOR: Duration = Duration::from_secs(5);

/// A node with a link into a region that nobody hears stays for so long after it is heard: by then those who speak for the
/// two have links of their own.
pub(super) const BRIDGES_FOR: Duration = Duration::from_secs(20);

/// In the ring for so long, a node knows what it has to pass on.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// How long the goodbye to the ring takes.
pub(super) const GOODBYE_FOR: Duration = Duration::from_millis(1_500);

#[derive(Default)]
pub(super) struct Election {
    elected_since: Option<Instant>,
    unelected_since: Option<Instant>,
    /// When there was last a link into a region that was not heard.
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

    /// Whether the node should be in the ring, if it is elected now, or bridges.
    pub(super) fn decide(&mut self, elected: bool, bridges: bool, now: Instant) -> bool {
        if elected {
            (self.elected_since, self.unelected_since) = (self.elected_since.or(Some(now)), None);
        } else {
            (self.elected_since, self.unelected_since) = (None, self.unelected_since.or(Some(now)));
        }
        if bridges {
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
        if self.entered.is_some() { self.unelected_since.is_some() } else { self.elected_since.is_some() }
    }
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
            let decided = election.decide(second == 'e', second == 'b', now);
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
    fn a_bridge_enters_at_once_and_stays_until_others_have_links() {
        check("b.......................", "++++++++++++++++++++++--");
    }
}
