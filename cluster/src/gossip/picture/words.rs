//! What this node says in each ring: all keys that it wants to have there, and of those what has changed.

use super::{Base, Facts, Heard, Note, Picture, Record, Relay, Summary, cut, list, service, summary_text};
use crate::{
    health,
    member::{By, Seen},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// A row waits until it is steady for so long for each member, and at most the longest.
const ROW_STEADY: Duration = Duration::from_millis(30);
const ROW_STEADY_LEAST: Duration = Duration::from_millis(500);
const ROW_STEADY_MOST: Duration = Duration::from_secs(5);
const ROW_WAIT: Duration = Duration::from_secs(30);

/// Load and health are told at most once in so long for each member: what all say to all grows with the square.
const PACE: Duration = Duration::from_millis(15);
const PACE_LEAST: Duration = Duration::from_millis(500);

/// A load that moves by less is not worth a message.
const LOAD_STEP: u8 = 10;

/// More do not speak for a region, but for moments.
const SPEAKERS_MAX: usize = 8;

/// A change of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) enum Write {
    Set(String, String),
    Delete(String),
}

/// What has been said in one ring.
#[derive(Default)]
pub(super) struct Voice {
    written: BTreeMap<String, String>,
    relay: Relay,
    row: Paced,
    paced_at: Option<Instant>,
    waits: bool,
}

/// A text that is told when it is steady.
#[derive(Default)]
struct Paced {
    text: String,
    /// When it became what it is, and when it was last what has been told.
    steady_since: Option<Instant>,
    differs_since: Option<Instant>,
}

impl Voice {
    pub(super) fn waits(&self) -> bool {
        self.waits || self.relay.waits()
    }

    /// What has to be changed for these keys to be all that is said.
    fn say(&mut self, wanted: BTreeMap<String, String>) -> Vec<Write> {
        let gone = self.written.keys().filter(|key| !wanted.contains_key(*key)).cloned().map(Write::Delete);
        let mut writes: Vec<Write> = gone.collect();
        let changed = wanted.iter().filter(|(key, value)| self.written.get(*key) != Some(value));
        writes.extend(changed.map(|(key, value)| Write::Set(key.clone(), value.clone())));
        self.written = wanted;
        writes
    }

    fn relayed(&self, wanted: &mut BTreeMap<String, String>) {
        wanted.extend(self.relay.written().map(|(name, record)| (format!("m/{name}"), record.text())));
    }

    /// These keys as they are wanted, or as they were said, if it is too early to say something else.
    fn paced(&mut self, keys: BTreeMap<String, String>, prefix: &str, members: usize, now: Instant) -> BTreeMap<String, String> {
        let said = || self.written.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        if said().eq(keys.iter()) {
            return keys;
        }
        let pace = (PACE * u32::try_from(members).unwrap_or(u32::MAX)).max(PACE_LEAST);
        if self.paced_at.is_some_and(|at| now < at + pace) {
            self.waits = true;
            return said().map(|(key, value)| (key.clone(), value.clone())).collect();
        }
        self.paced_at = Some(now);
        keys
    }
}

impl Paced {
    /// What to tell, given what has been told and what there is to tell.
    fn tell(&mut self, told: Option<&String>, text: String, members: usize, now: Instant) -> Option<String> {
        if told == Some(&text) {
            *self = Self::default();
            return Some(text);
        }
        if self.text != text {
            (self.text, self.steady_since) = (text, Some(now));
        }
        let differs_since = *self.differs_since.get_or_insert(now);
        let steady = (ROW_STEADY * u32::try_from(members).unwrap_or(u32::MAX)).clamp(ROW_STEADY_LEAST, ROW_STEADY_MOST);
        if self.steady_since.is_some_and(|since| now >= since + steady) || now >= differs_since + ROW_WAIT {
            return Some(self.text.clone());
        }
        told.cloned()
    }
}

impl Picture {
    /// What is to be changed in the ring of the region, and in that of the world.
    pub(super) fn speak(&mut self, rank: Option<usize>, heard: &Heard, now: Instant) -> (Vec<Write>, Vec<Write>) {
        (self.region_voice.waits, self.world_voice.waits) = (false, false);
        let region = if self.region_id.is_some() { self.speak_in_region(rank, heard, now) } else { Vec::new() };
        let world = if self.world_id.is_some() { self.speak_in_world(rank, heard, now) } else { Vec::new() };
        (region, world)
    }

    fn speak_in_region(&mut self, rank: Option<usize>, heard: &Heard, now: Instant) -> Vec<Write> {
        let mut wanted = about(&self.facts);
        let members = self.ours.len();
        let voice = &mut self.region_voice;
        wanted.extend(voice.paced(summaries("h/", &self.facts.health), "h/", members, now));
        let load = voice.written.get("l").and_then(|load| load.parse::<u8>().ok());
        if let Some(load) = load.filter(|load| load.abs_diff(self.facts.load) < LOAD_STEP) {
            wanted.insert("l".to_owned(), load.to_string());
        }
        let row = self.view.rows[&self.me].text();
        if let Some(row) = voice.row.tell(voice.written.get("v"), row, members, now) {
            voice.waits |= row != self.view.rows[&self.me].text();
            wanted.insert("v".to_owned(), row);
        } else {
            voice.waits = true;
        }
        if self.world_id.is_some() {
            wanted.insert("n".to_owned(), list(&heard.speakers.keys().cloned().collect()));
        }
        let settled = self.election.is_settled(now);
        voice.waits |= rank.is_some() && !settled;
        if let Some(rank) = rank.filter(|_| settled) {
            let mut known = heard.to_pass_on.clone();
            // A region that is cut off is passed on as it was; so that a node that starts now knows whom to dial.
            let lost = self.others.iter().filter(|(_, other)| !heard.hears_of(&other.record.facts.region));
            known.extend(lost.map(|(name, other)| (Arc::clone(name), other.record.clone())));
            known.retain(|name, _| self.others.contains_key(name) || heard.neighbours.contains_key(name));
            voice.relay.step(&known, &heard.passed_on, &BTreeMap::new(), rank, now);
            for (region, view) in &self.view.regions {
                let speakers = heard.speakers.get(region).cloned().unwrap_or_default();
                let note = Note { speakers: speakers.into_iter().take(SPEAKERS_MAX).collect(), hears: view.sees.clone() };
                wanted.insert(format!("r/{region}"), note.text());
            }
            if rank == 0 {
                let others = self.view.regions.iter().filter(|(name, _)| **name != self.facts.region);
                for (name, region) in others {
                    let prefix = format!("q/{name}/");
                    wanted.extend(summaries(&prefix, &region.health));
                }
            }
            forgets(self, &mut wanted, false);
            wanted.insert("w".to_owned(), "1".to_owned());
        } else {
            forgets(self, &mut wanted, true);
        }
        self.region_voice.relayed(&mut wanted);
        self.region_voice.say(wanted)
    }

    fn speak_in_world(&mut self, rank: Option<usize>, heard: &Heard, now: Instant) -> Vec<Write> {
        let mut wanted = about(&Facts { load: 0, ..self.facts.clone() });
        if self.election.is_leaving() {
            wanted.insert("e".to_owned(), "1".to_owned());
        }
        let hears = heard.speakers.keys().cloned().collect();
        wanted.insert("n".to_owned(), list(&hears));
        forgets(self, &mut wanted, false);
        if let Some(rank) = rank {
            // Who is only known by way of other regions is for those to speak of who hear it.
            let ours = self.ours.iter().filter(|(_, ours)| ours.member.by == By::Itself || !ours.member.is_alive());
            let known: BTreeMap<Arc<str>, Record> = ours.map(|(name, ours)| (Arc::clone(name), record(ours))).collect();
            let members = self.ours.len();
            let alive = self.view.of_region(&self.facts.region).filter(|member| member.is_alive());
            let health = health::of_region(alive.map(|member| &member.facts.health));
            self.world_voice.relay.step(&known, &heard.spoken, &heard.beyond, rank, now);
            if rank == 0 {
                let summaries = self.world_voice.paced(summaries("h/", &health), "h/", members, now);
                wanted.extend(summaries);
            }
            wanted.insert("w".to_owned(), "1".to_owned());
        }
        self.world_voice.relayed(&mut wanted);
        self.world_voice.say(wanted)
    }
}

fn about(facts: &Facts) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("f".to_owned(), Base::text(facts)),
        ("s".to_owned(), facts.state.name()[..1].to_owned()),
        ("c".to_owned(), cut(&facts.configuration)),
        ("l".to_owned(), facts.load.min(100).to_string()),
    ])
}

fn summaries(prefix: &str, health: &BTreeMap<Arc<str>, Summary>) -> BTreeMap<String, String> {
    let told = health.iter().filter_map(|(name, summary)| Some((format!("{prefix}{}", service(name)?), summary_text(*summary))));
    told.collect()
}

/// What an operator said here; and, between rings, what was said anywhere.
fn forgets(picture: &Picture, wanted: &mut BTreeMap<String, String>, ours_only: bool) {
    let told = |held: &super::super::forgotten::Held| held.ours || !ours_only;
    let members = picture.forgotten.members().filter(|(_, held)| told(held));
    wanted.extend(members.map(|(name, held)| (format!("x/{name}"), held.generation.to_string())));
    let regions = picture.forgotten.regions().filter(|(_, held)| told(held));
    wanted.extend(regions.map(|(name, held)| (format!("X/{name}"), held.generation.to_string())));
}

fn record(ours: &super::Ours) -> Record {
    let super::Ours { member, incarnation, version, heartbeat } = ours;
    let facts = Facts { health: BTreeMap::new(), ..(*member.facts).clone() };
    let gone = matches!(member.seen, Seen::Gone { .. });
    Record { incarnation: *incarnation, version: *version, heartbeat: *heartbeat, gone, facts: Arc::new(facts) }
}
