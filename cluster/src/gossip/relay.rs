//! Which records a representative writes into a ring, so that each is written once as long as all is well.
//!
//! The representatives of a region have an order. The first one writes at once; each other waits a second longer to see whether
//! that was enough, and writes only what those who are alive do not say already. When one dies, what only it had
//! said is written by the next.

use super::record::Record;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Long enough for a round of gossip to go from one representative to the next.
const TURN: Duration = Duration::from_secs(1);

pub(super) type Records = BTreeMap<Arc<str>, Record>;

#[derive(Default)]
pub(super) struct Relay {
    written: BTreeMap<Arc<str>, Record>,
    /// Since when something is said by nobody.
    unsaid: BTreeMap<Arc<str>, Instant>,
}

impl Relay {
    /// Brings up to date what this node writes. `known` is all that it knows; `others` what those of the others who are alive say,
    /// and `beyond` what those say who know better only until they are contradicted.
    pub(super) fn step(&mut self, known: &Records, others: &Records, beyond: &Records, rank: usize, now: Instant) {
        self.written.retain(|name, _| known.contains_key(name));
        self.unsaid.retain(|name, _| known.contains_key(name));
        let patience = TURN * u32::try_from(rank).unwrap_or(u32::MAX);
        for (name, record) in known {
            // What this node has written and does not believe any more it takes back at once, whatever its turn.
            if self.written.get(name).is_some_and(|written| !written.says_the_same_as(record)) {
                self.written.remove(name);
                if !others.get(name).is_some_and(|read| read.says_the_same_as(record)) {
                    self.written.insert(Arc::clone(name), record.clone());
                }
            }
            let is_enough = |read: &Record| read.says_as_much_as(record);
            // What readers come to know from all that is written, by this node and by others.
            let read = merged(others.get(name), self.written.get(name));
            let all = merged(beyond.get(name), read.as_ref());
            if read.as_ref().is_some_and(is_enough) && all.as_ref().is_some_and(is_enough) {
                self.unsaid.remove(name);
                continue;
            }
            let since = *self.unsaid.entry(Arc::clone(name)).or_insert(now);
            if now >= since + patience {
                self.written.insert(Arc::clone(name), record.clone());
                self.unsaid.remove(name);
            }
        }
    }

    pub(super) fn written(&self) -> impl Iterator<Item = (&Arc<str>, &Record)> {
        self.written.iter()
    }

    /// Whether something waits for its turn.
    pub(super) fn waits(&self) -> bool {
        !self.unsaid.is_empty()
    }
}

fn merged(one: Option<&Record>, two: Option<&Record>) -> Option<Record> {
    let mut merged = one.or(two)?.clone();
    two.into_iter().for_each(|two| _ = merged.merge(two));
    Some(merged)
}

#[cfg(test)]
mod tests;
