#![expect(clippy::disallowed_methods, reason = "an instant to count from")]

use super::*;
use crate::limiter::{Options, Policy, Take};
use config::{Limit, LimitMode, Missing, Place, Rate, Scope};
use std::sync::Arc;

/// One node that is asked for one key of a limit of 100 a second with a burst of 50.
struct Scene {
    now: Instant,
    limiter: Limiter,
    policy: Arc<Policy>,
    key: Key,
    reporter: Reporter,
    granted: u32,
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        let limiter = Limiter::new(Options { capacity: 64, seed: [1; 16], epoch: now });
        let place = Place { file: Arc::new("limits.toml".into()), line: 1, column: 1 };
        let rate = Rate { count: 100, per: Duration::from_secs(1) };
        let (mode, missing, scope) = (LimitMode::Enforce, Missing::Share, Scope::Cluster);
        let policy = limiter.policy(&Limit { name: "a".into(), rate, burst: 50, key: Vec::new(), mode, missing, scope, place });
        let key = policy.key().finish();
        let reporter = Reporter::new(key.place(6), 7, 1);
        Self { now, limiter, policy, key, reporter, granted: 0 }
    }

    /// How many of so many requests are granted now.
    fn asks(&self, requests: u32) -> u32 {
        let take = Take { policy: &self.policy, key: self.key, cost: 1 };
        (0..requests).filter(|_| self.limiter.admit(&[take], self.now).granted()).count() as u32
    }

    fn after(&mut self, millis: u64) -> Vec<Report> {
        self.now += Duration::from_millis(millis);
        self.reporter.turn(&self.limiter, 0.25, self.now).into_iter().map(|said| said.report).collect()
    }

    fn hears(&mut self, grant: Grant) {
        self.granted += 1;
        let stamp = Stamp { sender: 1, incarnation: 1, number: self.granted };
        self.reporter.granted(&self.limiter, self.key, stamp, grant, 0.0, self.now);
    }
}

fn level(level: f32, seen: u32) -> Grant {
    Grant { level, seen, lease: Lease { rate: 20.0, portion: 0.0 }, binds: false }
}

fn lease(rate: f32, portion: f32, seen: u32) -> Grant {
    Grant { level: 0.0, seen, lease: Lease { rate, portion }, binds: true }
}

#[test]
fn the_first_request_for_a_key_is_reported_at_once_and_an_idle_key_is_not_reported_at_all() {
    let mut scene = Scene::new();
    assert_eq!(scene.after(0), []);
    assert_eq!(scene.asks(3), 3);
    let first = scene.after(0);
    assert_eq!(first.iter().map(|report| (report.admitted, report.confirmed, report.left)).collect::<Vec<_>>(), [(3, 0, 47.0)]);
    scene.hears(level(47.0, 3));
    let told: Vec<Report> = (0..800).flat_map(|_| scene.after(10)).collect();
    assert!(told.len() < 40, "{} reports of a key that nobody asks for", told.len());
    assert_eq!(told.last().map(|report| (report.admitted, report.confirmed, report.demand)), Some((3, 3, 0.0)));
    assert_eq!(scene.reporter.due(), None, "it is not watched any more");
}

#[test]
fn a_bucket_is_lowered_to_what_the_owner_says_and_never_raised() {
    let mut scene = Scene::new();
    scene.asks(1);
    scene.after(0);
    assert_eq!(scene.asks(2), 2);
    // The owner has heard of one of the three.
    scene.hears(level(10.0, 1));
    assert_eq!(scene.asks(50), 8);
    scene.hears(level(50.0, 11));
    assert_eq!(scene.asks(50), 0);
}

#[test]
fn a_lease_holds_a_node_to_its_rate() {
    let mut scene = Scene::new();
    scene.asks(1);
    scene.after(0);
    scene.hears(lease(20.0, 0.0, 1));
    let granted: u32 = (0..200)
        .map(|_| {
            scene.after(10);
            scene.asks(5)
        })
        .sum();
    assert!((38..=42).contains(&granted), "{granted} in two seconds");
}

#[test]
fn what_came_before_is_not_taken_for_news() {
    let mut scene = Scene::new();
    scene.asks(1);
    scene.after(0);
    scene.hears(lease(0.0, 0.0, 1));
    let early = Stamp { sender: 1, incarnation: 1, number: 0 };
    scene.reporter.granted(&scene.limiter, scene.key, early, lease(1_000.0, 0.0, 1), 0.0, scene.now);
    scene.after(100);
    assert_eq!(scene.asks(10), 0);
    // Another owner's word has no order with the first one's.
    scene.reporter.granted(&scene.limiter, scene.key, Stamp { sender: 2, ..early }, level(50.0, 1), 0.0, scene.now);
    assert_eq!(scene.asks(10), 10);
}

#[test]
fn a_node_whose_owner_is_silent_goes_on_with_what_was_lent() {
    let mut scene = Scene::new();
    let play = |scene: &mut Scene| -> u32 {
        (0..200)
            .map(|_| {
                scene.after(10);
                scene.asks(2)
            })
            .sum()
    };
    scene.asks(1);
    scene.after(0);
    scene.hears(level(49.0, 1));
    scene.after(1_100);
    // The lease was for this; 20 a second.
    let granted = play(&mut scene);
    assert!((38..=43).contains(&granted), "{granted} in two seconds");
    scene.hears(lease(10.0, 0.5, 1 + granted));
    assert_eq!(scene.asks(20), 10, "by request");
    scene.after(1_100);
    let granted = play(&mut scene);
    assert!((18..=23).contains(&granted), "{granted} in two seconds, by time");
}

#[test]
fn a_node_whose_owner_never_answered_takes_its_part() {
    let mut scene = Scene::new();
    scene.asks(50);
    let granted: u32 = (0..300)
        .map(|_| {
            scene.after(10);
            scene.asks(2)
        })
        .sum();
    // A second of the whole rate before anybody is missed, then two of a quarter of it.
    assert!((145..=155).contains(&granted), "{granted} in three seconds");
}
