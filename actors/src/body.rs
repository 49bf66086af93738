//! What an actor of ours is made of, so that a body stays thin.
//!
//! A body handles one message after the other in plain functions. It cannot wait in them, because they are not made to:
//! what has to wait (a probe, a name to look up) is handed to the [`Turn`] as a task, and its answer comes back as a message
//! to the same life. A task that panics takes its actor along, and an actor that ends takes along its tasks: no answer
//! gets lost silently and none reaches a stranger.
//!
//! Counters, drills, snapshots, the timer and the story of lives are the business of the shell around it.

pub(crate) mod actor;

pub use self::actor::Ground;

use crate::handles::Message;
use cluster::BoxFuture;
use serde_json::Value;
use std::time::Instant;

pub trait Body: Send + 'static {
    type Message: Message;

    /// Tasks that may be under way at the same time. Each holds one message when it is done.
    const TASKS_MAX: usize = 64;

    fn handle(&mut self, message: Self::Message, turn: &mut Turn<'_, Self::Message>);

    /// When to be called by [`Body::expire`]. Asked for after every turn.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has come. If it does not move on, the next call is a millisecond later.
    fn expire(&mut self, _turn: &mut Turn<'_, Self::Message>) {}

    /// The state inside, for people: what it knows, has decided and waits for. No secrets.
    fn inspect(&self, now: Instant) -> Value;

    /// It was asked to stop, and this is its last turn.
    fn stop(&mut self, _now: Instant) {}
}

/// One turn of a body: the time, chance, and what it wants to come of the turn.
pub struct Turn<'a, M> {
    now: Instant,
    chance: &'a dyn Fn() -> u64,
    tasks: Vec<BoxFuture<'static, M>>,
    /// Tasks that may still be added.
    room: usize,
    finished: bool,
    failed: Option<String>,
}

/// As many tasks are under way as may be. Nothing was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

impl<'a, M> Turn<'a, M> {
    /// A turn with room for so many tasks.
    pub fn new(now: Instant, chance: &'a dyn Fn() -> u64, room: usize) -> Self {
        Self { now, chance, tasks: Vec::new(), room, finished: false, failed: None }
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn chance(&self) -> u64 {
        (self.chance)()
    }

    /// Begins a task once the turn is over. Its answer comes as a message, ahead of those that others sent.
    pub fn begin(&mut self, task: BoxFuture<'static, M>) -> Result<(), NoRoom> {
        self.room = self.room.checked_sub(1).ok_or(NoRoom)?;
        self.tasks.push(task);
        Ok(())
    }

    /// There is nothing left to do: the life ends with this turn, and well.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// It cannot go on: the life ends with this turn, and its supervisor decides what becomes of it.
    pub fn fail(&mut self, why: String) {
        self.failed = Some(why);
    }

    pub fn take_tasks(&mut self) -> Vec<BoxFuture<'static, M>> {
        std::mem::take(&mut self.tasks)
    }

    pub fn finished(&self) -> bool {
        self.finished
    }

    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}
