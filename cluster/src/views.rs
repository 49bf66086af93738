//! Who sees whom, told so briefly that everybody can draw it.
//!
//! Each member tells its own row: how many it sees alive, one number made of all their names, and those that it misses. From
//! that and the names that it knows itself, a reader draws the whole row, and the number tells whether it is right: where
//! the two know different names, the reader finds the one or two that make the difference, or says that the row is unsure.
//! A row is told only when it changes, and stays below 2 KB whatever the size of the region.

use crate::{
    member::{Seen, View},
    topology::Fnv,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The longest list of a row. Beyond it the cells are unsure.
const LISTED_MAX: usize = 160;

/// No row is longer.
pub const ROW_MAX: usize = 2_000;

/// What one member says of whom it sees in its region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Itself included.
    alive: u32,
    /// The exclusive or of the hashes of their names.
    digest: u64,
    listed: Listed,
    /// Alive by what others pass on, and without a link of its own to it.
    unlinked: Vec<u32>,
    /// A list was too long to be told whole.
    cut: bool,
}

/// Whichever is shorter.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Listed {
    Gone(Vec<u32>),
    Alive(Vec<u32>),
}

/// What a row says about one member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cell {
    /// Sees it, over a link of its own.
    Linked,
    /// Hears of it, and has no link to it.
    Heard,
    /// Knew it, and does not hear of it any more.
    Gone,
    /// Has never heard of it, or has forgotten it.
    Unknown,
    /// What the row says cannot be told for sure.
    Unsure,
}

/// The rows of a region, each as far as it has been told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// The columns, in order.
    pub names: Vec<Arc<str>>,
    /// `None`: nothing has been heard from that member about whom it sees.
    pub rows: BTreeMap<Arc<str>, Option<Vec<Cell>>>,
}

impl Matrix {
    /// The matrix of the viewer's own region. Who has left is not in it.
    pub fn of(view: &View) -> Self {
        let members = || view.of_region(&view.region).filter(|member| member.seen != Seen::Left);
        let names: Vec<Arc<str>> = members().map(|member| Arc::clone(&member.name)).collect();
        let told = |name: &Arc<str>| view.rows.get(name).map(|row| row.cells(name, &names));
        let rows = members().map(|member| (Arc::clone(&member.name), told(&member.name))).collect();
        Self { names, rows }
    }

    /// Whether everyone who is heard says the same about everyone.
    pub fn agrees(&self) -> bool {
        let seen = |cell: &Cell| matches!(cell, Cell::Linked | Cell::Heard);
        let mut rows = self.rows.values().flatten().map(|cells| cells.iter().map(seen).collect::<Vec<bool>>());
        let Some(first) = rows.next() else { return true };
        rows.all(|row| row == first)
    }
}

impl Row {
    /// The row of the node whose view it is. `linked` are the peers that it has links to; `None` if it does not know.
    pub fn of(view: &View, linked: Option<&BTreeSet<Arc<str>>>) -> Self {
        let (mut alive, mut gone, mut unlinked) = (Vec::new(), Vec::new(), Vec::new());
        let mut digest = 0;
        for member in view.of_region(&view.region) {
            let hash = hash(&member.name);
            match member.seen {
                Seen::Alive => {
                    digest ^= hash;
                    alive.push(short(hash));
                    if member.name != view.me && linked.is_some_and(|linked| !linked.contains(&member.name)) {
                        unlinked.push(short(hash));
                    }
                }
                Seen::Gone { .. } => gone.push(short(hash)),
                Seen::Left => {}
            }
        }
        let count = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        let mut cut = truncate(&mut unlinked);
        let listed = if gone.len() <= alive.len() {
            cut |= truncate(&mut gone);
            Listed::Gone(gone)
        } else {
            cut |= truncate(&mut alive);
            Listed::Alive(alive)
        };
        Self { alive: count, digest, listed, unlinked, cut }
    }

    /// What it says about each of these, who are those that the reader knows.
    pub fn cells(&self, whose: &str, names: &[Arc<str>]) -> Vec<Cell> {
        let hashes: Vec<u64> = names.iter().map(|name| hash(name)).collect();
        let mut cells: Vec<Cell> = hashes.iter().zip(names).map(|(hash, name)| self.cell(short(*hash), &**name == whose)).collect();
        let presumed = |cell: &Cell| matches!(cell, Cell::Linked | Cell::Heard);
        let told = || (0..names.len()).filter(|at| presumed(&cells[*at]));
        let difference = told().fold(self.digest, |digest, at| digest ^ hashes[at]);
        let too_many = i64::try_from(told().count()).unwrap_or(i64::MAX) - i64::from(self.alive);
        // What the reader knows and the row does not count, if it is one or two.
        let unknown: Option<Vec<usize>> = match (too_many, difference) {
            (0, 0) => Some(Vec::new()),
            (1, _) => told().find(|at| hashes[*at] == difference).map(|at| vec![at]),
            (2, _) => {
                let places: BTreeMap<u64, usize> = told().map(|at| (hashes[at], at)).collect();
                told().find_map(|at| places.get(&(difference ^ hashes[at])).filter(|other| **other != at).map(|other| vec![at, *other]))
            }
            _ => None,
        };
        match unknown {
            Some(unknown) if !self.cut => unknown.into_iter().for_each(|at| cells[at] = Cell::Unknown),
            _ => cells.iter_mut().filter(|cell| presumed(cell)).for_each(|cell| *cell = Cell::Unsure),
        }
        cells
    }

    fn cell(&self, name: u32, itself: bool) -> Cell {
        let gone = match &self.listed {
            Listed::Gone(gone) => gone.contains(&name),
            Listed::Alive(alive) => !alive.contains(&name),
        };
        match (gone, self.unlinked.contains(&name)) {
            (true, _) => Cell::Gone,
            (false, true) if !itself => Cell::Heard,
            (false, _) => Cell::Linked,
        }
    }

    /// As it is told: five words without spaces in them.
    pub fn text(&self) -> String {
        let (kind, listed) = match &self.listed {
            Listed::Gone(gone) => ('g', gone),
            Listed::Alive(alive) => ('a', alive),
        };
        let cut = if self.cut { "+" } else { "" };
        format!("{} {:x} {kind}{cut} {} {}", self.alive, self.digest, list(listed), list(&self.unlinked))
    }

    /// `None` for what no member writes.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > ROW_MAX {
            return None;
        }
        let mut words = text.split(' ');
        let (alive, digest) = (words.next()?.parse().ok()?, u64::from_str_radix(words.next()?, 16).ok()?);
        let kind = words.next()?;
        let (listed, unlinked) = (unlist(words.next()?)?, unlist(words.next()?)?);
        let listed = match kind.trim_end_matches('+') {
            "g" => Listed::Gone(listed),
            "a" => Listed::Alive(listed),
            _ => return None,
        };
        words.next().is_none().then_some(Self { alive, digest, listed, unlinked, cut: kind.ends_with('+') })
    }
}

/// Whether something had to go.
fn truncate(list: &mut Vec<u32>) -> bool {
    let long = list.len() > LISTED_MAX;
    list.truncate(LISTED_MAX);
    long
}

/// Lists are words after a sign, so that an empty one is a word too.
fn list(hashes: &[u32]) -> String {
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
    format!(":{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn unlist(word: &str) -> Option<Vec<u32>> {
    let bytes = URL_SAFE_NO_PAD.decode(word.strip_prefix(':')?).ok()?;
    let (hashes, rest) = bytes.as_chunks::<4>();
    (rest.is_empty() && hashes.len() <= LISTED_MAX).then(|| hashes.iter().map(|hash| u32::from_le_bytes(*hash)).collect())
}

fn hash(name: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.add(name.as_bytes());
    hash.mixed()
}

fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests;
