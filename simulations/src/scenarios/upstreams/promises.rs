//! What has to be true of a run with troubled endpoints and drilled actors, beside what is true of every run.

use super::{
    ENDPOINTS, FORGOTTEN_WITHIN, MIN_HEALTHY, PROBE_EVERY, PROBE_WITHIN, PROBES_FAIL, PROMISES,
    operator::{EVERY, Findings, Look, has_address, is_pool},
    plan::{Plan, Trouble},
};
use crate::{
    history::{Answer, Exchange, Record},
    invariants::Violation,
};
use hyper::{Method, StatusCode};
use std::time::Duration;

/// What is left of a finished run.
pub(super) struct Upheld<'a> {
    pub(super) record: &'a Record,
    pub(super) findings: &'a Findings,
    pub(super) plan: &'a Plan,
}

struct Invariant {
    number: u32,
    sentence: &'static str,
    check: fn(&Upheld<'_>) -> Result<(), String>,
}

/// Numbered on from those of every run.
const ALL: [Invariant; 7] = [
    Invariant { number: 12, sentence: "a request fails only while an endpoint is in trouble", check: failures_have_trouble },
    Invariant { number: 13, sentence: "with an endpoint that is well, few safe requests fail", check: few_failures },
    Invariant { number: 14, sentence: "an endpoint without trouble is never out", check: the_well_stay },
    Invariant { number: 15, sentence: "requests never put out more endpoints than min_healthy allows", check: enough_stay },
    Invariant { number: 16, sentence: "an endpoint that cannot be reached is out within its bound", check: the_dead_are_found },
    Invariant { number: 17, sentence: "after all trouble every endpoint is healthy", check: all_healthy },
    Invariant { number: 18, sentence: "after all drills the same actors run, and who was killed has been started again", check: all_run },
];

/// Of a hundred safe requests, how many may fail in a run.
const FAILED_PERCENT: usize = 2;

impl Upheld<'_> {
    pub(super) fn violations(&self) -> Vec<Violation> {
        let broken = ALL.iter().filter_map(|invariant| {
            let evidence = (invariant.check)(self).err()?;
            Some(Violation::new(invariant.number, invariant.sentence, evidence))
        });
        broken.collect()
    }

    /// Whether an endpoint was in trouble, or what remains of it, while `from..to`.
    fn troubled(&self, of: impl Fn(&Trouble) -> bool, from: Duration, to: Duration) -> bool {
        self.plan.troubles().iter().any(|trouble| of(trouble) && trouble.begins <= to && trouble.ends + FORGOTTEN_WITHIN >= from)
    }
}

fn failed(exchange: &Exchange) -> bool {
    !matches!(exchange.answer(), Some((_, Answer::Whole { status: StatusCode::OK, .. })))
}

fn out(verdict: &str) -> bool {
    !matches!(verdict, "healthy" | "half_open")
}

fn failures_have_trouble(run: &Upheld<'_>) -> Result<(), String> {
    // A connection that has lost bytes looks well until somebody asks on it.
    for (id, exchange) in run.record.exchanges.iter().filter(|(_, exchange)| failed(exchange)) {
        let until = exchange.answer().map_or(exchange.asked + PROMISES.deadline, |(at, _)| *at);
        if !run.troubled(|_| true, exchange.asked, until) {
            return Err(format!("{id} got {:?} while all were well", exchange.answers));
        }
    }
    Ok(())
}

fn few_failures(run: &Upheld<'_>) -> Result<(), String> {
    let safe = || run.record.exchanges.values().filter(|exchange| exchange.method == Method::GET);
    let (all, failures) = (safe().count(), safe().filter(|exchange| failed(exchange)).count());
    if failures * 100 > all * FAILED_PERCENT { Err(format!("{failures} of {all} failed")) } else { Ok(()) }
}

fn the_well_stay(run: &Upheld<'_>) -> Result<(), String> {
    for Look { at, verdicts, .. } in &run.findings.looks {
        for (endpoint, verdict) in verdicts.iter().enumerate() {
            if out(verdict) && !run.troubled(|trouble| trouble.endpoint == endpoint, *at, *at) {
                return Err(format!("{} is {verdict} at {at:?}", ENDPOINTS[endpoint]));
            }
        }
    }
    Ok(())
}

/// Those that cannot be reached may be out beyond it, and count as if they were in.
fn enough_stay(run: &Upheld<'_>) -> Result<(), String> {
    for Look { at, verdicts, .. } in &run.findings.looks {
        let stay = |(endpoint, verdict): &(usize, &String)| {
            !out(verdict) || run.troubled(|trouble| trouble.endpoint == *endpoint && trouble.kind.unreachable(), *at, *at)
        };
        let staying = verdicts.iter().enumerate().filter(stay).count();
        if staying < MIN_HEALTHY {
            return Err(format!("{staying} stay in at {at:?}: {verdicts:?}"));
        }
    }
    Ok(())
}

fn the_dead_are_found(run: &Upheld<'_>) -> Result<(), String> {
    // Each interval may be a tenth longer; a probe may have begun just before; and the operator looks once in a while.
    let found = (PROBE_EVERY * 11 / 10 + PROBE_WITHIN) * (PROBES_FAIL + 1) + 2 * EVERY;
    let stalls = run.plan.drills().into_iter().filter_map(|drill| Some((drill.at, drill.stall?)));
    let stalls: Vec<(Duration, Duration)> = stalls.collect();
    for trouble in run.plan.troubles().iter().filter(|trouble| trouble.kind.unreachable()) {
        // Who decides may be held up meanwhile.
        let late: Duration = stalls.iter().filter(|(at, _)| *at <= trouble.ends).map(|(_, stall)| *stall).sum();
        let due = trouble.begins + found + late;
        let then = run.findings.looks.iter().filter(|look| (due..trouble.ends).contains(&look.at));
        for look in then {
            if !out(&look.verdicts[trouble.endpoint]) && look.verdicts[trouble.endpoint] != "half_open" {
                return Err(format!("{trouble} since {:?} and is {} at {:?}", trouble.begins, look.verdicts[trouble.endpoint], look.at));
            }
        }
    }
    Ok(())
}

fn all_healthy(run: &Upheld<'_>) -> Result<(), String> {
    let last = run.findings.looks.last().ok_or("nobody has looked")?;
    match last.verdicts.iter().position(|verdict| verdict != "healthy") {
        Some(at) => Err(format!("{} is {}", ENDPOINTS[at], last.verdicts[at])),
        None => Ok(()),
    }
}

fn all_run(run: &Upheld<'_>) -> Result<(), String> {
    let looks = &run.findings.looks;
    // An endpoint has its address, and with it another pool, when its name has been looked up in the beginning.
    let complete = |look: &&Look| {
        let pools: Vec<&String> = look.actors.keys().filter(|id| is_pool(id)).collect();
        pools.len() == ENDPOINTS.len() && pools.iter().all(|id| has_address(id))
    };
    let first = looks.iter().find(complete).ok_or("never had every endpoint an actor")?;
    let last = looks.last().ok_or("nobody has looked")?;
    if !first.actors.keys().eq(last.actors.keys()) {
        return Err(format!("{:?} have become {:?}", first.actors.keys(), last.actors.keys()));
    }
    if let Some((id, (state, _))) = last.actors.iter().find(|(_, (state, _))| state != "running") {
        return Err(format!("{id} is {state}"));
    }
    for (at, id, restarts) in &run.findings.killed {
        // A pool from before its endpoint had an address may be gone.
        if last.actors.get(id).is_some_and(|(_, after)| after <= restarts) {
            return Err(format!("{id}, killed at {at:?} after {restarts} restarts, has had no other life"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
