//! Decides whether a request may pass the limits it is put to.
//!
//! Every key of a limit has a bucket (`bucket.rs`) in a cell of its own (`cell.rs`), which the request's thread finds
//! (`table.rs`) and changes with one compare-and-swap. Nothing here waits or asks what time it is, and only a
//! key that is seen for the first time needs a lock. Memory is bounded: a cell is reclaimed once its bucket is full again,
//! and when there is none to reclaim, new keys of a limit share its overflow cells until there is.
//!
//! A request under several limits takes of all of them or of none. It looks at all first; if one would refuse, nothing is
//! touched. Otherwise it takes in order, and should another request have been faster at a later limit, it gives back what
//! it took and is refused.

mod actor;
mod bucket;
mod cell;
mod decision;
mod few;
mod key;
mod lease;
mod policy;
mod reporter;
mod table;

// A retry budget is a bucket too.
pub(crate) use self::bucket::{Clock, Rule, Word};
pub use self::{
    actor::child,
    decision::{Decision, Verdict},
    key::{Key, KeyHasher},
    policy::{Counts, Policy},
    reporter::{Reporter, Said},
    table::{Memory, Swept},
};

use self::{
    cell::{Cell, WATCHED, WOKEN},
    few::Few,
    policy::{Ledger, Stripe},
    table::{Place, Table},
};
use config::{Limit, LimitName};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

/// Parts of the key space that are swept one at a time: `0..SHARDS`.
pub const SHARDS: usize = table::SHARDS;

/// How long a bucket must have been full before its cell goes to another key while there is room for more.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many keys have a bucket of their own at the same time. Too low: new keys share buckets while it is exceeded.
    /// Too high: an attacker who invents keys can make the node use about 90 bytes for each. 1,000,000 is a good start.
    pub capacity: usize,
    /// Keys the hashes. Nobody who sends requests may know it.
    pub seed: [u8; 16],
    /// Before every instant that decisions are asked for.
    pub epoch: Instant,
}

pub struct Limiter {
    table: Table,
    clock: Clock,
    seed: [u8; 16],
    registry: Mutex<Registry>,
    wakes: Wakes,
}

/// The ledgers of limits that are in use, by name.
#[derive(Default)]
struct Registry {
    ledgers: BTreeMap<LimitName, Weak<Ledger>>,
    /// The rule of each, by its number, as the newest revision has it.
    rules: BTreeMap<u32, (LimitName, Rule)>,
    numbered: u32,
    /// Names of limits that are gone are dropped when there are so many names.
    purge_at: usize,
}

/// What a request asks of one limit.
#[derive(Clone, Copy)]
pub struct Take<'a> {
    pub policy: &'a Policy,
    pub key: Key,
    /// In tokens; usually 1.
    pub cost: u64,
}

/// Tokens of one key, counted up from when it got its cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub admitted: u64,
    /// Asked for, granted or not, by requests that no other limit refused.
    pub offered: u64,
}

/// Keys that are to be reported, by shard: bounded, and never waited for.
struct Wakes(Box<[Wake]>);

struct Wake {
    sender: SyncSender<(Key, u32)>,
    receiver: Mutex<Receiver<(Key, u32)>>,
}

/// Keys of one shard that wait to be reported.
const WAKES_MAX: usize = 1_024;

impl Wakes {
    fn new() -> Self {
        let wake = |_| {
            let (sender, receiver) = sync_channel(WAKES_MAX);
            Wake { sender, receiver: Mutex::new(receiver) }
        };
        Self((0..SHARDS).map(wake).collect())
    }

    fn push(&self, key: Key, limit: u32) -> bool {
        let wake = &self.0[key.place(table::SHARD_BITS)];
        wake.sender.try_send((key, limit)).is_ok()
    }

    fn drain(&self, shard: usize) -> Vec<(Key, u32)> {
        let receiver = self.0[shard].receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.try_iter().take(WAKES_MAX).collect()
    }
}

/// What was taken, and what is needed to give it back.
struct Receipt<'a> {
    /// The bucket after the take, or the debt that stood in its way.
    outcome: Result<Word, u64>,
    cell: &'a Cell,
    overflowed: bool,
}

impl Limiter {
    pub fn new(options: Options) -> Self {
        let clock = Clock::new(options.epoch);
        let idle = clock.ticks(options.epoch + IDLE);
        Self { table: Table::new(options.capacity, idle), clock, seed: options.seed, registry: Mutex::default(), wakes: Wakes::new() }
    }

    /// Adopts a limit of a new revision. A limit with the same name keeps its buckets and its counters, whatever else changed:
    /// what a key owes stays, as the time that its bucket still needs to be full.
    pub fn policy(&self, limit: &Limit) -> Arc<Policy> {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = Policy::new(limit, &self.seed, registry.ledger(&limit.name));
        registry.rules.insert(policy.ledger().number(), (limit.name.clone(), policy.rule()));
        Arc::new(policy)
    }

    /// Takes of all limits or of none. A limit in shadow mode counts, and refuses nothing.
    pub fn admit(&self, takes: &[Take<'_>], now: Instant) -> Decision {
        let now = self.clock.ticks(now);
        match takes {
            [take] => self.admit_one(take, now),
            _ => self.admit_all(takes, now),
        }
    }

    /// What [`Limiter::admit`] would answer, without taking or counting anything.
    pub fn peek(&self, takes: &[Take<'_>], now: Instant) -> Decision {
        let now = self.clock.ticks(now);
        let mut verdicts = Few::new();
        for take in takes {
            verdicts.push(self.look(take, now));
        }
        let granted = verdicts.iter().all(Verdict::lets_pass);
        Decision::new(granted, verdicts)
    }

    /// What `key` asked for and was granted since it got its cell; `None` while it has none of its own.
    pub fn usage(&self, key: Key) -> Option<Usage> {
        let cell = self.table.find(key)?;
        Some(Usage { admitted: cell.admitted(), offered: cell.offered() })
    }

    /// Frees cells of keys that have been idle for a second, in one of the [`SHARDS`], in bounded steps: call it again until
    /// it says that it wrapped. What it frees goes to new keys of the same shard.
    pub fn sweep(&self, shard: usize, now: Instant) -> Swept {
        self.table.sweep(shard, self.clock.ticks(now))
    }

    /// What one of the [`SHARDS`] holds, without what belongs to limits as a whole.
    pub fn memory_of(&self, shard: usize) -> Memory {
        self.table.memory_of(shard)
    }

    pub fn memory(&self) -> Memory {
        let mut memory = self.table.memory();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        memory.bytes += registry.ledgers.values().filter_map(Weak::upgrade).map(|ledger| ledger.bytes()).sum::<usize>();
        memory
    }

    fn admit_one(&self, take: &Take<'_>, now: u64) -> Decision {
        let receipt = self.take(take, now);
        let verdict = receipt.verdict(take, now);
        if verdict.granted() {
            take.count_granted(&receipt);
        } else {
            receipt.cell.count_refused(take.cost);
            take.count_refused();
        }
        Decision::new(verdict.lets_pass(), Few::one(verdict))
    }

    fn admit_all(&self, takes: &[Take<'_>], now: u64) -> Decision {
        let mut verdicts = Few::new();
        for take in takes {
            verdicts.push(self.look(take, now));
        }
        let mut granted = verdicts.iter().all(Verdict::lets_pass);
        if granted {
            granted = self.take_all(takes, &mut verdicts, now);
        }
        for (take, _) in takes.iter().zip(verdicts.iter()).filter(|(_, verdict)| !verdict.granted()) {
            take.count_refused();
            if let Some(cell) = self.table.find(take.key) {
                cell.count_refused(take.cost);
            }
        }
        Decision::new(granted, verdicts)
    }

    /// Takes of every limit that would grant, or, if one that must grant was lost to a faster request, of none.
    fn take_all(&self, takes: &[Take<'_>], verdicts: &mut Few<Verdict>, now: u64) -> bool {
        let mut taken = Few::new();
        for (take, verdict) in takes.iter().zip(verdicts.iter_mut()).filter(|(_, verdict)| verdict.granted()) {
            let receipt = self.take(take, now);
            let answer = receipt.verdict(take, now);
            if answer.granted() {
                taken.push((take, receipt, verdict, answer));
                continue;
            }
            *verdict = answer;
            if !answer.lets_pass() {
                taken.iter().rev().for_each(|(take, receipt, ..)| receipt.give_back(take, now));
                return false;
            }
        }
        for (take, receipt, verdict, answer) in taken.iter_mut() {
            take.count_granted(receipt);
            **verdict = *answer;
        }
        true
    }

    fn take<'a>(&'a self, take: &Take<'a>, now: u64) -> Receipt<'a> {
        let Take { policy, key, cost } = *take;
        let rule = policy.rule();
        let own = if policy.lent() {
            self.table.visit(key, |cell| Some((cell, cell.take_lent(key, rule, now, cost)?)))
        } else {
            self.table.visit(key, |cell| Some((cell, cell.take(key, rule, now, cost)?)))
        };
        if let Some((cell, outcome)) = own {
            if policy.lent() {
                self.wake(take, cell, outcome, now);
            }
            return Receipt { outcome, cell, overflowed: false };
        }
        self.table.settle(key, policy.ledger(), now, |place| {
            let (cell, key, overflowed) = match place {
                Place::Own(cell) => (cell, key, false),
                Place::Overflow(cell) => (cell, Key::OVERFLOW, true),
            };
            if overflowed {
                take.stripe().overflowed.fetch_add(1, Relaxed);
            }
            let outcome = cell.take(key, rule, now, cost).expect("a cell stays with its key while its shard is locked");
            if policy.lent() && !overflowed {
                self.wake(take, cell, outcome, now);
            }
            Receipt { outcome, cell, overflowed }
        })
    }

    /// What the owner of a key says is left of it in the region, to a node that may never have met the key.
    pub fn hint(&self, policy: &Policy, key: Key, level: f64, now: Instant) {
        let now = self.clock.ticks(now);
        let time = now.saturating_add(policy.rule().debt_of(level));
        self.table.settle(key, policy.ledger(), now, |place| match place {
            Place::Own(cell) if !cell.bond().binds(now) => cell.raise(time),
            Place::Own(_) | Place::Overflow(_) => {}
        });
    }

    /// The name and the rule of the limit with this number, as its newest revision has them.
    fn rule(&self, number: u32) -> Option<(LimitName, Rule)> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.rules.get(&number).cloned()
    }

    /// Has the key reported: from now on, and at once if what it took or was refused is news to others.
    #[inline]
    fn wake(&self, take: &Take<'_>, cell: &Cell, outcome: Result<Word, u64>, now: u64) {
        let bound = cell.bond().binds(now);
        let news = match outcome {
            Ok(word) => !bound && word.debt(now) > take.policy.rule().tolerance / 4,
            Err(_) => !bound,
        };
        let flags = if news { WATCHED | WOKEN } else { WATCHED };
        if cell.flag(flags) && !self.wakes.push(take.key, take.policy.ledger().number()) {
            // Nobody will hear of it: let the next request try again.
            cell.unflag(flags);
        }
    }

    /// What a take would meet. A key without a cell would begin with what its overflow cell owes, or with a full bucket.
    fn look(&self, take: &Take<'_>, now: u64) -> Verdict {
        let Take { policy, key, cost } = *take;
        let own = self.table.visit(key, |cell| {
            if policy.lent() {
                return cell.look_lent(key, policy.rule(), now, cost);
            }
            let debt = cell.debt(key, now)?;
            Some((debt, policy.rule().grants(debt, cost)))
        });
        if let Some((debt, granted)) = own {
            return Verdict::new(policy, cost, debt, granted);
        }
        let debt = policy.ledger().overflow(key).map_or(0, |cell| cell.word().debt(now));
        Verdict::new(policy, cost, debt, policy.rule().grants(debt, cost))
    }
}

impl Take<'_> {
    fn stripe(&self) -> &Stripe {
        self.policy.ledger().stripe(self.key)
    }

    fn count_granted(&self, receipt: &Receipt<'_>) {
        receipt.cell.count_admitted(self.cost);
        self.stripe().granted.fetch_add(1, Relaxed);
    }

    fn count_refused(&self) {
        let stripe = self.stripe();
        let counter = if self.policy.shadow() { &stripe.shadow_refused } else { &stripe.refused };
        counter.fetch_add(1, Relaxed);
    }
}

impl Receipt<'_> {
    fn verdict(&self, take: &Take<'_>, now: u64) -> Verdict {
        let (granted, debt) = match self.outcome {
            Ok(word) => (true, word.debt(now)),
            Err(debt) => (false, debt),
        };
        let verdict = Verdict::new(take.policy, take.cost, debt, granted);
        if self.overflowed { verdict.overflowed() } else { verdict }
    }

    fn give_back(&self, take: &Take<'_>, now: u64) {
        if let Ok(word) = self.outcome
            && self.cell.give_back(take.policy.rule(), word.generation(), take.cost)
        {
            if take.policy.lent() && !self.overflowed {
                self.cell.put_back(now, take.cost);
            }
            take.stripe().returned.fetch_add(take.cost, Relaxed);
        }
    }
}

impl Registry {
    fn ledger(&mut self, name: &LimitName) -> Arc<Ledger> {
        if let Some(ledger) = self.ledgers.get(name).and_then(Weak::upgrade) {
            return ledger;
        }
        if self.ledgers.len() >= self.purge_at {
            self.ledgers.retain(|_, ledger| ledger.strong_count() > 0);
            let numbers: BTreeSet<u32> = self.ledgers.values().filter_map(Weak::upgrade).map(|ledger| ledger.number()).collect();
            self.rules.retain(|number, _| numbers.contains(number));
            self.purge_at = self.ledgers.len() * 2 + 16;
        }
        self.numbered = self.numbered.wrapping_add(1);
        let ledger = Arc::new(Ledger::new(self.numbered));
        self.ledgers.insert(name.clone(), Arc::downgrade(&ledger));
        ledger
    }
}

#[cfg(test)]
mod tests;
