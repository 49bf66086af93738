//! How an actor is reached: through a reference with a bound, and a stated policy for when the bound is met.
//!
//! A [`Mailbox`] belongs to a place in the tree and not to whoever stands there. References therefore stay valid
//! over restarts, and what waits is handled by the next life; only the message that an actor died of is gone. A mailbox
//! has lanes, each with its own bound and policy, so that a flood of one kind cannot push out another. Messages are handled in
//! the order in which they were sent, whatever their lane.
//!
//! Nothing here waits: a message is taken, or it is not, at once.

use crate::inspect::{Id, Slot};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};

pub trait Message: Send + 'static {
    /// What operators see while it is handled: one or two words, the same for every message of its kind.
    fn kind(&self) -> &'static str;
}

/// What happens when there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The new message goes back to its sender. For what somebody can answer for: orders.
    Refuse { bound: usize },
    /// The oldest of the lane makes room. For what loses worth with age: observations.
    DropOldest { bound: usize },
    /// There is only ever one, the newest, in the place of the first that was not looked at. For states.
    KeepLatest,
}

/// The messages that wait for an actor, alive or not.
pub struct Mailbox<M> {
    slot: Arc<Slot>,
    lanes: Mutex<Lanes<M>>,
}

struct Lanes<M> {
    lanes: Vec<Lane<M>>,
    /// Messages sent so far, over all lanes; a message's number is its turn.
    sent: u64,
    closed: bool,
}

struct Lane<M> {
    waiting: VecDeque<(u64, M)>,
    full: Full,
}

/// One way into a mailbox.
pub struct Reference<M> {
    mailbox: Arc<Mailbox<M>>,
    lane: usize,
}

/// Where a message went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    Queued,
    /// The oldest message was dropped for it.
    Dropped,
    /// An older state was replaced by it.
    Replaced,
}

/// Nothing was sent; here is the message.
#[derive(PartialEq, Eq)]
pub enum Refused<M> {
    Full(M),
    /// The actor was taken out of the tree and does not come back.
    Gone(M),
}

impl Full {
    fn bound(self) -> usize {
        match self {
            Self::Refuse { bound } | Self::DropOldest { bound } => bound.max(1),
            Self::KeepLatest => 1,
        }
    }
}

impl<M: Message> Mailbox<M> {
    /// The mailbox of an actor that is yet to be added to a supervisor.
    pub fn new(id: Id, kind: &'static str) -> Arc<Self> {
        let lanes = Lanes { lanes: Vec::new(), sent: 0, closed: false };
        Arc::new(Self { slot: Arc::new(Slot::new(id, kind)), lanes: Mutex::new(lanes) })
    }

    /// Opens a lane. A bound of 0 is 1. Lanes are opened once, when the mailbox is made; clones of a reference share theirs.
    #[must_use]
    pub fn lane(self: &Arc<Self>, full: Full) -> Reference<M> {
        let mut lanes = self.locked();
        lanes.lanes.push(Lane { waiting: VecDeque::new(), full });
        self.slot.stats.bound.fetch_add(full.bound() as u64, Relaxed);
        Reference { mailbox: Arc::clone(self), lane: lanes.lanes.len() - 1 }
    }

    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// The message that was sent first.
    pub(crate) fn take(&self) -> Option<M> {
        let mut lanes = self.locked();
        let turn = |lane: &&mut Lane<M>| lane.waiting.front().map(|(turn, _)| *turn);
        let first = lanes.lanes.iter_mut().filter(|lane| !lane.waiting.is_empty()).min_by_key(turn)?;
        let (_, message) = first.waiting.pop_front()?;
        self.slot.stats.depth.fetch_sub(1, Relaxed);
        Some(message)
    }

    /// Nobody reads it any more: what waits is dropped, and what comes is refused.
    pub(crate) fn close(&self) {
        let mut lanes = self.locked();
        lanes.closed = true;
        let waiting: Vec<_> = lanes.lanes.iter_mut().map(|lane| std::mem::take(&mut lane.waiting)).collect();
        drop(lanes);
        let count = waiting.iter().map(|lane| lane.len() as u64).sum();
        self.slot.stats.depth.fetch_sub(count, Relaxed);
        self.slot.stats.dropped.fetch_add(count, Relaxed);
    }

    fn send(&self, lane: usize, message: M) -> Result<Sent, Refused<M>> {
        let mut lanes = self.locked();
        if lanes.closed {
            return Err(Refused::Gone(message));
        }
        let stats = &self.slot.stats;
        let turn = lanes.sent;
        lanes.sent += 1;
        let lane = &mut lanes.lanes[lane];
        // Dropped once the lock is free: dropping a message may run anything.
        let mut displaced = None;
        let sent = if lane.waiting.len() < lane.full.bound() {
            lane.waiting.push_back((turn, message));
            stats.depth.fetch_add(1, Relaxed);
            Sent::Queued
        } else {
            match lane.full {
                Full::Refuse { .. } => {
                    stats.refused.fetch_add(1, Relaxed);
                    return Err(Refused::Full(message));
                }
                Full::DropOldest { .. } => {
                    displaced = lane.waiting.pop_front();
                    lane.waiting.push_back((turn, message));
                    stats.dropped.fetch_add(1, Relaxed);
                    Sent::Dropped
                }
                // It keeps the turn of the one before: a state that changes all the time would never have one.
                Full::KeepLatest => {
                    displaced = lane.waiting.pop_front().map(|(turn, older)| {
                        lane.waiting.push_back((turn, message));
                        (turn, older)
                    });
                    stats.replaced.fetch_add(1, Relaxed);
                    Sent::Replaced
                }
            }
        };
        drop(lanes);
        drop(displaced);
        self.slot.doorbell.ring();
        Ok(sent)
    }

    fn locked(&self) -> MutexGuard<'_, Lanes<M>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Message> Reference<M> {
    pub fn send(&self, message: M) -> Result<Sent, Refused<M>> {
        self.mailbox.send(self.lane, message)
    }

    pub fn id(&self) -> &Id {
        self.mailbox.slot.id()
    }

    pub fn slot(&self) -> &Arc<Slot> {
        &self.mailbox.slot
    }
}

impl<M> Clone for Reference<M> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox), lane: self.lane }
    }
}

impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Gone(_) => "Gone",
        })
    }
}

#[cfg(test)]
mod tests;
