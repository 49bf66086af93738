use super::*;
use crate::service::{
    breaker::tests::{breaker, outlier},
    load::tests::epoch,
};
use config::Ratio;
use proptest::prelude::*;

struct Service {
    brain: Outlier,
    loads: Vec<Arc<Load>>,
    breaker: Arc<Breaker>,
    start: Instant,
}

impl Service {
    fn new(policy: &OutlierPolicy, endpoints: usize) -> Self {
        let start = epoch();
        let shared = Arc::new(Breaker::new(&breaker(), Some(policy)));
        shared.set_endpoints(endpoints, Ratio(0.0));
        let loads: Vec<_> = (0..endpoints).map(|_| Arc::new(Load::judged(Arc::clone(&shared), start))).collect();
        let mut brain = Outlier::new(Some(policy), Arc::clone(&shared), start);
        brain.set_endpoints(Self::named(&loads), start);
        Self { brain, loads, breaker: shared, start }
    }

    fn named(loads: &[Arc<Load>]) -> Vec<(Arc<str>, Arc<Load>)> {
        loads.iter().enumerate().map(|(at, load)| (Arc::from(format!("e{at}")), Arc::clone(load))).collect()
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// So many requests, of which so many fail, spread evenly so that no run of failures ejects on its own.
    fn send(&self, endpoint: usize, requests: u32, failures: u32, now: Instant) {
        for request in 0..requests {
            let fails = u64::from(request + 1) * u64::from(failures) / u64::from(requests)
                > u64::from(request) * u64::from(failures) / u64::from(requests);
            self.loads[endpoint].begin(now).answered(if fails { 500 } else { 200 }, now);
        }
    }

    fn out(&self, now: Instant) -> Vec<usize> {
        (0..self.loads.len()).filter(|at| self.loads[*at].verdict(now) == Verdict::Ejected).collect()
    }
}

fn statistical() -> OutlierPolicy {
    OutlierPolicy { consecutive_5xx: 0, consecutive_gateway_failure: 0, consecutive_local_origin_failure: 0, ..outlier() }
}

/// Failures among a hundred requests of each endpoint; expected are those that are ejected at the end of the interval.
#[track_caller]
fn check(policy: &OutlierPolicy, failures: &[u32], expected: &[usize]) {
    let mut service = Service::new(policy, failures.len());
    failures.iter().enumerate().for_each(|(at, failures)| service.send(at, 100, *failures, service.at(1)));
    assert_eq!(service.brain.expire(0, service.at(9)), 0, "the interval is not over");
    assert_eq!(service.brain.deadline(), Some(service.at(10)));
    assert_eq!(service.brain.expire(0, service.at(10)), expected.len());
    assert_eq!(service.out(service.at(10)), expected, "{failures:?}");
}

#[test]
fn an_endpoint_far_below_the_mean_is_ejected() {
    check(&statistical(), &[0, 0, 0, 0, 0, 60, 0, 0], &[5]);
    check(&statistical(), &[20, 22, 18, 20, 21, 80, 20, 20], &[5]);
    check(&statistical(), &[50, 50, 50, 50, 50, 50], &[]);
    check(&OutlierPolicy { success_rate_stdev_factor: 0, ..statistical() }, &[0, 0, 0, 0, 0, 60, 0, 0], &[]);
    check(&OutlierPolicy { success_rate_stdev_factor: 1_000, ..statistical() }, &[0, 0, 0, 45, 50], &[3, 4]);
}

#[test]
fn a_little_below_the_mean_is_no_outlier_however_alike_the_others_are() {
    check(&statistical(), &[0, 0, 0, 0, 0, 0, 0, 1], &[]);
    check(&statistical(), &[0, 0, 0, 0, 0, 0, 0, 5], &[]);
    check(&statistical(), &[0, 0, 0, 0, 0, 0, 0, 7], &[7]);
}

#[test]
fn too_few_requests_or_endpoints_decide_nothing() {
    check(&statistical(), &[0, 0, 0, 60], &[]);
    check(&OutlierPolicy { success_rate_request_volume: 101, ..statistical() }, &[0, 0, 0, 0, 0, 60, 0, 0], &[]);
}

#[test]
fn a_large_share_of_failures_ejects_where_it_is_asked_for() {
    let policy = OutlierPolicy { failure_percentage_threshold: Some(Ratio(0.85)), success_rate_stdev_factor: 0, ..statistical() };
    check(&policy, &[84, 85, 100, 0, 0, 0], &[1, 2]);
    check(&policy, &[84, 85, 100, 0], &[]);
}

#[test]
fn the_worst_go_first_where_there_are_places_for_some() {
    let policy = OutlierPolicy {
        failure_percentage_threshold: Some(Ratio(0.5)),
        success_rate_stdev_factor: 0,
        max_ejection_percent: Ratio(0.4),
        ..statistical()
    };
    check(&policy, &[60, 90, 70, 80, 0], &[1, 3]);
    check(&policy, &[60, 60, 60, 0, 0], &[0, 1]);
}

#[test]
fn an_interval_counts_from_the_one_before() {
    let mut service = Service::new(&statistical(), 6);
    (0..6).for_each(|at| service.send(at, 100, if at == 0 { 30 } else { 25 }, service.at(1)));
    service.brain.expire(0, service.at(10));
    (0..6).for_each(|at| service.send(at, 100, if at == 0 { 60 } else { 0 }, service.at(11)));
    service.brain.expire(0, service.at(20));
    assert_eq!((service.out(service.at(20)), service.loads[0].why()), (vec![0], Some(Why::SuccessRate)));
}

#[test]
fn who_is_out_already_does_not_make_the_others_look_better() {
    let mut service = Service::new(&statistical(), 9);
    service.loads[0].eject(Why::SuccessRate, 0, service.at(1));
    (0..9).for_each(|at| service.send(at, 100, [100, 40].get(at).copied().unwrap_or(0), service.at(1)));
    service.brain.expire(0, service.at(10));
    assert_eq!((service.loads[1].why(), service.breaker.out()), (Some(Why::SuccessRate), 2));
}

#[test]
fn probes_that_pass_end_the_ejection_and_leave_the_doubt() {
    let mut service = Service::new(&outlier(), 6);
    let fails = |service: &Service, now| (0..5).for_each(|_| service.loads[0].begin(now).answered(500, now));
    fails(&service, service.at(0));
    let probed = |service: &mut Service, passed, seconds| {
        let now = service.at(seconds);
        service.brain.probed("e0", passed, 2, now)
    };
    assert_eq!([(true, 1), (false, 2), (true, 3)].map(|(passed, at)| probed(&mut service, passed, at)), [false; 3]);
    assert!(probed(&mut service, true, 4));
    assert_eq!(service.loads[0].verdict(service.at(4)), Verdict::HalfOpen);
    // Its trial fails: the second time takes twice as many.
    service.loads[0].admit(service.at(4)).expect("it is half-open").answered(500, service.at(4));
    assert_eq!([5, 6, 7].map(|at| probed(&mut service, true, at)), [false; 3]);
    assert!(probed(&mut service, true, 8));
    assert!(!service.brain.probed("e1", true, 1, service.at(8)), "who is in has nothing to end");
    assert!(!service.brain.probed("unknown", true, 1, service.at(8)));
}

#[test]
fn probes_end_nothing_where_the_policy_says_so() {
    let mut service = Service::new(&OutlierPolicy { successful_active_health_check_uneject_host: false, ..outlier() }, 6);
    (0..5).for_each(|_| service.loads[0].begin(service.at(0)).answered(500, service.at(0)));
    assert!(!service.brain.probed("e0", true, 1, service.at(1)));
    assert_eq!(service.loads[0].verdict(service.at(1)), Verdict::Ejected);
}

#[test]
fn when_endpoints_leave_the_bound_still_holds() {
    let mut service = Service::new(&outlier(), 6);
    for (at, load) in service.loads[..3].iter().enumerate() {
        let now = service.at(at as u64);
        (0..5).for_each(|_| load.begin(now).answered(500, now));
    }
    assert_eq!(service.out(service.at(3)), [0, 1, 2]);
    service.loads[4].retire();
    service.loads[5].retire();
    service.breaker.set_endpoints(4, Ratio(0.0));
    let (now, left) = (service.at(3), Service::named(&service.loads[..4]));
    service.brain.set_endpoints(left, now);
    assert_eq!(service.out(now), [1, 2], "the one whose time would end first is back");
}

#[test]
fn nothing_is_compared_where_nobody_is_ejected() {
    let start = epoch();
    let mut brain = Outlier::new(None, Arc::new(Breaker::idle()), start);
    assert_eq!((brain.deadline(), brain.expire(0, start + Duration::from_secs(100))), (None, 0));
}

proptest! {
    #[test]
    fn the_order_of_what_happened_in_an_interval_does_not_matter(
        failures in prop::collection::vec(0..=100u32, 5..10),
        order in any::<prop::sample::Index>(),
        chance: u64,
    ) {
        let policy = OutlierPolicy { failure_percentage_threshold: Some(Ratio(0.7)), ..statistical() };
        let ejected = |shift: usize, chance: u64| {
            let mut service = Service::new(&policy, failures.len());
            let mut listed = Service::named(&service.loads);
            listed.rotate_left(shift);
            let now = service.at(1);
            service.brain.set_endpoints(listed, now);
            for step in 0..failures.len() {
                let at = (step + shift) % failures.len();
                service.send(at, 100, failures[at], now);
            }
            service.brain.expire(chance, service.at(10));
            service.out(service.at(10))
        };
        let shift = order.index(failures.len());
        let out = ejected(shift, chance);
        prop_assert_eq!(&out, &ejected(0, 0));
        prop_assert!(out.len() * 2 <= failures.len(), "never more than half");
    }
}
