use super::*;
use crate::service::{
    breaker::tests::{breaker, outlier},
    verdict::{Failure, Verdict},
};
use config::Ratio;
use proptest::prelude::*;

pub(crate) fn epoch() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning")]
    Instant::now()
}

/// Each event is `at latency` in milliseconds, with `!` behind a failure; each answer the average then, in milliseconds.
fn check(events: &str, expected: &str) {
    let epoch = epoch();
    let load = Arc::new(Load::new(epoch));
    let averages: Vec<String> = events
        .split(", ")
        .map(|event| {
            let (at, latency) = event.split_once(' ').expect("an event is two numbers");
            let at = epoch + Duration::from_millis(1_000_000 + at.parse::<u64>().expect("milliseconds"));
            let failed = latency.ends_with('!');
            let latency = latency.trim_end_matches('!');
            if latency != "-" {
                let flight = load.begin(at - Duration::from_millis(latency.parse().expect("milliseconds")));
                if failed { flight.failed(Failure::Reset, at) } else { flight.answered(200, at) }
            }
            load.latency(at).as_secs_f64().mul_add(1_000.0, 0.5).floor().to_string()
        })
        .collect();
    assert_eq!(averages.join(" "), expected, "{events}");
    assert_eq!(load.in_flight(), 0);
}

#[test]
fn a_worse_answer_counts_at_once_and_better_ones_slowly() {
    check("0 10, 0 100, 0 10, 1000 10, 11000 10, 60000 10", "10 100 100 91 40 10");
}

#[test]
fn silence_lets_the_average_fall() {
    check("0 -, 0 100, 10000 -, 30000 -, 90000 -", "0 100 37 5 0");
}

#[test]
fn a_failure_costs_twice_the_average_and_a_run_of_them_ever_more() {
    check("0 20, 0 0!, 0 1!, 0 0!", "20 40 80 160");
    check("0 1, 0 0!, 0 0!, 60000 1", "1 10 20 1");
    check("0 3000!, 0 0!, 0 0!, 0 30000!, 0 0!", "3000 6000 10000 30000 30000");
}

#[test]
fn a_clock_that_lags_does_not_turn_the_average_back() {
    check("5000 100, 0 50, 5000 -", "100 100 100");
}

#[test]
fn a_request_is_in_flight_until_it_is_dropped() {
    let now = epoch();
    let load = Arc::new(Load::new(now));
    let flights = [load.begin(now), load.begin(now)];
    flights[0].answered(200, now + Duration::from_millis(5));
    assert_eq!((load.in_flight(), load.picks()), (2, 2));
    drop(flights);
    assert_eq!((load.in_flight(), load.picks()), (0, 2));
}

#[test]
fn an_endpoint_that_has_not_answered_is_tried_by_one_request() {
    let now = epoch();
    let load = Arc::new(Load::new(now));
    assert_eq!(load.cost(1.0, now), 0.0);
    let _flight = load.begin(now);
    assert_eq!(load.cost(1.0, now), 2e9);
    assert_eq!(load.cost(2.0, now), 1.5e9);
}

#[test]
fn an_endpoint_in_doubt_is_asked_once_and_a_good_answer_ends_the_doubt() {
    let start = epoch();
    let at = |millis| start + Duration::from_millis(millis);
    let load = Arc::new(Load::new(start));
    load.begin(at(0)).failed(Failure::Reset, at(500));
    assert!(load.cost(1.0, at(1_499)) > 0.0, "it is too soon");
    assert_eq!(load.cost(1.0, at(1_500)), 0.0);
    let flight = load.begin(at(1_500));
    assert!(flight.is_trial() && load.cost(1.0, at(1_500)) > 0.0, "one is enough");
    flight.answered(200, at(1_502));
    assert_eq!((load.latency(at(1_502)), load.is_failing()), (Duration::from_millis(2), false));
    assert!(!load.begin(at(3_000)).is_trial());
}

#[test]
fn a_load_has_two_cache_lines_to_itself() {
    assert_eq!((size_of::<Load>(), align_of::<Load>()), (128, 64));
    assert_eq!((size_of::<Hot>(), size_of::<Cold>()), (64, 64));
}

/// Five endpoints of one service whose ejections have no jitter, and one of them watched.
struct Watched {
    loads: Vec<Arc<Load>>,
    breaker: Arc<Breaker>,
    start: Instant,
}

impl Watched {
    fn new(policy: config::BreakerPolicy) -> Self {
        let start = epoch();
        let policy_of_outliers = config::OutlierPolicy { max_ejection_time_jitter: Ratio(0.0), ..outlier() };
        let breaker = Arc::new(Breaker::new(&policy, Some(&policy_of_outliers)));
        breaker.set_endpoints(5, Ratio(0.5));
        let loads = (0..5).map(|_| Arc::new(Load::judged(Arc::clone(&breaker), start))).collect();
        Self { loads, breaker, start }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    /// Sends requests that end at once: `.` well, `5` with 500, `g` with 503, `c`, `t` and `r` on the way.
    fn send(&self, endpoint: usize, outcomes: &str, millis: u64) {
        let now = self.at(millis);
        for outcome in outcomes.chars() {
            let flight = self.loads[endpoint].begin(now);
            match outcome {
                '.' => flight.answered(200, now),
                '5' => flight.answered(500, now),
                'g' => flight.answered(503, now),
                'c' => flight.failed(Failure::Connect, now),
                't' => flight.failed(Failure::Timeout, now),
                _ => flight.failed(Failure::Reset, now),
            }
        }
    }

    fn verdict(&self, endpoint: usize, millis: u64) -> Verdict {
        self.loads[endpoint].verdict(self.at(millis))
    }

    /// Sends as many requests as may try an endpoint that is half-open, and ends them alike.
    fn try_out(&self, endpoint: usize, well: bool, millis: u64) {
        let flights: Vec<InFlight> = (0..3).map(|_| self.loads[endpoint].admit(self.at(millis)).expect("it is half-open")).collect();
        for flight in flights {
            if well { flight.answered(200, self.at(millis)) } else { flight.failed(Failure::Timeout, self.at(millis)) }
        }
    }
}

#[test]
fn a_run_of_failures_takes_an_endpoint_out_and_time_brings_it_back_on_trial() {
    let service = Watched::new(breaker());
    let load = &service.loads[0];
    service.send(0, "5555.5555", 100);
    assert_eq!(service.verdict(0, 100), Verdict::Healthy, "a good answer begins the count again");
    service.send(0, "5", 100);
    assert_eq!((service.verdict(0, 100), load.why()), (Verdict::Ejected, Some(Why::Consecutive5xx)));
    assert!(!load.eligible(service.at(5_099)) && load.eligible(service.at(5_100)));
    assert_eq!(service.verdict(0, 5_100), Verdict::HalfOpen);
    assert_eq!(load.cost(1.0, service.at(5_100)), 0.0, "it is waited for");
    service.try_out(0, true, 5_200);
    assert_eq!((service.verdict(0, 5_200), load.why(), service.breaker.out()), (Verdict::Healthy, None, 0));
    assert!(load.latency(service.at(5_200)) < Duration::from_millis(1), "what its failures were counted as is gone");
    assert_eq!(load.in_for(service.at(6_300)).map(|time| time.as_secs()), Some(1));
    assert_eq!(service.loads[1].in_for(service.at(6_300)), None);
}

#[test]
fn an_endpoint_that_fails_its_trial_stays_away_longer_each_time() {
    let service = Watched::new(breaker());
    service.send(0, "ttttt", 0);
    let mut now = 0;
    for times in 1..=70 {
        let out = service.loads[0].out_for(service.at(now)).expect("it is out").as_millis() as u64;
        assert_eq!(out, (5_000 * times).min(300_000), "time {times}");
        now += out;
        service.loads[0].admit(service.at(now)).expect("it is half-open").failed(Failure::Timeout, service.at(now));
    }
}

#[test]
fn a_flapping_endpoint_stays_ejected_longer_and_a_calm_one_is_forgiven() {
    let service = Watched::new(breaker());
    let ejected_at = |millis: u64| {
        service.send(0, "rrrrr", millis);
        let out = service.loads[0].out_for(service.at(millis)).expect("it is out").as_millis() as u64;
        service.try_out(0, true, millis + out);
        out
    };
    assert_eq!([ejected_at(0), ejected_at(6_000), ejected_at(17_000), ejected_at(33_000)], [5_000, 10_000, 15_000, 20_000]);
    // It came back at 53 s, and each ten seconds since then take one ejection off.
    assert_eq!(ejected_at(53_000 + 40_000), 5_000);
}

#[test]
fn a_trial_that_a_revision_makes_shorter_ends_with_the_next_good_answer() {
    let service = Watched::new(config::BreakerPolicy { half_open: 6, ..breaker() });
    service.send(0, "55555", 0);
    service.try_out(0, true, 5_200);
    assert_eq!(service.verdict(0, 5_300), Verdict::HalfOpen, "three of six have passed");
    service.breaker.renew(&config::BreakerPolicy { half_open: 2, ..breaker() }, Some(&outlier()));
    assert!(service.loads[0].eligible(service.at(5_400)));
    service.loads[0].admit(service.at(5_400)).expect("one more may try it").answered(200, service.at(5_400));
    assert_eq!(service.verdict(0, 5_400), Verdict::Healthy);
}

#[test]
fn requests_that_were_sent_before_decide_nothing_about_the_trial() {
    let service = Watched::new(breaker());
    let load = &service.loads[0];
    let early: Vec<InFlight> = (0..12).map(|_| load.admit(service.at(0)).expect("it is in")).collect();
    service.send(0, "ttttt", 100);
    let trial = load.admit(service.at(5_100)).expect("it is half-open");
    for (at, flight) in early.iter().enumerate() {
        if at % 2 == 0 { flight.failed(Failure::Timeout, service.at(5_200)) } else { flight.answered(200, service.at(5_200)) }
    }
    assert_eq!(service.verdict(0, 5_200), Verdict::HalfOpen);
    trial.failed(Failure::Timeout, service.at(5_600));
    assert_eq!(service.verdict(0, 5_600), Verdict::Ejected);
}

#[test]
fn a_caller_that_goes_away_gives_its_place_in_the_trial_back() {
    let service = Watched::new(breaker());
    let load = &service.loads[0];
    service.send(0, "ttttt", 0);
    let now = service.at(5_000);
    let flights: Vec<InFlight> = (0..3).map(|_| load.admit(now).expect("it is half-open")).collect();
    assert_eq!(load.admit(now).map(drop), Err(Refused::HalfOpen));
    assert!(!load.eligible(now));
    drop(flights);
    assert!(load.eligible(now));
    service.try_out(0, true, 5_000);
    assert_eq!(service.verdict(0, 5_000), Verdict::Healthy);
}

#[test]
fn no_more_than_half_are_out_and_never_the_last_one() {
    let service = Watched::new(breaker());
    (0..5).for_each(|endpoint| service.send(endpoint, "5555555", 0));
    assert_eq!((service.breaker.out(), service.breaker.out_max()), (2, 2));
    assert_eq!((service.verdict(1, 0), service.verdict(2, 0)), (Verdict::Ejected, Verdict::Healthy));
    // As soon as there is a place, the next one that fails takes it.
    service.try_out(0, true, 5_000);
    service.send(3, "5", 5_000);
    assert_eq!(service.verdict(3, 5_000), Verdict::Ejected);

    service.breaker.set_endpoints(1, Ratio(0.5));
    assert_eq!(service.breaker.out_max(), 0);
}

#[test]
fn an_endpoint_that_cannot_be_connected_to_is_out_even_if_it_is_the_last() {
    let service = Watched::new(breaker());
    (0..5).for_each(|endpoint| service.send(endpoint, "ccccc", 0));
    assert_eq!(service.breaker.out(), 5);
    assert!(service.loads.iter().all(|load| load.admit(service.at(1)).is_ok()), "who has nobody better asks it all the same");
}

#[test]
fn unhealthy_endpoints_take_places_and_keep_what_happened_to_them() {
    let service = Watched::new(breaker());
    service.loads[0].set_healthy(false, service.at(0));
    service.loads[1].set_draining(true, service.at(0));
    service.loads[3].set_healthy(false, service.at(0));
    service.send(2, "55555", 0);
    assert_eq!((service.breaker.out(), service.verdict(2, 0)), (2, Verdict::Healthy));
    assert_eq!((service.loads[0].why(), service.loads[1].why()), (Some(Why::Probes), Some(Why::DrainByHand)));
    service.send(0, "55555", 0);
    service.loads[0].set_healthy(true, service.at(1_000));
    assert_eq!((service.verdict(0, 1_000), service.breaker.out()), (Verdict::Ejected, 2));
    service.loads[1].set_draining(false, service.at(1_000));
    assert_eq!((service.verdict(1, 1_000), service.breaker.out()), (Verdict::Healthy, 2), "who drains takes none");
}

#[test]
fn who_leaves_takes_no_place() {
    let service = Watched::new(breaker());
    service.send(0, "55555", 0);
    service.send(1, "55555", 0);
    service.loads[0].retire();
    assert_eq!(service.breaker.out(), 1);
    service.loads[0].restore(service.at(1));
    service.send(0, "55555", 1);
    assert_eq!(service.breaker.out(), 1, "what is left of its requests takes none either");
    service.loads[0].join(service.at(2));
    assert_eq!(service.breaker.out(), 2);
    let Watched { loads, breaker, .. } = service;
    drop(loads);
    assert_eq!(breaker.out(), 0);
}

#[test]
fn the_breaker_opens_by_the_share_of_errors_and_is_not_asked_then() {
    let errors = config::ErrorRatio {
        ratio: Ratio(0.5),
        window: Duration::from_secs(10),
        min_requests: 10,
        open: Duration::from_secs(1),
        open_max: Duration::from_secs(4),
    };
    let service = Watched::new(config::BreakerPolicy { errors: Some(errors), ..breaker() });
    let load = &service.loads[0];
    service.send(0, ".5.5.5.5.", 0);
    assert_eq!(service.verdict(0, 0), Verdict::Healthy, "ten requests are needed to judge");
    service.send(0, "5", 0);
    assert_eq!((service.verdict(0, 0), load.why()), (Verdict::Open, Some(Why::ErrorRatio)));
    assert_eq!(load.admit(service.at(0)).map(drop), Err(Refused::Open));
    let mut now = 0;
    for least in [1_000, 2_000, 4_000, 4_000] {
        let out = load.out_for(service.at(now)).expect("it is open").as_millis() as u64;
        assert!((least..=least * 11 / 10).contains(&out), "{out}");
        now += out;
        load.admit(service.at(now)).expect("it is half-open").answered(500, service.at(now));
    }
    now += 4_400;
    service.try_out(0, true, now);
    assert_eq!(service.verdict(0, now), Verdict::Healthy);
    service.send(0, "5555", now);
    assert_eq!(service.verdict(0, now), Verdict::Healthy, "the window began anew");
}

#[test]
fn an_endpoint_has_no_more_in_flight_than_it_may() {
    let service = Watched::new(config::BreakerPolicy { max_requests_per_endpoint: Some(2), ..breaker() });
    let load = &service.loads[0];
    let flights = [load.admit(service.at(0)).expect("there is room"), load.admit(service.at(0)).expect("there is room")];
    assert_eq!(load.admit(service.at(0)).map(drop), Err(Refused::EndpointFull));
    assert_eq!((load.in_flight(), load.picks()), (2, 2));
    drop(flights);
    assert!(load.admit(service.at(0)).is_ok());
}

#[test]
fn what_happened_is_counted_by_what_it_was() {
    let service = Watched::new(breaker());
    service.send(0, "..5.g.c.t.r.", 0);
    let tally = service.loads[0].tally();
    let counts = [tally.server_errors, tally.gateway_failures, tally.connects, tally.timeouts, tally.resets];
    assert_eq!((tally.picks, tally.successes, counts), (12, 7, [1; 5]));
    assert_eq!(service.loads[0].last_failure(service.at(2_000)), Some((Failure::Reset, Duration::from_secs(2))));
    assert_eq!(service.loads[1].last_failure(service.at(2_000)), None);
}

#[test]
fn exactly_as_many_as_may_try_it_are_let_through_however_many_come_at_once() {
    for _ in 0..50 {
        let service = Watched::new(breaker());
        service.send(0, "ttttt", 0);
        let (load, now) = (&service.loads[0], service.at(5_000));
        let admitted: usize = std::thread::scope(|scope| {
            let ask = || scope.spawn(|| (0..20).filter_map(|_| load.admit(now).ok()).collect::<Vec<InFlight>>());
            let askers: Vec<_> = (0..4).map(|_| ask()).collect();
            let flights: Vec<Vec<InFlight>> = askers.into_iter().map(|asker| asker.join().expect("nobody panics")).collect();
            flights.iter().map(Vec::len).sum()
        });
        assert_eq!(admitted, 3);
    }
}

#[test]
fn places_are_neither_lost_nor_made_when_many_go_out_and_come_back_at_once() {
    let service = Watched::new(breaker());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let service = &service;
            scope.spawn(move || {
                for round in 0..2_000u64 {
                    let (endpoint, now) = ((round as usize + thread) % 5, round * 3);
                    service.send(endpoint, if round % 3 == 0 { "." } else { "55555" }, now);
                    service.loads[endpoint].restore(service.at(now));
                    assert!(service.breaker.out() <= service.breaker.out_max());
                }
            });
        }
    });
    let out = service.loads.iter().filter(|load| load.verdict(service.at(0)) != Verdict::Healthy).count();
    assert_eq!(service.breaker.out() as usize, out);
    for load in &service.loads {
        load.restore(service.at(0));
    }
    assert_eq!(service.breaker.out(), 0);
}

proptest! {
    #[test]
    fn requests_never_put_out_more_than_they_may(
        endpoints in 1..8usize,
        share in 0..=100u32,
        min_healthy in 0..4u32,
        panic in 0..=100u32,
        events in prop::collection::vec((0..8usize, "[.5gtr]{1,6}", 0..4_000u64, any::<bool>()), 1..120),
    ) {
        let start = epoch();
        let policy = config::OutlierPolicy { max_ejection_percent: Ratio(f64::from(share) / 100.0), min_healthy, ..outlier() };
        let shared = Arc::new(Breaker::new(&breaker(), Some(&policy)));
        shared.set_endpoints(endpoints, Ratio(f64::from(panic) / 100.0));
        let loads: Vec<_> = (0..endpoints).map(|_| Arc::new(Load::judged(Arc::clone(&shared), start))).collect();
        let service = Watched { loads, breaker: shared, start };
        let mut now = 0;
        for (endpoint, outcomes, step, asks) in events {
            now += step;
            let endpoint = endpoint % endpoints;
            if asks && let Ok(flight) = service.loads[endpoint].admit(service.at(now)) {
                if outcomes.starts_with('.') { flight.answered(200, service.at(now)) } else { flight.failed(Failure::Reset, service.at(now)) }
            }
            service.send(endpoint, &outcomes, now);
            let out = service.loads.iter().filter(|load| load.verdict(service.at(now)) != Verdict::Healthy).count();
            prop_assert_eq!(out, service.breaker.out() as usize);
            prop_assert!(out * 100 <= endpoints * share as usize);
            prop_assert!(out == 0 || endpoints - out >= (min_healthy as usize).max(1).min(endpoints));
            prop_assert!(out == 0 || (endpoints - out) * 100 >= endpoints * panic as usize);
        }
        prop_assert!(service.loads.iter().all(|load| load.in_flight() == 0));
    }
}

#[test]
fn answers_that_break_off_are_a_run_though_their_heads_were_well() {
    let service = Watched::new(breaker());
    let (load, now) = (&service.loads[0], service.at(0));
    for broken in 1..=5 {
        assert_eq!(service.verdict(0, 0), Verdict::Healthy, "after {} of them", broken - 1);
        let flight = load.begin(now);
        flight.answered(200, now);
        flight.failed(Failure::Reset, now);
    }
    assert_eq!(service.verdict(0, 0), Verdict::Ejected);
    assert_eq!((load.tally().successes, load.tally().resets), (0, 5));
    // A whole answer between them ends the run.
    for at in 0..9 {
        let flight = service.loads[1].begin(now);
        flight.answered(200, now);
        if at != 4 {
            flight.failed(Failure::Reset, now);
        }
    }
    assert_eq!(service.verdict(1, 0), Verdict::Healthy);
}
