//! What every actor shows without being asked.
//!
//! An actor has a [`Slot`], its place in the node's [`Tree`]. The slot outlives it: counters, what it is busy with and since
//! when, and the story of its earlier lives stand there, and whoever reads them waits for no actor. The counters
//! are atomics; what has to be read together (busy since when, with what) lies under a lock that is held for a copy and
//! never while an actor works.
//!
//! Only the state inside an actor has to be asked for, which `look_into` does within 100 ms; an actor that does not
//! answer is shown with what keeps it, and with what it answered last.

mod actor;
mod doorbell;
mod drill;
mod id;
mod story;
mod tree;

pub use self::{
    actor::{ANSWER_WITHIN, look_into},
    drill::Drill,
    id::Id,
    story::{Exit, Life},
    tree::{Found, Tree},
};

use self::{
    doorbell::Doorbell,
    drill::{Drills, Stall},
    story::Story,
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::Instant,
};

/// Readers that wait for one actor's answer at the same time. Those beyond see it as if it were busy.
const READERS_MAX: usize = 32;

/// An actor's place in the tree, whoever fills it.
pub struct Slot {
    id: Id,
    kind: &'static str,
    pub(crate) stats: Stats,
    pub(crate) doorbell: Doorbell,
    drills: Drills,
    leaving: AtomicBool,
    record: Mutex<Record>,
    answers: Mutex<Answers>,
}

/// Counters of the mailbox, over all lives.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) depth: AtomicU64,
    pub(crate) bound: AtomicU64,
    pub(crate) handled: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) replaced: AtomicU64,
}

/// What an actor is doing, as its supervisor sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// To be started once those before it run.
    #[default]
    Waiting,
    Running,
    Stopping,
    /// Failed, and started again soon.
    BackingOff,
    /// Failed more often than its supervisor puts up with, and tried again only now and then.
    Down,
    Stopped,
}

/// What an actor works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy {
    pub since: Instant,
    /// The kind of message, or `start`, `deadline`, `supervise`, `stall` and the like.
    pub with: &'static str,
}

/// One actor at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct View {
    pub id: Id,
    /// What it is: `supervisor`, `service`, `pool`…
    pub kind: &'static str,
    pub state: State,
    /// When it is started again, while it backs off or is down.
    pub until: Option<Instant>,
    /// Lives begun; 0 before the first.
    pub incarnation: u64,
    pub restarts: u64,
    pub busy: Option<Busy>,
    /// The kind of the last message, finished or not.
    pub last: Option<&'static str>,
    /// Messages that wait, and how many may.
    pub depth: u64,
    pub bound: u64,
    /// Messages handled to their end.
    pub handled: u64,
    /// Messages that were not taken because there was no room.
    pub refused: u64,
    /// Messages that had to make room for newer ones.
    pub dropped: u64,
    /// States that were replaced by newer ones before they were looked at.
    pub replaced: u64,
    /// The latest life that ended badly, of those that are remembered.
    pub failure: Option<(Instant, Exit)>,
}

/// The state inside an actor, as it told.
#[derive(Clone, PartialEq, Debug)]
pub enum Snapshot {
    Fresh(Arc<Value>),
    /// It did not answer in time. Its [`View`] tells what keeps it.
    Stale(Option<(Instant, Arc<Value>)>),
}

/// An earlier life has not ended, so no other can begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Occupied;

#[derive(Clone, Default)]
struct Record {
    state: State,
    until: Option<Instant>,
    busy: Option<Busy>,
    last: Option<&'static str>,
    incarnation: u64,
    /// Why a life is about to be ended from outside.
    doom: Option<&'static str>,
    story: Story,
}

#[derive(Default)]
struct Answers {
    wanted: bool,
    /// Answers given.
    given: u64,
    last: Option<(Instant, Arc<Value>)>,
    readers: VecDeque<Waker>,
}

impl Slot {
    pub(crate) fn new(id: Id, kind: &'static str) -> Self {
        Self {
            id,
            kind,
            stats: Stats::default(),
            doorbell: Doorbell::default(),
            drills: Drills::default(),
            leaving: AtomicBool::new(false),
            record: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What it is: `supervisor`, `service`, `pool`…
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    pub fn view(&self) -> View {
        let record = self.record().clone();
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let failed = |life: &Life| life.ended.clone().filter(|(_, exit)| exit.failed());
        View {
            id: self.id.clone(),
            kind: self.kind,
            state: record.state,
            until: record.until,
            incarnation: record.incarnation,
            restarts: record.incarnation.saturating_sub(1),
            busy: record.busy,
            last: record.last,
            depth: count(&self.stats.depth),
            bound: count(&self.stats.bound),
            handled: count(&self.stats.handled),
            refused: count(&self.stats.refused),
            dropped: count(&self.stats.dropped),
            replaced: count(&self.stats.replaced),
            failure: record.story.lives().filter_map(failed).last(),
        }
    }

    /// The lives that are remembered, oldest first.
    pub fn lives(&self) -> Vec<Life> {
        self.record().story.lives().cloned().collect()
    }

    /// Orders a drill. There must be somebody to drill: otherwise nothing happens, and the answer is what the actor is
    /// doing instead.
    pub fn drill(&self, drill: Drill) -> Result<(), State> {
        {
            let record = self.record();
            if record.occupied().is_none() {
                return Err(record.state);
            }
            // Under the lock, so that the order cannot fall upon the next life.
            self.drills.order(drill);
        }
        self.doorbell.ring();
        Ok(())
    }
}

/// What a supervisor writes, and what it asks for.
impl Slot {
    pub(crate) fn show(&self, state: State, until: Option<Instant>) {
        let mut record = self.record();
        record.state = state;
        record.until = until;
    }

    pub(crate) fn occupied(&self) -> bool {
        self.record().occupied().is_some()
    }

    /// Asks the actor to stop when it gets to it.
    pub(crate) fn ask_to_leave(&self) {
        self.leaving.store(true, Relaxed);
        self.doorbell.ring();
    }

    /// Notes why a life is ended that may have no chance to say so itself.
    pub(crate) fn doom(&self, why: &'static str) {
        self.record().doom.get_or_insert(why);
    }

    /// Ends whatever life there is, from outside, and returns how the latest ended.
    pub(crate) fn bury(&self, now: Instant) -> Option<Exit> {
        let life = self.record().occupied();
        if let Some(life) = life {
            self.end_from_outside(life, now);
        }
        self.record().story.last().and_then(|life| life.ended.as_ref()).map(|(_, exit)| exit.clone())
    }

    fn succeed(&self, before: &Self) {
        let old = before.record().clone();
        let mut record = self.record();
        record.incarnation = old.incarnation;
        record.story = old.story;
    }
}

/// What the actor itself writes.
impl Slot {
    /// Begins a life, and tells how the one before ended.
    pub(crate) fn begin(&self, now: Instant) -> Result<(u64, Option<Exit>), Occupied> {
        let mut record = self.record();
        if record.occupied().is_some() {
            return Err(Occupied);
        }
        let before = record.story.last().and_then(|life| life.ended.as_ref()).map(|(_, exit)| exit.clone());
        record.incarnation += 1;
        let incarnation = record.incarnation;
        record.story.begin(incarnation, now);
        record.state = State::Running;
        record.until = None;
        record.doom = None;
        record.busy = Some(Busy { since: now, with: "start" });
        self.drills.clear();
        self.leaving.store(false, Relaxed);
        Ok((incarnation, before))
    }

    pub(crate) fn end(&self, life: u64, exit: Exit, now: Instant) {
        let mut record = self.record();
        if record.story.end(life, exit, now) {
            record.state = State::Stopped;
            record.until = None;
            record.busy = None;
            self.doorbell.disconnect();
        }
    }

    pub(crate) fn end_from_outside(&self, life: u64, now: Instant) {
        let why = self.record().doom.unwrap_or("its supervisor ended");
        self.end(life, Exit::Killed(why), now);
    }

    pub(crate) fn busy(&self, with: &'static str, now: Instant) {
        let mut record = self.record();
        record.busy = Some(Busy { since: now, with });
        record.last = Some(with);
    }

    /// The same for what is no message.
    pub(crate) fn busy_aside(&self, with: &'static str, now: Instant) {
        self.record().busy = Some(Busy { since: now, with });
    }

    pub(crate) fn idle(&self) {
        self.record().busy = None;
    }

    /// What it is busy with, or was last.
    pub(crate) fn during(&self) -> &'static str {
        let record = self.record();
        record.busy.map(|busy| busy.with).or(record.last).unwrap_or("start")
    }

    pub(crate) fn asked_to_leave(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    pub(crate) fn drill_kills(&self) -> bool {
        self.drills.kills()
    }

    pub(crate) fn drill_stalls(&self, now: Instant) -> Option<Stall> {
        self.drills.stalls(now)
    }

    pub(crate) fn drill_changed(&self, stall: Stall, waker: &Waker) -> bool {
        self.drills.changed(stall, waker)
    }

    pub(crate) fn answer_wanted(&self) -> bool {
        self.answers().wanted
    }

    pub(crate) fn answer(&self, state: Value, now: Instant) {
        let mut answers = self.answers();
        answers.wanted = false;
        answers.given += 1;
        answers.last = Some((now, Arc::new(state)));
        let readers = std::mem::take(&mut answers.readers);
        drop(answers);
        readers.into_iter().for_each(Waker::wake);
    }
}

/// What a reader asks for.
impl Slot {
    /// Asks for an answer and returns how many there are so far.
    fn ask(&self) -> u64 {
        let given = {
            let mut answers = self.answers();
            answers.wanted = true;
            answers.given
        };
        self.doorbell.ring();
        given
    }

    /// An answer after the first `given`; without one, the waker is kept.
    fn answer_after(&self, given: u64, waker: &Waker) -> Option<Arc<Value>> {
        let mut answers = self.answers();
        if answers.given > given {
            return answers.last.as_ref().map(|(_, state)| Arc::clone(state));
        }
        if answers.readers.len() == READERS_MAX {
            answers.readers.pop_front();
        }
        answers.readers.push_back(waker.clone());
        None
    }

    fn last_answer(&self) -> Option<(Instant, Arc<Value>)> {
        self.answers().last.clone()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// As operators see it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing off",
            Self::Down => "down",
            Self::Stopped => "stopped",
        }
    }
}

impl Record {
    /// The life that has not ended.
    fn occupied(&self) -> Option<u64> {
        self.story.last().filter(|life| life.ended.is_none()).map(|life| life.incarnation)
    }
}
