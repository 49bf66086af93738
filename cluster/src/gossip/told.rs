//! What a member tells in a ring, key by key; the only place where its words are made and read.
//!
//! Every key is read by itself and only when it has changed. What cannot be read is left out and counted, and the rest counts:
//! a newer release may tell more than this one understands. Each list has a bound.
//!
//! | key | in | says |
//! |---|---|---|
//! | `f` | both | region, zone, protocol versions and build; without it there is no member |
//! | `s` `c` `l` | both | state, configuration, load |
//! | `h/SERVICE` | both | usable and all endpoints: the member's own judgement; in the ring of the world its region's |
//! | `v` | region | whom it sees |
//! | `x/NAME` `X/REGION` | both | forget what is not newer than this generation |
//! | `w` | both | `1`: it is a representative, and the keys below count |
//! | `m/NAME` | both | a [`Record`]: in the ring of the world of its own region's members, in the region's of the others' |
//! | `n` | both | it is in the ring of the world, and hears these regions there |
//! | `r/REGION` | region | who speaks for the region, and whom it hears |
//! | `q/REGION/SERVICE` | region | the region's `h/SERVICE` |
//! | `e` | world | it is no representative any more and does not speak here again |

use super::record::Record;
use crate::{
    health::Summary,
    member::{Facts, State, is_name},
    views::Row,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

/// A build and a configuration's hash.
const TOKEN_MAX: usize = 64;

const SERVICES_MAX: usize = 512;
const RECORDS_MAX: usize = 2_048;
const REGIONS_MAX: usize = 64;
const SPEAKERS_MAX: usize = 8;

/// The most members that are held forgotten at a time, and the most regions.
pub(super) const FORGOTTEN_MAX: usize = 256;

/// All that one incarnation has told in one ring.
#[derive(Default, PartialEq, Debug)]
pub(super) struct Told {
    pub(super) base: Option<Base>,
    pub(super) state: Option<State>,
    pub(super) configuration: Arc<str>,
    pub(super) load: u8,
    pub(super) health: BTreeMap<Arc<str>, Summary>,
    pub(super) row: Option<Row>,
    pub(super) forgotten: BTreeMap<Arc<str>, u64>,
    pub(super) forgotten_regions: BTreeMap<Arc<str>, u64>,
    pub(super) speaks: bool,
    pub(super) records: BTreeMap<Arc<str>, Record>,
    pub(super) hears: BTreeSet<Arc<str>>,
    pub(super) notes: BTreeMap<Arc<str>, Note>,
    pub(super) regional: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Summary>>,
    pub(super) ended: bool,
    /// Keys that could not be read.
    pub(super) unreadable: u64,
}

/// What does not change while a process runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Base {
    pub(super) region: Arc<str>,
    pub(super) zone: Arc<str>,
    pub(super) protocol: (u16, u16),
    pub(super) build: Arc<str>,
}

/// What a representative tells its region of another one.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Note {
    pub(super) speakers: BTreeSet<Arc<str>>,
    pub(super) hears: BTreeSet<Arc<str>>,
}

impl Told {
    /// Takes a key's new value in, or that it is no more.
    pub(super) fn take(&mut self, key: &str, value: Option<&str>) {
        let read = match key.split_once('/') {
            None => self.take_plain(key, value),
            Some((kind, name)) => self.take_named(kind, name, value),
        };
        if read.is_none() {
            self.unreadable += 1;
        }
    }

    fn take_plain(&mut self, key: &str, value: Option<&str>) -> Option<()> {
        match (key, value) {
            ("f", Some(value)) => self.base = Some(Base::read(value)?),
            ("s", Some(value)) => self.state = Some(state(value)?),
            ("c", Some(value)) => self.configuration = token(value)?,
            ("l", Some(value)) => self.load = number(value).filter(|load| *load <= 100)?,
            ("v", value) => {
                self.row = value.and_then(Row::read);
                return (self.row.is_some() == value.is_some()).then_some(());
            }
            ("w", value) => self.speaks = value == Some("1"),
            ("n", value) => self.hears = value.map_or_else(|| Some(BTreeSet::new()), |value| names(value, REGIONS_MAX))?,
            ("e", value) => self.ended = value == Some("1"),
            // A newer release says more, and one whose state is gone says nothing.
            _ => {}
        }
        Some(())
    }

    fn take_named(&mut self, kind: &str, name: &str, value: Option<&str>) -> Option<()> {
        match kind {
            "h" => put(&mut self.health, service(name)?, value, summary, SERVICES_MAX),
            "x" => put(&mut self.forgotten, named(name)?, value, number, FORGOTTEN_MAX),
            "X" => put(&mut self.forgotten_regions, named(name)?, value, number, FORGOTTEN_MAX),
            "m" => put(&mut self.records, named(name)?, value, Record::read, RECORDS_MAX),
            "r" => put(&mut self.notes, named(name)?, value, Note::read, REGIONS_MAX),
            "q" => {
                let (region, name) = name.split_once('/')?;
                let (region, name) = (named(region)?, service(name)?);
                if !self.regional.contains_key(region) && self.regional.len() >= REGIONS_MAX {
                    return None;
                }
                put(self.regional.entry(region.into()).or_default(), name, value, summary, SERVICES_MAX)
            }
            _ => Some(()),
        }
    }

    /// The member's facts, once it has told the ones without which it is none.
    pub(super) fn facts(&self, address: SocketAddr) -> Option<Facts> {
        let Base { region, zone, protocol, build } = self.base.clone()?;
        let (configuration, load, health) = (Arc::clone(&self.configuration), self.load, self.health.clone());
        Some(Facts { region, zone, address, protocol, build, state: self.state?, configuration, load, health })
    }
}

fn put<T>(map: &mut BTreeMap<Arc<str>, T>, name: &str, value: Option<&str>, read: impl Fn(&str) -> Option<T>, most: usize) -> Option<()> {
    let Some(value) = value else {
        map.remove(name);
        return Some(());
    };
    // Whatever it said before is not true any more, even where this cannot be read.
    map.remove(name);
    let value = read(value).filter(|_| map.len() < most)?;
    map.insert(name.into(), value);
    Some(())
}

impl Base {
    pub(super) fn text(facts: &Facts) -> String {
        let (oldest, newest) = facts.protocol;
        format!("{} {} {oldest}-{newest} {}", facts.region, cut(&facts.zone), cut(&facts.build))
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (region, zone, protocol) = (words.next()?, words.next()?, words.next()?);
        let build = token(words.next()?)?;
        let (oldest, newest) = protocol.split_once('-')?;
        let zone = if zone == "-" { "" } else { named(zone)? };
        let base = Self { region: named(region)?.into(), zone: zone.into(), protocol: (number(oldest)?, number(newest)?), build };
        words.next().is_none().then_some(base)
    }
}

impl Note {
    pub(super) fn text(&self) -> String {
        format!("{} {}", list(&self.speakers), list(&self.hears))
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let (speakers, hears) = text.split_once(' ')?;
        Some(Self { speakers: names(speakers, SPEAKERS_MAX)?, hears: names(hears, REGIONS_MAX)? })
    }
}

/// Names with commas between them, `-` for none.
pub(super) fn list(names: &BTreeSet<Arc<str>>) -> String {
    if names.is_empty() { "-".to_owned() } else { names.iter().map(|name| &**name).collect::<Vec<&str>>().join(",") }
}

fn names(text: &str, most: usize) -> Option<BTreeSet<Arc<str>>> {
    if text == "-" {
        return Some(BTreeSet::new());
    }
    let mut names = BTreeSet::new();
    for name in text.split(',') {
        names.insert(named(name)?.into());
        if names.len() > most {
            return None;
        }
    }
    Some(names)
}

fn named(name: &str) -> Option<&str> {
    is_name(name).then_some(name)
}

/// The name of a service, as it can be part of a key.
pub(super) fn service(name: &str) -> Option<&str> {
    (!name.is_empty() && name.len() <= 2 * TOKEN_MAX - 8 && name.bytes().all(|byte| byte.is_ascii_graphic())).then_some(name)
}

pub(super) fn summary_text(summary: Summary) -> String {
    format!("{}/{}", summary.usable, summary.total)
}

fn summary(text: &str) -> Option<Summary> {
    let (usable, total) = text.split_once('/')?;
    let summary = Summary { usable: number(usable)?, total: number(total)? };
    (summary.usable <= summary.total).then_some(summary)
}

/// A decimal number without anything around it.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

pub(super) fn state(text: &str) -> Option<State> {
    [State::Joining, State::Serving, State::Draining, State::Left].into_iter().find(|state| text == &state.name()[..1])
}

/// A word of our own, made fit to be one: `-` where there is nothing, cut where it is long, `_` for what has no place in it.
pub(super) fn cut(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let fit = |letter: char| if letter.is_ascii_graphic() { letter } else { '_' };
    text.chars().take(TOKEN_MAX).map(fit).collect()
}

pub(super) fn token(text: &str) -> Option<Arc<str>> {
    let sound = !text.is_empty() && text.len() <= TOKEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then(|| if text == "-" { "".into() } else { text.into() })
}

#[cfg(test)]
mod tests;
