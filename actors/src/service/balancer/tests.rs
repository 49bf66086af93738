use super::*;
use crate::service::{
    Failure,
    load::{InFlight, tests::epoch},
};
use config::{KeyPart, Ratio, SlowStart};
use proptest::prelude::*;
use std::{collections::VecDeque, time::Duration};

/// A service with endpoints of these weights, a clock, and seeded chance.
struct Fixture {
    balancer: Balancer,
    loads: Vec<Arc<Load>>,
    now: Instant,
    chance: u64,
}

fn spread() -> SpreadPolicy {
    let slow_start = SlowStart { window: Duration::from_secs(30), weight_min: Ratio(0.1) };
    SpreadPolicy { panic_threshold: Ratio(0.5), slow_start, spill: 1.4, hysteresis: Duration::from_secs(30) }
}

/// An endpoint in the nearest level.
fn target(id: u64, weight: u32, load: &Arc<Load>) -> Target {
    Target { weight, id, rank: rank(0), drain: false, load: Arc::clone(load) }
}

fn rank(priority: u16) -> Rank {
    Rank { priority, locality: Locality::Zone, doubted: false }
}

fn hashing(bound: f64) -> Balance {
    Balance::Hash { key: KeyPart::ClientIp, bound }
}

impl Fixture {
    fn new(balance: &Balance, weights: &[u32]) -> Self {
        let now = epoch();
        let loads: Vec<_> = weights.iter().map(|_| Arc::new(Load::new(now))).collect();
        let targets = weights.iter().enumerate().map(|(at, weight)| target(at as u64 + 1, *weight, &loads[at])).collect();
        Self { balancer: Balancer::new(balance, &spread(), targets, now), loads, now: now + Duration::from_secs(1), chance: 1 }
    }

    /// Endpoints of weight 1 with these priorities; those behind `drain` are taken out by the configuration.
    fn levels(balance: &Balance, priorities: &[u16], drain: &[usize]) -> Self {
        let mut fixture = Self::new(balance, &vec![1; priorities.len()]);
        let targets = priorities.iter().enumerate().map(|(at, priority)| Target {
            rank: rank(*priority),
            drain: drain.contains(&at),
            ..target(at as u64 + 1, 1, &fixture.loads[at])
        });
        fixture.balancer = Balancer::new(balance, &spread(), targets.collect(), fixture.now);
        fixture
    }

    /// Decides the levels anew, as whoever watches the endpoints' health would.
    fn decide(&self) {
        self.balancer.publish(Levels::new(spread(), &self.balancer.capacities(self.now)).shares());
    }

    fn counts(&mut self, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.loads.len()];
        for _ in 0..picks {
            counts[self.pick()] += 1;
        }
        counts
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
                flight.answered(200, self.now);
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
        if at == 1 {
            flight.failed(Failure::Reset, fixture.now);
        } else {
            flight.answered(200, fixture.now + Duration::from_millis(9));
        }
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
        let targets: Vec<_> = [0, 1, 3, 4].map(|at| target(at as u64 + 1, weights[at], &all.loads[at])).into();
        let fewer = Balancer::new(&hashing(1.25), &spread(), targets, all.now);
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

#[test]
fn the_nearest_level_has_all_while_it_can_carry_it() {
    for method in methods() {
        let mut fixture = Fixture::levels(&method, &[0, 0, 0, 0, 1, 1], &[]);
        assert_eq!(fixture.counts(2_000)[4..], [0, 0]);
        // One of four is down: the others are trusted with it.
        fixture.loads[0].set_eligible(false);
        fixture.decide();
        let counts = fixture.counts(2_000);
        assert_eq!((counts[0], &counts[4..]), (0, &[0, 0][..]));
        // Two of four carry 70 %.
        fixture.loads[1].set_eligible(false);
        fixture.decide();
        let counts = fixture.counts(20_000);
        assert_near(&[counts[2], counts[3], counts[4], counts[5]], &[0.35, 0.35, 0.15, 0.15], 0.12);
        assert!(!fixture.balancer.shares().any_panicking());
    }
}

#[test]
fn a_level_that_dies_between_two_decisions_is_left_at_once() {
    for method in methods() {
        let mut fixture = Fixture::levels(&method, &[0, 0, 1], &[]);
        fixture.loads[0].set_eligible(false);
        fixture.loads[1].set_eligible(false);
        assert_eq!(fixture.counts(100), [0, 0, 100]);
    }
}

#[test]
fn a_retry_goes_farther_before_it_asks_the_same_endpoint() {
    for method in methods() {
        let mut fixture = Fixture::levels(&method, &[0, 1], &[]);
        assert_eq!(fixture.pick_with(None, Tried::default().and(0)), Some(1));
    }
}

#[test]
fn in_panic_health_is_ignored_and_said_to_be() {
    for method in methods() {
        let mut fixture = Fixture::levels(&method, &[0; 5], &[4]);
        (0..3).for_each(|at| fixture.loads[at].set_eligible(false));
        assert_eq!(fixture.counts(100)[3], 100, "until it is decided, health counts");
        fixture.decide();
        assert!(fixture.balancer.shares().is_panicking(0));
        assert_near(&fixture.counts(10_000)[..4], &[1.0; 4], 0.1);
        fixture.loads[0].set_eligible(true);
        fixture.now += Duration::from_secs(30);
        fixture.decide();
        assert!(!fixture.balancer.shares().any_panicking());
        assert_near(&fixture.counts(10_000), &[1.0, 0.0, 0.0, 1.0, 0.0], 0.1);
    }
}

#[test]
fn keys_stay_in_their_level_while_shares_do() {
    let mut fixture = Fixture::levels(&hashing(2.0), &[0, 0, 1], &[]);
    fixture.loads[0].set_eligible(false);
    fixture.decide();
    let homes = |fixture: &mut Fixture| (0..2_000).map(|key| fixture.pick_with(Some(mix(key)), Tried::default())).collect::<Vec<_>>();
    let before = homes(&mut fixture);
    let spilt = before.iter().filter(|home| **home == Some(2)).count();
    assert!((540..660).contains(&spilt), "{spilt} of 2000 are not 30 %");
    assert_eq!(homes(&mut fixture), before);
}

#[test]
fn an_endpoint_that_drains_by_hand_gets_nothing_new_and_stays_out_after_a_reload() {
    for method in methods() {
        let mut fixture = Fixture::new(&method, &[1; 3]);
        fixture.loads[1].set_draining(true, fixture.now);
        assert!(fixture.balancer.is_draining(1));
        assert_eq!(fixture.counts(300)[1], 0);
        let mut after = Fixture::new(&method, &[1; 3]);
        after.balancer.adopt(&fixture.balancer, after.now);
        assert_eq!(after.counts(300)[1], 0);
        after.loads[1].set_draining(false, after.now);
        after.now += Duration::from_secs(30);
        assert!(after.counts(300)[1] > 50);
    }
}

#[test]
fn an_endpoint_that_is_healthy_again_gets_its_share_slowly() {
    for method in methods() {
        let fixed = Fixture::new(&method, &[1; 4]);
        fixed.loads[3].join(fixed.now);
        let mut parts = Vec::new();
        for second in [0, 8, 15, 23, 30] {
            // Only time passes: what was picked is answered at once.
            let mut at = Fixture {
                now: fixed.now + Duration::from_secs(second),
                chance: 7,
                loads: fixed.loads.clone(),
                balancer: Balancer::new(
                    &method,
                    &spread(),
                    (0..4).map(|at| target(at as u64 + 1, 1, &fixed.loads[at])).collect(),
                    fixed.now,
                ),
            };
            parts.push(at.counts(8_000)[3]);
        }
        let fair = 2_000;
        assert!((fair / 20..fair / 4).contains(&parts[0]), "{method:?}: {parts:?}");
        assert!(parts.windows(2).all(|pair| pair[0] < pair[1] + 40), "{method:?}: {parts:?}");
        assert!(parts[4] > fair * 9 / 10, "{method:?}: {parts:?}");
    }
}

#[test]
fn of_two_endpoints_one_may_begin_slowly_too() {
    for method in methods() {
        let mut pair = Fixture::new(&method, &[1; 2]);
        pair.loads[1].join(pair.now);
        let slow = pair.serve(4_000, 4, &[10; 2])[1];
        assert!((40..900).contains(&slow), "{method:?}: {slow} of 4000");
    }
}

#[test]
fn one_that_begins_slowly_is_preferred_to_one_that_fails() {
    for method in [Balance::PeakEwma, Balance::LeastRequests] {
        let mut pair = Fixture::new(&method, &[1; 2]);
        pair.loads[1].join(pair.now);
        let _flight = pair.loads[0].begin(pair.now);
        pair.loads[0].begin(pair.now).failed(Failure::Timeout, pair.now);
        assert_eq!(pair.counts(100)[0], 0, "{method:?}");
    }
}

#[test]
fn where_all_are_new_nobody_waits() {
    for method in methods() {
        let mut fixture = Fixture::new(&method, &[1; 2]);
        assert_eq!(fixture.balancer.ramp_of(0, fixture.now), 1.0);
        // The same endpoints again, one of them with a newcomer beside it.
        let newcomer = Arc::new(Load::new(fixture.now));
        let targets = vec![target(1, 1, &fixture.loads[0]), target(9, 1, &newcomer)];
        let grown = Balancer::new(&method, &spread(), targets.clone(), fixture.now);
        grown.adopt(&fixture.balancer, fixture.now);
        assert_eq!([0, 1].map(|at| grown.ramp_of(at, fixture.now)), [1.0, 0.1]);
        // All of them replaced at once.
        let fresh = Arc::new(Load::new(fixture.now));
        let replaced = Balancer::new(&method, &spread(), vec![target(11, 1, &fresh)], fixture.now);
        replaced.adopt(&grown, fixture.now);
        assert_eq!(replaced.ramp_of(0, fixture.now), 1.0);
        fixture.now += Duration::from_secs(31);
        assert_eq!(grown.ramp_of(1, fixture.now), 1.0);
    }
}

#[test]
fn levels_keep_their_shares_over_a_reload_that_leaves_them() {
    let fixture = Fixture::levels(&Balance::PeakEwma, &[0, 1], &[]);
    fixture.balancer.publish(Shares::new([(40, false), (60, false)].into_iter()));
    let same = Fixture::levels(&Balance::PeakEwma, &[0, 1], &[]);
    same.balancer.adopt(&fixture.balancer, same.now);
    assert_eq!(same.balancer.shares(), fixture.balancer.shares());
    let other = Fixture::levels(&Balance::PeakEwma, &[0, 2], &[]);
    other.balancer.adopt(&fixture.balancer, other.now);
    assert_eq!(other.balancer.shares().percent(0), 100);
}

#[test]
fn beyond_the_last_level_all_are_the_last() {
    let priorities: Vec<u16> = (0..20).collect();
    let fixture = Fixture::levels(&Balance::PeakEwma, &priorities, &[]);
    assert_eq!(fixture.balancer.capacities(fixture.now).iter().map(|level| level.total).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1, 1, 13]);
    assert_eq!([0, 6, 7, 19].map(|endpoint| fixture.balancer.level_of(endpoint)), [Some(0), Some(6), Some(7), Some(7)]);
}

#[test]
fn looking_takes_nobodys_turn() {
    for method in methods() {
        let fixture = Fixture::levels(&method, &[0, 0, 1], &[]);
        for chance in 0..50 {
            let peeked = fixture.balancer.peek(chance, fixture.now, None, Tried::default());
            assert_eq!(peeked, fixture.balancer.peek(chance, fixture.now, None, Tried::default()));
            assert_eq!(peeked, fixture.balancer.pick(chance, fixture.now, None, Tried::default()));
        }
    }
}

/// Weight, eligible, tried, in flight, priority, and whether it drains: not, by its configuration, or by hand.
type Endpoint = (u32, bool, bool, usize, u16, u8);

proptest! {
    #[test]
    fn the_best_standing_is_always_picked(
        method in 0..4usize,
        endpoints in prop::collection::vec((0..4u32, any::<bool>(), any::<bool>(), 0..3usize, 0..3u16, 0..3u8), 1..12),
        decided: bool,
        slow: bool,
        key: Option<u64>,
        chance: u64,
    ) {
        let weights: Vec<u32> = endpoints.iter().map(|(weight, ..)| *weight).collect();
        let mut fixture = Fixture::new(&methods()[method], &weights);
        let targets = endpoints.iter().enumerate().map(|(at, &(weight, .., priority, drain)): (usize, &Endpoint)| Target {
            rank: rank(priority),
            drain: drain == 1,
            ..target(at as u64 + 1, weight, &fixture.loads[at])
        });
        fixture.balancer = Balancer::new(&methods()[method], &spread(), targets.collect(), fixture.now);
        fixture.chance = chance;
        let mut tried = Tried::default();
        let mut flights = Vec::new();
        for (at, (_, eligible, was_tried, in_flight, ..)) in endpoints.iter().enumerate() {
            fixture.loads[at].set_eligible(*eligible);
            fixture.loads[at].set_draining(endpoints[at].5 == 2, fixture.now);
            tried = if *was_tried { tried.and(at) } else { tried };
            flights.extend((0..*in_flight).map(|_| fixture.loads[at].begin(fixture.now)));
        }
        if slow {
            fixture.loads[0].join(fixture.now);
        }
        if decided {
            fixture.decide();
        }
        let shares = fixture.balancer.shares();
        let standing = |at: usize| {
            let (weight, eligible, was_tried, _, _, drain) = endpoints[at];
            let weighted = weight > 0 || weights.iter().all(|weight| *weight == 0);
            let panicking = fixture.balancer.level_of(at).is_some_and(|level| shares.is_panicking(level));
            let stays = drain == 0;
            (weighted, stays, stays && (eligible || panicking), !was_tried)
        };
        fixture.chance = mix(fixture.chance);
        let picked = fixture.balancer.pick(fixture.chance, fixture.now, key, tried).expect("there are endpoints");
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

#[test]
fn a_region_that_is_doubted_comes_after_others_and_before_what_is_known_to_be_broken() {
    for balance in methods() {
        let mut fixture = Fixture::new(&balance, &[1, 1, 1, 1]);
        let targets = (0..4).map(|at| Target {
            rank: Rank { priority: 0, locality: Locality::Elsewhere, doubted: at < 2 },
            ..target(at as u64 + 1, 1, &fixture.loads[at])
        });
        fixture.balancer = Balancer::new(&balance, &spread(), targets.collect(), fixture.now);
        let counts = fixture.counts(400);
        assert_eq!(counts[..2], [0, 0], "{balance:?}: {counts:?}");
        // What this node has met itself decides: those it finds broken are not asked, whatever their region says.
        fixture.loads[2].set_healthy(false, fixture.now);
        fixture.loads[3].set_healthy(false, fixture.now);
        fixture.decide();
        let counts = fixture.counts(400);
        assert_eq!(counts[2..], [0, 0], "{balance:?}: {counts:?}");
    }
}
