//! What became of an actor's earlier lives: when each began, when it ended, and of what.
//!
//! A story belongs to the place in the tree and not to whoever stands there, so it outlives every incarnation. It is
//! bounded: the oldest lives are forgotten first.

use std::{collections::VecDeque, fmt, time::Instant};

/// Lives that are remembered.
pub(crate) const LIVES_MAX: usize = 16;

/// Bytes of a panic's text, or of another reason, that are kept.
const TEXT_MAX: usize = 1024;

/// How a life ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It had nothing left to do.
    Finished,
    /// It was asked to.
    Stopped,
    /// A bug, or a drill that stands for one.
    Panicked {
        text: String,
        /// The kind of message, or `start`, `deadline` and the like.
        during: &'static str,
    },
    /// It could not go on, and says why.
    Failed(String),
    /// A supervisor gave up, because too many of its children failed.
    Escalated(String),
    /// From outside, between two messages or while it was stalled.
    Killed(&'static str),
}

/// One incarnation, from its start to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Life {
    /// Counted from 1.
    pub incarnation: u64,
    pub started: Instant,
    pub ended: Option<(Instant, Exit)>,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Story {
    lives: VecDeque<Life>,
}

impl Exit {
    pub(crate) fn panicked(text: &str, during: &'static str) -> Self {
        Self::Panicked { text: cut(text), during }
    }

    pub(crate) fn gave_out(why: &str) -> Self {
        Self::Failed(cut(why))
    }

    pub(crate) fn escalated(reason: &str) -> Self {
        Self::Escalated(cut(reason))
    }

    /// The same for every end of its kind.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Panicked { .. } => "panicked",
            Self::Failed(_) => "failed",
            Self::Escalated(_) => "escalated",
            Self::Killed(_) => "killed",
        }
    }

    pub fn failed(&self) -> bool {
        !matches!(self, Self::Finished | Self::Stopped)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Stopped => f.write_str("stopped"),
            Self::Panicked { text, during } => write!(f, "panicked during {during}: {text}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Escalated(reason) => write!(f, "gave up: {reason}"),
            Self::Killed(why) => write!(f, "killed: {why}"),
        }
    }
}

impl Story {
    pub(crate) fn begin(&mut self, incarnation: u64, now: Instant) {
        if self.lives.len() == LIVES_MAX {
            self.lives.pop_front();
        }
        self.lives.push_back(Life { incarnation, started: now, ended: None });
    }

    /// The first to say how a life ended is believed: whoever is closer to the cause speaks earlier.
    pub(crate) fn end(&mut self, incarnation: u64, exit: Exit, now: Instant) -> bool {
        match self.lives.back_mut() {
            Some(life) if life.incarnation == incarnation && life.ended.is_none() => {
                life.ended = Some((now, exit));
                true
            }
            _ => false,
        }
    }

    pub(crate) fn last(&self) -> Option<&Life> {
        self.lives.back()
    }

    pub(crate) fn lives(&self) -> impl Iterator<Item = &Life> {
        self.lives.iter()
    }
}

fn cut(text: &str) -> String {
    let end = (0..=TEXT_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_string()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lives_are_forgotten_first() {
        let now = Instant::now();
        let mut story = Story::default();
        for incarnation in 1..=40 {
            story.begin(incarnation, now);
            assert!(story.end(incarnation, Exit::Stopped, now));
        }
        let kept: Vec<u64> = story.lives().map(|life| life.incarnation).collect();
        assert_eq!(kept, (25..=40).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_to_say_how_a_life_ended_is_believed() {
        let now = Instant::now();
        let mut story = Story::default();
        story.begin(1, now);
        assert!(story.end(1, Exit::panicked("index out of bounds", "probed"), now));
        assert!(!story.end(1, Exit::Killed("its supervisor ended"), now));
        assert!(story.last().is_some_and(|life| matches!(life.ended, Some((_, Exit::Panicked { .. })))));
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let Exit::Panicked { text, .. } = Exit::panicked(&"ä".repeat(1000), "start") else { unreachable!() };
        assert_eq!(text.chars().count(), TEXT_MAX / 2);
        let Exit::Panicked { text, .. } = Exit::panicked(&format!("x{}", "ä".repeat(1000)), "start") else { unreachable!() };
        assert_eq!(text.len(), TEXT_MAX - 1);
    }
}
