//! Each promise with a run that barely keeps it and one that breaks it.

use super::*;
use crate::{history::Id, scenarios::upstreams::plan::Kind};
use std::collections::BTreeMap;

const WELL: [&str; 5] = ["healthy"; 5];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Endpoint 0 is in trouble from 1 s to 5 s.
fn plan(kind: Kind) -> Plan {
    Plan::of(kind, 0, ms(1_000), ms(5_000))
}

fn pool(at: usize) -> String {
    format!("root/services/shop/pool:{}.internal@10.0.0.{at}:9000", ENDPOINTS[at])
}

fn look(at: u64, verdicts: [&str; 5]) -> Look {
    let actors = (0..ENDPOINTS.len()).map(|at| (pool(at), ("running".to_owned(), 0))).collect();
    Look { at: ms(at), verdicts: verdicts.map(str::to_owned).to_vec(), actors }
}

/// GETs that were answered at once: when, and with what.
fn asked(answers: impl IntoIterator<Item = (u64, u16)>) -> Record {
    let mut record = Record::default();
    for (number, (at, status)) in (0..).zip(answers) {
        let status = StatusCode::from_u16(status).expect("the case names a status");
        let exchange = Exchange {
            method: Method::GET,
            limited: false,
            echo: String::new(),
            asked: ms(at),
            answers: vec![(ms(at), Answer::Whole { status, id: None, echo: String::new() })],
            given_up: false,
            arrivals: 1,
            wronged: false,
            cut: false,
            crashed: false,
        };
        record.exchanges.insert(Id { caller: 0, number }, exchange);
    }
    record
}

#[track_caller]
fn check(record: &Record, plan: &Plan, looks: Vec<Look>, killed: Vec<(Duration, String, u64)>, broken: &[u32]) {
    let findings = Findings { looks, killed };
    let violations = Upheld { record, findings: &findings, plan }.violations();
    let numbers: Vec<u32> = violations.iter().map(|violation| violation.number).collect();
    assert_eq!(numbers, broken, "{violations:?}");
}

#[track_caller]
fn check_looks(kind: Kind, mut looks: Vec<Look>, broken: &[u32]) {
    looks.push(look(20_000, WELL));
    check(&asked([]), &plan(kind), looks, Vec::new(), broken);
}

#[test]
fn a_failure_while_all_are_well_is_found() {
    let served = || (0..98).map(|_| (2_000, 200));
    check(&asked(served().chain([(2_000, 502)])), &plan(Kind::Slow), vec![look(0, WELL)], Vec::new(), &[]);
    check(&asked(served().chain([(500, 502)])), &plan(Kind::Slow), vec![look(0, WELL)], Vec::new(), &[12]);
    check(&asked(served().chain([(11_001, 502)])), &plan(Kind::Slow), vec![look(0, WELL)], Vec::new(), &[12]);
}

#[test]
fn more_failures_than_are_promised_are_found() {
    let served = |served| (0..served).map(|_| (2_000, 200));
    let failed = || [(2_000, 504), (2_000, 504)];
    check(&asked(served(98).chain(failed())), &plan(Kind::Slow), vec![look(0, WELL)], Vec::new(), &[]);
    check(&asked(served(97).chain(failed())), &plan(Kind::Slow), vec![look(0, WELL)], Vec::new(), &[13]);
}

#[test]
fn a_well_endpoint_that_is_out_is_found() {
    check_looks(Kind::Slow, vec![look(0, WELL), look(2_000, ["ejected", "healthy", "healthy", "healthy", "healthy"])], &[]);
    check_looks(Kind::Slow, vec![look(0, WELL), look(2_000, ["healthy", "ejected", "healthy", "healthy", "healthy"])], &[14]);
    check_looks(Kind::Slow, vec![look(0, WELL), look(900, ["ejected", "healthy", "healthy", "healthy", "healthy"])], &[14]);
}

#[test]
fn too_few_that_stay_in_are_found() {
    // That the others have no trouble is a breach of its own.
    let three_out = ["ejected", "ejected", "ejected", "healthy", "healthy"];
    check_looks(Kind::Slow, vec![look(0, WELL), look(2_000, three_out)], &[14, 15]);
    let one_dead = ["unhealthy", "ejected", "ejected", "healthy", "healthy"];
    check_looks(Kind::Crash, vec![look(0, WELL), look(2_000, one_dead)], &[14]);
}

#[test]
fn a_dead_endpoint_that_stays_in_is_found() {
    check_looks(Kind::Cut, vec![look(0, WELL), look(2_000, WELL)], &[]);
    check_looks(Kind::Cut, vec![look(0, WELL), look(4_000, WELL)], &[16]);
    // Probes do not see that it is slow.
    check_looks(Kind::Slow, vec![look(0, WELL), look(4_000, WELL)], &[]);
}

#[test]
fn an_endpoint_that_does_not_recover_is_found() {
    let looks = |last| vec![look(0, WELL), look(8_000, [last, "healthy", "healthy", "healthy", "healthy"])];
    check(&asked([]), &plan(Kind::Slow), looks("healthy"), Vec::new(), &[]);
    check(&asked([]), &plan(Kind::Slow), looks("half_open"), Vec::new(), &[17]);
}

#[test]
fn an_actor_that_does_not_run_again_is_found() {
    let last = |change: fn(&mut BTreeMap<String, (String, u64)>)| {
        let mut last = look(20_000, WELL);
        change(&mut last.actors);
        vec![look(0, WELL), last]
    };
    let (killed, slow) = (|| vec![(ms(2_000), pool(1), 0)], plan(Kind::Slow));
    check(&asked([]), &slow, last(|actors| drop(actors.insert(pool(1), ("running".to_owned(), 1)))), killed(), &[]);
    check(&asked([]), &slow, last(|_| {}), killed(), &[18]);
    check(&asked([]), &slow, last(|actors| drop(actors.insert(pool(1), ("down".to_owned(), 1)))), killed(), &[18]);
    check(&asked([]), &slow, last(|actors| drop(actors.remove(&pool(1)))), Vec::new(), &[18]);
}

#[test]
fn a_run_that_nobody_watched_is_no_proof() {
    check(&asked([]), &plan(Kind::Slow), Vec::new(), Vec::new(), &[17, 18]);
}
