//! Which children a supervisor is to have.
//!
//! The list is not the supervisor's own: it outlives every life of it, so a supervisor that starts afresh brings back the
//! same children in the same order. It may be changed at any time, from anywhere, whether or not the supervisor is
//! alive; the supervisor compares it with what it has and does what is missing.

use super::{Child, Policy, Restart, Spec};
use crate::inspect::{Id, Slot};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A supervisor's place in the tree, with the list of its children.
pub struct Branch {
    slot: Arc<Slot>,
    policy: Policy,
    list: Mutex<List>,
}

struct List {
    children: Vec<Listed>,
    /// Changes made so far. A child's number is that of the change that added it, so one that was removed and added again in
    /// the meantime is noticed.
    changes: u64,
    closed: bool,
}

#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) number: u64,
    pub(crate) child: Child,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAdded {
    /// There is one of that name.
    Exists,
    Full {
        max: usize,
    },
    /// Its id is not directly below the supervisor's.
    Misplaced,
    /// The supervisor stops, or was taken out of the tree.
    Leaving,
}

impl Branch {
    pub fn new(id: Id, policy: Policy) -> Arc<Self> {
        let list = List { children: Vec::new(), changes: 0, closed: false };
        Arc::new(Self { slot: Arc::new(Slot::new(id, "supervisor")), policy, list: Mutex::new(list) })
    }

    pub fn id(&self) -> &Id {
        self.slot.id()
    }

    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Lists a child after all others. It starts once the supervisor gets to it.
    pub fn add(&self, child: Child) -> Result<(), NotAdded> {
        {
            let mut list = self.locked();
            if list.closed {
                return Err(NotAdded::Leaving);
            }
            if !self.id().covers(child.id()) || child.id().depth() != self.id().depth() + 1 {
                return Err(NotAdded::Misplaced);
            }
            if list.children.iter().any(|listed| listed.child.id() == child.id()) {
                return Err(NotAdded::Exists);
            }
            if list.children.len() >= self.policy.children_max {
                return Err(NotAdded::Full { max: self.policy.children_max });
            }
            list.changes += 1;
            let number = list.changes;
            list.children.push(Listed { number, child });
        }
        self.slot.doorbell.ring();
        Ok(())
    }

    /// Takes a child off the list; it stops when the supervisor gets to it. `false` if it was not there.
    pub fn remove(&self, id: &Id) -> bool {
        let removed = self.strike(|listed| listed.child.id() == id);
        if removed {
            self.slot.doorbell.ring();
        }
        removed
    }

    /// In the order in which they start.
    pub fn children(&self) -> Vec<Id> {
        self.locked().children.iter().map(|listed| listed.child.id().clone()).collect()
    }

    /// A child that ended by itself and is not to come back with the next life of the supervisor.
    pub(crate) fn forget(&self, number: u64) {
        self.strike(|listed| listed.number == number);
    }

    /// The list, if it has changed since there had been `seen` changes.
    pub(crate) fn changed(&self, seen: Option<u64>) -> Option<(u64, Vec<Listed>)> {
        let list = self.locked();
        (seen != Some(list.changes)).then(|| (list.changes, list.children.clone()))
    }

    /// It does not come back, and neither does anybody below.
    pub(crate) fn close(&self) {
        let children = {
            let mut list = self.locked();
            list.closed = true;
            list.changes += 1;
            std::mem::take(&mut list.children)
        };
        children.iter().for_each(|listed| listed.child.close());
    }

    fn strike(&self, which: impl Fn(&Listed) -> bool) -> bool {
        let mut list = self.locked();
        let before = list.children.len();
        list.children.retain(|listed| !which(listed));
        let struck = list.children.len() < before;
        list.changes += u64::from(struck);
        struck
    }

    fn locked(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    pub fn id(&self) -> &Id {
        self.slot().id()
    }

    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    pub(crate) fn spec(&self) -> Spec {
        Spec { id: self.id().clone(), restart: self.restart, stop_within: self.stop_within }
    }
}

impl fmt::Display for NotAdded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("there is an actor of that name"),
            Self::Full { max } => write!(f, "there are {max} actors, which is as many as one supervisor takes"),
            Self::Misplaced => f.write_str("an actor can only be added directly below its supervisor"),
            Self::Leaving => f.write_str("the supervisor stops"),
        }
    }
}

impl std::error::Error for NotAdded {}
