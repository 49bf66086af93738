//! Inputs that nobody would send, for everything that reads what a peer has written.
//!
//! Each [target](targets) begins with inputs that are valid, and changes them as a seed decides (`mutation`). What comes out is
//! read as a node reads it, and a few promises are held against it: nothing panics, nothing holds more than four times the
//! input and 64 KiB, nothing takes long, and what was understood can be written and reads the same again. What breaks one is cut
//! down (`smallest`) and printed, with the command that repeats it.
//!
//! Inputs that are taken for valid, or that reach a new place of a program built to tell (`coverage`), are changed further.

mod coverage;
mod meter;
mod mutation;
mod smallest;
mod structure;
mod targets;

pub(crate) use targets::Name;

use crate::{Failure, chance::Chance, on_a_fresh_thread, shim};
use coverage::Map;
use mutation::Mutation;
use std::{
    cell::Cell,
    fmt::Write as _,
    io::{self, Read, Write},
    panic::{self, AssertUnwindSafe},
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};
use targets::{Bench, Target, Verdict};

/// What an input may make its reader hold, and what that may hold beside.
const HOLDS_FACTOR: usize = 4;
const HOLDS_SPARE: usize = 64 << 10;

/// Of the processor's time, for one input. A build without optimisation takes some tens of milliseconds for the longest.
const TAKES_MAX: Duration = Duration::from_secs(1);

/// Of the processor's time, for cutting one input down.
const CUTTING_TAKES_MAX: Duration = Duration::from_secs(30);

/// By the clock on the wall: whatever runs so long does not end.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Inputs that are kept to be changed further.
const KEPT_MAX: usize = 4_096;

/// Most inputs are no longer.
const SHORT: usize = 4_096;

/// A longer input is not written into a command.
const COMMAND_MAX: usize = 2_048;

/// What is wanted.
pub(crate) struct Orders {
    /// All of them, if none is named.
    pub(crate) target: Option<Name>,
    pub(crate) seconds: u64,
    pub(crate) runs: Option<u64>,
    pub(crate) seed: u64,
}

/// Fuzzes for as long as is wanted; fails if anything was found.
pub(crate) fn fuzz(orders: &Orders) -> Result<(), Failure> {
    shim::prove().map_err(Failure::Shim)?;
    let chosen: Vec<&'static Target> = targets::ALL.iter().filter(|target| orders.target.is_none_or(|name| name.is(target))).collect();
    let mut broken = Vec::new();
    for target in chosen {
        if !play(target, orders)? {
            broken.push(target.name);
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(Failure::Broken(format!("something was found in {}", broken.join(", ")))) }
}

/// Reads one input and says what comes of it. The input is in hexadecimal digits, `-` stands for the standard input.
pub(crate) fn repeat(name: Name, hex: &str) -> Result<(), Failure> {
    shim::prove().map_err(Failure::Shim)?;
    let mut digits = hex.to_owned();
    if hex == "-" {
        digits.clear();
        io::stdin().read_to_string(&mut digits)?;
    }
    let input = from_hex(digits.trim()).ok_or_else(|| Failure::Broken("an input is written in pairs of hexadecimal digits".to_owned()))?;
    let target = name.target();
    let verdict = on_a_fresh_thread(0, move || {
        listen_for_panics();
        Reading::new(target).read(&input)
    });
    let mut out = io::stdout().lock();
    match verdict {
        Ok(taken) => writeln!(out, "{}: {}", target.name, if taken { "taken" } else { "refused" }).map_err(Failure::Io),
        Err(why) => Err(Failure::Broken(format!("{}: {why}", target.name))),
    }
}

/// How far a target has come.
#[derive(Default)]
struct Tally {
    inputs: u64,
    taken: u64,
    kept: usize,
    places: usize,
    slowest: Duration,
    most: usize,
    found: Option<(String, Vec<u8>)>,
}

/// Fuzzes one target; whether nothing was found.
fn play(target: &'static Target, orders: &Orders) -> Result<bool, Failure> {
    let progress = Arc::new(Progress::default());
    let (over, watched) = mpsc::channel();
    let watcher = {
        let (progress, limit) = (Arc::clone(&progress), Duration::from_secs(orders.seconds));
        thread::Builder::new().name("watch".to_owned()).spawn(move || watch(&progress, limit, &watched))?
    };
    let (seed, runs, shared) = (orders.seed, orders.runs, Arc::clone(&progress));
    let tally = on_a_fresh_thread(Chance::of(seed, target.name).draw(), move || {
        listen_for_panics();
        run(target, seed, runs, &shared)
    });
    drop(over);
    let lasted = watcher.join().unwrap_or_default();

    let mut out = io::stdout().lock();
    let Tally { inputs, taken, kept, places, slowest, most, found } = tally;
    let seen = if places > 0 { format!(", {places} places") } else { String::new() };
    writeln!(
        out,
        "{:<14} {inputs:>9} inputs in {:>6.1} s, {taken:>9} taken, {kept:>4} kept{seen}; slowest {:.1} ms, most held {} KiB",
        target.name,
        lasted.as_secs_f64(),
        slowest.as_secs_f64() * 1e3,
        most.div_ceil(1_024),
    )?;
    match found {
        None => Ok(true),
        Some((why, input)) => {
            out.write_all(finding(target, &why, &input).as_bytes())?;
            Ok(false)
        }
    }
}

fn run(target: &'static Target, seed: u64, runs: Option<u64>, progress: &Progress) -> Tally {
    let mut chance = Chance::of(seed, target.name);
    let mut reading = Reading::new(target);
    let mut kept = reading.bench.seeds.clone();
    let mut tally = Tally::default();
    let mut map = Map::default();

    for seed in kept.clone() {
        let verdict = progress.of(&mut tally, &mut reading, &seed);
        map.grows();
        let why = match verdict {
            Ok(true) => continue,
            Ok(false) => "an input to begin with is refused".to_owned(),
            Err(why) => why,
        };
        tally.found = Some((why, seed));
        return tally;
    }
    while !progress.is_over() && runs.is_none_or(|runs| tally.inputs < runs) {
        // What was kept last has been changed least.
        let newest = chance.one_in(3);
        let from = if newest { kept.len().saturating_sub(16) } else { 0 };
        let at = chance.between(from as u64..=kept.len() as u64 - 1) as usize;
        let Target { structure, words, .. } = *target;
        // Long inputs are slow, and most of what they show shorter ones do.
        let longest = if chance.one_in(32) { target.longest } else { target.longest.min(SHORT) };
        let input = Mutation { chance: &mut chance, structure, words, longest, others: &kept }.of(&kept[at]);
        let verdict = progress.of(&mut tally, &mut reading, &input);
        match verdict {
            Ok(taken) => {
                // Without sight, what is valid and small is the best that is known.
                let blind = map.places() == 0 && taken && chance.one_in(64);
                if (map.grows() || blind) && (input.len() <= SHORT || chance.one_in(16)) {
                    if kept.len() < KEPT_MAX {
                        kept.push(input);
                    } else {
                        let at = chance.between(reading.bench.seeds.len() as u64..=kept.len() as u64 - 1) as usize;
                        kept[at] = input;
                    }
                }
            }
            Err(why) => {
                let until = shim::spent() + CUTTING_TAKES_MAX;
                tally.found = Some(smallest::of(input, why, |input| if shim::spent() < until { reading.read(input).err() } else { None }));
                break;
            }
        }
    }
    (tally.kept, tally.places) = (kept.len(), map.places());
    tally
}

/// A target that reads, and what its last input has cost.
struct Reading {
    target: &'static Target,
    bench: Bench,
    took: Duration,
    held: usize,
}

impl Reading {
    fn new(target: &'static Target) -> Self {
        current().target = Some(target);
        Self { target, bench: (target.begin)(), took: Duration::ZERO, held: 0 }
    }

    /// Whether the input was taken for valid; an error says which promise it broke.
    fn read(&mut self, input: &[u8]) -> Verdict {
        {
            let mut current = current();
            current.input.clear();
            current.input.extend(input);
            current.number += 1;
        }
        let first = self.once(input)?;
        if self.took > TAKES_MAX {
            let before = self.took;
            self.once(input)?;
            if self.took.min(before) > TAKES_MAX {
                return Err(format!("it takes {} ms", self.took.min(before).as_millis()));
            }
        }
        Ok(first)
    }

    fn once(&mut self, input: &[u8]) -> Verdict {
        meter::take_most();
        PANICKED.take();
        coverage::reset();
        let before = shim::spent();
        READS.set(true);
        let verdict = panic::catch_unwind(AssertUnwindSafe(|| (self.bench.read)(input)));
        READS.set(false);
        self.took = shim::spent().saturating_sub(before);
        self.held = meter::take_most();
        if let Some(panic) = PANICKED.take() {
            // What has panicked may be half of what it was.
            self.bench = (self.target.begin)();
            return Err(panic);
        }
        let taken = verdict.unwrap_or_else(|_| Err("it unwinds".to_owned()))?;
        let holds_max = HOLDS_FACTOR * input.len() + HOLDS_SPARE + self.target.beside;
        if self.held > holds_max {
            return Err(format!("it holds {} bytes where {holds_max} are allowed", self.held));
        }
        Ok(taken)
    }
}

/// What the watch knows of who fuzzes.
#[derive(Default)]
struct Progress {
    over: AtomicBool,
}

impl Progress {
    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    fn of(&self, tally: &mut Tally, reading: &mut Reading, input: &[u8]) -> Verdict {
        let verdict = reading.read(input);
        tally.inputs += 1;
        tally.taken += u64::from(verdict == Ok(true));
        tally.slowest = tally.slowest.max(reading.took);
        tally.most = tally.most.max(reading.held);
        verdict
    }
}

/// Ends the fuzzing when its time is over, and the process when an input never ends; how long it was. While the whole process is
/// stopped no time passes.
#[expect(clippy::disallowed_methods, reason = "how long is fuzzed is no part of what is fuzzed")]
fn watch(progress: &Progress, limit: Duration, over: &mpsc::Receiver<()>) -> Duration {
    const TICK: Duration = Duration::from_millis(20);
    let (mut last, mut looked) = (0, Instant::now());
    let (mut lasted, mut stuck) = (Duration::ZERO, Duration::ZERO);
    loop {
        let more = over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout);
        let now = Instant::now();
        let passed = (now - looked).min(50 * TICK);
        looked = now;
        lasted += passed;
        if !more {
            return lasted;
        }
        if lasted >= limit {
            progress.over.store(true, Relaxed);
        }
        let number = current().number;
        stuck = if number == last { stuck + passed } else { Duration::ZERO };
        last = number;
        if stuck > HANGS_AFTER {
            last_words("it does not end");
        }
    }
}

/// What is being read.
struct Current {
    target: Option<&'static Target>,
    input: Vec<u8>,
    /// Of the input, among all of this process.
    number: u64,
}

static CURRENT: Mutex<Current> = Mutex::new(Current { target: None, input: Vec::new(), number: 0 });

thread_local! {
    static READS: Cell<bool> = const { Cell::new(false) };
    static PANICKED: Cell<Option<String>> = const { Cell::new(None) };
}

fn current() -> MutexGuard<'static, Current> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the first panic instead of printing it, also one that is caught elsewhere.
fn listen_for_panics() {
    panic::set_hook(Box::new(|info| {
        if !READS.get() {
            // It is a fault of the fuzzer. Nobody is left to tell if the standard error is gone.
            let _ = writeln!(io::stderr(), "{info}");
            return;
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = info.payload().downcast_ref::<&str>().copied();
        let what = text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str)).unwrap_or("something that is no text");
        let first = PANICKED.take().unwrap_or_else(|| format!("it panics at {place}: {what}"));
        PANICKED.set(Some(first));
    }));
}

/// Ends the process over what is being read, where it cannot go on.
fn last_words(why: &str) -> ! {
    let current = current();
    let words = current.target.map(|target| finding(target, why, &current.input)).unwrap_or_default();
    // Nobody is left to tell if the standard output is gone.
    let _ = io::stdout().write_all(words.as_bytes());
    process::exit(1)
}

fn finding(target: &Target, why: &str, input: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * input.len());
    for byte in input {
        // A string takes whatever is written.
        let _ = write!(hex, "{byte:02x}");
    }
    let name = target.name;
    let command = match hex.len() {
        0 => format!("shoal-sim fuzz {name} --input ''"),
        1..=COMMAND_MAX => format!("shoal-sim fuzz {name} --input {hex}"),
        _ => format!("shoal-sim fuzz {name} --input - < FILE-WITH-THE-DIGITS"),
    };
    format!("{name}, which reads {}: {why}\ninput of {} bytes: {hex}\nto repeat it: {command}\n", target.reads, input.len())
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_printed_so_that_it_can_be_given_back() {
        let printed = finding(&targets::ALL[0], "it panics", &[0, 0x1f, 0xff]);
        let hex = printed.trim().rsplit(' ').next().expect("the command ends in the input");
        assert_eq!(from_hex(hex), Some(vec![0, 0x1f, 0xff]));
        assert_eq!((from_hex("0"), from_hex("0g")), (None, None));
    }

    /// A length that lies.
    fn believes(input: &[u8]) -> Verdict {
        Ok(input.split_first().is_none_or(|(count, rest)| rest[..usize::from(*count)].len() < 256))
    }

    /// A word that nobody would write.
    fn insists(input: &[u8]) -> Verdict {
        assert!(!input.contains(&b'x'), "an x");
        Ok(true)
    }

    /// Room for what is announced.
    fn hopes(input: &[u8]) -> Verdict {
        let Some(count) = input.first_chunk() else { return Ok(false) };
        Ok(meter::metered(|| Vec::<u64>::with_capacity(usize::from(u16::from_le_bytes(*count)))).is_empty())
    }

    const fn planted(name: &'static str, begin: fn() -> Bench) -> Target {
        Target { name, reads: "nothing", structure: structure::Structure::Plain, words: &[], longest: 64, beside: 0, begin }
    }

    fn bench(seed: &[u8], read: fn(&[u8]) -> Verdict) -> Bench {
        Bench { seeds: vec![seed.to_vec()], read: Box::new(read) }
    }

    static LENGTH: Target = planted("length", || bench(&[2, 1, 1], believes));
    static PANIC: Target = planted("panic", || bench(b"b123", insists));
    static MEMORY: Target = planted("memory", || bench(&[1, 0], hopes));

    #[test]
    fn planted_faults_are_found_and_cut_down() {
        for (target, why) in [(&LENGTH, "range end index"), (&PANIC, "an x"), (&MEMORY, "it holds")] {
            let found = on_a_fresh_thread(1, move || {
                listen_for_panics();
                let found = run(target, 1, Some(200_000), &Progress::default()).found;
                let _ = panic::take_hook();
                found
            });
            let (said, input) = found.unwrap_or_else(|| panic!("{} is not found", target.name));
            assert!(said.contains(why) && input.len() <= 3, "{}: {said} {input:?}", target.name);
        }
    }
}
