//! Promises of the whole limiter; those of its parts stand beside them.

use super::*;
use config::{LimitMode, Missing, Place as Written, Rate, Scope};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64},
};

mod pressure;

/// A limiter, and its epoch to count from.
struct Fixture {
    limiter: Limiter,
    epoch: Instant,
}

impl Fixture {
    fn new(capacity: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning")]
        let epoch = Instant::now();
        Self { limiter: Limiter::new(Options { capacity, seed: [7; 16], epoch }), epoch }
    }

    fn policy(&self, name: &str, rate: &str, burst: u64) -> Arc<Policy> {
        self.limiter.policy(&limit(name, rate, burst, LimitMode::Enforce))
    }

    fn at(&self, millis: u64) -> Instant {
        self.epoch + Duration::from_millis(millis)
    }
}

/// `rate` as in `10/s` or `5/min`.
fn limit(name: &str, rate: &str, burst: u64, mode: LimitMode) -> Limit {
    let (count, per) = rate.split_once('/').expect("a rate has a slash");
    let per = Duration::from_secs(match per {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        _ => panic!("{per} is no unit of this table"),
    });
    let place = Written { file: Arc::new(PathBuf::from("shoal.toml")), line: 1, column: 1 };
    let rate = Rate { count: count.parse().expect("a count"), per };
    Limit { name: name.into(), rate, burst, key: Vec::new(), mode, missing: Missing::Share, scope: Scope::Node, place }
}

fn key(policy: &Policy, value: impl AsRef<[u8]>) -> Key {
    policy.key().value(value.as_ref()).finish()
}

fn take<'a>(policy: &'a Policy, value: &str, cost: u64) -> Take<'a> {
    Take { policy, key: key(policy, value), cost }
}

/// Takes `at cost` of one key under `10/s`, burst 5, and answers: `remaining/reset ms`, or `!` and when to come again.
fn check(takes: &str, expected: &str) {
    let fixture = Fixture::new(1_000);
    let policy = fixture.policy("per-client", "10/s", 5);
    let answers: Vec<String> = takes
        .split(", ")
        .map(|written| {
            let (at, cost) = written.split_once(' ').expect("a take is two numbers");
            let take = take(&policy, "one", cost.parse().expect("tokens"));
            let now = fixture.at(at.parse().expect("milliseconds"));
            let expected = fixture.limiter.peek(&[take], now);
            let decision = fixture.limiter.admit(&[take], now);
            let verdict = decision.verdicts().next().expect("one take has one verdict");
            assert_eq!(decision.granted(), expected.granted(), "peek and admit agree on {written}");
            match (decision.granted(), verdict.retry_after()) {
                (true, _) => format!("{}/{}", verdict.remaining(), verdict.reset().as_millis()),
                (false, Some(wait)) => format!("!{}", wait.as_millis()),
                (false, None) => "never".to_string(),
            }
        })
        .collect();
    assert_eq!(answers.join(" "), expected, "{takes}");
}

#[test]
fn a_caller_is_told_what_is_left_and_when_to_come_again() {
    check("0 1, 0 1, 0 3, 0 1", "4/100 3/200 0/500 !100");
    check("0 5, 0 5, 99 1, 100 1, 400 3", "0/500 !500 !1 0/500 0/500");
    check("0 5, 250 0, 250 2, 250 1", "0/500 2/250 0/450 !50");
    check("0 6, 0 5", "never 0/500");
    check("500 1, 60000 1", "4/100 4/100");
}

#[test]
fn the_tightest_limit_is_the_one_to_tell_of() {
    let fixture = Fixture::new(1_000);
    let (wide, narrow) = (fixture.policy("wide", "100/s", 100), fixture.policy("narrow", "1/s", 2));
    let shadow = fixture.limiter.policy(&limit("shadow", "1/h", 1, LimitMode::Shadow));
    let takes = [take(&shadow, "a", 1), take(&wide, "a", 1), take(&narrow, "a", 1)];
    let tightest = |decision: &Decision| (decision.granted(), decision.tightest(), decision.retry_after());
    assert_eq!(tightest(&fixture.limiter.admit(&takes, fixture.epoch)), (true, Some(2), Some(Duration::ZERO)));
    assert_eq!(tightest(&fixture.limiter.admit(&takes, fixture.epoch)), (true, Some(2), Some(Duration::ZERO)));
    assert_eq!(tightest(&fixture.limiter.admit(&takes, fixture.epoch)), (false, Some(2), Some(Duration::from_secs(1))));
    assert_eq!(tightest(&fixture.limiter.admit(&takes[..1], fixture.epoch)), (true, None, Some(Duration::ZERO)));
    assert_eq!(tightest(&fixture.limiter.admit(&[], fixture.epoch)), (true, None, Some(Duration::ZERO)));
}

#[test]
fn each_decision_is_counted_for_the_limit_that_made_it() {
    let fixture = Fixture::new(1_000);
    let (wide, narrow) = (fixture.policy("wide", "100/s", 100), fixture.policy("narrow", "1/s", 2));
    let shadow = fixture.limiter.policy(&limit("shadow", "1/h", 1, LimitMode::Shadow));
    for _ in 0..5 {
        fixture.limiter.admit(&[take(&wide, "a", 1), take(&shadow, "a", 1), take(&narrow, "a", 1)], fixture.epoch);
    }
    assert_eq!(wide.counts(), Counts { granted: 2, ..Counts::default() });
    assert_eq!(narrow.counts(), Counts { granted: 2, refused: 3, ..Counts::default() });
    assert_eq!(shadow.counts(), Counts { granted: 1, shadow_refused: 4, ..Counts::default() });
    // The wide limit is not asked for more by requests that the narrow one refuses anyway.
    let usage = |policy| fixture.limiter.usage(key(policy, "a")).map(|usage| (usage.admitted, usage.offered));
    assert_eq!([usage(&wide), usage(&narrow), usage(&shadow)], [Some((2, 2)), Some((2, 5)), Some((1, 5))]);
    assert_eq!(fixture.limiter.usage(key(&wide, "b")), None);
}

#[test]
fn a_reload_keeps_buckets_and_counters_by_name() {
    let fixture = Fixture::new(1_000);
    let reset = |policy: &Policy, at| {
        let decision = fixture.limiter.peek(&[take(policy, "a", 1)], fixture.at(at));
        let verdict = *decision.verdicts().next().expect("one take has one verdict");
        (verdict.granted(), verdict.remaining(), verdict.reset().as_millis())
    };
    let first = fixture.policy("per-client", "10/s", 10);
    fixture.limiter.admit(&[take(&first, "a", 10)], fixture.at(0));
    assert_eq!(reset(&first, 500), (true, 5, 500));

    let same = fixture.policy("per-client", "10/s", 10);
    assert_eq!(reset(&same, 500), (true, 5, 500));
    assert_eq!(same.counts().granted, 1);

    // Half a second is still owed. At a hundred a second that is 50 of 100 tokens, and at one a second half of one.
    let faster = fixture.policy("per-client", "100/s", 100);
    assert_eq!(reset(&faster, 500), (true, 50, 500));
    let slower = fixture.policy("per-client", "1/s", 3);
    assert_eq!(reset(&slower, 500), (true, 2, 500));
    // A burst that is worth less time than is owed has to wait for it.
    let tighter = fixture.policy("per-client", "100/s", 10);
    assert_eq!(reset(&tighter, 500), (false, 0, 500));
    assert_eq!(reset(&tighter, 910), (true, 1, 90));

    let other = fixture.policy("another", "10/s", 10);
    assert_eq!(reset(&other, 500), (true, 10, 0));
    assert_eq!(other.counts(), Counts::default());
}

#[test]
fn names_that_are_gone_do_not_pile_up() {
    let fixture = Fixture::new(1_000);
    let kept = fixture.policy("kept", "1/s", 1);
    for name in 0..10_000 {
        fixture.policy(&format!("inline-{name}"), "1/s", 1);
    }
    assert!(fixture.limiter.registry.lock().expect("no panic").ledgers.len() < 40);
    fixture.limiter.admit(&[take(&kept, "a", 1)], fixture.epoch);
    assert_eq!(fixture.policy("kept", "1/s", 1).counts().granted, 1);
}

#[test]
fn more_limits_than_fit_inline_are_taken_like_a_few() {
    let fixture = Fixture::new(1_000);
    let policies: Vec<_> = (0..9).map(|index| fixture.policy(&format!("limit-{index}"), "1/s", 1 + index % 3)).collect();
    let takes: Vec<_> = policies.iter().map(|policy| take(policy, "a", 1)).collect();
    assert!(fixture.limiter.admit(&takes, fixture.epoch).granted());
    let second = fixture.limiter.admit(&takes, fixture.epoch);
    assert_eq!(second.verdicts().filter(|verdict| verdict.granted()).count(), 6);
    assert!(!second.granted());
    let left: Vec<_> = fixture.limiter.peek(&takes, fixture.epoch).verdicts().map(Verdict::remaining).collect();
    assert_eq!(left, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

proptest! {
    /// Against buckets that are kept apart in a map and taken from one after the other.
    #[test]
    fn a_request_takes_of_all_its_limits_or_of_none(
        bursts in prop::collection::vec((1..6u64, any::<bool>()), 3),
        requests in prop::collection::vec((0..200u64, prop::collection::vec((0..3usize, 0..2u8, 0..4u64), 0..6)), 1..60),
    ) {
        let fixture = Fixture::new(1_000);
        let policies: Vec<_> = bursts
            .iter()
            .enumerate()
            .map(|(index, (burst, shadow))| {
                let mode = if *shadow { LimitMode::Shadow } else { LimitMode::Enforce };
                fixture.limiter.policy(&limit(&format!("limit-{index}"), "10/s", *burst, mode))
            })
            .collect();
        let mut words: BTreeMap<(usize, u8), Word> = BTreeMap::new();
        let mut at = 0;
        for (step, asked) in requests {
            at += step;
            let now = fixture.limiter.clock.ticks(fixture.at(at));
            let debt = |words: &BTreeMap<(usize, u8), Word>, limit, who| words.get(&(limit, who)).map_or(0, |word| word.debt(now));
            let mut after = words.clone();
            let seen = asked.iter().all(|&(limit, who, cost)| {
                policies[limit].shadow() || policies[limit].rule().grants(debt(&words, limit, who), cost)
            });
            let expected = seen && asked.iter().all(|&(limit, who, cost)| {
                let rule = policies[limit].rule();
                let word = after.get(&(limit, who)).copied().unwrap_or(Word::new(0, 0));
                let granted = rule.grants(debt(&words, limit, who), cost) && match rule.take(word, now, cost) {
                    Ok(next) => { after.insert((limit, who), next); true }
                    Err(_) => false,
                };
                granted || policies[limit].shadow()
            });
            let takes: Vec<_> = asked
                .iter()
                .map(|&(limit, who, cost)| Take { policy: &policies[limit], key: key(&policies[limit], [who]), cost })
                .collect();
            let decision = fixture.limiter.admit(&takes, fixture.at(at));
            prop_assert_eq!(decision.granted(), expected);
            if expected {
                words = after;
            }
            for (limit, policy) in policies.iter().enumerate() {
                for who in 0..2 {
                    let take = Take { policy, key: key(policy, [who]), cost: 1 };
                    prop_assert_eq!(fixture.limiter.look(&take, now).reset(), bucket::duration(debt(&words, limit, who)));
                }
            }
        }
    }
}
