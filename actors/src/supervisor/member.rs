//! One child in the eyes of its supervisor: where it stands, and what is held against it.

use super::Spec;
use crate::inspect::State;
use std::{collections::VecDeque, time::Instant};

pub(super) struct Member {
    pub(super) spec: Spec,
    pub(super) standing: Standing,
    /// When it failed, within the window; at most one more than is put up with.
    pub(super) failures: VecDeque<Instant>,
    pub(super) failed_last: Option<Instant>,
    /// Times in a row that it was down.
    pub(super) downs: u32,
    /// It stops only because another failed, and starts again.
    pub(super) recycled: bool,
    /// It is not wanted any more. If somebody of the same name is, it is put here until this one has ended.
    pub(super) removed: Option<Successor>,
}

pub(super) type Successor = Option<Spec>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Waiting,
    Starting,
    Running { since: Instant },
    Stopping { kill_at: Option<Instant> },
    BackingOff { until: Instant, down: bool },
    Ended,
}

impl Member {
    pub(super) fn new(spec: Spec) -> Self {
        Self { spec, standing: Standing::Waiting, failures: VecDeque::new(), failed_last: None, downs: 0, recycled: false, removed: None }
    }

    /// Whether it, or somebody of its name, is to stay.
    pub(super) fn wanted(&self) -> bool {
        !matches!(self.removed, Some(None))
    }

    /// Whether it has a life.
    pub(super) fn alive(&self) -> bool {
        matches!(self.standing, Standing::Starting | Standing::Running { .. } | Standing::Stopping { .. })
    }

    /// Whether those who start after it may start.
    pub(super) fn ready(&self) -> bool {
        self.removed.is_some() || matches!(self.standing, Standing::Running { .. } | Standing::Ended)
    }

    pub(super) fn backing_off(&self) -> bool {
        matches!(self.standing, Standing::BackingOff { .. })
    }
}

impl Standing {
    pub(super) fn shown(&self) -> (State, Option<Instant>) {
        match *self {
            Self::Waiting | Self::Starting => (State::Waiting, None),
            Self::Running { .. } => (State::Running, None),
            Self::Stopping { .. } => (State::Stopping, None),
            Self::BackingOff { until, down: false } => (State::BackingOff, Some(until)),
            Self::BackingOff { until, down: true } => (State::Down, Some(until)),
            Self::Ended => (State::Stopped, None),
        }
    }
}
