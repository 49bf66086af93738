//! The shell around every actor, on ractor: it is woken, works in small steps, and tells how it ended.
//!
//! ractor's own mailbox carries nothing but "look again", at most once at a time, because it has no bound. What there is
//! to do is looked up: drills first, then readers who want an answer, then the wish that it leave, then work. After a few
//! steps the shell lets ractor look for a kill before it goes on.

use crate::{
    body::{Body, Turn},
    handles::{Mailbox, Message},
    inspect::{Exit, Slot, Tree},
};
use cluster::{BoxFuture, World};
use futures_util::FutureExt;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use serde_json::Value;
use std::{
    any::Any,
    collections::VecDeque,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    task::Poll,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Steps before ractor may look for a kill.
const STEPS: usize = 32;

/// What a deadline in the past is moved to: a body that does not move it on is a bug, and should not burn a core.
const PAUSE: Duration = Duration::from_millis(1);

/// What all actors of one node stand on.
#[derive(Clone)]
pub struct Ground {
    pub world: Arc<dyn World>,
    pub tree: Arc<Tree>,
}

/// Whoever is inside a shell.
pub(crate) trait Occupant: Sized + Send + 'static {
    /// Does one thing.
    fn step(&mut self, now: Instant) -> impl Future<Output = Step> + Send;

    fn child_ended(&mut self, child: &ActorCell, now: Instant);

    fn deadline(&self) -> Option<Instant>;

    fn inspect(&self, now: Instant) -> Value;

    /// Steps go on until one of them is the last.
    fn leave(&mut self, now: Instant);

    /// Its life is over. What it leaves behind must end before it is known to have ended.
    fn clear_up(&mut self) -> impl Future<Output = ()> + Send;
}

pub(crate) enum Step {
    Worked,
    Idle,
    Last(Exit),
}

/// Makes an occupant when a life begins.
type Make<O> = Box<dyn Fn(ActorCell, Instant) -> O + Send + Sync>;

pub(crate) struct Shell<O> {
    slot: Arc<Slot>,
    ground: Ground,
    make: Make<O>,
}

/// Look again.
pub(crate) struct Wake;

/// One incarnation.
pub(crate) struct Incarnation<O> {
    slot: Arc<Slot>,
    number: u64,
    occupant: O,
    /// Tells the time of an end that comes from outside.
    world: Arc<dyn World>,
    timer: JoinSet<()>,
    armed: Option<Instant>,
    leaving: bool,
}

impl<O: Occupant> Shell<O> {
    pub(crate) fn new(slot: Arc<Slot>, ground: Ground, make: Make<O>) -> Self {
        Self { slot, ground, make }
    }

    /// Starts it below `above`, or on its own.
    pub(crate) async fn spawn(self, above: Option<ActorCell>) -> Result<(ActorCell, tokio::task::JoinHandle<()>), SpawnErr> {
        let (actor, ended) = match above {
            Some(above) => Actor::spawn_linked(None, self, (), above).await?,
            None => Actor::spawn(None, self, ()).await?,
        };
        Ok((actor.get_cell(), ended))
    }

    /// Works until there is nothing to do, or for a few steps. Whatever goes wrong in it, the life's end is written down before
    /// anybody hears of it.
    async fn turn(&self, myself: &ActorRef<Wake>, life: &mut Incarnation<O>, ended: Option<ActorCell>) -> Result<(), ActorProcessingErr> {
        let exit = match AssertUnwindSafe(self.work(life, ended)).catch_unwind().await {
            Ok(None) => return Ok(()),
            Ok(Some(exit)) => exit,
            Err(panic) => Exit::panicked(text(&*panic), self.slot.during()),
        };
        life.occupant.clear_up().await;
        life.timer.abort_all();
        let failed = exit.failed().then(|| exit.to_string());
        self.slot.end(life.number, exit, self.ground.world.now());
        match failed {
            Some(reason) => Err(reason.into()),
            None => {
                myself.stop(None);
                Ok(())
            }
        }
    }

    async fn work(&self, life: &mut Incarnation<O>, ended: Option<ActorCell>) -> Option<Exit> {
        if let Some(child) = ended {
            life.occupant.child_ended(&child, self.ground.world.now());
        }
        for _ in 0..STEPS {
            if self.stalled().await {
                continue;
            }
            if self.slot.drill_kills() {
                self.slot.busy_aside("kill", self.ground.world.now());
                // Takes the way of a panic, without the report of one that nobody meant.
                std::panic::resume_unwind(Box::new("killed by a drill"));
            }
            let now = self.ground.world.now();
            if self.slot.answer_wanted() {
                self.slot.busy_aside("inspect", now);
                self.slot.answer(life.occupant.inspect(now), now);
                self.slot.idle();
            }
            if self.slot.asked_to_leave() && !life.leaving {
                life.leaving = true;
                life.occupant.leave(now);
            }
            match life.occupant.step(now).await {
                Step::Worked => {}
                Step::Idle => {
                    self.arm(life);
                    return None;
                }
                Step::Last(exit) => return Some(exit),
            }
        }
        self.slot.doorbell.ring();
        None
    }

    /// Waits while a drill wants it to, and says whether it did.
    async fn stalled(&self) -> bool {
        let mut stalled = false;
        loop {
            let now = self.ground.world.now();
            let Some(stall) = self.slot.drill_stalls(now) else {
                if stalled {
                    self.slot.idle();
                }
                return stalled;
            };
            if !stalled {
                self.slot.busy_aside("stall", now);
                stalled = true;
            }
            let other_orders = poll_fn(|cx| if self.slot.drill_changed(stall, cx.waker()) { Poll::Ready(()) } else { Poll::Pending });
            match stall.until {
                // Either way the next round looks what is to be done.
                Some(until) => drop(tokio::time::timeout(until.saturating_duration_since(now), other_orders).await),
                None => other_orders.await,
            }
        }
    }

    /// Sees to it that the doorbell rings at the deadline. A timer that is early enough is left alone: it finds nothing to do
    /// and is set again.
    fn arm(&self, life: &mut Incarnation<O>) {
        let now = self.ground.world.now();
        let Some(deadline) = life.occupant.deadline() else { return };
        let deadline = deadline.max(now + PAUSE);
        if life.armed.is_some_and(|armed| armed > now && armed <= deadline) {
            return;
        }
        life.timer.abort_all();
        while life.timer.try_join_next().is_some() {}
        life.armed = Some(deadline);
        let slot = Arc::clone(&self.slot);
        life.timer.spawn(async move {
            tokio::time::sleep(deadline.saturating_duration_since(now)).await;
            slot.doorbell.ring();
        });
    }
}

impl<O: Occupant> Actor for Shell<O> {
    type Msg = Wake;
    type State = Incarnation<O>;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Wake>, (): ()) -> Result<Incarnation<O>, ActorProcessingErr> {
        let now = self.ground.world.now();
        let (number, before) = self.slot.begin(now).map_err(|_| "an earlier life has not ended")?;
        if let Some(before) = before {
            self.ground.tree.restarted(self.slot.kind(), before.word());
        }
        let cell = myself.get_cell();
        let occupant = match std::panic::catch_unwind(AssertUnwindSafe(|| (self.make)(cell, now))) {
            Ok(occupant) => occupant,
            Err(panic) => {
                let exit = Exit::panicked(text(&*panic), "start");
                let reason = exit.to_string();
                self.slot.end(number, exit, now);
                return Err(reason.into());
            }
        };
        self.slot.idle();
        self.slot.doorbell.connect(Arc::new(move || {
            // Who has just ended needs not be woken.
            let _ = myself.send_message(Wake);
        }));
        self.slot.doorbell.ring();
        let slot = Arc::clone(&self.slot);
        let world = Arc::clone(&self.ground.world);
        Ok(Incarnation { slot, number, occupant, world, timer: JoinSet::new(), armed: None, leaving: false })
    }

    async fn handle(&self, myself: ActorRef<Wake>, Wake: Wake, life: &mut Incarnation<O>) -> Result<(), ActorProcessingErr> {
        self.slot.doorbell.answer();
        self.turn(&myself, life, None).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Wake>,
        event: SupervisionEvent,
        life: &mut Incarnation<O>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(child, ..) | SupervisionEvent::ActorFailed(child, _) => {
                self.turn(&myself, life, Some(child)).await
            }
            _ => Ok(()),
        }
    }
}

impl<O> Drop for Incarnation<O> {
    /// Killed, or dropped with its runtime: all other ends have been written down by now.
    fn drop(&mut self) {
        self.slot.end_from_outside(self.number, self.world.now());
    }
}

/// What a panic said.
pub(crate) fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text")
}

/// A body with its mailbox and its tasks.
pub(crate) struct Worker<B: Body> {
    body: B,
    mailbox: Arc<Mailbox<B::Message>>,
    world: Arc<dyn World>,
    running: JoinSet<()>,
    answers: Arc<Answers<B::Message>>,
    /// Tasks that run, or whose answer has not been handled.
    tasks: usize,
    expired: Option<Instant>,
    leaving: bool,
}

/// What the tasks of one life have brought. Bounded by how many tasks there may be.
struct Answers<M> {
    slot: Arc<Slot>,
    arrived: Mutex<VecDeque<Result<M, String>>>,
}

impl<B: Body> Worker<B> {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<B::Message>>,
        world: Arc<dyn World>,
        now: Instant,
        make: &(dyn Fn(&mut Turn<'_, B::Message>) -> B + Send + Sync),
    ) -> Self {
        let answers = Arc::new(Answers { slot: Arc::clone(mailbox.slot()), arrived: Mutex::default() });
        let chance = || world.chance();
        let mut turn = Turn::new(now, &chance, B::TASKS_MAX);
        let body = make(&mut turn);
        let tasks = turn.take_tasks();
        let world = Arc::clone(&world);
        let mut worker = Self { body, mailbox, world, running: JoinSet::new(), answers, tasks: 0, expired: None, leaving: false };
        worker.begin(tasks);
        worker
    }

    fn handle(&mut self, message: B::Message, now: Instant) -> Step {
        let step = self.turn(message.kind(), now, |body, turn| body.handle(message, turn));
        self.mailbox.slot().stats.handled.fetch_add(1, Relaxed);
        step
    }

    /// Lets the body have a turn.
    fn turn(&mut self, with: &'static str, now: Instant, act: impl FnOnce(&mut B, &mut Turn<'_, B::Message>)) -> Step {
        self.mailbox.slot().busy(with, now);
        let world = Arc::clone(&self.world);
        let chance = || world.chance();
        let mut turn = Turn::new(now, &chance, B::TASKS_MAX - self.tasks);
        act(&mut self.body, &mut turn);
        let last = turn.failed().map(Exit::gave_out).or_else(|| turn.finished().then_some(Exit::Finished));
        let tasks = turn.take_tasks();
        self.begin(tasks);
        self.mailbox.slot().idle();
        last.map_or(Step::Worked, Step::Last)
    }

    fn begin(&mut self, tasks: Vec<BoxFuture<'static, B::Message>>) {
        while self.running.try_join_next().is_some() {}
        self.tasks += tasks.len();
        for task in tasks {
            let answers = Arc::clone(&self.answers);
            self.running.spawn(async move {
                let answer = AssertUnwindSafe(task).catch_unwind().await.map_err(|panic| text(&*panic).to_string());
                answers.arrived.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer);
                answers.slot.doorbell.ring();
            });
        }
    }

    /// Whether the deadline is there. One that stays in the past counts once a [`PAUSE`].
    fn due(&self, now: Instant) -> bool {
        let paused = self.expired.is_none_or(|expired| expired + PAUSE <= now);
        paused && self.body.deadline().is_some_and(|deadline| deadline <= now)
    }
}

impl<B: Body> Occupant for Worker<B> {
    async fn step(&mut self, now: Instant) -> Step {
        if self.leaving {
            self.mailbox.slot().busy_aside("stop", now);
            self.body.stop(now);
            return Step::Last(Exit::Stopped);
        }
        let answer = self.answers.arrived.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(answer) = answer {
            self.tasks -= 1;
            return match answer {
                Ok(message) => self.handle(message, now),
                Err(text) => {
                    self.mailbox.slot().busy_aside("task", now);
                    panic!("a task panicked: {text}")
                }
            };
        }
        if self.due(now) {
            self.expired = Some(now);
            return self.turn("deadline", now, |body, turn| body.expire(turn));
        }
        let Some(message) = self.mailbox.take() else { return Step::Idle };
        self.handle(message, now)
    }

    fn child_ended(&mut self, _child: &ActorCell, _now: Instant) {
        unreachable!("nothing is ever linked below a body")
    }

    fn deadline(&self) -> Option<Instant> {
        self.body.deadline()
    }

    fn inspect(&self, now: Instant) -> Value {
        self.body.inspect(now)
    }

    fn leave(&mut self, _now: Instant) {
        self.leaving = true;
    }

    async fn clear_up(&mut self) {
        self.running.abort_all();
    }
}
