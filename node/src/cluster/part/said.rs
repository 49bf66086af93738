//! What has been said lately about the cluster, so that nobody fills a log from outside: whoever reaches the peers' port can
//! give a reason to complain, as often as it connects.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The same line about the same thing is not said more often.
const AGAIN: Duration = Duration::from_secs(60);

/// Lines of one such span. A node that everything goes wrong for has fewer things to say.
const LINES_MAX: usize = 100;

#[derive(Default)]
pub(super) struct Said {
    /// By what they were about. Never more than were said in one span.
    lines: BTreeMap<String, (String, Instant)>,
    /// The lines of the span that began then.
    span: Option<(Instant, usize)>,
    unsaid: usize,
}

impl Said {
    /// Whether a line is to be said, and how many were not since the last one because there were too many.
    pub(super) fn say(&mut self, about: &str, line: &str, now: Instant) -> Option<usize> {
        if self.lines.get(about).is_some_and(|(before, at)| before == line && now.saturating_duration_since(*at) < AGAIN) {
            return None;
        }
        let (began, lines) = match self.span {
            Some((began, lines)) if now.saturating_duration_since(began) < AGAIN => (began, lines),
            _ => {
                self.lines.retain(|_, (_, at)| now.saturating_duration_since(*at) < AGAIN);
                (now, 0)
            }
        };
        if lines == LINES_MAX {
            self.unsaid += 1;
            return None;
        }
        self.span = Some((began, lines + 1));
        self.lines.insert(about.to_string(), (line.to_string(), now));
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_not_said_again_before_a_minute_is_over() {
        let (mut said, start) = (Said::default(), Instant::now());
        let table = [
            (0, "a", "lost", Some(0)),
            (1, "a", "lost", None),
            (2, "b", "lost", Some(0)),
            (3, "a", "found", Some(0)),
            (4, "a", "lost", Some(0)),
            (62, "b", "lost", Some(0)),
            (63, "a", "lost", None),
            (64, "a", "lost", Some(0)),
        ];
        for (second, about, line, expected) in table {
            assert_eq!(said.say(about, line, start + Duration::from_secs(second)), expected, "{about} {line} at {second}");
        }
    }

    #[test]
    fn whoever_gives_reasons_without_end_is_heard_a_hundred_times_a_minute() {
        let (mut said, start) = (Said::default(), Instant::now());
        let lines = (0..10_000).filter(|n| said.say(&format!("peer {n}"), "no", start + Duration::from_millis(*n)).is_some());
        assert_eq!(lines.count(), LINES_MAX);
        assert_eq!(said.lines.len(), LINES_MAX);
        assert_eq!(said.say("disk", "full", start + AGAIN), Some(9_900));
        assert_eq!(said.say("disk", "gone", start + AGAIN), Some(0));
        assert!(said.lines.len() <= LINES_MAX + 1, "{}", said.lines.len());
    }
}
