//! What one ring has brought: every incarnation that chitchat knows there, with what it has told and since when it is silent.

use super::{native::Id, told::Told};
use crate::member::{Facts, State};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Who has been heard so lately is there, whatever chitchat makes of its silence: in a small ring signs of life come so often
/// that it takes one second without any for a death.
pub(super) const HEARD_FOR: Duration = Duration::from_secs(3);

/// A look that comes later than this after the one before says that it was this node that stood still.
const STALLED: Duration = Duration::from_secs(1);

/// An incarnation with more keys is listened to no further.
const KEYS_MAX: usize = 4_096;

#[derive(Default)]
pub(super) struct Table {
    sightings: BTreeMap<Id, Sighting>,
    changed: bool,
    round: u64,
    looked: Option<Instant>,
}

pub(super) struct Sighting {
    pub(super) live: bool,
    pub(super) heartbeat: u64,
    /// When the heartbeat was seen to move.
    heard: Instant,
    pub(super) version: u64,
    /// Up to here tombstones are gone: a change of it may hide that keys are gone too.
    collected: u64,
    pub(super) told: Told,
    /// What it says of itself, once it has said enough.
    pub(super) facts: Option<Arc<Facts>>,
    pub(super) first: Instant,
    /// Whether it was ever heard of as alive, and not only named.
    pub(super) was_live: bool,
    /// Since when it is not live.
    pub(super) quiet_since: Option<Instant>,
    /// Since when it has nothing more to say: it has left the cluster, or the ring.
    pub(super) over_since: Option<Instant>,
    /// It tells more keys than any member has reason to.
    pub(super) swollen: bool,
    round: u64,
}

/// What chitchat holds of one incarnation.
pub(super) struct Standing {
    pub(super) live: bool,
    pub(super) heartbeat: u64,
    pub(super) version: u64,
    pub(super) collected: u64,
}

impl Table {
    /// Begins a look. What passed while this node stood still is nobody's silence.
    pub(super) fn look(&mut self, now: Instant) {
        let since = self.looked.replace(now).map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        if since > STALLED {
            self.sightings.values_mut().filter(|sighting| sighting.live).for_each(|sighting| sighting.heard += since);
        }
    }

    /// Takes in how one incarnation stands. `keys` are all of its keys with their versions, those that are gone without a value.
    pub(super) fn see<'a>(
        &mut self,
        id: Id,
        standing: Standing,
        keys: impl Iterator<Item = (&'a str, Option<&'a str>, u64)>,
        now: Instant,
    ) {
        let Standing { mut live, heartbeat, version, collected } = standing;
        let round = self.round;
        let new = || {
            let (told, quiet_since) = (Told::default(), (!live).then_some(now));
            let (over_since, swollen, was_live) = (None, false, live);
            // Nothing of it has been read yet, so its version here is none.
            let (heard, first, version) = (now, now, 0);
            let facts = None;
            Sighting { live, heartbeat, heard, version, collected, told, facts, first, was_live, quiet_since, over_since, swollen, round }
        };
        let new_here = !self.sightings.contains_key(&id);
        let address = id.address;
        let sighting = self.sightings.entry(id).or_insert_with(new);
        sighting.round = round;
        if heartbeat > sighting.heartbeat {
            (sighting.heartbeat, sighting.heard) = (heartbeat, now);
        }
        live |= sighting.was_live && now < sighting.heard + HEARD_FOR;
        self.changed |= new_here;
        if sighting.live != live {
            (sighting.live, sighting.was_live) = (live, true);
            sighting.quiet_since = (!live).then_some(now);
            self.changed = true;
        }
        if (sighting.version, sighting.collected) == (version, collected) {
            return;
        }
        self.changed = true;
        if version < sighting.version || collected != sighting.collected {
            sighting.told = Told::default();
            sighting.version = 0;
        }
        let mut count = 0;
        for (key, value, changed) in keys {
            count += 1;
            if changed > sighting.version {
                sighting.told.take(key, value);
            }
        }
        sighting.swollen |= count > KEYS_MAX;
        (sighting.version, sighting.collected) = (version, collected);
        let facts = sighting.told.facts(address);
        if sighting.facts.as_deref() != facts.as_ref() {
            sighting.facts = facts.map(Arc::new);
        }
        let over = sighting.told.ended || sighting.told.state == Some(State::Left);
        sighting.over_since = if over { sighting.over_since.or(Some(now)) } else { None };
    }

    /// All have been seen: who was not is not there any more.
    pub(super) fn all_seen(&mut self) {
        let (before, round) = (self.sightings.len(), self.round);
        self.sightings.retain(|_, sighting| sighting.round == round);
        self.changed |= self.sightings.len() != before;
        self.round += 1;
    }

    /// Whether anything but heartbeats has changed since the last time that this was asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn clear(&mut self) {
        self.changed |= !self.sightings.is_empty();
        self.sightings.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Id, &Sighting)> {
        self.sightings.iter()
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Sighting> {
        self.sightings.get(id)
    }

    /// The incarnations of one name, the newest last.
    pub(super) fn named(&self, name: &str) -> impl DoubleEndedIterator<Item = (&Id, &Sighting)> + use<'_> {
        let name: Arc<str> = name.into();
        let least = Id { name: Arc::clone(&name), incarnation: 0, address: ([0; 4], 0).into() };
        let most = Id { name, incarnation: u64::MAX, address: ([u16::MAX; 8], u16::MAX).into() };
        self.sightings.range(least..=most)
    }

    /// Whether a newer incarnation of its name has said who it is.
    pub(super) fn is_superseded(&self, id: &Id) -> bool {
        self.named(&id.name).any(|(other, sighting)| other > id && sighting.told.base.is_some())
    }
}

impl Sighting {
    /// Whether it may be spoken of as a member of the ring that is there.
    pub(super) fn is_present(&self) -> bool {
        self.live && self.over_since.is_none()
    }

    pub(super) fn quiet_for(&self, now: Instant) -> Duration {
        self.quiet_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    pub(super) fn over_for(&self, now: Instant) -> Duration {
        self.over_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests;
