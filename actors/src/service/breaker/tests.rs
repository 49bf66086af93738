use super::*;
use crate::service::{Balancer, Failure, Rank, Target, Verdict, load::tests::epoch};
use config::{Balance, Locality, SlowStart, SpreadPolicy};

/// What a file says that says nothing about it.
pub(crate) fn outlier() -> OutlierPolicy {
    OutlierPolicy {
        consecutive_5xx: 5,
        consecutive_gateway_failure: 5,
        consecutive_local_origin_failure: 5,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(5),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_time_jitter: Ratio(0.1),
        max_ejection_percent: Ratio(0.5),
        min_healthy: 1,
        success_rate_minimum_hosts: 5,
        success_rate_request_volume: 100,
        success_rate_stdev_factor: 1_900,
        failure_percentage_threshold: None,
        failure_percentage_minimum_hosts: 5,
        failure_percentage_request_volume: 50,
        successful_active_health_check_uneject_host: true,
    }
}

pub(crate) fn breaker() -> BreakerPolicy {
    BreakerPolicy { max_requests: None, max_requests_per_endpoint: None, max_waiting: 1_024, errors: None, half_open: 3 }
}

fn loads(breaker: &Arc<Breaker>, endpoints: usize, now: Instant) -> Vec<Arc<Load>> {
    (0..endpoints).map(|_| Arc::new(Load::judged(Arc::clone(breaker), now))).collect()
}

/// How many of so many endpoints requests alone may put out.
#[track_caller]
fn check(endpoints: usize, share: f64, min_healthy: u32, panic: f64, expected: u32) {
    let policy = OutlierPolicy { max_ejection_percent: Ratio(share), min_healthy, ..outlier() };
    let made = Breaker::new(&breaker(), Some(&policy));
    made.set_endpoints(endpoints, Ratio(panic));
    assert_eq!(made.out_max(), expected, "of {endpoints}, at most {share}, at least {min_healthy} in, panic below {panic}");
}

#[test]
fn the_bound_of_ejections_leaves_what_verdicts_need_to_count() {
    check(0, 0.5, 1, 0.5, 0);
    check(1, 0.5, 1, 0.5, 0);
    check(2, 0.5, 1, 0.5, 1);
    check(3, 0.5, 1, 0.5, 1);
    check(4, 0.5, 1, 0.5, 2);
    check(5, 0.5, 1, 0.5, 2);
    check(5, 0.5, 4, 0.5, 1);
    check(5, 1.0, 1, 0.0, 4);
    check(5, 1.0, 0, 0.0, 5);
    check(10, 0.29, 1, 0.0, 2);
    check(10, 0.3, 1, 0.7, 3);
    check(10, 0.1, 1, 0.5, 1);
    check(9, 0.1, 1, 0.5, 0);
}

#[test]
fn permits_bound_what_is_in_flight_and_what_waits() {
    let made = Arc::new(Breaker::new(&BreakerPolicy { max_requests: Some(2), max_waiting: 1, ..breaker() }, None));
    let permits = (made.enter(), made.enter());
    assert_eq!(made.enter().map(drop), Err(Refused::ServiceFull));
    let waiting = made.wait();
    assert_eq!(made.wait().map(drop), Err(Refused::WaitingFull));
    assert_eq!((made.in_flight(), made.waiting()), (2, 1));
    drop((permits, waiting));
    assert_eq!((made.in_flight(), made.waiting()), (0, 0));
    assert!(made.enter().is_ok() && made.wait().is_ok());
}

#[test]
fn a_bound_that_comes_and_goes_leaves_no_count_behind() {
    let made = Arc::new(Breaker::idle());
    let before = made.enter();
    made.renew(&BreakerPolicy { max_requests: Some(1), ..breaker() }, None);
    let permit = made.enter();
    assert_eq!(made.enter().map(drop), Err(Refused::ServiceFull));
    made.renew(&breaker(), None);
    assert!(made.enter().is_ok());
    drop((before, permit));
    assert_eq!(made.in_flight(), 0);
}

#[test]
fn a_request_finds_an_endpoint_that_takes_it() {
    let now = epoch();
    let made = Arc::new(Breaker::new(&BreakerPolicy { max_requests_per_endpoint: Some(1), ..breaker() }, None));
    let loads = loads(&made, 3, now);
    let first_fresh = |tried: Tried| (0..3).find(|at| !tried.contains(*at)).or(Some(0));
    let ask = || admit(Tried::default(), now, first_fresh, |at| &loads[at]);
    let flights: Vec<_> = (0..3).map(|at| ask().inspect(|(picked, _)| assert_eq!(*picked, at))).collect();
    assert_eq!(ask().map(drop), Err(Refused::EndpointFull));
    drop(flights);
    assert!(ask().is_ok());
    assert_eq!(admit(Tried::default(), now, |_| None, |at| &loads[at]).map(drop), Err(Refused::Nobody));
}

#[test]
fn who_has_nobody_better_asks_an_endpoint_on_trial_and_never_an_open_one() {
    let now = epoch();
    let errors = config::ErrorRatio {
        ratio: Ratio(0.1),
        window: Duration::from_secs(1),
        min_requests: 1,
        open: Duration::from_secs(60),
        open_max: Duration::from_secs(60),
    };
    for (errors, expected) in [(None, None), (Some(errors), Some(Refused::Open))] {
        let policy = OutlierPolicy { max_ejection_time_jitter: Ratio(0.0), ..outlier() };
        let made = Arc::new(Breaker::new(&BreakerPolicy { errors, ..breaker() }, Some(&policy)));
        let loads = loads(&made, 1, now);
        (0..5).for_each(|_| loads[0].begin(now).failed(Failure::Connect, now));
        let later = now + Duration::from_secs(5);
        let flights: Vec<_> = (0..10).map(|_| admit(Tried::default(), later, |_| Some(0), |at| &loads[at])).collect();
        assert!(flights.iter().all(|flight| flight.as_ref().err() == expected.as_ref()), "{flights:?}");
        let on_trial = flights.iter().flatten().filter(|(_, flight)| flight.is_trial()).count();
        assert_eq!(on_trial, if expected.is_some() { 0 } else { 3 });
    }
}

/// What happens to one of five endpoints, and what it then does with a request.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    Killed,
    Stalled,
    Errs,
}

/// One request's attempts in a simulated second: when each ends and how.
struct Attempt {
    ends: u64,
    endpoint: usize,
    flight: InFlight,
    fault: Option<Fault>,
    tried: Tried,
}

/// Plays two thousand requests a second against five endpoints of which some fail for a while, with one retry as a GET has it, and nobody but
/// the path to judge. Returns the times, in milliseconds, at which requests failed, and what each endpoint was sent in each second.
fn play(seconds: u64, faults: &[(usize, Fault, u64, u64)]) -> (Vec<u64>, Vec<[u32; 5]>) {
    const FIRST_BYTE: u64 = 500;
    let start = epoch();
    let at = |millis: u64| start + Duration::from_millis(millis);
    let made = Arc::new(Breaker::new(&breaker(), Some(&outlier())));
    made.set_endpoints(5, Ratio(0.5));
    let loads = loads(&made, 5, start);
    let rank = Rank { priority: 0, locality: Locality::Zone, doubted: false };
    let slow_start = SlowStart { window: Duration::from_secs(30), weight_min: Ratio(0.1) };
    let spread = SpreadPolicy { panic_threshold: Ratio(0.5), slow_start, spill: 1.4, hysteresis: Duration::from_secs(30) };
    let targets = loads.iter().zip(1..).map(|(load, id)| Target { weight: 1, id, rank, drain: false, load: Arc::clone(load) }).collect();
    let balancer = Balancer::new(&Balance::PeakEwma, &spread, targets, start);
    let (mut failed, mut sent, mut open): (Vec<u64>, Vec<[u32; 5]>, Vec<Attempt>) = (Vec::new(), Vec::new(), Vec::new());
    let mut chance = 1u64;
    for now in 0..seconds * 1_000 {
        sent.resize(now as usize / 1_000 + 1, [0; 5]);
        let fault_of = |endpoint: usize| {
            let hits = |(who, _, from, until): &&(usize, Fault, u64, u64)| *who == endpoint && (*from..*until).contains(&now);
            faults.iter().find(hits).map(|(_, fault, ..)| *fault)
        };
        let (ended, rest) = open.into_iter().partition::<Vec<_>, _>(|attempt| attempt.ends <= now);
        open = rest;
        let mut again = Vec::new();
        for attempt in ended {
            match attempt.fault {
                None => {
                    attempt.flight.answered(200, at(now));
                    continue;
                }
                Some(Fault::Killed) => attempt.flight.failed(Failure::Connect, at(now)),
                Some(Fault::Stalled) => attempt.flight.failed(Failure::Timeout, at(now)),
                Some(Fault::Errs) => attempt.flight.answered(500, at(now)),
            }
            if attempt.tried == Tried::default() { again.push(attempt.tried.and(attempt.endpoint)) } else { failed.push(now) }
        }
        for tried in again.into_iter().chain([Tried::default(); 2]) {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = |tried| balancer.pick(chance ^ chance >> 31, at(now), None, tried);
            let (endpoint, flight) = admit(tried, at(now), pick, |at| &loads[at]).expect("nothing is bounded");
            sent[now as usize / 1_000][endpoint] += 1;
            let fault = fault_of(endpoint);
            let takes = if fault == Some(Fault::Stalled) { FIRST_BYTE } else { 1 + chance % 3 };
            open.push(Attempt { ends: now + takes, endpoint, flight, fault, tried });
        }
    }
    (failed, sent)
}

#[test]
fn the_path_alone_keeps_requests_from_endpoints_that_fail() {
    use Fault::{Errs, Killed, Stalled};
    let faults = [
        (0, Killed, 5_000, 15_000),
        (1, Stalled, 17_000, 27_000),
        (2, Errs, 29_000, 39_000),
        (3, Killed, 41_000, 51_000),
        (4, Stalled, 41_000, 51_000),
    ];
    let (failed, sent) = play(75, &faults);
    assert!(failed.len() <= 2 * 75, "a thousandth of the requests: {failed:?}");
    let within = |at: &u64| faults.iter().any(|(_, _, from, _)| (*from..from + 2_000).contains(at));
    assert!(failed.iter().all(within), "{failed:?}");
    for (endpoint, _, from, until) in faults {
        for second in from / 1_000 + 2..until / 1_000 {
            assert!(sent[second as usize][endpoint] <= 5, "endpoint {endpoint} in second {second}: {:?}", sent[second as usize]);
        }
    }
    assert!(sent[74].iter().all(|requests| *requests > 200), "all are back: {:?}", sent[74]);
}

#[test]
fn an_endpoint_that_is_well_again_is_back_within_seconds() {
    for fault in [Fault::Killed, Fault::Stalled, Fault::Errs] {
        let (_, sent) = play(24, &[(2, fault, 2_000, 8_000)]);
        assert!(sent[23][2] > 200, "{fault:?}: {:?}", sent);
    }
}

#[test]
fn when_everybody_fails_nobody_is_refused() {
    let faults: Vec<_> = (0..5).map(|endpoint| (endpoint, Fault::Errs, 1_000, 4_000)).collect();
    let (failed, sent) = play(8, &faults);
    assert!(failed.iter().all(|at| (1_000..=4_100).contains(at)));
    assert!(sent.iter().all(|second| second.iter().sum::<u32>() >= 2_000));
}

#[test]
fn a_reload_that_turns_ejection_off_lets_nobody_wait() {
    let now = epoch();
    let made = Arc::new(Breaker::new(&breaker(), Some(&outlier())));
    made.set_endpoints(2, Ratio(0.5));
    let loads = loads(&made, 2, now);
    (0..5).for_each(|_| loads[0].begin(now).failed(Failure::Reset, now));
    assert_eq!(loads[0].verdict(now), Verdict::Ejected);
    made.renew(&breaker(), None);
    made.set_endpoints(2, Ratio(0.5));
    (0..50).for_each(|_| loads[1].begin(now).failed(Failure::Connect, now));
    assert_eq!(loads[1].verdict(now), Verdict::Healthy);
}
