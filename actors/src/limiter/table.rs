//! Where the cells of all keys are: found without a lock, bounded in memory, and never forgetting what a key owes.
//!
//! Sixty-four shards, by the uppermost bits of the key. Each has an index from keys to cells and a slab that the cells
//! live in; both grow piece by piece and never move, so whoever looks a key up reads them as they are. Only what
//! changes which key has which cell, [`Table::settle`] and [`Table::sweep`], takes the shard's lock.
//!
//! A cell is taken away from a key only when its bucket is full again. Clocks of different requests differ by a little,
//! so "full" for one may be "not quite" for another: a shard remembers the latest time of any bucket it took away (its
//! *floor*), and no bucket starts below it. A key that comes back therefore owes at least what it owed.

mod index;
mod slab;

use self::{index::Index, slab::Slab};
use super::{
    bucket::Word,
    cell::Cell,
    key::Key,
    policy::{Ledger, OVERFLOW_BITS},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) const SHARD_BITS: u32 = 6;
pub(crate) const SHARDS: usize = 1 << SHARD_BITS;
// The overflow cells of a key are written under the lock of the key's shard, so no two shards may share one.
const _: () = assert!(OVERFLOW_BITS >= SHARD_BITS);

/// How many cells an insert looks at before the shard grows, and how many once it may not grow.
const REACH: u32 = 8;
const REACH_FULL: u32 = 64;
/// How many cells one sweep looks at while it holds the lock.
const REACH_SWEEP: u32 = 128;

/// More keys than this are not kept apart on one node.
const CAPACITY_MAX: usize = 1 << 28;

pub(crate) struct Table {
    shards: Box<[Shard]>,
    /// Cells that one shard may have.
    shard_max: u32,
    /// Ticks for which a bucket must have been full before its cell is taken away while there is room for more:
    /// callers who come once a second should not lose and claim a cell each time.
    idle: u64,
}

#[repr(align(64))]
struct Shard {
    index: Index,
    slab: Slab,
    writer: Apart<Mutex<Writer>>,
}

/// Keeps what writers change off the cache lines that every lookup reads.
#[repr(align(64))]
struct Apart<T>(T);

/// What only the holder of the shard's lock may change.
#[derive(Default)]
struct Writer {
    /// The first of the list of free cells, as one more than its id; 0 for none.
    free: u32,
    /// Cells that have ever been used.
    used: u32,
    /// Cells that belong to a key.
    keys: u32,
    /// The cell that the clock hand looks at next.
    hand: u32,
    floor: u64,
}

/// What [`Table::settle`] found for a key.
pub(crate) enum Place<'a> {
    Own(&'a Cell),
    /// One of the limit's overflow cells, shared with other keys.
    Overflow(&'a Cell),
}

/// What one step of a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Swept {
    /// Cells looked at.
    pub seen: usize,
    /// Cells that came back to the list of free ones.
    pub freed: usize,
    /// Whether the shard has been gone through to its end; the next step begins anew.
    pub wrapped: bool,
}

/// What the table holds and what it costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Keys that have a cell.
    pub keys: usize,
    /// Cells allocated, free ones included.
    pub cells: usize,
    /// Bytes of everything allocated: cells, indexes, superseded indexes, directories, overflow cells.
    pub bytes: usize,
}

impl Table {
    /// Has room for `capacity` keys: a shard has as many cells as its part of so many keys needs with six standard
    /// deviations to spare, so in all a few percent more.
    pub(crate) fn new(capacity: usize, idle: u64) -> Self {
        let share = capacity.clamp(SHARDS, CAPACITY_MAX).div_ceil(SHARDS);
        let shard_max = u32::try_from(share + 6 * share.isqrt()).expect("a shard's part of the capacity is below 2^23");
        let shards = (0..SHARDS).map(|_| Shard::new(shard_max)).collect();
        Self { shards, shard_max, idle }
    }

    /// The cell of `key`. May miss a key while a neighbour is being moved: `settle` makes sure.
    pub(crate) fn find(&self, key: Key) -> Option<&Cell> {
        self.visit(key, |cell| cell.holds(key).then_some(cell))
    }

    /// What `visit` returns for the first cell that it has something to return for: it is asked about cells that are
    /// probably, but not certainly, `key`'s.
    #[inline]
    pub(crate) fn visit<'a, T>(&'a self, key: Key, mut visit: impl FnMut(&'a Cell) -> Option<T>) -> Option<T> {
        let shard = self.shard(key);
        shard.index.find(key.hash, |id| visit(shard.slab.cell(id)))
    }

    /// Runs `then` on the place where `key` is counted, making one if there is none, while nobody can take it away.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle<'a, T>(&'a self, key: Key, ledger: &'a Ledger, now: u64, then: impl FnOnce(Place<'a>) -> T) -> T {
        let shard = self.shard(key);
        let mut writer = shard.lock();
        if let Some(cell) = self.find(key) {
            return then(Place::Own(cell));
        }
        let Some(id) = shard.claim(&mut writer, self.shard_max, self.idle, now) else {
            let cell = ledger.overflow_cell(key);
            cell.raise(writer.floor);
            return then(Place::Overflow(cell));
        };
        // While the table was full, the key may have been granted something by its overflow cell. It takes that debt
        // along, and what others owe there with it: too much rather than a second burst.
        let shared = ledger.overflow(key).map_or(0, |cell| cell.word().time());
        let cell = shard.slab.cell(id);
        cell.settle(key, ledger.number(), shared.max(writer.floor));
        writer.keys += 1;
        shard.index.insert(key.hash, id, writer.keys, || shard.hashes(writer.used));
        then(Place::Own(cell))
    }

    /// Frees idle cells of one shard, at most 128 cells further on each call.
    pub(crate) fn sweep(&self, shard: usize, now: u64) -> Swept {
        let shard = &self.shards[shard];
        let mut writer = shard.lock();
        let mut swept = Swept { seen: 0, freed: 0, wrapped: false };
        let left = writer.used - writer.hand.min(writer.used);
        for _ in 0..left.min(REACH_SWEEP) {
            swept.seen += 1;
            if let Some(id) = shard.advance(&mut writer, self.idle, now) {
                shard.slab.cell(id).set_next_free(writer.free);
                writer.free = id + 1;
                swept.freed += 1;
            }
        }
        swept.wrapped = left <= REACH_SWEEP;
        if swept.wrapped {
            writer.hand = 0;
        }
        swept
    }

    pub(crate) fn memory(&self) -> Memory {
        let mut memory = Memory { bytes: size_of_val(&*self.shards), ..Memory::default() };
        for shard in (0..SHARDS).map(|shard| self.memory_of(shard)) {
            memory.keys += shard.keys;
            memory.cells += shard.cells;
            memory.bytes += shard.bytes;
        }
        memory
    }

    pub(crate) fn memory_of(&self, shard: usize) -> Memory {
        let shard = &self.shards[shard];
        Memory { keys: shard.lock().keys as usize, cells: shard.slab.cells(), bytes: shard.slab.bytes() + shard.index.bytes() }
    }

    fn shard(&self, key: Key) -> &Shard {
        &self.shards[key.place(SHARD_BITS)]
    }
}

impl Shard {
    fn new(cells_max: u32) -> Self {
        Self { index: Index::new(cells_max), slab: Slab::new(cells_max), writer: Apart(Mutex::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // Each step under the lock leaves the shard whole, so a panic of another thread loses at most a cell.
        self.writer.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hashes(&self, used: u32) -> impl Iterator<Item = (u64, u32)> {
        (0..used).map(|id| (self.slab.cell(id).hash(), id)).filter(|(hash, _)| *hash != 0)
    }

    /// A cell that belongs to nobody: a free one, an idle one near the hand, a new one, or, at the capacity, any full one
    /// within reach.
    fn claim(&self, writer: &mut Writer, cells_max: u32, idle: u64, now: u64) -> Option<u32> {
        if writer.free != 0 {
            let id = writer.free - 1;
            writer.free = self.slab.cell(id).next_free();
            return Some(id);
        }
        if let Some(id) = (0..REACH).find_map(|_| self.advance(writer, idle, now)) {
            return Some(id);
        }
        if writer.used < cells_max {
            let id = writer.used;
            self.slab.grow_to(id);
            writer.used += 1;
            return Some(id);
        }
        (0..REACH_FULL).find_map(|_| self.advance(writer, 0, now))
    }

    /// Moves the hand over one cell, and takes it away from its key if its bucket has been full for `idle` ticks.
    fn advance(&self, writer: &mut Writer, idle: u64, now: u64) -> Option<u32> {
        if writer.used == 0 {
            return None;
        }
        let id = if writer.hand < writer.used { writer.hand } else { 0 };
        writer.hand = id + 1;
        let cell = self.slab.cell(id);
        let (hash, word): (u64, Word) = (cell.hash(), cell.word());
        if hash == 0 || word.time().saturating_add(idle) > now || !cell.vacate(word) {
            return None;
        }
        self.index.remove(hash, id, |id| self.slab.cell(id).hash());
        writer.floor = writer.floor.max(word.time());
        writer.keys -= 1;
        Some(id)
    }
}
