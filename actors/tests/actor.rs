//! Actors on their real runtime, on a clock that the test turns: what a panic, a stall, a flood and a shutdown do to a tree.

#![expect(clippy::disallowed_methods, reason = "the tests' world asks the clock that the tests turn")]

use cluster::{
    BoxFuture, BoxStream, Disk, Listener, World,
    dns::{Answer, Question},
};
use serde_json::{Value, json};
use shoal_actors::{
    body::{Body, Ground, Turn},
    duty::{self, Duty},
    handles::{Full, Mailbox, Message, Reference, Refused},
    inspect::{ANSWER_WITHIN, Drill, Exit, Found, Id, Slot, Snapshot, State, Tree, View, look_into},
    keeper::Keeper,
    supervisor::{Branch, Child, NotAdded, Policy, Restart, Strategy},
};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::time::sleep;

/// A clock and nothing else.
struct Clock(AtomicU64);

impl World for Clock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn chance(&self) -> u64 {
        self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed)
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        unreachable!("actors have no sockets")
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        unreachable!("actors have no sockets")
    }

    fn lookup<'a>(&'a self, _: &'a [SocketAddr], _: &'a Question) -> BoxFuture<'a, Answer> {
        unreachable!("actors look no names up by themselves")
    }

    fn offload(&self, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        unreachable!("actors do no blocking work")
    }

    fn disk(&self) -> Arc<dyn Disk> {
        unreachable!("actors have no files")
    }
}

/// What happened, in order, over all actors.
type Log = Arc<Mutex<Vec<String>>>;

#[derive(Debug, PartialEq, Eq)]
enum Order {
    Note(u64),
    Panic,
    Finish,
    /// Answers with a note after so many milliseconds.
    Later(u64),
    /// A task that panics.
    Trip,
    WakeAt(Instant),
}

impl Message for Order {
    fn kind(&self) -> &'static str {
        match self {
            Self::Note(_) => "note",
            Self::Panic => "panic",
            Self::Finish => "finish",
            Self::Later(_) => "later",
            Self::Trip => "trip",
            Self::WakeAt(_) => "wake at",
        }
    }
}

/// Writes down what it is told.
struct Clerk {
    name: String,
    log: Log,
    notes: Vec<u64>,
    deadline: Option<Instant>,
}

impl Clerk {
    fn write(&self, what: &str) {
        self.log.lock().expect("nobody panics while it writes").push(format!("{what}{}", self.name));
    }
}

impl Body for Clerk {
    type Message = Order;

    const TASKS_MAX: usize = 2;

    fn handle(&mut self, order: Order, turn: &mut Turn<'_, Order>) {
        match order {
            Order::Note(number) => self.notes.push(number),
            Order::Panic => panic!("index out of bounds"),
            Order::Finish => turn.finish(),
            Order::Later(millis) => {
                let begun = turn.begin(Box::pin(async move {
                    sleep(Duration::from_millis(millis)).await;
                    Order::Note(millis)
                }));
                if begun.is_err() {
                    self.write("no room ");
                }
            }
            Order::Trip => turn.begin(Box::pin(async { panic!("stumbled") })).expect("there is room for a task"),
            Order::WakeAt(deadline) => self.deadline = Some(deadline),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn expire(&mut self, turn: &mut Turn<'_, Order>) {
        assert!(self.deadline.take().is_some_and(|deadline| deadline <= turn.now()));
        self.write("alarm ");
    }

    fn inspect(&self, _now: Instant) -> Value {
        json!({ "notes": self.notes })
    }

    fn stop(&mut self, _now: Instant) {
        self.write("-");
    }
}

struct House {
    ground: Ground,
    root: Arc<Branch>,
    log: Log,
    keeper: Keeper,
}

impl House {
    /// A root with these branches; the children of each are named after it.
    fn new(branches: &[(&str, Strategy, &[&str])]) -> (Self, BTreeMap<String, Reference<Order>>, Vec<Arc<Branch>>) {
        let ground = Ground { world: Arc::new(Clock(AtomicU64::new(1))), tree: Arc::new(Tree::new()) };
        let log = Log::default();
        let root = Branch::new(Id::root(), Policy::default());
        let mut references = BTreeMap::new();
        let mut made = Vec::new();
        for (name, strategy, children) in branches {
            let branch = Branch::new(root.id().child(name), Policy { strategy: *strategy, ..Policy::default() });
            for child in *children {
                let (reference, child_) = clerk(&branch, child, &log, Full::Refuse { bound: 8 });
                branch.add(child_).expect("the name is free");
                references.insert((*child).to_string(), reference);
            }
            root.add(Child::supervisor(&branch)).expect("the name is free");
            made.push(branch);
        }
        let keeper = Keeper::start(ground.clone(), &root);
        (Self { ground, root, log, keeper }, references, made)
    }

    /// One branch called `work` with these children.
    fn with(strategy: Strategy, children: &[&str]) -> (Self, BTreeMap<String, Reference<Order>>, Arc<Branch>) {
        let (house, references, mut branches) = Self::new(&[("work", strategy, children)]);
        let branch = branches.pop().expect("one branch was asked for");
        (house, references, branch)
    }

    fn logged(&self) -> String {
        std::mem::take(&mut *self.log.lock().expect("nobody panics while it writes")).join(" ")
    }

    /// Ids with their restarts.
    fn restarts(&self) -> Vec<(String, u64)> {
        self.ground.tree.views().into_iter().map(|view| (view.id.to_string(), view.restarts)).collect()
    }

    fn all_run(&self) -> bool {
        self.ground.tree.views().iter().all(|view| view.state == State::Running)
    }

    fn slot(&self, id: &Id) -> Arc<Slot> {
        match self.ground.tree.find(id) {
            Some(Found::Here(slot)) => slot,
            _ => panic!("{id} is not in the tree"),
        }
    }
}

fn clerk(branch: &Branch, name: &str, log: &Log, full: Full) -> (Reference<Order>, Child) {
    let mailbox = Mailbox::new(branch.id().child(name), "clerk");
    let reference = mailbox.lane(full);
    let (name, log) = (name.to_string(), Arc::clone(log));
    let child = Child::actor(&mailbox, move |_: &mut Turn<'_, Order>| {
        let clerk = Clerk { name: name.clone(), log: Arc::clone(&log), notes: Vec::new(), deadline: None };
        clerk.write("+");
        clerk
    });
    (reference, child)
}

/// Lets everybody do what they can do, and restarts come about.
async fn a_while() {
    sleep(Duration::from_millis(100)).await;
}

fn view(reference: &Reference<Order>) -> View {
    reference.slot().view()
}

async fn notes(reference: &Reference<Order>) -> Value {
    match look_into(reference.slot()).await {
        Snapshot::Fresh(state) => state["notes"].clone(),
        Snapshot::Stale(_) => panic!("{} does not answer", reference.id()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_the_message_that_caused_it_and_its_story_is_kept() {
    let (house, clerks, _) = House::with(Strategy::OneForOne, &["a", "b"]);
    a_while().await;
    let a = &clerks["a"];
    for order in [Order::Note(1), Order::Panic, Order::Note(2), Order::Note(3)] {
        a.send(order).expect("there is room");
    }
    a_while().await;
    assert_eq!(notes(a).await, json!([2, 3]), "what waited is handled by the next life");
    let lives = a.slot().lives();
    let [first, second] = &lives[..] else { panic!("{lives:?}") };
    assert_eq!(first.ended.as_ref().map(|(_, exit)| exit), Some(&Exit::Panicked { text: "index out of bounds".into(), during: "panic" }));
    assert_eq!((second.incarnation, &second.ended), (2, &None));
    let view = view(a);
    assert_eq!((view.state, view.restarts, view.handled, view.depth), (State::Running, 1, 3, 0));
    assert!(view.failure.is_some_and(|(_, exit)| exit.to_string() == "panicked during panic: index out of bounds"));
    assert_eq!(house.restarts()[2..], [("root/work/a".into(), 1), ("root/work/b".into(), 0)]);
}

/// Who starts and stops when `b` of a, b and c panics.
async fn check(strategy: Strategy, expected: &str) {
    let (house, clerks, _) = House::with(strategy, &["a", "b", "c"]);
    a_while().await;
    assert_eq!(house.logged(), "+a +b +c");
    clerks["b"].send(Order::Panic).expect("there is room");
    a_while().await;
    assert_eq!(house.logged(), expected, "{strategy:?}");
    assert!(house.all_run());
}

#[tokio::test(start_paused = true)]
async fn a_failure_takes_along_whom_the_strategy_says() {
    check(Strategy::OneForOne, "+b").await;
    check(Strategy::RestForOne, "-c +b +c").await;
    check(Strategy::OneForAll, "-c -a +a +b +c").await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_always_fails_is_down_and_nobody_else_is() {
    let (house, clerks, branch) = House::with(Strategy::OneForOne, &["a", "b"]);
    a_while().await;
    for _ in 0..6 {
        clerks["a"].send(Order::Panic).expect("there is room");
    }
    sleep(Duration::from_secs(2)).await;
    let a = view(&clerks["a"]);
    assert_eq!((a.state, a.restarts), (State::Down, 5));
    assert!(a.until.is_some_and(|until| until > house.ground.world.now() + Duration::from_secs(20)));
    assert_eq!(view(&clerks["b"]).state, State::Running);
    assert_eq!(branch.slot().view().restarts, 0);
    clerks["a"].send(Order::Note(7)).expect("whoever is down can still be sent to");
    sleep(Duration::from_secs(120)).await;
    assert_eq!(notes(&clerks["a"]).await, json!([7]));
}

#[tokio::test(start_paused = true)]
async fn when_many_fail_at_once_their_supervisor_starts_afresh() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let (house, clerks, branch) = House::with(Strategy::OneForOne, &names);
    a_while().await;
    names.iter().for_each(|name| drop(clerks[*name].send(Order::Panic)));
    a_while().await;
    let lives = branch.slot().lives();
    let Some((_, Exit::Escalated(reason))) = &lives[0].ended else { panic!("{lives:?}") };
    assert!(reason.starts_with("6 of 6 children failed within 10s"), "{reason}");
    assert!(house.all_run());
    assert_eq!(house.root.slot().view().restarts, 0);
    let restarts: Vec<u64> = house.restarts().into_iter().map(|(_, restarts)| restarts).collect();
    assert_eq!(restarts, [0, 1, 1, 1, 1, 1, 1, 1]);
}

/// Kills every actor in turn, and holds the tree against what may have changed.
async fn kill_everybody() {
    let branches: [(&str, Strategy, &[&str]); 2] =
        [("limits", Strategy::OneForOne, &["shard-0", "shard-1"]), ("services", Strategy::OneForOne, &["shop", "stock"])];
    let (house, _, _) = House::new(&branches);
    a_while().await;
    let before = house.restarts();
    assert_eq!(before.len(), 7);
    let mut expected: BTreeMap<String, u64> = before.iter().cloned().collect();
    for (id, _) in &before {
        let id = Id::written(id);
        assert_eq!(house.slot(&id).drill(Drill::Kill), Ok(()));
        expected.iter_mut().filter(|(other, _)| id.covers(&Id::written(other))).for_each(|(_, restarts)| *restarts += 1);
        let expected: Vec<_> = expected.clone().into_iter().collect();
        for _ in 0..100 {
            a_while().await;
            if house.all_run() && house.restarts() == expected {
                break;
            }
        }
        assert_eq!(house.restarts(), expected, "after {id} was killed");
        assert!(house.all_run(), "after {id} was killed");
        let killed = house.slot(&id).lives().iter().rev().nth(1).and_then(|life| life.ended.clone());
        assert_eq!(killed.map(|(_, exit)| exit), Some(Exit::Panicked { text: "killed by a drill".into(), during: "kill" }));
    }
    house.keeper.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_actor_can_be_killed_and_only_what_is_below_it_restarts() {
    kill_everybody().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_actor_can_be_killed_on_real_threads() {
    kill_everybody().await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_actor_is_shown_busy_while_others_answer() {
    let (house, clerks, branch) = House::with(Strategy::OneForOne, &["a", "b"]);
    a_while().await;
    clerks["a"].send(Order::Note(1)).expect("there is room");
    a_while().await;
    assert_eq!(notes(&clerks["a"]).await, json!([1]));
    let stalled_at = house.ground.world.now();
    clerks["a"].slot().drill(Drill::Stall { until: Some(stalled_at + Duration::from_secs(30)) }).expect("it lives");
    a_while().await;
    clerks["a"].send(Order::Note(2)).expect("there is room");

    let asked = tokio::time::Instant::now();
    let (a, b, above) = tokio::join!(look_into(clerks["a"].slot()), look_into(clerks["b"].slot()), look_into(branch.slot()));
    assert_eq!(asked.elapsed(), ANSWER_WITHIN);
    assert!(matches!(a, Snapshot::Stale(Some((_, state))) if state["notes"] == json!([1])), "what it said last is shown");
    assert!(matches!(b, Snapshot::Fresh(_)));
    assert!(matches!(above, Snapshot::Fresh(state) if state["children"][0]["state"] == "running"));
    let view_ = view(&clerks["a"]);
    let busy = view_.busy.expect("it is busy");
    assert_eq!((busy.with, busy.since, view_.depth), ("stall", stalled_at, 1));

    sleep(Duration::from_secs(30)).await;
    assert_eq!(notes(&clerks["a"]).await, json!([1, 2]));
    assert_eq!((view(&clerks["a"]).busy, view(&clerks["a"]).restarts), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stall_can_be_released_and_a_stalled_actor_killed() {
    let (house, clerks, branch) = House::with(Strategy::OneForOne, &["a"]);
    a_while().await;
    let slot = Arc::clone(clerks["a"].slot());
    slot.drill(Drill::Stall { until: None }).expect("it lives");
    a_while().await;
    slot.drill(Drill::Release).expect("it lives");
    assert_eq!(notes(&clerks["a"]).await, json!([]));

    // A stalled supervisor restarts nobody until it goes on.
    branch.slot().drill(Drill::Stall { until: None }).expect("it lives");
    slot.drill(Drill::Stall { until: None }).expect("it lives");
    a_while().await;
    slot.drill(Drill::Kill).expect("it lives");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(slot.view().state, State::Stopped);
    assert_eq!(slot.drill(Drill::Kill), Err(State::Stopped), "there is nobody to drill");
    branch.slot().drill(Drill::Release).expect("it lives");
    a_while().await;
    assert!(house.all_run());
    assert_eq!(slot.view().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_is_ordered_and_bounded_even_if_everybody_is_stalled() {
    let (house, clerks, _) = House::with(Strategy::OneForOne, &["a", "b", "c"]);
    a_while().await;
    house.logged();
    let began = tokio::time::Instant::now();
    house.keeper.stop().await;
    assert!(began.elapsed() < Duration::from_millis(10));
    assert_eq!(std::mem::take(&mut *house.log.lock().expect("nobody panics while it writes")).join(" "), "-c -b -a");
    assert!(house.ground.tree.views().iter().all(|view| view.state == State::Stopped));
    assert_eq!(clerks["a"].slot().lives()[0].ended.as_ref().map(|(_, exit)| exit), Some(&Exit::Stopped));

    let (house, clerks, branch) = House::with(Strategy::OneForOne, &["a", "b", "c"]);
    a_while().await;
    for slot in house.ground.tree.slots() {
        slot.drill(Drill::Stall { until: None }).expect("it lives");
    }
    a_while().await;
    let began = tokio::time::Instant::now();
    house.keeper.stop().await;
    assert!(began.elapsed() <= Duration::from_secs(12), "{:?}", began.elapsed());
    a_while().await;
    for slot in [clerks["a"].slot(), branch.slot(), house.root.slot()] {
        let lives = slot.lives();
        assert!(matches!(lives[0].ended, Some((_, Exit::Killed(_)))), "{lives:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn children_come_and_go_and_come_back_with_their_story() {
    let (house, clerks, branch) = House::with(Strategy::OneForOne, &["a"]);
    a_while().await;
    clerks["a"].send(Order::Panic).expect("there is room");
    a_while().await;
    house.logged();

    let id = clerks["a"].id().clone();
    assert!(branch.remove(&id) && !branch.remove(&id));
    a_while().await;
    assert_eq!(house.logged(), "-a");
    assert!(matches!(house.ground.tree.find(&id), Some(Found::Gone(_))));
    assert_eq!(clerks["a"].send(Order::Note(1)), Err(Refused::Gone(Order::Note(1))));

    // Taken off and put on again before anybody looks: the old one ends before the new one begins.
    for _ in 0..2 {
        let (reference, child) = clerk(&branch, "a", &house.log, Full::KeepLatest);
        branch.remove(&id);
        branch.add(child).expect("the name is free");
        reference.send(Order::Note(9)).expect("a state is always taken");
        a_while().await;
        assert_eq!(notes(&reference).await, json!([9]));
    }
    assert_eq!(house.logged(), "+a -a +a");
    assert_eq!(house.slot(&id).view().incarnation, 4);
    assert!(house.slot(&id).view().failure.is_some());

    let (_, again) = clerk(&branch, "a", &house.log, Full::KeepLatest);
    assert_eq!(branch.add(again), Err(NotAdded::Exists));
    let (_, astray) = clerk(&house.root, "b", &house.log, Full::KeepLatest);
    assert_eq!(branch.add(astray), Err(NotAdded::Misplaced));

    house.root.remove(branch.id());
    a_while().await;
    assert_eq!(house.restarts(), [("root".to_string(), 0)]);
    let (_, late) = clerk(&branch, "late", &house.log, Full::KeepLatest);
    assert_eq!(branch.add(late), Err(NotAdded::Leaving));
}

#[tokio::test(start_paused = true)]
async fn who_is_done_is_started_again_or_forgotten_as_agreed() {
    let (house, _, branch) = House::with(Strategy::OneForOne, &["a"]);
    for (name, restart) in [("permanent", Restart::Permanent), ("transient", Restart::Transient), ("temporary", Restart::Temporary)] {
        let (reference, child) = clerk(&branch, name, &house.log, Full::Refuse { bound: 8 });
        branch.add(child.restart(restart)).expect("the name is free");
        reference.send(Order::Finish).expect("there is room");
    }
    a_while().await;
    let state = |name: &str| match house.ground.tree.find(&branch.id().child(name)) {
        Some(Found::Here(slot)) => Some(slot.view().state),
        _ => None,
    };
    assert_eq!(["permanent", "transient", "temporary"].map(state), [Some(State::Running), Some(State::Stopped), None]);
    // The next life of the supervisor brings back whoever is on its list.
    branch.slot().drill(Drill::Kill).expect("it lives");
    a_while().await;
    assert_eq!(["permanent", "transient", "temporary"].map(state), [Some(State::Running), Some(State::Running), None]);
}

#[tokio::test(start_paused = true)]
async fn what_has_to_wait_comes_back_as_a_message() {
    let (house, clerks, _) = House::with(Strategy::OneForOne, &["a"]);
    a_while().await;
    let a = &clerks["a"];
    for millis in [300, 200, 100] {
        a.send(Order::Later(millis)).expect("there is room");
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(house.logged(), "+a no room a", "the third has to wait for a task to end");
    assert_eq!(notes(a).await, json!([200, 300]));

    // The answer of a task never reaches another life.
    a.send(Order::Later(200)).expect("there is room");
    a.send(Order::Panic).expect("there is room");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(notes(a).await, json!([]));

    a.send(Order::Trip).expect("there is room");
    a_while().await;
    let failure = view(a).failure.map(|(_, exit)| exit.to_string());
    assert_eq!(failure.as_deref(), Some("panicked during task: a task panicked: stumbled"));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_and_may_be_moved() {
    let (house, clerks, _) = House::with(Strategy::OneForOne, &["a"]);
    a_while().await;
    house.logged();
    let now = house.ground.world.now();
    let a = &clerks["a"];
    a.send(Order::WakeAt(now + Duration::from_secs(60))).expect("there is room");
    a_while().await;
    a.send(Order::WakeAt(now + Duration::from_secs(10))).expect("there is room");
    sleep(Duration::from_millis(9_850)).await;
    assert_eq!(house.logged(), "");
    a_while().await;
    assert_eq!(house.logged(), "alarm a");
    a.send(Order::WakeAt(now + Duration::from_secs(20))).expect("there is room");
    a_while().await;
    a.send(Order::WakeAt(now + Duration::from_secs(40))).expect("there is room");
    sleep(Duration::from_secs(29)).await;
    assert_eq!(house.logged(), "");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(house.logged(), "alarm a");
}

#[tokio::test(start_paused = true)]
async fn a_flood_never_grows_beyond_the_bound() {
    let (_house, clerks, _) = House::with(Strategy::OneForOne, &["a"]);
    a_while().await;
    let a = &clerks["a"];
    a.slot().drill(Drill::Stall { until: None }).expect("it lives");
    a_while().await;
    let refused = (0..10_000).filter(|number| a.send(Order::Note(*number)).is_err()).count();
    let view_ = view(a);
    assert_eq!((refused as u64, view_.refused, view_.depth, view_.bound), (9_992, 9_992, 8, 8));
    a.slot().drill(Drill::Release).expect("it lives");
    assert_eq!(notes(a).await, json!([]), "a reader comes before what waits");
    a_while().await;
    assert_eq!(notes(a).await, json!([0, 1, 2, 3, 4, 5, 6, 7]));
}

/// Real time and real threads: whatever is killed while others send, every message that was taken is handled, but for those that
/// a kill hit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_threads() {
    let (house, clerks, _) = House::with(Strategy::OneForOne, &["a"]);
    let a = clerks["a"].clone();
    let sender = tokio::spawn({
        let a = a.clone();
        async move {
            let mut taken = 0;
            while taken < 2_000 {
                if a.send(Order::Note(taken)).is_err() {
                    sleep(Duration::from_millis(1)).await;
                    continue;
                }
                taken += 1;
                if taken % 500 == 250 {
                    // It may be about to start again, and is then not hit.
                    let _ = a.slot().drill(Drill::Kill);
                }
            }
        }
    });
    sender.await.expect("the sender does not panic");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while view(&a).handled < 2_000 && tokio::time::Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
    let view = view(&a);
    assert_eq!((view.handled, view.depth), (2_000, 0), "a drill kills between two messages");
    assert!(view.restarts >= 1);
    house.keeper.stop().await;
}

/// Counts the times that it is taken up, and goes wrong when it is told to.
struct Patrol {
    rounds: AtomicU64,
    wrong: tokio::sync::Notify,
}

impl Duty for Patrol {
    fn perform(self: Arc<Self>) -> BoxFuture<'static, String> {
        self.rounds.fetch_add(1, Relaxed);
        Box::pin(async move {
            self.wrong.notified().await;
            "the lamp went out".into()
        })
    }

    fn inspect(&self, _now: Instant) -> Value {
        json!({ "rounds": self.rounds.load(Relaxed) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_duty_that_could_not_be_gone_on_with_is_taken_up_again_and_says_why() {
    let (house, _, branch) = House::with(Strategy::OneForOne, &[]);
    let patrol = Arc::new(Patrol { rounds: AtomicU64::new(0), wrong: tokio::sync::Notify::new() });
    branch.add(duty::child(&branch, "patrol", "duty", patrol.clone())).expect("the name is free");
    a_while().await;
    let slot = house.slot(&branch.id().child("patrol"));
    assert_eq!((slot.view().state, patrol.rounds.load(Relaxed)), (State::Running, 1));
    patrol.wrong.notify_waiters();
    a_while().await;
    let lives = slot.lives();
    let ended = lives.first().and_then(|life| life.ended.as_ref()).map(|(_, exit)| exit.clone());
    assert_eq!(ended, Some(Exit::Failed("the lamp went out".into())));
    let Snapshot::Fresh(state) = look_into(&slot).await else { panic!("it does not answer") };
    assert_eq!((slot.view().state, &state["rounds"]), (State::Running, &json!(2)));
    assert!(state["performed_for_ms"].is_u64());
}
