//! Who is not to be spoken of any more, because an operator said so.
//!
//! A member is forgotten up to a generation: if it comes back, it comes back as a new one. That holds for a day on
//! every node that has heard of it, which is longer than any node remembers the member itself.

use super::told::FORGOTTEN_MAX;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

const HELD: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Default)]
pub(super) struct Forgotten {
    members: BTreeMap<Arc<str>, Held>,
    regions: BTreeMap<Arc<str>, Held>,
}

#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) generation: u64,
    until: Instant,
    /// Said by an operator on this node.
    pub(super) ours: bool,
}

impl Forgotten {
    pub(super) fn member(&mut self, name: &Arc<str>, generation: u64, ours: bool, now: Instant) -> bool {
        hold(&mut self.members, name, generation, ours, now)
    }

    pub(super) fn region(&mut self, name: &Arc<str>, generation: u64, ours: bool, now: Instant) -> bool {
        hold(&mut self.regions, name, generation, ours, now)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.members.retain(|_, held| now < held.until);
        self.regions.retain(|_, held| now < held.until);
    }

    pub(super) fn is(&self, name: &str, region: &str, generation: u64) -> bool {
        let holds = |held: Option<&Held>| held.is_some_and(|held| generation <= held.generation);
        holds(self.members.get(name)) || holds(self.regions.get(region))
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&Arc<str>, Held)> {
        self.members.iter().map(|(name, held)| (name, *held))
    }

    pub(super) fn regions(&self) -> impl Iterator<Item = (&Arc<str>, Held)> {
        self.regions.iter().map(|(name, held)| (name, *held))
    }
}

/// Whether that was news that could be held.
fn hold(held: &mut BTreeMap<Arc<str>, Held>, name: &Arc<str>, generation: u64, ours: bool, now: Instant) -> bool {
    let known = held.get(name);
    let news = known.is_none_or(|known| generation > known.generation) && (known.is_some() || held.len() < FORGOTTEN_MAX);
    if news {
        held.insert(Arc::clone(name), Held { generation, until: now + HELD, ours });
    }
    news
}
