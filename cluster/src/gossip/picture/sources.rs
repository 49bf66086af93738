//! What is heard of other regions, and from whom.

use super::{Picture, Record, Sighting, Table};
use crate::{health::Summary, topology};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// A representative that has died counts for so long, until the next one has written what only it had said.
const ECHO_FOR: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Heard {
    /// What is known of each member of another region, and whose word it is.
    pub(super) records: BTreeMap<Arc<str>, (Record, Arc<str>)>,
    /// Of those, what this node may pass on into its region: what it hears itself, and what nobody can say any more.
    pub(super) to_pass_on: BTreeMap<Arc<str>, Record>,
    /// What the others who pass on into this region, and who are alive, say of other regions.
    pub(super) passed_on: BTreeMap<Arc<str>, Record>,
    /// What the others who speak for this region in the ring of the world, and are heard in its own, say of its members.
    pub(super) spoken: BTreeMap<Arc<str>, Record>,
    /// What those say of them who are not heard in the ring of the region: they speak for another part of it.
    pub(super) beyond: BTreeMap<Arc<str>, Record>,
    /// The members of this node's own region that its ring does not hear, and others do by way of other regions: the region is split,
    /// and has a way around. A representative tells its half what the halves beyond say in the ring of the world.
    pub(super) neighbours: BTreeMap<Arc<str>, (Record, Arc<str>)>,
    /// Who speaks for each other region, as far as this node hears it itself.
    pub(super) speakers: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The regions that somebody of this region hears.
    heard: BTreeSet<Arc<str>>,
    /// Those that were heard before this node had to enter its ring anew.
    resumed: BTreeSet<Arc<str>>,
    /// The regions that somebody of this region says it hears in the ring of the world, whether or not it passes on from there.
    noticed: BTreeSet<Arc<str>>,
    hears: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    health: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Summary>>,
}

impl Heard {
    pub(super) fn of(picture: &Picture, now: Instant) -> Self {
        let mut heard = Self::default();
        // What is there to be passed on matters only to those who do.
        let speaks = picture.world_id.is_some();
        let own = &picture.facts.region;
        for (id, sighting) in picture.world.iter().filter(|(id, sighting)| sighting.is_present() && id.name != picture.me) {
            let Some(base) = &sighting.told.base else { continue };
            heard.hears.entry(Arc::clone(&base.region)).or_default().extend(sighting.told.hears.iter().cloned());
            if base.region != *own {
                heard.speakers.entry(Arc::clone(&base.region)).or_default().insert(Arc::clone(&id.name));
                continue;
            }
            if picture.is_in_region(&id.name) {
                if sighting.told.speaks && speaks {
                    merge(&mut heard.spoken, &sighting.told.records, |record| record.facts.region == *own);
                }
                continue;
            }
            let itself = Record::of_itself(id, sighting);
            let said = sighting.told.records.iter().filter(|(_, record)| record.facts.region == *own && sighting.told.speaks);
            for (name, record) in said.chain(itself.as_ref().map(|record| (&id.name, record))) {
                put(&mut heard.neighbours, name, record, &id.name);
            }
        }
        heard.beyond = heard.neighbours.iter().map(|(name, (record, _))| (Arc::clone(name), record.clone())).collect();
        heard.neighbours.retain(|name, _| !picture.is_in_region(name));
        heard.heard = heard.speakers.keys().cloned().collect();
        heard.hears.entry(Arc::clone(own)).or_default().extend(heard.speakers.keys().cloned());
        let present = picture.region.iter().filter(|(_, sighting)| sighting.is_present());
        heard.noticed = present.flat_map(|(_, sighting)| sighting.told.hears.iter().cloned()).collect();
        let passing = Self::passing(picture, now);
        for (_, sighting) in passing.iter().filter(|(_, sighting)| sighting.is_present()) {
            if speaks {
                merge(&mut heard.passed_on, &sighting.told.records, |_| true);
            }
            for (region, note) in &sighting.told.notes {
                if region != own && !note.speakers.is_empty() {
                    heard.heard.insert(Arc::clone(region));
                }
                heard.hears.entry(Arc::clone(region)).or_default().extend(note.hears.iter().cloned());
            }
        }

        let mut by_way_of = said(&passing, |record| record.facts.region != *own);
        // Where this node hears a region itself, it knows better than who passes on, and above all what is not said any more.
        if picture.election.is_settled(now) {
            by_way_of.retain(|_, (record, _): &mut (Record, Arc<str>)| !heard.speakers.contains_key(&record.facts.region));
        }
        if picture.resumes(now) {
            let reachable = picture.view.regions.iter().filter(|(name, region)| region.reachable && *name != own);
            heard.resumed = reachable.map(|(name, _)| Arc::clone(name)).collect();
        }
        heard.records = Self::direct(picture, now);
        for (name, (record, by)) in by_way_of {
            put(&mut heard.records, &name, &record, &by);
        }
        let ours_to_say = heard.records.iter().chain(&heard.neighbours).filter(|_| speaks);
        heard.to_pass_on = ours_to_say.map(|(name, (record, _))| (Arc::clone(name), record.clone())).collect();
        let reachable_through_others = |region: &Arc<str>| heard.heard.contains(region) && !heard.speakers.contains_key(region);
        heard.to_pass_on.retain(|_, record| !reachable_through_others(&record.facts.region));
        // Of its own region, only what nobody passes on to it is passed on: what goes in a circle would never end.
        for (id, sighting) in passing.iter().filter(|(_, sighting)| sighting.is_present()) {
            let of_ours = sighting.told.records.iter().filter(|(name, record)| record.facts.region == *own && !picture.is_in_region(name));
            of_ours.for_each(|(name, record)| put(&mut heard.neighbours, name, record, &id.name));
        }
        heard.health = Self::summaries(picture, &heard.speakers, &passing);
        heard
    }

    /// Who passes on into this region, without this node.
    fn passing(picture: &Picture, now: Instant) -> Vec<(&super::Id, &Sighting)> {
        let own = &picture.facts.region;
        speaking(&picture.region, now)
            .into_iter()
            .filter(|(id, sighting)| id.name != picture.me && sighting.told.base.as_ref().is_some_and(|base| base.region == *own))
            .collect()
    }

    /// What is said in the ring of the world by those whose region it is about.
    fn direct(picture: &Picture, now: Instant) -> BTreeMap<Arc<str>, (Record, Arc<str>)> {
        let mut by_region: BTreeMap<&Arc<str>, Vec<(&super::Id, &Sighting)>> = BTreeMap::new();
        let all = picture.world.iter().filter(|(id, sighting)| sighting.told.speaks && !picture.world.is_superseded(id));
        for (id, sighting) in all {
            if let Some(base) = sighting.told.base.as_ref().filter(|base| base.region != picture.facts.region) {
                by_region.entry(&base.region).or_default().push((id, sighting));
            }
        }
        let mut records = BTreeMap::new();
        for (region, speakers) in by_region {
            for (name, (record, by)) in said(&counting(speakers, now), |record| record.facts.region == *region) {
                put(&mut records, &name, &record, &by);
            }
        }
        records
    }

    /// Of each other region what the first of its representatives says, or what the first of this region's passes on.
    fn summaries(
        picture: &Picture,
        speakers: &BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
        passing: &[(&super::Id, &Sighting)],
    ) -> BTreeMap<Arc<str>, BTreeMap<Arc<str>, Summary>> {
        let mut summaries = BTreeMap::new();
        for region in speakers.keys() {
            let speakers = topology::representatives(&picture.view, region);
            let mut said = speakers.iter().filter_map(|name| {
                let present = picture.world.named(name).rev().find(|(_, sighting)| sighting.is_present());
                present.map(|(_, sighting)| &sighting.told.health).filter(|health| !health.is_empty()).cloned()
            });
            summaries.extend(said.next().map(|health| (Arc::clone(region), health)));
        }
        let ours = topology::representatives(&picture.view, &picture.facts.region);
        let others: BTreeSet<&Arc<str>> = passing.iter().flat_map(|(_, sighting)| sighting.told.regional.keys()).collect();
        for region in others.into_iter().filter(|region| !speakers.contains_key(*region) && **region != picture.facts.region) {
            let mut said = ours.iter().filter_map(|name| {
                let present = passing.iter().find(|(id, sighting)| id.name == *name && sighting.is_present());
                present.and_then(|(_, sighting)| sighting.told.regional.get(region)).cloned()
            });
            summaries.extend(said.next().map(|health| (Arc::clone(region), health)));
        }
        summaries
    }

    pub(super) fn reachable(&self, region: &Arc<str>) -> bool {
        self.hears_of(region) || self.resumed.contains(region)
    }

    /// Whether anybody says anything of it.
    pub(super) fn hears_of(&self, region: &Arc<str>) -> bool {
        self.heard.contains(region)
    }

    /// Whether somebody of this region is in touch with it, or was just now.
    pub(super) fn is_noticed(&self, region: &Arc<str>) -> bool {
        self.reachable(region) || self.noticed.contains(region)
    }

    pub(super) fn regions(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.heard.iter().cloned()
    }

    /// The regions that this one says it hears.
    pub(super) fn hears(&self, region: &Arc<str>) -> BTreeSet<Arc<str>> {
        self.hears.get(region).cloned().unwrap_or_default()
    }

    pub(super) fn health(&self, region: &Arc<str>) -> BTreeMap<Arc<str>, Summary> {
        self.health.get(region).cloned().unwrap_or_default()
    }
}

fn speaking(table: &Table, now: Instant) -> Vec<(&super::Id, &Sighting)> {
    counting(table.iter().filter(|(id, sighting)| sighting.told.speaks && !table.is_superseded(id)).collect(), now)
}

/// Whose word counts of those who speak: of the living, and of the dead for a while, or as long as there is nobody else.
fn counting<'a>(mut speaking: Vec<(&'a super::Id, &'a Sighting)>, now: Instant) -> Vec<(&'a super::Id, &'a Sighting)> {
    if speaking.iter().any(|(_, sighting)| sighting.is_present()) {
        speaking.retain(|(_, sighting)| sighting.is_present() || sighting.quiet_for(now).max(sighting.over_for(now)) < ECHO_FOR);
    }
    speaking
}

/// What they say. Whether somebody is heard is for those to say who are there, if they speak of it: a representative writes
/// nothing that it does not believe, so it knows better than the last words of another, whatever either has heard.
fn said(speakers: &[(&super::Id, &Sighting)], about: impl Fn(&Record) -> bool) -> BTreeMap<Arc<str>, (Record, Arc<str>)> {
    let (mut words, mut echoes) = (BTreeMap::new(), BTreeMap::new());
    for (id, sighting) in speakers {
        let into = if sighting.is_present() { &mut words } else { &mut echoes };
        let records = sighting.told.records.iter().filter(|(_, record)| about(record));
        records.for_each(|(name, record)| put(into, name, record, &id.name));
    }
    for (name, (mut echo, by)) in echoes {
        if words.get(&name).is_some_and(|(word, _)| word.incarnation == echo.incarnation) {
            (echo.heartbeat, echo.gone) = (0, false);
        }
        put(&mut words, &name, &echo, &by);
    }
    words
}

fn merge(into: &mut BTreeMap<Arc<str>, Record>, records: &BTreeMap<Arc<str>, Record>, about: impl Fn(&Record) -> bool) {
    for (name, record) in records.iter().filter(|(_, record)| about(record)) {
        match into.get_mut(name) {
            Some(known) => _ = known.merge(record),
            None => _ = into.insert(Arc::clone(name), record.clone()),
        }
    }
}

fn put(into: &mut BTreeMap<Arc<str>, (Record, Arc<str>)>, name: &Arc<str>, record: &Record, by: &Arc<str>) {
    match into.get_mut(name) {
        Some((known, whose)) => {
            if known.merge(record) {
                *whose = Arc::clone(by);
            }
        }
        None => _ = into.insert(Arc::clone(name), (record.clone(), Arc::clone(by))),
    }
}
