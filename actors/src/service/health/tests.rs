use super::*;
use crate::service::load::tests::epoch;
use config::ProbeKind;
use proptest::prelude::*;

const EVEN: u64 = 1 << 63;

fn policy() -> HealthPolicy {
    HealthPolicy {
        probe: ProbeKind::Tcp,
        port: None,
        interval: Duration::from_secs(5),
        jitter: Ratio(0.1),
        timeout: Duration::from_secs(1),
        unhealthy: 3,
        healthy: 2,
    }
}

/// Sends the next probe and tells of its outcome at once. Returns the verdict if it has changed.
fn probe(health: &mut Health, passed: bool) -> Option<Turn> {
    let now = health.deadline().expect("there is always a next probe");
    health.expire(now);
    let probe = health.take_effects().expect("it is due");
    health.observe(probe.number, passed.then_some(()).ok_or(ProbeError::Timeout), EVEN, now)
}

/// `.` is a probe that passes and `x` one that fails; shown is the verdict after each, `+` or `-`.
#[track_caller]
fn check(outcomes: &str, expected: &str) {
    let mut health = Health::new(policy(), true, EVEN, epoch());
    let shown: String = outcomes
        .chars()
        .map(|outcome| {
            let before = health.is_healthy();
            let turn = probe(&mut health, outcome == '.');
            assert_eq!(turn.is_some(), before != health.is_healthy());
            if health.is_healthy() { '+' } else { '-' }
        })
        .collect();
    assert_eq!(shown, expected, "{outcomes}");
}

#[test]
fn a_run_of_failed_probes_makes_unhealthy_and_a_run_of_passed_ones_healthy() {
    check("xxx", "++-");
    check("xxx..", "++--+");
    check("xxx.x.x..", "++------+");
}

#[test]
fn a_flapping_endpoint_stays_where_it_was() {
    check("xx.xx.xx.x", "++++++++++");
    check("xxx.x.x.x.x", "++---------");
}

#[test]
fn who_falls_again_and_again_needs_more_to_be_believed() {
    check("xxx..xxx..xxx", "++--+++------");
    check("xxx..xxx....xxx........", "++--+++----+++--------+");
}

#[test]
fn calm_makes_up_for_a_fall() {
    let mut health = Health::new(policy(), true, EVEN, epoch());
    let play = |health: &mut Health, probes: u32, passed: bool| {
        for _ in 0..probes {
            probe(health, passed);
        }
    };
    let needed: Vec<u32> = (0..7)
        .map(|_| {
            play(&mut health, 3, false);
            let needed = health.needed();
            play(&mut health, needed, true);
            assert!(health.is_healthy());
            needed
        })
        .collect();
    assert_eq!(needed, [2, 4, 8, 16, 32, 32, 32]);
    play(&mut health, 60, true);
    play(&mut health, 3, false);
    assert_eq!(health.needed(), 2);
}

#[test]
fn the_more_nodes_ask_the_less_each_of_them_does_while_all_is_as_it_was() {
    let mut health = Health::new(policy(), true, EVEN, epoch());
    let wait = |health: &mut Health, passed| {
        let before = health.deadline().expect("there is a next probe");
        probe(health, passed);
        (health.deadline().expect("there is a next probe") - before).as_secs()
    };
    assert_eq!(wait(&mut health, true), 5);
    health.set_nodes(3);
    assert_eq!(wait(&mut health, true), 15);
    health.set_nodes(500);
    assert_eq!(wait(&mut health, true), 50);
    assert_eq!([false, false, false, false, true, true, true].map(|passed| wait(&mut health, passed)), [5, 5, 50, 50, 5, 50, 50]);
    health.set_nodes(0);
    assert_eq!(wait(&mut health, true), 5);
}

#[test]
fn a_probe_is_sent_once_and_its_outcome_is_heard_once() {
    let start = epoch();
    let mut health = Health::new(policy(), true, 0, start);
    assert_eq!(health.take_effects(), None);
    health.expire(start);
    let first = health.take_effects().expect("the first is due at once");
    assert_eq!(health.take_effects(), None);
    health.observe(first.number, Err(ProbeError::Timeout), EVEN, start);
    for _ in 0..5 {
        assert_eq!(health.observe(first.number, Err(ProbeError::Timeout), EVEN, start), None);
    }
    assert_eq!(health.deadline(), Some(start + Duration::from_secs(5)));
}

#[test]
fn a_probe_that_was_lost_says_nothing_of_the_endpoint() {
    let start = epoch();
    let mut health = Health::new(HealthPolicy { unhealthy: 1, ..policy() }, true, 0, start);
    health.expire(start);
    let lost = health.take_effects().expect("it is due");
    let later = start + Duration::from_secs(30);
    health.expire(later);
    let again = health.take_effects().expect("it is sent again");
    assert!(health.is_healthy());
    assert_eq!(health.observe(lost.number, Err(ProbeError::Timeout), EVEN, later), None, "it is too late");
    assert_eq!(health.observe(again.number, Err(ProbeError::Timeout), EVEN, later), Some(Turn::Fell));
    assert_eq!(
        (health.since(), health.last_error(later).map(|error| error.what.to_string())),
        (later, Some("not answered in time".into()))
    );
}

#[test]
fn another_policy_keeps_the_verdict() {
    let start = epoch();
    let mut health = Health::new(policy(), false, EVEN, start);
    probe(&mut health, true);
    health.renew(HealthPolicy { healthy: 1, ..policy() }, 0, start);
    assert!(!health.is_healthy());
    assert_eq!(probe(&mut health, true), Some(Turn::Recovered));
}

proptest! {
    #[test]
    fn intervals_stay_within_their_jitter(chances in prop::collection::vec(any::<u64>(), 1..40), nodes in 0..20u32) {
        let mut health = Health::new(policy(), true, chances[0], epoch());
        health.set_nodes(nodes);
        let stretched = 5.0 * f64::from(nodes.clamp(1, 10));
        for chance in chances {
            let now = health.deadline().expect("there is a next probe");
            health.expire(now);
            let sent = health.take_effects().expect("it is due");
            health.observe(sent.number, Ok(()), chance, now);
            let wait = (health.deadline().expect("there is a next probe") - now).as_secs_f64();
            prop_assert!(wait >= stretched * 0.9 - 1e-6 && wait <= stretched * 1.1 + 1e-6);
        }
    }

    #[test]
    fn a_verdict_changes_only_after_enough_that_disagree_in_a_row(outcomes in prop::collection::vec(any::<bool>(), 1..200)) {
        let mut health = Health::new(policy(), true, EVEN, epoch());
        let mut run = 0;
        for passed in outcomes {
            let (before, needed) = (health.is_healthy(), health.needed());
            run = if passed == before { 0 } else { run + 1 };
            let enough = run >= if before { 3 } else { needed };
            prop_assert_eq!(probe(&mut health, passed).is_some(), enough);
            if enough { run = 0 }
        }
    }
}
