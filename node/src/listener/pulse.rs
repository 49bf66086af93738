//! What a connection is doing, and since when: noted by whoever does it, read by the driver when its timer fires.

use crate::telemetry::metrics::Ended;
use cluster::World;
use config::Bounds;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub(crate) struct Pulse {
    world: Arc<dyn World>,
    began: Instant,
    /// Requests whose answer is not complete.
    active: AtomicUsize,
    /// Whether bytes of a next request have come while none was active.
    in_head: AtomicBool,
    /// Nanoseconds since `began` at which the connection fell idle, or a head began.
    since: AtomicU64,
    /// Requests whose answer is complete.
    completed: AtomicU64,
    /// Nanoseconds since `began` at which a write found no room; 0 while writing goes on.
    blocked: AtomicU64,
    /// Nanoseconds since `began` at which an endpoint's answer is late; 0 while none is waited for.
    answer_due: AtomicU64,
    answer_late: AtomicBool,
    /// Answers of HTTP/2 whose next piece nobody asks for.
    held: AtomicUsize,
    /// Pieces of such answers that were asked for after all.
    moved: AtomicU64,
    ask_to_leave: AtomicBool,
    /// Whether the caller may still be sending when the connection ends.
    lingers: AtomicBool,
    /// Whether all has been said and only the caller's last words are waited for, which has a bound of its own.
    ending: AtomicBool,
    calmed: AtomicBool,
    expired: AtomicU8,
}

/// Since when no answer of a connection has moved, as far as its driver has seen.
#[derive(Default)]
pub(super) struct Stall {
    moved: u64,
    since: Option<Instant>,
}

/// Over what a connection took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slow {
    Head,
    Idle,
    Write,
    /// An endpoint did: the connection itself is not to blame.
    Answer,
}

impl From<Slow> for Ended {
    fn from(slow: Slow) -> Self {
        match slow {
            Slow::Head => Self::HeadTimeout,
            Slow::Idle => Self::Idle,
            Slow::Write => Self::WriteStall,
            Slow::Answer => Self::Broken,
        }
    }
}

pub(crate) enum Patience {
    Until(Instant),
    Over(Slow),
}

impl Pulse {
    pub(crate) fn new(world: Arc<dyn World>) -> Self {
        let began = world.now();
        Self {
            world,
            began,
            active: AtomicUsize::new(0),
            in_head: AtomicBool::new(false),
            since: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            answer_due: AtomicU64::new(0),
            answer_late: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            ask_to_leave: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            calmed: AtomicBool::new(false),
            expired: AtomicU8::new(0),
        }
    }

    pub(crate) fn request_begins(&self) {
        self.active.fetch_add(1, Relaxed);
        self.in_head.store(false, Relaxed);
    }

    pub(crate) fn request_over(&self, now: Instant) {
        self.completed.fetch_add(1, Relaxed);
        if self.active.fetch_sub(1, Relaxed) == 1 {
            self.since.store(self.nanos(now), Relaxed);
        }
    }

    pub(super) fn completed(&self) -> u64 {
        self.completed.load(Relaxed)
    }

    pub(super) fn now(&self) -> Instant {
        self.world.now()
    }

    /// Bytes of a head have come, or of what can only be one.
    pub(super) fn reads_head(&self) {
        if self.active.load(Relaxed) == 0 && !self.in_head.swap(true, Relaxed) {
            self.since.store(self.nanos(self.world.now()), Relaxed);
        }
    }

    pub(super) fn wrote(&self) {
        if self.blocked.load(Relaxed) != 0 {
            self.blocked.store(0, Relaxed);
        }
    }

    pub(super) fn write_blocked(&self) {
        if self.blocked.load(Relaxed) == 0 {
            self.blocked.store(self.nanos(self.world.now()).max(1), Relaxed);
        }
    }

    /// The one request of an HTTP/1.1 connection waits for an answer until `due`. Saying so here costs two stores; a timer
    /// for each request would cost more than all else that is timed.
    pub(crate) fn expect_answer(&self, due: Instant) {
        self.answer_late.store(false, Relaxed);
        self.answer_due.store(self.nanos(due).max(1), Relaxed);
    }

    /// It waits no longer.
    pub(crate) fn expect_none(&self) {
        self.answer_due.store(0, Relaxed);
    }

    pub(super) fn answer_is_late(&self) {
        self.answer_due.store(0, Relaxed);
        self.answer_late.store(true, Relaxed);
    }

    pub(crate) fn is_answer_late(&self) -> bool {
        self.answer_late.load(Relaxed)
    }

    /// A piece of an answer is there and waits to be asked for. On HTTP/1.1 it is the socket that says when there is no
    /// room; here a window may be closed while the socket is wide open.
    pub(crate) fn holds(&self) {
        self.held.fetch_add(1, Relaxed);
    }

    pub(crate) fn releases(&self) {
        self.held.fetch_sub(1, Relaxed);
        self.moved.fetch_add(1, Relaxed);
    }

    pub(crate) fn ask_to_leave(&self) {
        self.ask_to_leave.store(true, Relaxed);
    }

    pub(super) fn is_asked_to_leave(&self) -> bool {
        self.ask_to_leave.load(Relaxed)
    }

    /// Says that the connection ends after this answer, whatever the caller goes on to send.
    pub(crate) fn linger(&self) {
        self.lingers.store(true, Relaxed);
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.lingers.load(Relaxed)
    }

    pub(super) fn ends(&self) {
        self.ending.store(true, Relaxed);
    }

    /// Whether the caller may be in the middle of saying something.
    pub(super) fn may_be_cut_short(&self) -> bool {
        self.is_lingering() || self.in_head.load(Relaxed)
    }

    pub(super) fn calm(&self) {
        self.calmed.store(true, Relaxed);
    }

    pub(super) fn is_calmed(&self) -> bool {
        self.calmed.load(Relaxed)
    }

    /// Whether the next thing to come is a head, begun or not, of a request that nobody has been told not to send.
    pub(super) fn awaits_head(&self) -> bool {
        self.active.load(Relaxed) == 0 && (self.in_head.load(Relaxed) || self.completed() == 0)
    }

    /// Whether the other end has said nothing at all.
    pub(super) fn awaits_first_byte(&self) -> bool {
        self.awaits_head() && !self.in_head.load(Relaxed)
    }

    /// Says that the connection's time is up. True if there is something to tell the caller.
    pub(super) fn expire(&self, what: Slow) -> bool {
        self.expired.store(1, Relaxed);
        what == Slow::Head && self.in_head.load(Relaxed)
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expired.load(Relaxed) != 0
    }

    /// How long the driver may leave the connection alone from here on.
    pub(super) fn patience(&self, bounds: &Bounds, stall: &mut Stall) -> Patience {
        let now = self.world.now();
        match self.next_deadline(bounds) {
            None if self.is_stalled(now, bounds, stall) => Patience::Over(Slow::Write),
            // Busy, and nothing blocked: look again after the shortest time that anything may take.
            None => Patience::Until(now + bounds.head_timeout.min(bounds.write_stall).min(bounds.keep_alive)),
            Some((then, what)) if then <= now => Patience::Over(what),
            Some((then, _)) => Patience::Until(then),
        }
    }

    /// Whether some answer is held, and none has moved for as long as a write may take.
    fn is_stalled(&self, now: Instant, bounds: &Bounds, stall: &mut Stall) -> bool {
        let moved = self.moved.load(Relaxed);
        if self.held.load(Relaxed) == 0 || moved != stall.moved {
            *stall = Stall { moved, since: None };
        }
        let since = *stall.since.get_or_insert(now);
        now.saturating_duration_since(since) >= bounds.write_stall
    }

    /// A deadline that comes before the armed one.
    pub(super) fn shorten(&self, bounds: &Bounds, armed: Instant) -> Option<Instant> {
        self.next_deadline(bounds).map(|(then, _)| then).filter(|then| *then < armed)
    }

    fn next_deadline(&self, bounds: &Bounds) -> Option<(Instant, Slow)> {
        let blocked = self.blocked.load(Relaxed);
        if blocked != 0 {
            return Some((self.at(blocked) + bounds.write_stall, Slow::Write));
        }
        if self.active.load(Relaxed) > 0 {
            let due = self.answer_due.load(Relaxed);
            return (due != 0).then(|| (self.at(due), Slow::Answer));
        }
        if self.ending.load(Relaxed) {
            return None;
        }
        let since = self.at(self.since.load(Relaxed));
        // Before its first request a connection is as slow as a head: nothing has earned it the longer time yet.
        if self.in_head.load(Relaxed) || self.completed() == 0 {
            return Some((since + bounds.head_timeout, Slow::Head));
        }
        Some((since + bounds.keep_alive, Slow::Idle))
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    fn at(&self, nanos: u64) -> Instant {
        self.began + Duration::from_nanos(nanos)
    }
}
