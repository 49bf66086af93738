use super::*;
use crate::service::load::{InFlight, tests::epoch};
use config::KeyPart;
use proptest::prelude::*;
use std::{collections::VecDeque, time::Duration};

/// A service with endpoints of these weights, a clock, and seeded chance.
struct Fixture {
    balancer: Balancer,
    loads: Vec<Arc<Load>>,
    now: Instant,
    chance: u64,
}

fn hashing(bound: f64) -> Balance {
    Balance::Hash { key: KeyPart::ClientIp, bound }
}

impl Fixture {
    fn new(balance: &Balance, weights: &[u32]) -> Self {
        let now = epoch();
        let loads: Vec<_> = weights.iter().map(|_| Arc::new(Load::new(now))).collect();
        let targets = |(at, weight): (usize, &u32)| Target { weight: *weight, id: at as u64 + 1, load: Arc::clone(&loads[at]) };
        let targets = weights.iter().enumerate().map(targets).collect();
        Self { balancer: Balancer::new(balance, targets), loads, now: now + Duration::from_secs(1), chance: 1 }
    }

    fn pick_with(&mut self, key: Option<u64>, tried: Tried) -> Option<usize> {
        self.chance = mix(self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15));
        self.balancer.pick(self.chance, self.now, key, tried)
    }

    fn pick(&mut self) -> usize {
        self.pick_with(None, Tried::default()).expect("there are endpoints")
    }

    /// Sends `requests`, of which `at_once` are always in flight, and says how many went where. Endpoint `i` needs `millis[i]`.
    fn serve(&mut self, requests: usize, at_once: usize, millis: &[u64]) -> Vec<usize> {
        let mut counts = vec![0; self.loads.len()];
        let mut flights: VecDeque<(Instant, InFlight)> = VecDeque::new();
        for _ in 0..requests {
            while flights.len() >= at_once {
                // The one that is done first leaves first.
                let first = (0..flights.len()).min_by_key(|at| flights[*at].0).expect("somebody is in flight");
                let (done, flight) = flights.remove(first).expect("it is there");
                self.now = self.now.max(done);
                flight.answered(self.now);
            }
            let picked = self.pick();
            counts[picked] += 1;
            flights.push_back((self.now + Duration::from_millis(millis[picked]), self.loads[picked].begin(self.now)));
        }
        counts
    }
}

fn assert_near(counts: &[usize], expected: &[f64], tolerance: f64) {
    let sum: usize = counts.iter().sum();
    let parts: f64 = expected.iter().sum();
    for (count, part) in counts.iter().zip(expected) {
        let expected = sum as f64 * part / parts;
        assert!((*count as f64 - expected).abs() <= expected * tolerance, "{counts:?} is not like {expected:?} of {parts}");
    }
}

fn methods() -> [Balance; 4] {
    [Balance::PeakEwma, Balance::LeastRequests, Balance::RoundRobin, hashing(1.25)]
}

#[test]
fn no_endpoint_is_no_pick_and_one_is_always_picked() {
    for method in methods() {
        assert_eq!(Fixture::new(&method, &[]).pick_with(None, Tried::default()), None);
        let mut one = Fixture::new(&method, &[0]);
        one.loads[0].set_eligible(false);
        assert_eq!(one.pick_with(None, Tried::default().and(0)), Some(0));
    }
}

#[test]
fn every_method_shares_by_weight() {
    for method in methods() {
        let mut quiet = Fixture::new(&method, &[1, 2, 3, 0, 4]);
        let counts: Vec<usize> = (0..40_000).map(|_| quiet.pick()).fold(vec![0; 5], |mut counts, at| {
            counts[at] += 1;
            counts
        });
        assert_near(&counts, &[1.0, 2.0, 3.0, 0.0, 4.0], 0.05);

        let mut busy = Fixture::new(&method, &[1, 2, 3, 0, 4]);
        assert_near(&busy.serve(20_000, 100, &[10; 5]), &[1.0, 2.0, 3.0, 0.0, 4.0], 0.12);
    }
}

#[test]
fn weights_of_nothing_count_alike() {
    for method in methods() {
        let mut fixture = Fixture::new(&method, &[0, 0, 0, 0]);
        let counts = (0..20_000).map(|_| fixture.pick()).fold(vec![0; 4], |mut counts, at| {
            counts[at] += 1;
            counts
        });
        assert_near(&counts, &[1.0; 4], 0.05);
    }
}

#[test]
fn a_slow_endpoint_is_left_alone() {
    let millis = [10, 10, 200, 10, 10];
    let by_latency = Fixture::new(&Balance::PeakEwma, &[1; 5]).serve(20_000, 40, &millis);
    assert!(by_latency[2] < 20_000 / 100, "{by_latency:?}");
    let by_requests = Fixture::new(&Balance::LeastRequests, &[1; 5]).serve(20_000, 40, &millis);
    assert!(by_requests[2] < 20_000 / 25, "{by_requests:?}");
    let in_turn = Fixture::new(&Balance::RoundRobin, &[1; 5]).serve(20_000, 40, &millis);
    assert_eq!(in_turn, [4_000; 5]);
}

#[test]
fn a_slow_endpoint_is_asked_again_when_it_has_recovered() {
    let mut fixture = Fixture::new(&Balance::PeakEwma, &[1; 3]);
    fixture.serve(2_000, 12, &[10, 10, 500]);
    let still_avoided = fixture.serve(6_000, 12, &[10; 3]);
    assert!(still_avoided[2] < 6_000 / 20, "{still_avoided:?}");
    fixture.serve(60_000, 12, &[10; 3]);
    let recovered = fixture.serve(6_000, 12, &[10; 3]);
    assert!(recovered[2] > 6_000 / 4, "{recovered:?}");
}

#[test]
fn an_endpoint_that_only_fails_gets_little() {
    let mut fixture = Fixture::new(&Balance::PeakEwma, &[1; 4]);
    let mut counts = [0; 4];
    for _ in 0..10_000 {
        let at = fixture.pick();
        counts[at] += 1;
        let flight = fixture.loads[at].begin(fixture.now);
        fixture.now += Duration::from_millis(1);
        if at == 1 { flight.failed(fixture.now) } else { flight.answered(fixture.now + Duration::from_millis(9)) }
    }
    assert!(counts[1] < 100, "{counts:?}");
}

#[test]
fn turns_are_exact() {
    let mut fixture = Fixture::new(&Balance::RoundRobin, &[5, 1, 1]);
    let order: Vec<usize> = (0..14).map(|_| fixture.pick()).collect();
    assert_eq!(order, [0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 2, 0, 0]);
    // Among those who are left the turns stay exact.
    let mut fixture = Fixture::new(&Balance::RoundRobin, &[1; 4]);
    fixture.loads[2].set_eligible(false);
    let order: Vec<usize> = (0..6).map(|_| fixture.pick()).collect();
    assert_eq!(order, [0, 1, 3, 0, 1, 3]);
}

#[test]
fn keys_stay_where_they_are_when_another_endpoint_leaves() {
    for weights in [[1, 1, 1, 1, 1], [1, 2, 3, 2, 1]] {
        let mut all = Fixture::new(&hashing(1.25), &weights);
        let before: Vec<_> = (0..5_000).map(|key| all.pick_with(Some(mix(key)), Tried::default())).collect();
        // Gone from the configuration, which moves the places of those behind it.
        let targets: Vec<_> =
            [0, 1, 3, 4].map(|at| Target { weight: weights[at], id: at as u64 + 1, load: Arc::clone(&all.loads[at]) }).into();
        let fewer = Balancer::new(&hashing(1.25), targets);
        // Left out by its verdict, which moves nobody.
        all.loads[2].set_eligible(false);
        for (key, before) in (0..).zip(&before) {
            let after = fewer.pick(0, all.now, Some(mix(key)), Tried::default()).map(|at| [0, 1, 3, 4][at]);
            assert_eq!(after, all.pick_with(Some(mix(key)), Tried::default()));
            assert!(after == *before || *before == Some(2), "key {key} moved from {before:?} to {after:?}");
        }
    }
}

#[test]
fn a_crowd_with_one_key_spreads_over_the_bound_and_no_further() {
    let mut fixture = Fixture::new(&hashing(1.5), &[1, 1, 2]);
    let mut flights = Vec::new();
    for sent in 1..=400u32 {
        let at = fixture.pick_with(Some(7), Tried::default()).expect("there are endpoints");
        flights.push(fixture.loads[at].begin(fixture.now));
        for (load, share) in fixture.loads.iter().zip([0.25, 0.25, 0.5]) {
            assert!(f64::from(load.in_flight()) <= (1.5 * f64::from(sent) * share).ceil());
        }
    }
    let home = fixture.loads.iter().zip([4.0, 4.0, 2.0]).map(|(load, part)| f64::from(load.in_flight()) * part / 400.0);
    assert!(home.into_iter().any(|share| share > 1.4), "the key's own endpoint is used up to its bound");
}

proptest! {
    #[test]
    fn the_best_standing_is_always_picked(
        method in 0..4usize,
        endpoints in prop::collection::vec((0..4u32, any::<bool>(), any::<bool>(), 0..3usize), 1..12),
        key: Option<u64>,
        chance: u64,
    ) {
        let weights: Vec<u32> = endpoints.iter().map(|(weight, ..)| *weight).collect();
        let mut fixture = Fixture::new(&methods()[method], &weights);
        fixture.chance = chance;
        let mut tried = Tried::default();
        let mut flights = Vec::new();
        for (at, (_, eligible, was_tried, in_flight)) in endpoints.iter().enumerate() {
            fixture.loads[at].set_eligible(*eligible);
            tried = if *was_tried { tried.and(at) } else { tried };
            flights.extend((0..*in_flight).map(|_| fixture.loads[at].begin(fixture.now)));
        }
        let standing = |at: usize| {
            let (weight, eligible, was_tried, _) = endpoints[at];
            let weighted = weight > 0 || weights.iter().all(|weight| *weight == 0);
            (weighted, eligible, !was_tried)
        };
        let picked = fixture.pick_with(key, tried).expect("there are endpoints");
        prop_assert_eq!(standing(picked), (0..endpoints.len()).map(standing).max().expect("there are endpoints"));
    }

    #[test]
    fn no_endpoint_is_above_its_bound(bound in 1.0..3.0f64, keys in prop::collection::vec(0..5u64, 1..80), weights in prop::collection::vec(1..5u32, 2..8)) {
        let mut fixture = Fixture::new(&hashing(bound), &weights);
        let mut flights = Vec::new();
        let sum = f64::from(weights.iter().sum::<u32>());
        for key in keys {
            let at = fixture.pick_with(Some(mix(key)), Tried::default()).expect("there are endpoints");
            flights.push(fixture.loads[at].begin(fixture.now));
            let share = f64::from(weights[at]) / sum;
            prop_assert!(f64::from(fixture.loads[at].in_flight()) <= (bound * flights.len() as f64 * share + 1e-9).ceil());
        }
    }
}
