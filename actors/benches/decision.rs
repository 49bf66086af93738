//! Measures what one decision of the limiter costs, with a million resident keys and the clock excluded.
//!
//! The figure is the 99th percentile over batches of 64 consecutive decisions, each batch timed as a whole and divided by
//! 64, with keys asked for by Zipf's law with exponent 1: once from the parts of the key, hashing included, and
//! once with the key in hand, as a request under several limits of one client has it. Beside it stand keys drawn evenly,
//! which miss every cache, one hot key, and the bytes that a key costs. Forty-one rounds, the cases taking turns: printed are the median round
//! and the quietest one, which differ by what else the machine was doing. Pin it: `taskset -c 1 cargo bench -p shoal-actors`.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a measuring program reads the clock and prints what it found")]

use config::{Limit, LimitMode, Missing, Place, Rate, Scope};
use shoal_actors::limiter::{Key, Limiter, Options, Policy, Take};
use std::{
    hint::black_box,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

const KEYS: u32 = 1_000_000;
const BATCH: usize = 64;
const BATCHES: usize = 2_500;
const ROUNDS: usize = 41;

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let batches = if std::env::args().any(|argument| argument == "--bench") { BATCHES } else { 100 };
    let epoch = Instant::now();
    let limiter = Limiter::new(Options { capacity: KEYS as usize, seed: *b"0123456789abcdef", epoch });
    let policy = limiter.policy(&limit());

    for keys in [10_000, 100_000, KEYS] {
        let resident = resident_bytes();
        let limiter = Limiter::new(Options { capacity: KEYS as usize, seed: *b"0123456789abcdef", epoch });
        let policy = limiter.policy(&limit());
        assert!((0..keys).all(|key| decide(&limiter, &policy, key, epoch)), "a new key has a full bucket");
        let grown = resident_bytes().saturating_sub(resident) as f64 / f64::from(keys);
        let counted = limiter.memory().bytes as f64 / f64::from(keys);
        println!("{keys:>9} keys: {counted:5.1} bytes a key counted, {grown:5.1} by the kernel");
    }

    let mut chance = Chance(1);
    let zipf = Zipf::new(KEYS);
    let by_zipf: Vec<u32> = (0..2 * batches * BATCH).map(|_| zipf.draw(&mut chance)).collect();
    let evenly: Vec<u32> = (0..2 * batches * BATCH).map(|_| (chance.unit() * f64::from(KEYS)) as u32).collect();
    // Keys get their cells in the order in which the law first asks for them; the others follow.
    let now = Instant::now();
    for key in by_zipf.iter().copied().chain(0..KEYS) {
        decide(&limiter, &policy, key, now);
    }

    let in_hand = |keys: &[u32]| keys.iter().map(|key| hash(&policy, *key)).collect::<Vec<_>>();
    let (zipf_in_hand, evenly_in_hand) = (in_hand(&by_zipf), in_hand(&evenly));
    let with_hash = |key: &u32, now| decide(&limiter, &policy, *key, now);
    let without = |key: &Key, now| admit(&limiter, &policy, *key, now);
    let mut cases = [
        Case::new("zipf 1.0 over 1,000,000 keys"),
        Case::new("  the same, key in hand"),
        Case::new("even over 1,000,000 keys"),
        Case::new("  the same, key in hand"),
        Case::new("one hot key"),
        Case::new("  the same, key in hand"),
    ];
    for _ in 0..ROUNDS {
        cases[0].measure(&by_zipf, with_hash);
        cases[1].measure(&zipf_in_hand, without);
        cases[2].measure(&evenly, with_hash);
        cases[3].measure(&evenly_in_hand, without);
        cases[4].measure(&[by_zipf[0]; 2 * 64 * 1_000], with_hash);
        cases[5].measure(&[zipf_in_hand[0]; 2 * 64 * 1_000], without);
    }
    println!("{:<30}  median round: mean   p50   p90   p99 | quietest: mean   p50   p90   p99   ns", "");
    cases.iter_mut().for_each(Case::print);
}

/// One way of asking, and what each round of it found: mean, p50, p90 and p99.
struct Case {
    name: &'static str,
    rounds: Vec<[f64; 4]>,
}

impl Case {
    fn new(name: &'static str) -> Self {
        Self { name, rounds: Vec::new() }
    }

    /// The first half of `keys` goes before, unmeasured: the case before this one has driven its keys out of the caches, which
    /// would be measured otherwise. The halves were drawn apart, so a key that is rare is as cold as it would be in a long run.
    fn measure<K>(&mut self, keys: &[K], decide: impl Fn(&K, Instant) -> bool) {
        let (before, keys) = keys.split_at(keys.len() / 2);
        for batch in before.chunks_exact(BATCH) {
            let start = Instant::now();
            for key in batch {
                black_box(decide(key, start));
            }
        }
        let mut nanos: Vec<f64> = keys
            .chunks_exact(BATCH)
            .map(|batch| {
                let start = Instant::now();
                for key in batch {
                    black_box(decide(key, start));
                }
                start.elapsed().as_nanos() as f64 / BATCH as f64
            })
            .collect();
        let mean = nanos.iter().sum::<f64>() / nanos.len() as f64;
        nanos.sort_by(f64::total_cmp);
        let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize];
        self.rounds.push([mean, at(0.5), at(0.9), at(0.99)]);
    }

    fn print(&mut self) {
        self.rounds.sort_by(|a, b| a[3].total_cmp(&b[3]));
        let [m, p50, p90, p99] = self.rounds[self.rounds.len() / 2];
        let [qm, q50, q90, q99] = self.rounds[0];
        println!("{:<30} {m:18.1} {p50:5.1} {p90:5.1} {p99:5.1} | {qm:14.1} {q50:5.1} {q90:5.1} {q99:5.1}", self.name);
    }
}

/// One decision about a key of 24 bytes that is made on the spot, as if it had just been parsed.
fn decide(limiter: &Limiter, policy: &Policy, key: u32, now: Instant) -> bool {
    admit(limiter, policy, hash(policy, key), now)
}

fn admit(limiter: &Limiter, policy: &Policy, key: Key, now: Instant) -> bool {
    black_box(limiter.admit(&[Take { policy, key, cost: 1 }], now)).granted()
}

fn hash(policy: &Policy, key: u32) -> Key {
    let mut bytes = [0; 24];
    let spread = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes[..8].copy_from_slice(b"client-k");
    bytes[8..16].copy_from_slice(&u64::from(key).to_le_bytes());
    bytes[16..].copy_from_slice(&spread.to_le_bytes());
    policy.key().value(black_box(&bytes)).finish()
}

fn limit() -> Limit {
    Limit {
        name: "per-client".into(),
        rate: Rate { count: 100, per: Duration::from_secs(1) },
        burst: 100,
        key: Vec::new(),
        mode: LimitMode::Enforce,
        missing: Missing::Share,
        scope: Scope::Node,
        place: Place { file: Arc::new(PathBuf::from("shoal.toml")), line: 1, column: 1 },
    }
}

/// Physical memory of this process, from the second field of `/proc/self/statm`; 0 where there is none.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).map_or(0, |pages: usize| pages * 4_096)
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The k-th key is asked for in proportion to 1/k.
struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    fn new(keys: u32) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=keys).map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        });
        Self { cumulative: cumulative.collect() }
    }

    fn draw(&self, chance: &mut Chance) -> u32 {
        let at = chance.unit() * self.cumulative[self.cumulative.len() - 1];
        self.cumulative.partition_point(|sum| *sum < at) as u32
    }
}
