use super::*;
use crate::service::epoch;
use proptest::prelude::*;

fn policy() -> PoolPolicy {
    PoolPolicy {
        max_connections: 100,
        max_idle: 50,
        warm: 0,
        idle: Duration::from_secs(60),
        age_max: Duration::from_secs(600),
        drain: Duration::from_secs(30),
    }
}

fn seen(open: usize, idle: usize, in_flight: usize) -> Seen {
    Seen { open, idle, in_flight, waiting: 0, streams: 1, lost: 0 }
}

/// Looks `millis` after the beginning, and says what follows.
fn look(pool: &mut Pool, epoch: Instant, millis: u64, seen: Seen) -> Vec<Effect> {
    pool.observe(seen, epoch + Duration::from_millis(millis));
    pool.take_effects()
}

fn opens(effects: &[Effect]) -> usize {
    effects.iter().map(|effect| if let Effect::Open(opens) = effect { *opens } else { 0 }).sum()
}

#[test]
fn a_warm_pool_opens_what_it_lacks_in_steps() {
    let epoch = epoch();
    let mut pool = Pool::new(PoolPolicy { warm: 12, ..policy() }, epoch);
    assert_eq!(pool.deadline(), Some(epoch));
    assert_eq!(look(&mut pool, epoch, 0, seen(0, 0, 0)), [Effect::Open(8)]);
    (0..8).for_each(|_| pool.opened(true, epoch, 0));
    assert_eq!(opens(&look(&mut pool, epoch, 1_000, seen(8, 8, 0))), 4);
    assert_eq!(opens(&look(&mut pool, epoch, 2_000, seen(8, 8, 0))), 0, "four are on their way");
    assert_eq!(opens(&look(&mut pool, epoch, 11_000, seen(8, 8, 0))), 4, "or are not coming");
    (0..4).for_each(|_| pool.opened(true, epoch, 0));
    assert_eq!(opens(&look(&mut pool, epoch, 12_000, seen(12, 12, 0))), 0);
    assert_eq!(pool.sizes().target, 12);
}

#[test]
fn a_cold_pool_opens_nothing_ahead() {
    let epoch = epoch();
    let mut pool = Pool::new(policy(), epoch);
    assert_eq!(look(&mut pool, epoch, 0, seen(0, 0, 0)), []);
    assert_eq!(opens(&look(&mut pool, epoch, 1_000, seen(5, 2, 3))), 0);
}

#[test]
fn connections_lost_under_load_are_replaced_before_requests_ask() {
    let epoch = epoch();
    let mut pool = Pool::new(policy(), epoch);
    look(&mut pool, epoch, 0, seen(20, 0, 20));
    assert_eq!(opens(&look(&mut pool, epoch, 1_000, seen(4, 0, 4))), 8);
    // What is not needed for long is not wanted for long.
    let mut pool = Pool::new(policy(), epoch);
    look(&mut pool, epoch, 0, seen(20, 0, 20));
    assert_eq!(opens(&look(&mut pool, epoch, 60_000, seen(0, 0, 0))), 0);
}

#[test]
fn a_shared_connection_serves_many_requests() {
    let epoch = epoch();
    let mut pool = Pool::new(policy(), epoch);
    let shared = |in_flight| Seen { streams: 100, ..seen(1, 0, in_flight) };
    look(&mut pool, epoch, 0, shared(40));
    assert_eq!(pool.sizes().target, 0);
    look(&mut pool, epoch, 1, shared(240));
    assert_eq!(pool.sizes().target, 2);
}

#[test]
fn an_endpoint_that_takes_no_connection_is_asked_ever_more_seldom() {
    let epoch = epoch();
    let mut pool = Pool::new(PoolPolicy { warm: 3, ..policy() }, epoch);
    let mut asked = Vec::new();
    for second in 0..120 {
        let opens = opens(&look(&mut pool, epoch, second * 1_000, seen(0, 0, 0)));
        if opens > 0 {
            asked.push((second, opens));
        }
        (0..opens).for_each(|_| pool.opened(false, epoch + Duration::from_secs(second), u64::MAX));
    }
    assert_eq!(asked[0], (0, 3));
    assert!(asked[1..].iter().all(|(_, opens)| *opens == 1), "{asked:?}");
    assert!(asked.len() < 9, "{asked:?}");
    pool.opened(true, epoch + Duration::from_secs(120), 0);
    assert_eq!(opens(&look(&mut pool, epoch, 120_000, seen(1, 1, 0))), 2);
}

#[test]
fn idle_and_old_connections_go_the_old_ones_by_and_by() {
    let epoch = epoch();
    let mut pool = Pool::new(policy(), epoch);
    let effects = look(&mut pool, epoch, 0, seen(16, 16, 0));
    let [Effect::Reap(mut reap)] = effects[..] else { panic!("{effects:?}") };
    let mut takes = |idle, age| reap.takes(Duration::from_secs(idle), Duration::from_secs(age));
    assert!(takes(60, 60) && takes(3_600, 3_600));
    assert!(!takes(59, 599));
    assert!(takes(1, 600) && takes(1, 10_000));
    assert!(!takes(1, 10_000), "two of sixteen are enough for now");
    assert!(takes(60, 10_000), "idle ones go whenever it is their time");
}

#[test]
fn connections_that_only_seem_open_make_the_others_suspect() {
    let idle_max = |lost: u64, idle: usize| {
        let epoch = epoch();
        let mut pool = Pool::new(policy(), epoch);
        look(&mut pool, epoch, 0, Seen { lost: 7, ..seen(idle, idle, 0) });
        let effects = look(&mut pool, epoch, 1_000, Seen { lost: 7 + lost, ..seen(idle, idle, 0) });
        let [Effect::Reap(reap)] = effects[..] else { panic!("{effects:?}") };
        reap.idle_max.as_secs()
    };
    assert_eq!(idle_max(0, 4), 60);
    assert_eq!(idle_max(1, 4), 60);
    assert_eq!(idle_max(2, 4), 1);
    assert_eq!(idle_max(2, 40), 60);
    assert_eq!(idle_max(10, 40), 1);
}

#[test]
fn an_address_that_has_left_is_let_go_within_its_bound() {
    let epoch = epoch();
    let at = |seconds| epoch + Duration::from_secs(seconds);
    let mut pool = Pool::new(PoolPolicy { warm: 4, ..policy() }, epoch);
    look(&mut pool, epoch, 0, seen(6, 4, 2));
    pool.retire(at(1));
    assert_eq!(pool.take_effects(), [Effect::Reap(Reap::ALL)]);
    assert_eq!(look(&mut pool, epoch, 2_000, seen(2, 0, 2)), [Effect::Reap(Reap::ALL)], "nothing is opened");
    assert_eq!((pool.phase(), pool.sizes().target), (Phase::Draining { until: at(31) }, 0));
    look(&mut pool, epoch, 30_500, seen(1, 0, 1));
    assert_eq!(pool.deadline(), Some(at(31)), "the bound is met exactly");
    assert_eq!(look(&mut pool, epoch, 31_000, seen(1, 0, 1)), [Effect::CloseAll]);
    assert_eq!(pool.deadline(), Some(at(32)));
    assert_eq!(look(&mut pool, epoch, 32_000, seen(0, 0, 0)), []);
    assert_eq!((pool.phase(), pool.deadline()), (Phase::Gone, None));
    // Leaving twice is leaving once.
    pool.retire(at(40));
    assert_eq!((pool.phase(), pool.take_effects()), (Phase::Gone, vec![]));
}

#[test]
fn an_address_that_comes_back_is_served_as_before() {
    let epoch = epoch();
    let mut pool = Pool::new(PoolPolicy { warm: 2, ..policy() }, epoch);
    pool.retire(epoch);
    pool.revive(epoch);
    assert_eq!((pool.phase(), pool.take_effects()), (Phase::Serving, vec![]));
    assert_eq!(opens(&look(&mut pool, epoch, 1_000, seen(0, 0, 0))), 2);
}

#[test]
fn all_takes_everything() {
    let mut all = Reap::ALL;
    assert!((0..1_000).all(|_| all.takes(Duration::ZERO, Duration::ZERO)));
}

#[derive(Clone, Debug)]
enum Step {
    /// Requests come or go, and a second passes or less.
    Load {
        in_flight: usize,
        lost: u64,
        millis: u64,
    },
    Opened {
        succeeded: bool,
    },
    Retire,
    Revive,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..200usize, 0..4u64, 0..3_000u64).prop_map(|(in_flight, lost, millis)| Step::Load { in_flight, lost, millis }),
        4 => any::<bool>().prop_map(|succeeded| Step::Opened { succeeded }),
        1 => Just(Step::Retire),
        1 => Just(Step::Revive),
    ]
}

proptest! {
    /// A body that does what it is told, and requests that open what they need: together they never exceed the bounds that
    /// the pool itself is responsible for, and an address that has left is let go in time.
    #[test]
    fn the_counts_stay_within_their_bounds(
        warm in 0..60usize,
        max_idle in 0..50usize,
        max_connections in 50..100usize,
        chance: u64,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let policy = PoolPolicy { warm: warm.min(max_idle), max_idle, max_connections, ..policy() };
        let epoch = epoch();
        let mut pool = Pool::new(policy, epoch);
        let (mut now, mut open, mut busy, mut lost, mut asked) = (epoch, 0usize, 0usize, 0u64, 0usize);
        for step in steps {
            match step {
                Step::Load { in_flight, lost: more, millis } => {
                    now += Duration::from_millis(millis);
                    busy = in_flight.min(max_connections - asked.min(max_connections));
                    open = open.max(busy);
                    lost += more;
                    let seen = Seen { open, idle: open - busy, in_flight: busy, waiting: in_flight - busy, streams: 1, lost };
                    pool.observe(seen, now);
                }
                Step::Opened { succeeded } if asked > 0 => {
                    asked -= 1;
                    open += usize::from(succeeded);
                    pool.opened(succeeded, now, chance);
                }
                Step::Opened { succeeded } => pool.opened(succeeded, now, chance),
                Step::Retire => pool.retire(now),
                Step::Revive => pool.revive(now),
            }
            for effect in pool.take_effects() {
                match effect {
                    Effect::Open(opens) => {
                        prop_assert!(opens > 0 && open + opens <= max_connections, "{opens} beside {open}");
                        prop_assert!(open - busy + opens <= max_idle, "{opens} beside {} idle", open - busy);
                        prop_assert_eq!(pool.phase(), Phase::Serving);
                        asked += opens;
                    }
                    Effect::Reap(mut reap) => {
                        while open > busy && reap.takes(Duration::from_secs(30), Duration::from_secs(700)) {
                            open -= 1;
                        }
                    }
                    Effect::CloseAll => (open, busy) = (0, 0),
                }
            }
            let sizes = pool.sizes();
            prop_assert!(sizes.target <= max_connections && sizes.opening <= max_connections);
            if pool.phase() != Phase::Serving {
                asked = 0;
            }
        }
        pool.retire(now);
        if let Phase::Draining { until } = pool.phase() {
            pool.take_effects();
            pool.observe(Seen { open: 5, in_flight: 5, streams: 1, lost, ..Seen::default() }, until);
            prop_assert_eq!(pool.take_effects(), [Effect::CloseAll]);
            pool.observe(Seen { streams: 1, lost, ..Seen::default() }, until);
        }
        prop_assert_eq!(pool.phase(), Phase::Gone);
    }
}
