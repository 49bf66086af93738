//! An endpoint that an operator takes out of service.

use super::*;
use crate::service::{Drain, NotDrained, Tried};

const GENTLY: Drain = Drain::Begin { force: false };
const BY_FORCE: Drain = Drain::Begin { force: true };

impl Fixture {
    /// What an order comes to: whether it changed anything.
    fn order(&self, at: usize, wish: Drain) -> Result<bool, NotDrained> {
        self.watch.drain(&name(at), wish, self.now).map(|drained| drained.changed)
    }

    /// Follows a roster with other loads, as after a reload that changes how endpoints are spoken to.
    fn speaks_otherwise(&mut self) {
        self.loads = self.loads.iter().map(|_| Arc::new(Load::judged(self.watch.breaker().clone(), self.now))).collect();
        self.follow(self.loads.len());
    }

    /// Follows the first of its endpoints.
    fn follow(&mut self, count: usize) {
        let roster = roster(&self.loads[..count], &self.probers[..count], count, Some(health()), self.now);
        self.watch.follow(roster, self.now);
        self.life.handle(Order::Look, &mut Turn::new(self.now, &|| 0, 64));
    }

    fn is_picked(&self, at: usize) -> bool {
        let balancer = self.watch.roster().balancer.clone();
        (0..200u64).any(|chance| balancer.pick(chance << 55, self.now, None, Tried::default()) == Some(at))
    }
}

#[test]
fn an_endpoint_drains_until_it_is_taken_back() {
    let mut fixture = Fixture::new(3, 3);
    let flight = fixture.loads[1].begin(fixture.now);
    let drained = fixture.watch.drain(&name(1), GENTLY, fixture.now).expect("two others are well");
    assert_eq!((drained.changed, drained.in_flight), (true, 1));
    assert!(!fixture.is_picked(1) && fixture.is_picked(2));
    flight.answered(200, fixture.now);
    drop(flight);
    let judged = fixture.watch.verdicts(fixture.now).endpoints[1].clone();
    assert_eq!((judged.verdict, judged.why), (Verdict::Draining, Some(Why::DrainByHand)));
    assert_eq!(fixture.order(1, GENTLY), Ok(false));
    fixture.kill();
    fixture.pass(20);
    assert_eq!(fixture.verdicts(), "healthy draining healthy", "neither probes nor another life take it back");
    assert_eq!(fixture.order(1, Drain::End), Ok(true));
    assert_eq!((fixture.order(1, Drain::End), fixture.verdicts().as_str()), (Ok(false), "healthy healthy healthy"));
    assert!(fixture.watch.roster().balancer.ramp_of(1, fixture.now) < 0.2, "it begins slowly");
    assert!(fixture.is_picked(1));
}

#[test]
fn a_wish_stays_with_its_endpoint_until_that_has_left() {
    let mut fixture = Fixture::new(3, 3);
    fixture.order(2, GENTLY).expect("two others are well");
    fixture.follow(3);
    assert_eq!(fixture.verdicts(), "healthy healthy draining");
    fixture.speaks_otherwise();
    assert_eq!(fixture.verdicts(), "healthy healthy draining");
    assert_eq!(fixture.order(2, Drain::End), Ok(true));
    fixture.speaks_otherwise();
    assert_eq!(fixture.verdicts(), "healthy healthy healthy");
    fixture.order(2, GENTLY).expect("two others are well");
    fixture.follow(2);
    assert_eq!(fixture.order(2, Drain::End), Err(NotDrained::Unknown));
    fixture.follow(3);
    assert_eq!(fixture.verdicts(), "healthy healthy healthy", "who is back is a newcomer");
}

#[test]
fn the_last_one_that_is_well_drains_only_by_force() {
    let mut fixture = Fixture::new(3, 3);
    fixture.fails(0, 100);
    fixture.pass(20);
    assert_eq!(fixture.verdicts(), "unhealthy healthy healthy");
    assert_eq!(fixture.order(1, GENTLY), Ok(true));
    assert_eq!(fixture.order(2, GENTLY), Err(NotDrained::Last));
    assert_eq!(fixture.order(0, GENTLY), Ok(true), "it takes nothing away");
    assert_eq!(fixture.order(2, BY_FORCE), Ok(true));
    assert!((0..3).all(|at| fixture.watch.roster().endpoints[at].load.is_draining()));
    assert!((0..3).any(|at| fixture.is_picked(at)), "requests go on, since they have nowhere else to go");
}

#[test]
fn who_is_alone_drains_only_by_force() {
    let fixture = Fixture::new(1, 1);
    assert_eq!(fixture.order(0, GENTLY), Err(NotDrained::Last));
    assert_eq!((fixture.order(0, BY_FORCE), fixture.order(0, GENTLY)), (Ok(true), Ok(false)));
}

#[test]
fn who_drains_takes_no_place_of_those_that_may_fail() {
    let mut fixture = Fixture::new(4, 4);
    assert_eq!(fixture.watch.breaker().out_max(), 2);
    fixture.order(0, GENTLY).expect("others are well");
    fixture.order(1, GENTLY).expect("others are well");
    assert_eq!((fixture.watch.breaker().out(), fixture.watch.breaker().out_max()), (0, 1));
    (0..5).for_each(|_| fixture.loads[2].begin(fixture.now).failed(Failure::Timeout, fixture.now));
    fixture.pass(1);
    assert_eq!(fixture.verdicts(), "draining draining ejected healthy");
    fixture.order(0, Drain::End).expect("it drains");
    assert_eq!((fixture.watch.breaker().out(), fixture.watch.breaker().out_max()), (1, 1));
}

#[test]
fn a_level_that_drains_leaves_its_share_to_the_next() {
    let mut fixture = Fixture::new(4, 2);
    fixture.order(0, GENTLY).expect("others are well");
    fixture.life.handle(Order::Look, &mut Turn::new(fixture.now, &|| 0, 64));
    assert_eq!(format!("{:?}", fixture.shares()), "70 30");
    fixture.order(1, GENTLY).expect("the farther ones are well");
    assert!(!fixture.is_picked(1), "nobody has to decide first");
    fixture.life.handle(Order::Look, &mut Turn::new(fixture.now, &|| 0, 64));
    assert_eq!(format!("{:?}", fixture.shares()), "0 100");
}

#[test]
fn who_is_withdrawn_or_without_weight_takes_no_place_either() {
    let fixture = Fixture::new(4, 4);
    let now = fixture.now;
    let withdrawn = |drain: bool| {
        let mut roster = roster(&fixture.loads, &fixture.probers, 4, Some(health()), now);
        roster.endpoints[0].drain = drain;
        fixture.watch.follow(roster, now);
        (fixture.watch.breaker().out(), fixture.watch.breaker().out_max())
    };
    assert_eq!(withdrawn(true), (0, 1));
    fixture.loads[0].set_healthy(false, now);
    assert_eq!(withdrawn(true), (0, 1), "whether it is stopped by now says nothing about the others");
    assert_eq!(withdrawn(false), (1, 2));

    let mut weighted = roster(&fixture.loads, &fixture.probers, 4, Some(health()), now);
    let located = weighted.located.iter().enumerate().map(|(at, located)| {
        let mut located = located.clone();
        located.endpoint.weight = u32::from(at == 1);
        located
    });
    weighted.located = located.collect();
    fixture.watch.follow(weighted, now);
    assert_eq!(fixture.watch.breaker().out_max(), 0, "one gets all requests, and is the last");
    assert_eq!(fixture.order(1, GENTLY), Err(NotDrained::Last));
    assert_eq!(fixture.order(2, GENTLY), Ok(true));
}
