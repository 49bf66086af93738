//! What a representative passes on about one member, between regions and into its own.
//!
//! Several representatives may pass on the same member, each as it knows it, and readers keep what is newest: a later
//! incarnation before an earlier one; within one, the facts of the higher version and the sighting of the later
//! heartbeat. So nobody has to decide who is right, and a representative that is behind does no harm.

use super::{
    native::Id,
    picture::TURN_BITS,
    table::Sighting,
    told::{address, cut, number, state, token},
};
use crate::member::{Facts, State, is_name};
use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) incarnation: u64,
    /// Of the member's state in its region's ring.
    pub(super) version: u64,
    /// The last that was heard of it there.
    pub(super) heartbeat: u64,
    pub(super) gone: bool,
    /// Without its health, which regions tell each other as a sum.
    pub(super) facts: Arc<Facts>,
}

impl Record {
    /// What somebody says of itself in the ring of the world is as good as a record, before there is one.
    pub(super) fn of_itself(id: &Id, sighting: &Sighting) -> Option<Self> {
        let facts = sighting.told.facts(id.address)?;
        // The turns of the two rings are not the same ones: a record comes before this in any case.
        let incarnation = id.incarnation >> TURN_BITS << TURN_BITS;
        Some(Self { incarnation, version: 0, heartbeat: 0, gone: false, facts: Arc::new(Facts { health: BTreeMap::new(), ..facts }) })
    }

    /// Takes over what the other knows better; whether there was any.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        let before = self.clone();
        match self.incarnation.cmp(&other.incarnation) {
            Ordering::Greater => return false,
            Ordering::Less => *self = other.clone(),
            Ordering::Equal => {
                if other.version > self.version {
                    (self.version, self.facts) = (other.version, Arc::clone(&other.facts));
                }
                // Of two who heard the same last heartbeat, one has waited for the next one longer.
                if (other.heartbeat, other.gone) > (self.heartbeat, self.gone) {
                    (self.heartbeat, self.gone) = (other.heartbeat, other.gone);
                }
            }
        }
        before != *self
    }

    /// Whether a reader of this learns as much of the member as from the other.
    pub(super) fn says_as_much_as(&self, other: &Self) -> bool {
        let mut merged = self.clone();
        merged.merge(other);
        merged.says_the_same_as(self)
    }

    /// Heartbeats run and loads change all the time: neither is worth a message by itself.
    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        let (one, two) = (&self.facts, &other.facts);
        self.incarnation == other.incarnation
            && self.gone == other.gone
            && (one.state, one.address, one.protocol) == (two.state, two.address, two.protocol)
            && (&one.region, &one.zone, &one.build, &one.configuration) == (&two.region, &two.zone, &two.build, &two.configuration)
    }

    pub(super) fn text(&self) -> String {
        let Facts { region, zone, address, protocol, build, state, configuration, load, health: _ } = &*self.facts;
        format!(
            "{:x} {:x} {:x} {} {} {load} {address} {}-{} {region} {} {} {}",
            self.incarnation,
            self.version,
            self.heartbeat,
            if self.gone { 'g' } else { 'a' },
            &state.name()[..1],
            protocol.0,
            protocol.1,
            cut(zone),
            cut(build),
            cut(configuration),
        )
    }

    /// `None` for what no representative writes.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        let hex = |word: &str| u64::from_str_radix(word, 16).ok();
        let (incarnation, version, heartbeat) = (hex(word()?)?, hex(word()?)?, hex(word()?)?);
        let gone = match word()? {
            "g" => true,
            "a" => false,
            _ => return None,
        };
        let state: State = state(word()?)?;
        let load = number(word()?).filter(|load| *load <= 100)?;
        let address = address(word()?)?;
        let (oldest, newest) = word()?.split_once('-')?;
        let protocol = (number(oldest)?, number(newest)?);
        let (region, zone) = (word()?, word()?);
        let (build, configuration) = (token(word()?)?, token(word()?)?);
        if words.next().is_some() || !is_name(region) || !(is_name(zone) || zone == "-") {
            return None;
        }
        let zone = if zone == "-" { "" } else { zone };
        let (region, zone) = (region.into(), zone.into());
        let facts = Facts { region, zone, address, protocol, build, state, configuration, load, health: BTreeMap::new() };
        Some(Self { incarnation, version, heartbeat, gone, facts: Arc::new(facts) })
    }
}

#[cfg(test)]
mod tests;
