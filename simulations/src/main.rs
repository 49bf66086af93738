//! `shoal-sim`: whole nodes on a network, a clock and a chance that a seed decides.
//!
//! `shoal-sim smoke --seed 7` plays one seed and prints what happened; `sweep` plays many, each twice, and compares;
//! `meta` proves on a few that the same seed is the same run and another seed another. A binary of its own, so that
//! the shim that turns the C library's clock is never part of the product.
//!
//! From the outside in: `scenarios` says what is played, `faults` what goes wrong, `world` is what a node sees of it, `shim`
//! is what everything else sees, `wire` carries between brains that are played without nodes, `history` is what came out, `invariants` what has to be true of it, `trace` what is compared.
//! `fuzz` stands beside all that: it plays no nodes, and reads what nobody would send.

mod chance;
mod faults;
mod fleet;
mod fuzz;
mod history;
mod invariants;
mod scenarios;
mod shim;
mod sweep;
mod trace;
mod wire;
mod world;

use clap::{Args, Parser, Subcommand};
use scenarios::{Performance, SMALL, Scenario, Size};
use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread,
};
use sweep::Seeds;

#[derive(Parser)]
#[command(name = "shoal-sim", about = "Plays shoal on a network and a clock that a seed decides", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Do,
}

#[derive(Subcommand)]
enum Do {
    /// One node, one service and a handful of callers, once
    Smoke(One),
    /// One node, and endpoints that crash, are slow, flap and are cut off, while actors are killed and stalled, once
    Upstreams(One),
    /// A cluster of whole nodes in two or three regions, cut in every way there is, while nodes crash and come back, once
    Cuts(One),
    /// Many members that only gossip: who sees whom how fast, and what it costs, once
    Membership(Members),
    /// One limit in clusters of every size: a table of what is promised and what came out, once
    Limits(One),
    /// Many seeds, each twice in processes of their own, compared byte by byte
    Sweep(Many),
    /// A few seeds as in a sweep, and that different seeds differ
    Meta(Few),
    /// Inputs that nobody would send, for everything that reads what a peer has written
    Fuzz(Fuzz),
}

#[derive(Args)]
struct One {
    #[arg(long)]
    seed: u64,
    /// Where the trace goes; `-` is the standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    trace: PathBuf,
}

#[derive(Args)]
struct Members {
    #[command(flatten)]
    one: One,
    #[arg(long, default_value_t = SMALL.nodes, value_parser = clap::value_parser!(u16).range(2..=5_000))]
    nodes: u16,
    #[arg(long, default_value_t = SMALL.regions, value_parser = clap::value_parser!(u8).range(1..=16))]
    regions: u8,
}

#[derive(Args)]
struct Many {
    #[arg(value_enum, default_value_t = Scenario::Smoke)]
    scenario: Scenario,
    /// The first and the last one
    #[arg(long, value_name = "FIRST..LAST", default_value = "1..50")]
    seeds: Seeds,
}

#[derive(Args)]
struct Few {
    #[arg(value_enum, default_value_t = Scenario::Smoke)]
    scenario: Scenario,
    /// The first and the last one
    #[arg(long, value_name = "FIRST..LAST", default_value = "1..3")]
    seeds: Seeds,
}

#[derive(Args)]
struct Fuzz {
    /// What is to read them; all, one after the other, if nothing is named
    target: Option<fuzz::Name>,
    /// For each target
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Ends a target after so many inputs, which are the same for the same seed
    #[arg(long)]
    runs: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Reads this one input, in hexadecimal digits, and nothing else; `-` is the standard input
    #[arg(long, value_name = "HEX", requires = "target", conflicts_with_all = ["seconds", "runs", "seed"])]
    input: Option<String>,
}

/// Why the simulator ends with exit code 1.
pub(crate) enum Failure {
    /// An invariant, or determinism.
    Broken(String),
    /// Reading or writing, or starting itself.
    Io(io::Error),
    /// The linker has not put the shim where it belongs.
    Shim(&'static str),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what) => f.write_str(what),
            Self::Io(error) => error.fmt(f),
            Self::Shim(why) => write!(f, "nothing would be decided by the seed: {why}"),
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Do::Smoke(one) => play(&one, |seed| Scenario::Smoke.play(seed)),
        Do::Upstreams(one) => play(&one, |seed| Scenario::Upstreams.play(seed)),
        Do::Cuts(one) => play(&one, |seed| Scenario::Cuts.play(seed)),
        Do::Limits(one) => play(&one, |seed| Scenario::Limits.play(seed)),
        Do::Membership(Members { one, nodes, regions }) => play(&one, move |seed| scenarios::membership(seed, Size { nodes, regions })),
        Do::Sweep(many) => sweep::sweep(many.scenario, &many.seeds),
        Do::Meta(few) => sweep::meta(few.scenario, &few.seeds),
        Do::Fuzz(Fuzz { target: Some(target), input: Some(input), .. }) => fuzz::repeat(target, &input),
        Do::Fuzz(Fuzz { target, seconds, runs, seed, .. }) => fuzz::fuzz(&fuzz::Orders { target, seconds, runs, seed }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell if the standard error is gone.
            let _ = writeln!(io::stderr(), "shoal-sim: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn play(one: &One, scenario: impl FnOnce(u64) -> Performance + Send + 'static) -> Result<(), Failure> {
    shim::prove().map_err(Failure::Shim)?;
    let seed = one.seed;
    let Performance { trace, hash, summary, violations } = on_a_fresh_thread(seed, move || scenario(seed));

    let mut out = io::stdout().lock();
    if one.trace.as_os_str() == "-" {
        out.write_all(trace.as_bytes())?;
    } else {
        std::fs::File::create(&one.trace)?.write_all(trace.as_bytes())?;
    }
    for violation in &violations {
        writeln!(out, "{violation}")?;
    }
    writeln!(out, "hash {hash:016x}, {} lines; answers {summary}", trace.lines().count())?;
    if violations.is_empty() { Ok(()) } else { Err(Failure::Broken(format!("seed {seed} breaks {} invariants", violations.len()))) }
}

/// The name of the thread that everything simulated runs on.
pub(crate) const SIMULATION: &str = "simulation";

/// Runs `work` where nothing has drawn from chance yet, with the seed's entropy and clock in force.
pub(crate) fn on_a_fresh_thread<T: Send + 'static>(seed: u64, work: impl FnOnce() -> T + Send + 'static) -> T {
    // hyper inside turmoil inside tokio is deep in a build without optimisation.
    let thread = thread::Builder::new().name(SIMULATION.to_owned()).stack_size(8 << 20).spawn(move || {
        shim::switch_on(seed);
        work()
    });
    let finished = thread.expect("a process of its own can start one thread").join();
    finished.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
