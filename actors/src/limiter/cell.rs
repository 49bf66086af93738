//! One key's state in one cache line, read and written by every thread without a lock.
//!
//! A cell outlives its keys. While it belongs to a key, a request takes from it in three steps; when its bucket is full
//! again it may be taken away from that key, which is three steps too, made only under the lock of its shard:
//!
//! | a request for key K         | the reclaimer             |
//! |-----------------------------|---------------------------|
//! | 1. load the word            | 1. load the word: full    |
//! | 2. load the key: is it K?   | 2. store no key           |
//! | 3. swap the word it loaded  | 3. swap it for the next generation; if that fails, put K back |
//! |                             | 4. store the next key     |
//!
//! Why that is enough. A request that swaps loaded a word that nothing has changed since. If the reclaimer's swap came
//! before that load, then so did its step 2, and the request's step 2 finds no key or another one, never K: it does not
//! swap. If the reclaimer's swap comes between the load and the request's swap, the generation differs and the
//! request's swap fails. If it comes after the request's swap, it either fails, because the word is not the one that the
//! reclaimer found full, or the reclaimer loaded a word that has the take in it, and that one was full. So no take ever lands on
//! another key's bucket, and no bucket that owes anything is taken away. Between steps 2 and 4 nobody swaps
//! the word at all, so a fresh cell may be filled with plain stores.
//!
//! The generation has eight bits: a request would have to sleep between its first and third step until the generation
//! has come round all its 256 values and the time is the same tick again. The counters beside the word are added to after the
//! swap; a thread that is suspended right there until its bucket is full again and reclaimed counts for the next key.

use super::{
    bucket::{Rule, Word},
    key::Key,
    lease::{Bond, Hand},
};
use cluster::limits::Lease;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Sixty-four bytes, aligned to a cache line: whoever decides about a key touches one line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Cell {
    /// [`Key::hash`]; 0 while the cell belongs to nobody.
    key: AtomicU64,
    /// [`Word`]: the bucket of the limit's own rate and burst, which holds whatever the cluster says.
    tat: AtomicU64,
    /// [`Bond`]: what the owner of the key lends this node, where the limit is a cluster's.
    lease: AtomicU64,
    /// [`Hand`]: what the lease has earned and is not spent yet.
    hand: AtomicU64,
    /// Tokens granted since the key got the cell. Only ever grows.
    admitted: AtomicU64,
    /// Tokens refused since the key got the cell, to requests that no other limit refused. Only ever grows, and so does
    /// the sum of both, which is what was offered.
    refused: AtomicU64,
    /// Below, what whoever reports to the owner has been told: [`WATCHED`], [`WOKEN`]. Above, what an owner has answered for.
    watch: AtomicU64,
    /// [`Key::check`] above, the number of the limit below. The next free cell, while the cell belongs to nobody.
    misc: AtomicU64,
}

/// The key is reported to its owner from time to time.
pub(crate) const WATCHED: u64 = 1;
/// It is to be reported at once.
pub(crate) const WOKEN: u64 = 2;

impl Cell {
    /// Takes `cost` tokens of `key`'s bucket: the word after it, or the debt that stood in the way. `None` if the cell does
    /// not belong to the key, or no longer.
    #[inline]
    pub(crate) fn take(&self, key: Key, rule: Rule, now: u64, cost: u64) -> Option<Result<Word, u64>> {
        loop {
            let word = self.word();
            if !self.holds(key) {
                return None;
            }
            match rule.take(word, now, cost) {
                Err(debt) => return Some(Err(debt)),
                Ok(next) if self.swap(word, next) => return Some(Ok(next)),
                // Somebody took, or took the cell away: decide again on what is there now.
                Ok(_) => {}
            }
        }
    }

    /// The same under a lease, if one binds: then the hand has to afford it as well. A request that the hand refuses is told a debt
    /// that takes as long to be paid.
    #[inline]
    pub(crate) fn take_lent(&self, key: Key, rule: Rule, now: u64, cost: u64) -> Option<Result<Word, u64>> {
        let bond = self.bond();
        if !bond.binds(now) {
            return self.take(key, rule, now, cost);
        }
        let lease = bond.lease();
        let refusal = |hand: Hand| Err(rule.tolerance.saturating_sub(cost * rule.interval) + hand.wait(lease, cost));
        let hand = self.hand();
        let earned = hand.earned(lease, now, cost);
        if !earned.affords(lease, cost) {
            if !self.holds(key) {
                return None;
            }
            if lease.portion > 0.0 {
                self.earn(lease, now, cost);
            }
            return Some(refusal(earned));
        }
        let word = match self.take(key, rule, now, cost)? {
            Ok(word) => word,
            Err(debt) => return Some(Err(debt)),
        };
        match self.spend(lease, now, cost) {
            Ok(()) => Some(Ok(word)),
            Err(hand) => {
                self.give_back(rule, word.generation(), cost);
                Some(refusal(hand))
            }
        }
    }

    fn earn(&self, lease: Lease, now: u64, asked: u64) {
        // The closure always has a value to put.
        let _ = self.hand.fetch_update(Relaxed, Relaxed, |hand| Some(Hand(hand).earned(lease, now, asked).0));
    }

    fn spend(&self, lease: Lease, now: u64, cost: u64) -> Result<(), Hand> {
        let spent = self.hand.fetch_update(Relaxed, Relaxed, |hand| {
            let earned = Hand(hand).earned(lease, now, cost);
            earned.affords(lease, cost).then(|| earned.less(cost).0)
        });
        spent.map(|_| ()).map_err(Hand)
    }

    /// Puts back what a request took that another limit refused.
    pub(crate) fn put_back(&self, now: u64, cost: u64) {
        if self.bond().binds(now) {
            let _ = self.hand.fetch_update(Relaxed, Relaxed, |hand| Some(Hand(hand).more(cost).0));
        }
    }

    /// What a take would meet: the debt, and whether it would be granted.
    pub(crate) fn look_lent(&self, key: Key, rule: Rule, now: u64, cost: u64) -> Option<(u64, bool)> {
        let debt = self.debt(key, now)?;
        let bond = self.bond();
        let granted = rule.grants(debt, cost);
        if !granted || !bond.binds(now) {
            return Some((debt, granted));
        }
        let lease = bond.lease();
        let hand = self.hand().earned(lease, now, cost);
        if hand.affords(lease, cost) {
            return Some((debt, true));
        }
        Some((rule.tolerance.saturating_sub(cost * rule.interval) + hand.wait(lease, cost), false))
    }

    /// Lends anew. A hand that was bound goes on from what it earned; another one begins with `begin` of a token.
    pub(crate) fn lend(&self, bond: Bond, begin: f32, now: u64) {
        let before = self.bond();
        let bound = before.binds(now);
        let _ = self.hand.fetch_update(Relaxed, Relaxed, |hand| {
            Some(if bound { Hand(hand).earned(before.lease(), now, 0) } else { Hand::new(begin, now) }.0)
        });
        self.lease.store(bond.0, Relaxed);
    }

    pub(crate) fn bond(&self) -> Bond {
        Bond(self.lease.load(Relaxed))
    }

    pub(crate) fn hand(&self) -> Hand {
        Hand(self.hand.load(Relaxed))
    }

    /// Sets flags; whether one of them was not set.
    #[inline]
    pub(crate) fn flag(&self, flags: u64) -> bool {
        // A load first: nearly always all are set.
        self.watch.load(Relaxed) & flags != flags && self.watch.fetch_or(flags, Relaxed) & flags != flags
    }

    pub(crate) fn woken(&self) -> bool {
        self.watch.load(Relaxed) & WOKEN != 0
    }

    /// What an owner has answered for: [`cluster::limits::Report::confirmed`].
    pub(crate) fn confirmed(&self) -> u32 {
        (self.watch.load(Relaxed) >> 32) as u32
    }

    pub(crate) fn confirm(&self, admitted: u32) {
        let _ = self.watch.fetch_update(Relaxed, Relaxed, |watch| Some(watch & u64::from(u32::MAX) | u64::from(admitted) << 32));
    }

    pub(crate) fn unflag(&self, flags: u64) {
        self.watch.fetch_and(!flags, Relaxed);
    }

    /// Gives back what was taken in `generation`, and says whether the bucket still owed it.
    pub(crate) fn give_back(&self, rule: Rule, generation: u8, cost: u64) -> bool {
        loop {
            let word = self.word();
            match rule.give_back(word, generation, cost) {
                None => return false,
                Some(next) if self.swap(word, next) => return true,
                Some(_) => {}
            }
        }
    }

    /// What `key`'s bucket owes; `None` if the cell is not its cell.
    pub(crate) fn debt(&self, key: Key, now: u64) -> Option<u64> {
        let word = self.word();
        self.holds(key).then(|| word.debt(now))
    }

    /// Raises the bucket's time to at least `floor`.
    pub(crate) fn raise(&self, floor: u64) {
        loop {
            let word = self.word();
            // What was taken before lies below the floor now: it must not be given back on top of it.
            if word.time() >= floor || self.swap(word, Word::new(floor, word.turned().generation())) {
                return;
            }
        }
    }

    pub(crate) fn count_admitted(&self, cost: u64) {
        self.admitted.fetch_add(cost, Relaxed);
    }

    pub(crate) fn count_refused(&self, cost: u64) {
        self.refused.fetch_add(cost, Relaxed);
    }

    pub(crate) fn admitted(&self) -> u64 {
        self.admitted.load(Relaxed)
    }

    pub(crate) fn offered(&self) -> u64 {
        self.admitted() + self.refused.load(Relaxed)
    }

    // The steps of the table above, one method each.

    pub(crate) fn word(&self) -> Word {
        Word(self.tat.load(Acquire))
    }

    pub(crate) fn holds(&self, key: Key) -> bool {
        // Acquire: whoever sees a key sees what was filled in before it.
        self.key.load(Acquire) == key.hash && (self.misc.load(Relaxed) >> 32) as u32 == key.check
    }

    fn swap(&self, word: Word, next: Word) -> bool {
        self.tat.compare_exchange(word.0, next.0, AcqRel, Acquire).is_ok()
    }

    fn hide(&self) -> u64 {
        let hash = self.key.load(Relaxed);
        self.key.store(0, Release);
        hash
    }

    fn turn(&self, word: Word) -> bool {
        // The release half of the swap keeps `hide` before it, which is what step 2 of a request relies on.
        self.swap(word, word.turned())
    }

    fn show(&self, hash: u64) {
        self.key.store(hash, Release);
    }

    /// Takes the cell away from its key if its bucket was `word`, and full. Only under the shard's lock.
    pub(crate) fn vacate(&self, word: Word) -> bool {
        let hash = self.hide();
        let vacated = self.turn(word);
        if !vacated {
            self.show(hash);
        }
        vacated
    }

    /// Gives a vacant cell to `key`, with a bucket that becomes full at `time`. Only under the shard's lock.
    pub(crate) fn settle(&self, key: Key, limit: u32, time: u64) {
        for word in [&self.lease, &self.hand, &self.admitted, &self.refused, &self.watch] {
            word.store(0, Relaxed);
        }
        self.misc.store(u64::from(key.check) << 32 | u64::from(limit), Relaxed);
        self.tat.store(Word::new(time, self.word().generation()).0, Release);
        self.show(key.hash);
    }

    /// The hash of the key that the cell belongs to; 0 for none.
    pub(crate) fn hash(&self) -> u64 {
        self.key.load(Acquire)
    }

    /// The link of a vacant cell in its shard's list of free ones.
    pub(crate) fn next_free(&self) -> u32 {
        self.misc.load(Relaxed) as u32
    }

    pub(crate) fn set_next_free(&self, id: u32) {
        self.misc.store(u64::from(id), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const RULE: Rule = Rule { interval: 10, tolerance: 20, burst: 2 };
    const OLD: Key = Key { hash: 11, check: 1 };
    const NEW: Key = Key { hash: 22, check: 2 };

    /// A request, cut between every two accesses to memory.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    enum Request {
        Load,
        Compare(Word),
        Swap(Word),
        Done(Option<Result<Word, u64>>),
    }

    impl Request {
        fn step(self, cell: &Cell, key: Key, now: u64) -> Self {
            match self {
                Self::Load => Self::Compare(cell.word()),
                Self::Compare(_) if !cell.holds(key) => Self::Done(None),
                Self::Compare(word) => match RULE.take(word, now, 1) {
                    Ok(_) => Self::Swap(word),
                    Err(debt) => Self::Done(Some(Err(debt))),
                },
                Self::Swap(word) => {
                    let next = RULE.take(word, now, 1).expect("it was granted one step earlier");
                    if cell.swap(word, next) { Self::Done(Some(Ok(next))) } else { Self::Load }
                }
                Self::Done(_) => self,
            }
        }

        fn granted(self) -> u64 {
            u64::from(matches!(self, Self::Done(Some(Ok(_)))))
        }
    }

    /// The reclaimer, cut the same way. It gives the cell to `NEW` if it gets it.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    enum Reclaimer {
        Load,
        Hide(Word),
        Turn(Word, u64),
        Restore(u64),
        Fill(u64),
        Show,
        Done { moved: bool },
    }

    impl Reclaimer {
        fn step(self, cell: &Cell, now: u64) -> Self {
            match self {
                Self::Load if cell.word().time() > now => Self::Done { moved: false },
                Self::Load => Self::Hide(cell.word()),
                Self::Hide(word) => Self::Turn(word, cell.hide()),
                Self::Turn(word, _) if cell.turn(word) => Self::Fill(word.time()),
                Self::Turn(_, hash) => Self::Restore(hash),
                Self::Restore(hash) => {
                    cell.show(hash);
                    Self::Done { moved: false }
                }
                Self::Fill(floor) => {
                    cell.misc.store(u64::from(NEW.check) << 32, Relaxed);
                    cell.tat.store(Word::new(floor, cell.word().generation()).0, Release);
                    Self::Show
                }
                Self::Show => {
                    cell.show(NEW.hash);
                    Self::Done { moved: true }
                }
                Self::Done { .. } => self,
            }
        }
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    struct World {
        words: [u64; 3],
        requests: [(Request, Key, u64); 3],
        reclaimer: Reclaimer,
        now: u64,
    }

    impl World {
        /// Every step is made on a real cell, which is then put away again as plain numbers.
        fn on_cell<T>(&mut self, step: impl FnOnce(&Cell) -> T) -> T {
            let cell = Cell::default();
            for (word, value) in [&cell.key, &cell.tat, &cell.misc].into_iter().zip(self.words) {
                word.store(value, Relaxed);
            }
            let result = step(&cell);
            self.words = [&cell.key, &cell.tat, &cell.misc].map(|word| word.load(Relaxed));
            result
        }

        /// Follows every order in which the steps can come, through every state that can be reached. Each end is checked once.
        fn explore(self, seen: &mut HashSet<World>, finished: &mut impl FnMut(&World)) {
            if !seen.insert(self) {
                return;
            }
            let mut ended = true;
            for index in 0..self.requests.len() {
                let (request, key, now) = self.requests[index];
                if !matches!(request, Request::Done(_)) {
                    let mut next = self;
                    next.requests[index].0 = next.on_cell(|cell| request.step(cell, key, now));
                    next.explore(seen, finished);
                    ended = false;
                }
            }
            if !matches!(self.reclaimer, Reclaimer::Done { .. }) {
                let mut next = self;
                next.reclaimer = next.on_cell(|cell| self.reclaimer.step(cell, self.now));
                next.explore(seen, finished);
                ended = false;
            }
            if ended {
                finished(&self);
            }
        }
    }

    /// Two requests for the old key and one for the new one meet a reclaimer, over every interleaving of their accesses.
    /// Returns how many states there are, and how many ends in which the cell changed hands and in which it did not.
    fn check(time: u64, old_now: u64, now: u64) -> (usize, u64, u64) {
        let start = Word::new(time, 200);
        let world = World {
            words: [OLD.hash, start.0, u64::from(OLD.check) << 32],
            requests: [(Request::Load, OLD, old_now), (Request::Load, OLD, now), (Request::Load, NEW, now)],
            reclaimer: Reclaimer::Load,
            now,
        };
        let (mut moved, mut stayed) = (0, 0);
        let mut seen = HashSet::new();
        world.explore(&mut seen, &mut |end| {
            let old = end.requests[0].0.granted() + end.requests[1].0.granted();
            let new = end.requests[2].0.granted();
            let word = Word(end.words[1]);
            if end.reclaimer == (Reclaimer::Done { moved: true }) {
                moved += 1;
                assert_eq!(end.words[0], NEW.hash);
                // The new key owes exactly what it took, and the old one's bucket had nothing of it left to owe.
                assert_eq!(word.debt(now), new * RULE.interval);
                assert!(time + old * RULE.interval <= now, "a bucket that owed something was taken away");
            } else {
                stayed += 1;
                assert_eq!(end.words[0], OLD.hash);
                assert_eq!(new, 0, "the new key never had a cell");
                assert!(word.time() >= time + old * RULE.interval, "a take was lost");
            }
        });
        (seen.len(), moved, stayed)
    }

    #[test]
    fn no_interleaving_loses_a_take_or_charges_it_to_another_key() {
        let (states, moved, stayed) = check(50, 100, 100);
        assert!(states > 500 && moved > 0 && stayed > 0, "{states} states, {moved} moved, {stayed} stayed");
    }

    #[test]
    fn a_request_with_an_older_clock_may_leave_a_full_bucket_behind() {
        let (_, moved, stayed) = check(0, 20, 100);
        assert!(moved > 0 && stayed > 0);
    }

    #[test]
    fn a_bucket_that_owes_is_never_taken_away() {
        assert_eq!(check(101, 100, 100).1, 0);
    }

    #[test]
    fn a_cell_is_one_cache_line() {
        assert_eq!((size_of::<Cell>(), align_of::<Cell>()), (64, 64));
    }

    #[test]
    fn a_settled_cell_starts_from_nothing() {
        let cell = Cell::default();
        cell.settle(OLD, 5, 0);
        assert!(matches!(cell.take(OLD, RULE, 100, 2), Some(Ok(_))));
        cell.count_admitted(2);
        cell.count_refused(1);
        assert_eq!((cell.admitted(), cell.offered()), (2, 3));
        assert!(!cell.vacate(Word::new(0, 0)), "the word has moved on");
        assert_eq!(cell.hash(), OLD.hash);
        assert!(cell.vacate(cell.word()));
        assert_eq!(cell.take(OLD, RULE, 100, 1), None);
        cell.settle(NEW, 6, 120);
        assert_eq!((cell.admitted(), cell.offered()), (0, 0));
        assert_eq!(cell.debt(NEW, 100), Some(20));
        assert_eq!(cell.debt(Key { check: 9, ..NEW }, 100), None);
    }
}
