//! Plays seeds, each twice and each time in a process of its own, and compares what the two say byte by byte.
//!
//! A process of its own, because what the standard library and the dependencies keep in statics would otherwise
//! reach from one seed into the next.

use crate::{Failure, scenarios::Scenario};
use std::{
    io::{self, Write},
    ops::RangeInclusive,
    process::{Command, Output, Stdio},
};

/// Seeds from the first to the last, both included: `7`, or `1..50`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seeds(RangeInclusive<u64>);

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number; write 7, or 1..50 for fifty seeds"));
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (number(first)?, number(last.trim_start_matches('='))?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(format!("there is no seed between {first} and {last}"));
        }
        Ok(Self(first..=last))
    }
}

/// Plays all seeds; fails if one of them differs from itself or breaks an invariant.
pub(crate) fn sweep(scenario: Scenario, seeds: &Seeds) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut bad = Vec::new();
    for seed in seeds.0.clone() {
        let verdict = twice(scenario, seed)?;
        writeln!(out, "{verdict}")?;
        if !verdict.sound() {
            bad.push(seed);
        }
    }
    if bad.is_empty() {
        return Ok(());
    }
    let replays: Vec<String> = bad.iter().map(|seed| format!("  {}", replay(scenario, *seed))).collect();
    Err(Failure::Broken(format!("{} of {} seeds failed; to replay them:\n{}", bad.len(), seeds.count(), replays.join("\n"))))
}

/// A sweep over a few seeds, and the proof that seeds matter: no two of them may leave the same trace.
pub(crate) fn meta(scenario: Scenario, seeds: &Seeds) -> Result<(), Failure> {
    sweep(scenario, seeds)?;
    let mut traces: Vec<(u64, Vec<u8>)> = Vec::new();
    for seed in seeds.0.clone() {
        let trace = trace_of(scenario, seed)?.stdout;
        if let Some((other, _)) = traces.iter().find(|(_, known)| *known == trace) {
            return Err(Failure::Broken(format!("seeds {other} and {seed} leave the same trace: the seed decides nothing")));
        }
        traces.push((seed, trace));
    }
    writeln!(io::stdout(), "the traces of {} seeds all differ", seeds.count())?;
    Ok(())
}

impl Seeds {
    fn count(&self) -> u64 {
        self.0.end() - self.0.start() + 1
    }
}

struct Verdict {
    scenario: Scenario,
    seed: u64,
    last_line: String,
    broken: Vec<String>,
    difference: Option<Difference>,
}

impl Verdict {
    fn sound(&self) -> bool {
        self.broken.is_empty() && self.difference.is_none()
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:>6}: {}", self.scenario, self.seed, self.last_line)?;
        for line in &self.broken {
            write!(f, "\n  {line}")?;
        }
        if let Some(difference) = &self.difference {
            write!(f, "\n  the same seed gave two traces; they part at line {}:", difference.line)?;
            write!(f, "\n    {}\n    {}", difference.one, difference.other)?;
        }
        Ok(())
    }
}

fn twice(scenario: Scenario, seed: u64) -> Result<Verdict, Failure> {
    let (one, other) = (start(scenario, seed)?, start(scenario, seed)?);
    let (one, other) = (one.wait_with_output()?, other.wait_with_output()?);
    let text = String::from_utf8_lossy(&one.stdout);
    let mut broken: Vec<String> = text.lines().filter(|line| line.starts_with("invariant ")).map(str::to_owned).collect();
    if !one.status.success() && broken.is_empty() {
        broken.push(format!("{}: {}", one.status, String::from_utf8_lossy(&one.stderr).trim()));
    }
    Ok(Verdict {
        scenario,
        seed,
        last_line: text.lines().last().unwrap_or_default().to_owned(),
        broken,
        difference: Difference::between(&one.stdout, &other.stdout),
    })
}

fn start(scenario: Scenario, seed: u64) -> io::Result<std::process::Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([&scenario.to_string(), "--seed", &seed.to_string(), "--trace", "-"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn trace_of(scenario: Scenario, seed: u64) -> io::Result<Output> {
    start(scenario, seed)?.wait_with_output()
}

fn replay(scenario: Scenario, seed: u64) -> String {
    format!("cargo sim {scenario} --seed {seed}")
}

/// Where two traces part.
#[derive(PartialEq, Eq, Debug)]
struct Difference {
    /// Counted from one.
    line: usize,
    one: String,
    other: String,
}

impl Difference {
    fn between(one: &[u8], other: &[u8]) -> Option<Self> {
        if one == other {
            return None;
        }
        let (mut ones, mut others) = (one.split(|byte| *byte == b'\n'), other.split(|byte| *byte == b'\n'));
        for line in 1.. {
            let pair = (ones.next(), others.next());
            if pair.0 != pair.1 || pair == (None, None) {
                let text =
                    |line: Option<&[u8]>| line.map_or("(it has ended)".to_owned(), |line| String::from_utf8_lossy(line).into_owned());
                return Some(Self { line, one: text(pair.0), other: text(pair.1) });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_written_as_one_number_or_as_first_and_last() {
        for (text, seeds) in
            [("7", Some(7..=7)), ("1..50", Some(1..=50)), ("1..=50", Some(1..=50)), ("5..4", None), ("x", None), ("1..", None)]
        {
            assert_eq!(text.parse().ok(), seeds.map(Seeds), "{text}");
        }
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        for (one, other, line) in
            [("a\nb\n", "a\nb\n", None), ("a\nb\n", "a\nc\n", Some(2)), ("a\n", "a\nb\n", Some(2)), ("", "a", Some(1))]
        {
            assert_eq!(Difference::between(one.as_bytes(), other.as_bytes()).map(|difference| difference.line), line, "{one:?} {other:?}");
        }
    }
}
