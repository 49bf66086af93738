//! Promises under more keys than there are cells, and under more than one thread.

use super::*;

/// Fills the table with keys that stay in debt for an hour.
fn fill(fixture: &Fixture, policy: &Policy, names: std::ops::Range<u64>, at: u64) -> u64 {
    names.filter(|name| fixture.limiter.admit(&[take(policy, &name.to_string(), 1)], fixture.at(at)).granted()).count() as u64
}

#[test]
fn no_key_costs_more_than_a_hundred_bytes() {
    let fixture = Fixture::new(1_000_000);
    let policy = fixture.policy("per-client", "1/s", 1);
    let (mut at_least, mut worst) = (10_000, (0.0, 0));
    for name in 1..=1_000_000u64 {
        let take = Take { policy: &policy, key: key(&policy, name.to_le_bytes()), cost: 1 };
        assert!(fixture.limiter.admit(&[take], fixture.epoch).granted(), "each key has its own bucket");
        if name == at_least {
            let memory = fixture.limiter.memory();
            assert_eq!(memory.keys as u64, name);
            let bytes = memory.bytes as f64 / name as f64;
            assert!(bytes < 100.0, "{bytes:.1} bytes for each of {name} keys");
            worst = if bytes > worst.0 { (bytes, name) } else { worst };
            at_least += at_least / 100;
        }
    }
    assert!(worst.0 > 64.0);
    assert_eq!(policy.counts().overflowed, 0);
}

#[test]
fn idle_cells_are_used_again_before_the_table_grows() {
    let fixture = Fixture::new(100_000);
    let policy = fixture.policy("per-client", "10/s", 1);
    for round in 0..200 {
        fill(&fixture, &policy, round * 500..(round + 1) * 500, round * 2_000);
    }
    let memory = fixture.limiter.memory();
    assert!(memory.cells < 3_000, "{memory:?}");
}

#[test]
fn a_full_table_shares_cells_among_new_keys_and_leaves_the_others_alone() {
    let fixture = Fixture::new(1_000);
    let (old, new) = (fixture.policy("old", "1/h", 2), fixture.policy("new", "1/h", 2));
    fill(&fixture, &old, 0..10_000, 0);
    let before = fixture.limiter.memory();
    assert!(before.keys >= 1_000, "{before:?}");
    assert_eq!(fixture.limiter.memory().keys, before.keys);

    let granted = fill(&fixture, &new, 0..100_000, 1);
    assert!((2_000..=2_048).contains(&granted), "1,024 shared buckets of two granted {granted}");
    let counts = new.counts();
    assert_eq!((counts.granted, counts.overflowed), (granted, 100_000));
    assert_eq!(counts.refused, 100_000 - granted);
    let after = fixture.limiter.memory();
    assert_eq!((after.keys, after.cells), (before.keys, before.cells));
    assert_eq!(after.bytes - before.bytes, 1_024 * 64);

    // Keys with a cell have kept their second token.
    let kept = (0..1_000).filter(|name| fixture.limiter.admit(&[take(&old, &name.to_string(), 1)], fixture.at(2)).granted());
    assert!(kept.count() >= 990);
}

#[test]
fn a_key_that_leaves_the_shared_bucket_takes_its_debt_along() {
    let fixture = Fixture::new(64);
    let (filler, policy) = (fixture.policy("filler", "1/min", 1), fixture.policy("per-client", "1/h", 3));
    fill(&fixture, &filler, 0..10_000, 0);
    let one = take(&policy, "one", 3);
    let first = fixture.limiter.admit(&[one], fixture.at(1));
    assert!(first.granted() && first.verdicts().all(Verdict::shared));
    // A minute later there are cells again, but the hour is not over.
    let later = fixture.limiter.admit(&[take(&policy, "one", 1)], fixture.at(61_000));
    assert!(!later.granted() && !later.verdicts().any(Verdict::shared));
    let much_later = fixture.limiter.admit(&[one], fixture.at(3 * 3_600_000 + 1_000));
    assert!(much_later.granted());
}

#[test]
fn a_request_whose_clock_lags_finds_what_the_key_owed() {
    let fixture = Fixture::new(64);
    let (filler, policy) = (fixture.policy("filler", "1/h", 1), fixture.policy("per-client", "10/s", 3));
    assert!(fixture.limiter.admit(&[take(&policy, "one", 3)], fixture.at(0)).granted());
    // At 300 ms the bucket is full again, and its cell goes to somebody else.
    fill(&fixture, &filler, 0..10_000, 300);
    assert_eq!(fixture.limiter.usage(key(&policy, "one")), None);
    // A request that read its clock 50 ms earlier is refused the third token, which was not there yet.
    assert!(!fixture.limiter.admit(&[take(&policy, "one", 3)], fixture.at(250)).granted());
    assert!(fixture.limiter.admit(&[take(&policy, "one", 2)], fixture.at(250)).granted());
}

#[test]
fn a_sweep_frees_what_is_idle_and_nothing_else() {
    let fixture = Fixture::new(100_000);
    let (fast, slow) = (fixture.policy("fast", "10/s", 1), fixture.policy("slow", "1/h", 1));
    fill(&fixture, &slow, 0..5_000, 0);
    fill(&fixture, &fast, 0..20_000, 0);
    let cells = fixture.limiter.memory().cells;
    let sweep = |at| {
        let mut freed = 0;
        for shard in 0..SHARDS {
            // Inserts have left the hand somewhere: the first pass goes on from there, the second is a whole one.
            for _ in 0..2 {
                loop {
                    let step = fixture.limiter.sweep(shard, fixture.at(at));
                    assert!(step.seen <= 128);
                    freed += step.freed;
                    if step.wrapped {
                        break;
                    }
                }
            }
        }
        freed
    };
    assert_eq!(sweep(1_099), 0, "a bucket rests for a second after it is full");
    assert_eq!(sweep(1_100), 20_000);
    assert_eq!(sweep(1_100), 0);
    assert_eq!(fixture.limiter.memory().keys, 5_000);
    assert_eq!(fill(&fixture, &slow, 0..5_000, 2_000), 0, "the others owe what they owed");
    assert_eq!(fill(&fixture, &fast, 30_000..45_000, 2_000), 15_000);
    assert_eq!(fixture.limiter.memory().cells, cells, "free cells are used before new ones");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whoever invents keys, and however the clocks of requests lag, no key is granted more than rate and burst in any window.
    #[test]
    fn invented_keys_never_give_a_key_its_burst_back(
        steps in prop::collection::vec((0..150u64, 0..6u8, 1..4u64, 0..400u64, 0..60u64, any::<bool>()), 1..120),
    ) {
        let fixture = Fixture::new(64);
        let watched = fixture.policy("watched", "10/s", 3);
        let (fast, slow) = (fixture.policy("fast", "100/s", 1), fixture.policy("slow", "1/min", 1));
        let mut granted: BTreeMap<u8, Vec<(u64, u64)>> = BTreeMap::new();
        let (mut at, mut invented) = (0, 0);
        for (step, who, cost, lag, flood, quick) in steps {
            at += step;
            fill(&fixture, if quick { &fast } else { &slow }, invented..invented + flood, at);
            invented += flood;
            let now = at.saturating_sub(lag / 10);
            let take = Take { policy: &watched, key: key(&watched, [who]), cost };
            if fixture.limiter.admit(&[take], fixture.at(now)).granted() {
                granted.entry(who).or_default().push((now, cost));
            }
        }
        for grants in granted.values() {
            for &(from, _) in grants {
                for &(to, _) in grants.iter().filter(|(to, _)| *to >= from) {
                    let sum: u64 = grants.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, cost)| cost).sum();
                    prop_assert!(sum * 100 <= to - from + 300, "{sum} between {from} and {to} ms");
                }
            }
        }
    }
}

/// A clock that only moves when it is told to, shared by threads that read it a little late.
struct SharedClock(AtomicU64);

impl SharedClock {
    fn tick(&self, fixture: &Fixture, draw: u64) -> Instant {
        let micros = self.0.fetch_add(draw % 20, Relaxed);
        fixture.epoch + Duration::from_micros(micros.saturating_sub(draw >> 8 & 63))
    }

    fn elapsed(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// splitmix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Runs `work` on four threads at once, each with a seed of its own.
fn hammer(work: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let work = &work;
            scope.spawn(move || work(seed));
        }
    });
}

#[test]
fn threads_under_pressure_never_grant_a_key_more_than_its_bound() {
    const KEYS: usize = 24;
    let fixture = Fixture::new(64);
    // A token each 200 µs, so that cells are full again, and reclaimed, all the time.
    let (watched, shared) = (fixture.policy("watched", "5000/s", 4), fixture.policy("shared", "20000/s", 40));
    let invented = fixture.policy("invented", "1000/s", 1);
    let keys: Vec<Key> = (0..KEYS).map(|who| key(&watched, [who as u8])).collect();
    let granted: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let granted_shared = AtomicU64::new(0);
    let clock = SharedClock(AtomicU64::new(0));
    let swept = AtomicBool::new(false);
    hammer(|seed| {
        let mut state = seed;
        for round in 0..30_000u64 {
            let chance = draw(&mut state);
            let now = clock.tick(&fixture, chance);
            let who = (chance >> 20) as usize % KEYS;
            let one = Take { policy: &watched, key: keys[who], cost: 1 + (chance >> 40) % 2 };
            let all = Take { policy: &shared, key: key(&shared, []), cost: 1 };
            let both = (chance >> 50).is_multiple_of(2);
            let decision = if both { fixture.limiter.admit(&[all, one], now) } else { fixture.limiter.admit(&[one], now) };
            if decision.granted() {
                granted[who].fetch_add(one.cost, Relaxed);
                granted_shared.fetch_add(u64::from(both), Relaxed);
            }
            fixture.limiter.admit(&[Take { policy: &invented, key: key(&invented, (seed << 32 | round).to_le_bytes()), cost: 1 }], now);
            if round % 64 == 0 && fixture.limiter.sweep((chance >> 30) as usize % SHARDS, now).freed > 0 {
                swept.store(true, Relaxed);
            }
        }
    });
    let elapsed = clock.elapsed();
    for (who, granted) in granted.iter().enumerate() {
        let granted = granted.load(Relaxed);
        assert!(granted * 200 <= elapsed + 4 * 200, "key {who} was granted {granted} in {elapsed} µs");
        assert!(granted > 0, "key {who} was never granted anything");
    }
    let granted = granted_shared.load(Relaxed);
    assert!(granted * 50 <= elapsed + 40 * 50, "all keys were granted {granted} in {elapsed} µs");
    assert!(invented.counts().overflowed > 0, "the table was never full");
}

#[test]
fn what_is_lost_to_a_faster_request_comes_back() {
    let fixture = Fixture::new(1_000);
    // Everybody wants the scarce limit, and takes of the plentiful one first.
    let (plentiful, scarce) = (fixture.policy("plentiful", "10000/s", 100), fixture.policy("scarce", "2000/s", 2));
    let takes = [take(&plentiful, "all", 1), take(&scarce, "all", 1)];
    let clock = SharedClock(AtomicU64::new(1_000_000));
    let granted = AtomicU64::new(0);
    hammer(|seed| {
        let mut state = seed;
        for _ in 0..100_000 {
            let now = clock.tick(&fixture, draw(&mut state));
            granted.fetch_add(u64::from(fixture.limiter.admit(&takes, now).granted()), Relaxed);
        }
    });
    let granted = granted.load(Relaxed);
    let elapsed = clock.elapsed() - 1_000_000;
    assert!(granted * 500 <= elapsed + 2 * 500, "{granted} in {elapsed} µs");
    assert!(granted * 500 >= elapsed * 9 / 10, "{granted} in {elapsed} µs");
    assert_eq!(plentiful.counts().granted, granted);
    // The limit that granted first owes what was admitted, and nothing for what was lost.
    let end = fixture.epoch + Duration::from_micros(clock.elapsed() + 1_000);
    let left = fixture.limiter.peek(&[takes[0]], end);
    assert!(left.verdicts().all(|verdict| verdict.remaining() >= 95));
}
