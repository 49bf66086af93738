//! Everything that reads bytes of a peer, or of somebody who is not known yet.

mod enrolment;
mod membership;
mod wire;

use super::structure::Structure;
use std::{
    future::Future,
    pin::pin,
    str::FromStr,
    task::{Context, Poll, Waker},
};

/// Whether an input was taken for valid, or which promise was broken over it.
pub(super) type Verdict = Result<bool, String>;

pub(super) struct Target {
    pub(super) name: &'static str,
    /// For people: whose bytes these are.
    pub(super) reads: &'static str,
    pub(super) structure: Structure,
    /// What the format says often.
    pub(super) words: &'static [&'static [u8]],
    pub(super) longest: usize,
    /// What may be held beside what every target may hold, for the reason that stands there.
    pub(super) beside: usize,
    pub(super) begin: fn() -> Bench,
}

/// A target that is ready to read.
pub(super) struct Bench {
    /// Inputs that are valid.
    pub(super) seeds: Vec<Vec<u8>>,
    pub(super) read: Box<Read>,
}

type Read = dyn FnMut(&[u8]) -> Verdict;

pub(super) static ALL: &[Target] = &[
    wire::FRAME,
    wire::ASK_REQUEST,
    wire::ASK_REPLY,
    wire::ENROL_REQUEST,
    wire::ENROL_REPLY,
    wire::HELLO,
    wire::BEATS,
    wire::CLAIM,
    membership::PACKING,
    membership::DELTA,
    membership::JUDGE,
    membership::GOSSIP,
    membership::TOLD,
    membership::RECORD,
    membership::ROW,
    enrolment::TOKEN,
    enrolment::KEYRING,
    enrolment::PETITION,
    enrolment::ADMISSION,
    enrolment::CERTIFICATE,
    enrolment::CHAIN,
    enrolment::AUTHORITY,
    enrolment::VERDICT,
    enrolment::PAGE,
];

/// One of them, as it is called on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name(&'static str);

impl Name {
    pub(super) fn is(self, target: &Target) -> bool {
        self.0 == target.name
    }

    pub(super) fn target(self) -> &'static Target {
        ALL.iter().find(|target| self.is(target)).expect("a name is one of a target")
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = ALL.iter().find(|target| target.name == text);
        found.map(|target| Self(target.name)).ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|target| target.name).collect();
            format!("the targets are {}", names.join(", "))
        })
    }
}

/// Holds a promise against an input.
fn hold(kept: bool, promise: &str) -> Result<(), String> {
    if kept { Ok(()) } else { Err(format!("broken: {promise}")) }
}

/// Whether it may stand in one line of a log.
fn is_one_line(text: &str) -> bool {
    text.len() <= 1_024 && !text.chars().any(char::is_control)
}

/// The output of what has no reason to wait.
fn now_or_never<T>(work: impl Future<Output = T>) -> Option<T> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fuzz, on_a_fresh_thread};
    use std::collections::BTreeSet;

    #[test]
    fn every_target_has_a_name_of_its_own_and_begins_with_what_it_takes() {
        let names: BTreeSet<&str> = ALL.iter().map(|target| target.name).collect();
        assert_eq!(names.len(), ALL.len());
        for target in ALL {
            let refused: Vec<String> = on_a_fresh_thread(1, || {
                let mut reading = fuzz::Reading::new(target);
                let seeds = reading.bench.seeds.clone();
                assert!(!seeds.is_empty() && seeds.iter().all(|seed| seed.len() <= target.longest), "{}", target.name);
                seeds
                    .iter()
                    .map(|seed| reading.read(seed))
                    .filter(|verdict| *verdict != Ok(true))
                    .map(|verdict| format!("{verdict:?}"))
                    .collect()
            });
            assert_eq!(refused, Vec::<String>::new(), "{}", target.name);
        }
    }
}
