#![expect(clippy::disallowed_methods, reason = "an instant to count from")]

use super::*;
use proptest::{collection::vec, prop_assert, prop_assert_eq, prop_oneof, proptest, sample::select, strategy::Strategy as Generator};
use std::collections::{BTreeMap, BTreeSet};
use {Restart::*, Strategy::*};

fn id(name: &str) -> Id {
    Id::root().child(name)
}

fn name(id: &Id) -> &str {
    id.segments().last().unwrap_or_default()
}

fn spec(name: &str, restart: Restart) -> Spec {
    Spec { id: id(name), restart, stop_within: Duration::from_secs(1) }
}

/// Children that do as they are told, unless they are said not to; and a clock.
struct Play {
    brain: Supervisor,
    now: Instant,
    alive: Vec<Id>,
    /// Do not stop when they are asked to.
    stuck: BTreeSet<Id>,
    /// Do not even end when they are killed.
    immortal: BTreeSet<Id>,
    /// Fail at once when they are started.
    broken: BTreeSet<Id>,
    shown: BTreeMap<Id, (State, Option<Instant>)>,
    log: Vec<String>,
}

impl Play {
    fn new(policy: Policy) -> Self {
        Self {
            brain: Supervisor::new(policy),
            now: Instant::now(),
            alive: Vec::new(),
            stuck: BTreeSet::new(),
            immortal: BTreeSet::new(),
            broken: BTreeSet::new(),
            shown: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn with(strategy: Strategy, children: &str) -> Self {
        let mut play = Self::new(Policy { strategy, ..Policy::default() });
        for child in children.split(' ') {
            play.add(child, Permanent);
        }
        play
    }

    fn add(&mut self, name: &str, restart: Restart) {
        self.brain.add(spec(name, restart), self.now).expect("there is room, and nobody of that name");
        self.perform();
    }

    fn perform(&mut self) {
        loop {
            let effects = self.brain.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform_one(effect);
            }
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::Start(id) => {
                assert!(!self.alive.contains(&id), "{id} has a life already");
                if self.broken.contains(&id) {
                    self.log.push(format!("+{}!", name(&id)));
                    self.brain.exited(&id, true, 0, self.now);
                } else {
                    self.log.push(format!("+{}", name(&id)));
                    self.alive.push(id.clone());
                    self.brain.started(&id, self.now);
                }
            }
            Effect::Stop(id) => {
                self.log.push(format!("-{}", name(&id)));
                if !self.stuck.contains(&id) {
                    self.end(&id, false);
                }
            }
            Effect::Kill(id) => {
                self.log.push(format!("x{}", name(&id)));
                if !self.immortal.contains(&id) {
                    self.end(&id, true);
                }
            }
            Effect::Forget(id) => {
                assert!(!self.alive.contains(&id), "{id} is forgotten while it lives");
                self.log.push(format!("~{}", name(&id)));
            }
            Effect::Became { id, state, until } => drop(self.shown.insert(id, (state, until))),
            Effect::Left(Outcome::Stopped { abandoned }) => {
                let without = abandoned.iter().map(|id| format!(" without {}", name(id))).collect::<String>();
                self.log.push(format!("left{without}"));
            }
            Effect::Left(Outcome::Escalated(_)) => self.log.push("gave up".into()),
        }
    }

    fn end(&mut self, id: &Id, failed: bool) {
        self.alive.retain(|alive| alive != id);
        self.brain.exited(id, failed, 0, self.now);
    }

    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(deadline) = self.brain.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.brain.expire(self.now);
            self.perform();
        }
        self.now = until;
    }

    /// `b!` fails, `b.` ends well, `?b` is broken, `#b` is stuck, `##b` cannot be killed, `+d` is added, `-d` is removed, `leave`, or a span.
    fn act(&mut self, act: &str) {
        let marked = |mark: &str| act.strip_prefix(mark).map(id);
        if act == "leave" {
            self.brain.leave(self.now);
        } else if let Some(id) = act.strip_suffix('!').map(id) {
            self.end(&id, true);
        } else if let Some(id) = act.strip_suffix('.').map(id) {
            self.end(&id, false);
        } else if let Some(id) = marked("?") {
            self.broken.insert(id);
        } else if let Some(id) = marked("##") {
            self.stuck.insert(id.clone());
            self.immortal.insert(id);
        } else if let Some(id) = marked("#") {
            self.stuck.insert(id);
        } else if let Some(added) = act.strip_prefix('+') {
            self.add(added, Permanent);
        } else if let Some(id) = marked("-") {
            self.brain.remove(&id, self.now);
        } else {
            let millis = act.strip_suffix("ms").and_then(|number| number.parse().ok());
            self.wait(Duration::from_millis(millis.expect("anything else is a span in milliseconds")));
        }
        self.perform();
    }

    fn state(&self, name: &str) -> State {
        self.shown[&id(name)].0
    }
}

/// What is done after the start, written as `+` started, `-` asked to stop, `x` killed, `~` forgotten.
fn check(strategy: Strategy, children: &str, acts: &str, expected: &str) {
    let mut play = Play::with(strategy, children);
    play.log.clear();
    acts.split(' ').for_each(|act| play.act(act));
    assert_eq!(play.log.join(" "), expected, "{strategy:?} of {children}: {acts}");
}

#[test]
fn children_start_in_their_order_and_stop_in_reverse() {
    for strategy in [OneForOne, OneForAll, RestForOne] {
        assert_eq!(Play::with(strategy, "a b c").log.join(" "), "+a +b +c");
        check(strategy, "a b c", "leave", "-c -b -a left");
    }
}

#[test]
fn a_failure_takes_along_whom_the_strategy_says() {
    check(OneForOne, "a b c d", "b! 100ms", "+b");
    check(RestForOne, "a b c d", "b! 100ms", "-d -c +b +c +d");
    check(OneForAll, "a b c d", "b! 100ms", "-d -c -a +a +b +c +d");
    check(RestForOne, "a b c d", "d! 100ms", "+d");
    check(OneForAll, "a", "a! 100ms", "+a");
}

#[test]
fn nobody_starts_before_those_who_have_to_stop_have_stopped() {
    check(RestForOne, "a b c", "#c a! 900ms", "-c");
    check(RestForOne, "a b c", "#c a! 1100ms", "-c xc -b +a +b +c");
    check(OneForAll, "a b c", "#a c! 100ms a! 100ms", "-b -a +a +b +c");
}

#[test]
fn whoever_depends_on_a_child_that_does_not_start_waits_for_it() {
    check(RestForOne, "a b c", "?b b! 35ms", "-c +b! +b! +b!");
    check(OneForAll, "a b", "?a a! 35ms", "-b +a! +a! +a!");
    check(OneForOne, "a b", "?a a! b! 35ms", "+a! +b +a! +a!");
}

#[test]
fn a_child_is_started_again_as_it_was_agreed() {
    for (restart, failed, ended, after) in
        [(Permanent, "+x", "+x", State::Running), (Transient, "+x", "", State::Stopped), (Temporary, "~x", "~x", State::Running)]
    {
        let mut play = Play::new(Policy::default());
        play.add("x", restart);
        play.log.clear();
        play.act("x!");
        play.act("100ms");
        assert_eq!(play.log.join(" "), failed, "{restart:?} after a failure");
        let mut play = Play::new(Policy::default());
        play.add("x", restart);
        play.log.clear();
        play.act("x.");
        play.act("100ms");
        assert_eq!(play.log.join(" "), ended, "{restart:?} after a good end");
        assert_eq!(play.state("x"), after, "{restart:?}");
    }
}

#[test]
fn the_waits_double_and_then_it_is_down() {
    let mut play = Play::with(OneForOne, "a b");
    play.broken.insert(id("a"));
    let start = play.now;
    play.act("a!");
    let mut waits = Vec::new();
    let mut at = start;
    while play.state("a") == State::BackingOff {
        let until = play.brain.deadline().expect("it is to be started again");
        waits.push((until - at).as_millis());
        at = until;
        play.wait(until - play.now);
    }
    assert_eq!(waits, [10; 5], "chance 0 is the shortest wait of each span");
    assert_eq!(play.state("a"), State::Down);
    assert_eq!(play.shown[&id("a")].1, Some(play.now + Duration::from_secs(30)));
    assert_eq!(play.state("b"), State::Running, "nobody else suffers");

    // Tried again, it fails again, and is down at once.
    play.act("30000ms");
    assert_eq!(play.state("a"), State::Down);
    // Once it has been up for a window, its past is forgotten.
    play.broken.clear();
    play.act("60000ms");
    assert_eq!(play.state("a"), State::Running);
    play.act("a!");
    assert_eq!(play.state("a"), State::BackingOff);
}

#[test]
fn chance_spreads_the_waits_over_the_whole_span() {
    let now = Instant::now();
    for (failures, chance, expected) in [(1, 0, 10), (1, u64::MAX, 20), (2, u64::MAX, 40), (3, u64::MAX, 80), (5, u64::MAX, 320)] {
        let mut brain = Supervisor::new(Policy::default());
        brain.add(spec("a", Permanent), now).expect("there is room");
        brain.started(&id("a"), now);
        for _ in 1..failures {
            brain.exited(&id("a"), true, 0, now);
            brain.expire(now + Duration::from_secs(1));
            brain.started(&id("a"), now);
        }
        brain.exited(&id("a"), true, chance, now);
        let wait = brain.deadline().expect("it is to be started again") - now;
        assert_eq!(wait.as_millis(), expected, "failure {failures}, chance {chance:x}");
    }
}

#[test]
fn failures_far_apart_never_put_a_child_down() {
    let mut play = Play::with(OneForOne, "a");
    for _ in 0..100 {
        play.act("2001ms");
        play.act("a!");
        assert_eq!(play.state("a"), State::BackingOff);
    }
}

/// `failing` of `children` fail at the same time.
fn check_escalation(children: usize, failing: usize, gives_up: bool) {
    let names: Vec<String> = (0..children).map(|number| format!("c{number}")).collect();
    let mut play = Play::with(OneForOne, &names.join(" "));
    play.log.clear();
    names[..failing].iter().for_each(|name| play.act(&format!("{name}!")));
    play.act("1000ms");
    assert_eq!(play.log.last().is_some_and(|last| last == "gave up"), gives_up, "{failing} of {children}");
    assert_eq!(play.alive.is_empty(), gives_up);
}

#[test]
fn a_supervisor_gives_up_when_many_different_children_fail_and_only_then() {
    check_escalation(3, 3, false);
    check_escalation(6, 5, false);
    check_escalation(6, 6, true);
    check_escalation(64, 16, false);
    check_escalation(64, 17, true);
}

#[test]
fn one_child_that_fails_forever_never_takes_its_supervisor_along() {
    let mut play = Play::with(OneForOne, "a b c d e f g");
    play.act("?a");
    play.act("a!");
    play.act("3600000ms");
    assert_eq!(play.state("a"), State::Down);
    assert!(!play.log.iter().any(|line| line == "gave up"));
}

#[test]
fn leaving_is_bounded_whatever_the_children_do() {
    check(OneForOne, "a b c", "#b leave 900ms", "-c -b");
    check(OneForOne, "a b c", "#b leave 1000ms", "-c -b xb -a left");
    check(OneForOne, "a b", "##b leave 4900ms", "-b xb");
    check(OneForOne, "a b", "##b leave 5000ms", "-b xb xa");
    check(OneForOne, "a b", "##b leave 6000ms", "-b xb xa left without b");
    check(OneForOne, "a b c d e f g", "#a #b #c #d #e #f #g leave 6000ms", "-g xg -f xf -e xe -d xd -c xc xb xa left");
    check(OneForOne, "a b", "b! leave 1000ms", "-a left");
}

#[test]
fn children_come_and_go_while_it_works() {
    check(OneForOne, "a b", "+c -a", "+c -a ~a");
    check(RestForOne, "a b c", "-b a! 100ms", "-b ~b -c +a +c");
    check(OneForOne, "a", "a! -a 1000ms", "");
    check(OneForOne, "a b", "#a -a b! 100ms a. 100ms", "-a +b ~a");
}

#[test]
fn who_comes_back_under_a_name_waits_for_the_one_before() {
    check(OneForOne, "a b", "#a -a +a 500ms a. 100ms", "-a ~a +a");
    check(OneForOne, "a b", "#a -a +a -a a. 100ms", "-a ~a");
    check(OneForOne, "a b", "#a -a +a -a +a 1000ms", "-a xa ~a +a");
    let mut play = Play::with(OneForOne, "a");
    assert_eq!(play.brain.add(spec("a", Permanent), play.now), Err(NotAdded::Exists));
    play.act("leave");
    assert_eq!(play.brain.add(spec("b", Permanent), play.now), Err(NotAdded::Leaving));
    let mut play = Play::new(Policy { children_max: 1, ..Policy::default() });
    play.add("a", Permanent);
    assert_eq!(play.brain.add(spec("b", Permanent), play.now), Err(NotAdded::Full { max: 1 }));
}

#[test]
fn a_start_that_has_to_wait_for_an_earlier_life_is_no_failure() {
    let now = Instant::now();
    let mut brain = Supervisor::new(Policy::default());
    brain.add(spec("a", Permanent), now).expect("there is room");
    for round in 1..100u32 {
        brain.postponed(&id("a"), 0, now);
        assert_eq!(brain.children().next().map(|(_, state, _)| state), Some(State::BackingOff), "round {round}");
        brain.expire(now + Duration::from_secs(1));
    }
}

#[derive(Clone, Debug)]
enum Act {
    Add(u8, u8),
    Remove(u8),
    Fail(u8),
    End(u8),
    Stick(u8),
    Break(u8),
    Mend(u8),
    Wait(u64),
}

fn acts() -> impl Generator<Value = Vec<Act>> {
    let child = 0..8u8;
    let act = prop_oneof![
        3 => (child.clone(), 0..3u8).prop_map(|(child, restart)| Act::Add(child, restart)),
        1 => child.clone().prop_map(Act::Remove),
        4 => child.clone().prop_map(Act::Fail),
        1 => child.clone().prop_map(Act::End),
        1 => child.clone().prop_map(Act::Stick),
        1 => child.clone().prop_map(Act::Break),
        1 => child.prop_map(Act::Mend),
        3 => (0..3000u64).prop_map(Act::Wait),
    ];
    vec(act, 0..60)
}

proptest! {
    /// Whatever happens: never two lives of a child (the play asserts it), nobody runs without those it starts upon, and once
    /// the trouble is over everybody who is wanted runs, unless the supervisor gave up.
    #[test]
    fn nobody_is_lost_and_nobody_lives_twice(acts in acts(), strategy in select(&[OneForOne, OneForAll, RestForOne])) {
        let mut play = Play::new(Policy { strategy, ..Policy::default() });
        let mut wanted: BTreeMap<Id, Restart> = BTreeMap::new();
        for act in acts {
            let child = |number: u8| id(&format!("c{number}"));
            match act {
                Act::Add(number, restart) => {
                    let restart = [Permanent, Transient, Temporary][restart as usize];
                    let spec = Spec { id: child(number), restart, stop_within: Duration::from_secs(1) };
                    if play.brain.add(spec, play.now).is_ok() {
                        wanted.insert(child(number), restart);
                    }
                }
                Act::Remove(number) => {
                    play.brain.remove(&child(number), play.now);
                    wanted.remove(&child(number));
                }
                Act::Fail(number) if play.alive.contains(&child(number)) => play.end(&child(number), true),
                Act::End(number) if play.alive.contains(&child(number)) => play.end(&child(number), false),
                Act::Fail(_) | Act::End(_) => {}
                Act::Stick(number) => drop(play.stuck.insert(child(number))),
                Act::Break(number) => drop(play.broken.insert(child(number))),
                Act::Mend(number) => {
                    play.stuck.remove(&child(number));
                    play.broken.remove(&child(number));
                }
                Act::Wait(millis) => play.wait(Duration::from_millis(millis)),
            }
            play.perform();
        }
        play.stuck.clear();
        play.broken.clear();
        play.wait(Duration::from_secs(3600));
        let left = play.log.last().is_some_and(|line| line == "gave up");
        if left {
            prop_assert!(play.alive.is_empty());
        } else {
            for (id, restart) in &wanted {
                prop_assert!(*restart != Permanent || play.alive.contains(id), "{id} is lost: {:?}", play.log);
            }
            prop_assert!(play.alive.iter().all(|id| wanted.contains_key(id)), "somebody lives whom nobody wants");
            play.brain.leave(play.now);
            play.perform();
            play.wait(Duration::from_secs(10));
            prop_assert_eq!(play.log.last().map(String::as_str), Some("left"));
            prop_assert!(play.alive.is_empty());
        }
        prop_assert_eq!(play.brain.deadline(), None);
    }
}
