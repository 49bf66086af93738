//! What a supervisor goes by: whom a failure concerns, who is started again, and how much is put up with.

use std::time::Duration;

/// Who is stopped and started again along with a child that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// Nobody. For children that share only what outlives them.
    OneForOne,
    /// All. For children that hold what another child's life made.
    OneForAll,
    /// Those that were started after it. For children that hold what an earlier child's life made.
    RestForOne,
}

/// When a child is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// However it ended.
    Permanent,
    /// Only if it failed.
    Transient,
    /// Never; it is forgotten once it ended.
    Temporary,
}

#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub strategy: Strategy,
    /// Restarts of one child within `window` that are put up with; one more and it is down. 5 is a good start.
    pub restarts_max: u32,
    pub window: Duration,
    /// The wait before a restart: drawn between `backoff_min` and twice that, doubled with each failure in the window, and
    /// cut to `backoff_max`.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// The same for a child that is down.
    pub down_min: Duration,
    pub down_max: Duration,
    /// Different children that may fail within `window`, whatever the number of children: with one more, and more than
    /// a quarter of all, the supervisor gives up.
    pub failing_max: usize,
    /// How long all children together may take to stop. Then the rest is killed. A supervisor above others should give more
    /// than each of them gives its own children.
    pub stop_within: Duration,
    pub children_max: usize,
}

impl Strategy {
    pub fn word(self) -> &'static str {
        match self {
            Self::OneForOne => "one for one",
            Self::OneForAll => "one for all",
            Self::RestForOne => "rest for one",
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            restarts_max: 5,
            window: Duration::from_secs(10),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(2),
            down_min: Duration::from_secs(30),
            down_max: Duration::from_secs(300),
            failing_max: 5,
            stop_within: Duration::from_secs(5),
            children_max: 4096,
        }
    }
}
