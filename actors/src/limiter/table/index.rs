//! From keys to cells, for one shard: open addressing over words of eight bytes that hold two or three slots each.
//!
//! A slot holds a cell's id and, in the bits that are left, a tag of the key, so that a lookup seldom touches a cell that
//! is not the right one. Slots are packed because a million keys miss the processor's caches: the smaller the
//! index, the likelier only the cell itself does. When seven eighths are taken, a level of twice the size is filled and becomes the
//! current one; the last level is just large enough for every cell the shard may have. Superseded levels stay where they
//! are: together they are no larger than the current one, and a lookup that still reads one finds at worst
//! nothing, which sends it to the shard's lock.

use std::{
    array,
    sync::{
        OnceLock,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// A level has at least so many words, unless the last one has fewer.
const WORDS_MIN: usize = 8;
const LEVELS: usize = 21;
/// With fewer bits than that left for the tag, a word holds two slots rather than three.
const TAG_BITS_MIN: u32 = 7;

pub(super) struct Index {
    current: AtomicU32,
    layout: Layout,
    levels: [OnceLock<Box<[AtomicU64]>>; LEVELS],
    /// Levels that there may be.
    last: u32,
    /// Words of the last level; each one before has half as many.
    words_max: usize,
}

/// How slots lie in a word. An empty slot is 0.
#[derive(Clone, Copy)]
struct Layout {
    slots: u32,
    slot_bits: u32,
    /// Bits of a slot that hold one more than a cell's id.
    id_bits: u32,
}

impl Layout {
    fn new(cells_max: u32) -> Self {
        let id_bits = u32::BITS - cells_max.leading_zeros();
        let slots = if id_bits + TAG_BITS_MIN <= u64::BITS / 3 { 3 } else { 2 };
        Self { slots, slot_bits: u64::BITS / slots, id_bits }
    }

    fn slot(self, hash: u64, id: u32) -> u64 {
        self.tag(hash) << self.id_bits | u64::from(id + 1)
    }

    fn id(self, slot: u64) -> u32 {
        (slot & ((1 << self.id_bits) - 1)) as u32 - 1
    }

    /// From the lower end of the hash: its upper end is the shard and the place in the index.
    fn tag(self, hash: u64) -> u64 {
        hash & ((1 << (self.slot_bits - self.id_bits)) - 1)
    }

    fn get(self, word: u64, at: u32) -> u64 {
        word >> (at * self.slot_bits) & ((1 << self.slot_bits) - 1)
    }

    fn set(self, word: u64, at: u32, slot: u64) -> u64 {
        let mask = ((1 << self.slot_bits) - 1) << (at * self.slot_bits);
        word & !mask | slot << (at * self.slot_bits)
    }

    /// The slots behind move up: the empty ones of a word are its last.
    fn without(self, word: u64, at: u32) -> u64 {
        let below = (1 << (at * self.slot_bits)) - 1;
        word & below | word >> self.slot_bits & !below
    }

    fn slots_of(self, word: u64) -> impl Iterator<Item = (u32, u64)> {
        (0..self.slots).map(move |at| (at, self.get(word, at)))
    }
}

impl Index {
    pub(super) fn new(cells_max: u32) -> Self {
        let layout = Layout::new(cells_max);
        let words_max = (cells_max as usize * 8).div_ceil(layout.slots as usize * 7);
        let last = (words_max / WORDS_MIN).max(1).ilog2();
        let index = Self { current: AtomicU32::new(0), layout, levels: array::from_fn(|_| OnceLock::new()), last, words_max };
        index.levels[0].get_or_init(|| index.words_of(0));
        index
    }

    /// What `visit` returns for the first cell under `hash` that it has something to return for.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, visit: impl FnMut(u32) -> Option<T>) -> Option<T> {
        match self.layout.slots {
            3 => self.find_among::<3, T>(hash, visit),
            _ => self.find_among::<2, T>(hash, visit),
        }
    }

    #[inline]
    fn find_among<const SLOTS: u32, T>(&self, hash: u64, mut visit: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let layout = Layout { slots: SLOTS, slot_bits: u64::BITS / SLOTS, ..self.layout };
        let tag = layout.tag(hash);
        let words = self.words();
        let mut at = home(words.len(), hash);
        for _ in 0..words.len() {
            let word = words[at].load(Acquire);
            for (_, slot) in layout.slots_of(word) {
                if slot == 0 {
                    return None;
                }
                if slot >> layout.id_bits == tag
                    && let Some(found) = visit(layout.id(slot))
                {
                    return Some(found);
                }
            }
            at = if at + 1 == words.len() { 0 } else { at + 1 };
        }
        None
    }

    /// Adds a cell. `keys` counts it already; `all` are all cells that belong to a key, this one included.
    pub(super) fn insert<I: Iterator<Item = (u64, u32)>>(&self, hash: u64, id: u32, keys: u32, all: impl FnOnce() -> I) {
        let words = self.words();
        let level = self.current.load(Relaxed);
        if level == self.last || keys as usize * 8 <= words.len() * self.layout.slots as usize * 7 {
            self.put(words, hash, id);
            return;
        }
        self.levels[level as usize + 1].get_or_init(|| {
            let words = self.words_of(level + 1);
            for (hash, id) in all() {
                self.put(&words, hash, id);
            }
            words
        });
        self.current.store(level + 1, Release);
    }

    /// Removes a cell, and moves what it had pushed aside back towards its place.
    pub(super) fn remove(&self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) {
        let words = self.words();
        let slot = self.layout.slot(hash, id);
        let (mut hole, mut hole_at) = run(words.len(), hash)
            .find_map(|at| self.layout.slots_of(words[at].load(Relaxed)).find(|(_, held)| *held == slot).map(|(slot_at, _)| (at, slot_at)))
            .expect("a cell that belongs to a key is in the index");
        loop {
            let word = words[hole].load(Relaxed);
            let Some((from, from_at, moved)) = self.mend(words, hole, &hash_of) else {
                words[hole].store(self.layout.without(word, hole_at), Release);
                return;
            };
            words[hole].store(self.layout.set(word, hole_at, moved), Release);
            (hole, hole_at) = (from, from_at);
        }
    }

    /// The next slot behind the word `hole` that belongs there or before. A word with an empty slot has pushed nothing
    /// further, so only a run of full words has to be mended.
    fn mend(&self, words: &[AtomicU64], hole: usize, hash_of: impl Fn(u32) -> u64) -> Option<(usize, u32, u64)> {
        let full = |word| self.layout.slots_of(word).all(|(_, slot)| slot != 0);
        if !full(words[hole].load(Relaxed)) {
            return None;
        }
        for ahead in 1..words.len() {
            let at = (hole + ahead) % words.len();
            let word = words[at].load(Relaxed);
            for (slot_at, slot) in self.layout.slots_of(word).filter(|(_, slot)| *slot != 0) {
                let home = home(words.len(), hash_of(self.layout.id(slot)));
                // How far it was pushed tells whether it passed the hole.
                if (at + words.len() - home) % words.len() >= ahead {
                    return Some((at, slot_at, slot));
                }
            }
            if !full(word) {
                return None;
            }
        }
        None
    }

    pub(super) fn bytes(&self) -> usize {
        self.levels.iter().filter_map(OnceLock::get).map(|words| size_of_val(&**words)).sum()
    }

    fn words(&self) -> &[AtomicU64] {
        self.levels[self.current.load(Acquire) as usize].get().expect("a level is filled before it is the current one")
    }

    fn words_of(&self, level: u32) -> Box<[AtomicU64]> {
        (0..self.words_max.div_ceil(1 << (self.last - level))).map(|_| AtomicU64::new(0)).collect()
    }

    fn put(&self, words: &[AtomicU64], hash: u64, id: u32) {
        let (at, slot_at) = run(words.len(), hash)
            .find_map(|at| self.layout.slots_of(words[at].load(Relaxed)).find(|(_, slot)| *slot == 0).map(|(slot_at, _)| (at, slot_at)))
            .expect("an eighth of the slots is empty");
        let word = words[at].load(Relaxed);
        // Release: whoever reads the slot sees the cell as it was settled.
        words[at].store(self.layout.set(word, slot_at, self.layout.slot(hash, id)), Release);
    }
}

/// The word in which a key's slot is looked for first. The uppermost bits of the hash are the shard's.
fn home(words: usize, hash: u64) -> usize {
    ((hash << super::SHARD_BITS >> 32) as usize * words) >> 32
}

/// All words, from a key's home on.
fn run(words: usize, hash: u64) -> impl Iterator<Item = usize> {
    let home = home(words, hash);
    (home..words).chain(0..home)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Few different homes, near both ends, so that long runs form, wrap around and are cut in the middle.
    fn hash(value: u64) -> u64 {
        let home = [0, 1, 2, 1 << 25, u64::MAX >> 38, (u64::MAX >> 38) - 1, 1 << 24][value as usize % 7];
        home << 32 | value
    }

    fn check(cells_max: u32, steps: Vec<(bool, u64)>) -> Result<(), TestCaseError> {
        let index = Index::new(cells_max);
        let mut cells: Vec<u64> = Vec::new();
        let mut expected: BTreeMap<u64, u32> = BTreeMap::new();
        for (add, value) in steps {
            let hash_added = hash(value);
            match (add, expected.get(&hash_added).copied()) {
                (true, None) if cells.len() < 64 => {
                    let id = cells.len() as u32;
                    cells.push(hash_added);
                    expected.insert(hash_added, id);
                    index.insert(hash_added, id, expected.len() as u32, || expected.iter().map(|(hash, id)| (*hash, *id)));
                }
                (false, Some(id)) => {
                    index.remove(hash_added, id, |id| cells[id as usize]);
                    expected.remove(&hash_added);
                }
                _ => {}
            }
            for value in 0..40 {
                let found = index.find(hash(value), |id| (cells[id as usize] == hash(value)).then_some(id));
                prop_assert_eq!(found, expected.get(&hash(value)).copied());
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn it_holds_exactly_what_was_put_and_not_removed(steps in prop::collection::vec((any::<bool>(), 0..40u64), 1..300)) {
            check(64, steps)?;
        }

        #[test]
        fn two_slots_in_a_word_serve_as_well_as_three(steps in prop::collection::vec((any::<bool>(), 0..40u64), 1..300)) {
            check(1 << 20, steps)?;
        }
    }

    #[test]
    fn every_level_is_twice_the_one_before_and_the_last_holds_every_cell() {
        for cells_max in [1, 7, 40, 1_000, 16_375, 16_384, 1 << 22] {
            let index = Index::new(cells_max);
            let words: Vec<_> = (0..=index.last).map(|level| index.words_of(level).len()).collect();
            assert!(words[0] <= 2 * WORDS_MIN, "{words:?}");
            assert!(words.windows(2).all(|pair| pair[1] <= 2 * pair[0] && pair[1] >= 2 * pair[0] - 1), "{words:?}");
            assert!(words[words.len() - 1] * index.layout.slots as usize * 7 >= cells_max as usize * 8);
            assert!(words.len() <= LEVELS);
        }
    }
}
