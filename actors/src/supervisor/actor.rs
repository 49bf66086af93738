//! The body of a supervisor: starts and stops what its brain says, and tells it what ended.
//!
//! It waits for nothing but the first moments of a child, which are a plain function of the child's. A child
//! that does not stop is the brain's affair: it has deadlines.

use super::{Branch, Effect, Outcome, Policy, Removal, Restart, Supervisor, branch::Listed};
use crate::{
    body::{
        Body, Turn,
        actor::{Ground, Occupant, Shell, Step, Worker},
    },
    handles::Mailbox,
    inspect::{Exit, Id, Slot},
};
use cluster::BoxFuture;
use ractor::{ActorCell, ActorId, SpawnErr};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// How long an actor may take to stop: its last message and its last turn, neither of which waits for anything.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What a supervisor may take longer than its children: killing them, and noticing it.
const MARGIN: Duration = Duration::from_secs(2);

/// How long a supervisor that failed waits for its children to end, so that the next life finds their places free.
const CLEAR_WITHIN: Duration = Duration::from_secs(1);

pub(crate) type Spawned = Result<(ActorCell, JoinHandle<()>), SpawnErr>;

/// What starts a child, every time that it has to be started.
trait Spawn: Send + Sync {
    fn spawn(&self, ground: Ground, above: Option<ActorCell>) -> BoxFuture<'_, Spawned>;

    /// It is not started again.
    fn close(&self);
}

/// A child that a supervisor is to have.
#[derive(Clone)]
pub struct Child {
    slot: Arc<Slot>,
    spawn: Arc<dyn Spawn>,
    pub(super) restart: Restart,
    pub(super) stop_within: Duration,
}

impl Child {
    /// An actor that reads `mailbox`. `make` makes a body at the beginning of each life.
    pub fn actor<B: Body>(
        mailbox: &Arc<Mailbox<B::Message>>,
        make: impl Fn(&mut Turn<'_, B::Message>) -> B + Send + Sync + 'static,
    ) -> Self {
        let slot = Arc::clone(mailbox.slot());
        let spawn = SpawnActor::<B> { mailbox: Arc::clone(mailbox), make: Arc::new(make) };
        Self { slot, spawn: Arc::new(spawn), restart: Restart::Permanent, stop_within: STOP_WITHIN }
    }

    /// A supervisor with the children on its list.
    pub fn supervisor(branch: &Arc<Branch>) -> Self {
        Self {
            slot: Arc::clone(branch.slot()),
            spawn: Arc::new(SpawnSupervisor(Arc::clone(branch))),
            restart: Restart::Permanent,
            stop_within: branch.policy().stop_within + MARGIN,
        }
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(crate) fn close(&self) {
        self.spawn.close();
    }

    pub(crate) async fn spawn(&self, ground: &Ground, above: Option<ActorCell>) -> Spawned {
        self.spawn.spawn(ground.clone(), above).await
    }
}

type MakeBody<B> = Arc<dyn Fn(&mut Turn<'_, <B as Body>::Message>) -> B + Send + Sync>;

struct SpawnActor<B: Body> {
    mailbox: Arc<Mailbox<B::Message>>,
    make: MakeBody<B>,
}

impl<B: Body> Spawn for SpawnActor<B> {
    fn spawn(&self, ground: Ground, above: Option<ActorCell>) -> BoxFuture<'_, Spawned> {
        let (mailbox, make, world) = (Arc::clone(&self.mailbox), Arc::clone(&self.make), Arc::clone(&ground.world));
        let occupant = move |_, now| Worker::new(Arc::clone(&mailbox), Arc::clone(&world), now, &*make);
        Box::pin(Shell::new(Arc::clone(self.mailbox.slot()), ground, Box::new(occupant)).spawn(above))
    }

    fn close(&self) {
        self.mailbox.close();
    }
}

struct SpawnSupervisor(Arc<Branch>);

impl Spawn for SpawnSupervisor {
    fn spawn(&self, ground: Ground, above: Option<ActorCell>) -> BoxFuture<'_, Spawned> {
        let (branch, below) = (Arc::clone(&self.0), ground.clone());
        let occupant = move |myself, _| Supervising::new(Arc::clone(&branch), below.clone(), myself);
        Box::pin(Shell::new(Arc::clone(self.0.slot()), ground, Box::new(occupant)).spawn(above))
    }

    fn close(&self) {
        self.0.close();
    }
}

/// One life of a supervisor.
struct Supervising {
    branch: Arc<Branch>,
    ground: Ground,
    myself: ActorCell,
    brain: Supervisor,
    /// Changes of the list that are taken into account.
    seen: Option<u64>,
    /// As the list was then.
    known: BTreeMap<Id, Listed>,
    /// Taken off the list, and not ended yet.
    leaving: BTreeMap<Id, Listed>,
    alive: BTreeMap<Id, (ActorCell, Arc<Slot>)>,
    by_cell: HashMap<ActorId, Id>,
}

impl Supervising {
    fn new(branch: Arc<Branch>, ground: Ground, myself: ActorCell) -> Self {
        let brain = Supervisor::new(branch.policy());
        Self {
            branch,
            ground,
            myself,
            brain,
            seen: None,
            known: BTreeMap::new(),
            leaving: BTreeMap::new(),
            alive: BTreeMap::new(),
            by_cell: HashMap::new(),
        }
    }

    /// Brings what there is closer to the list.
    fn compare(&mut self, now: Instant) {
        let Some((changes, list)) = self.branch.changed(self.seen) else { return };
        self.seen = Some(changes);
        let numbers: HashMap<&Id, u64> = list.iter().map(|listed| (listed.child.id(), listed.number)).collect();
        let unwanted: Vec<Id> =
            self.known.iter().filter(|(id, known)| numbers.get(id) != Some(&known.number)).map(|(id, _)| id.clone()).collect();
        for id in unwanted {
            let Some(listed) = self.known.remove(&id) else { continue };
            match self.brain.remove(&id, now) {
                Removal::Stopping => drop(self.leaving.insert(id, listed)),
                Removal::Done | Removal::Unknown => self.forget(&listed),
            }
        }
        for listed in list {
            let id = listed.child.id().clone();
            if self.known.contains_key(&id) {
                continue;
            }
            // While it leaves, nobody is added: whoever is on the list then has no life to lose.
            if self.brain.add(listed.child.spec(), now).is_ok() {
                if !self.leaving.contains_key(&id) {
                    self.ground.tree.enter(listed.child.slot());
                }
                self.known.insert(id, listed);
            }
        }
    }

    fn forget(&self, listed: &Listed) {
        listed.child.close();
        self.ground.tree.leave(listed.child.slot());
    }

    /// Does what the brain wants until it wants nothing more.
    async fn perform(&mut self) -> Option<Outcome> {
        loop {
            let effects = self.brain.take_effects();
            if effects.is_empty() {
                return None;
            }
            for effect in effects {
                match effect {
                    Effect::Start(id) => self.start(id).await,
                    Effect::Stop(id) => {
                        if let Some((_, slot)) = self.alive.get(&id) {
                            slot.ask_to_leave();
                        }
                    }
                    Effect::Kill(id) => {
                        if let Some((cell, slot)) = self.alive.get(&id) {
                            slot.doom("it did not stop in time");
                            cell.kill();
                        }
                    }
                    Effect::Forget(id) => self.ended_for_good(&id),
                    Effect::Became { id, state, until } => {
                        if let Some(listed) = self.leaving.get(&id).or_else(|| self.known.get(&id)) {
                            listed.child.slot().show(state, until);
                        }
                    }
                    Effect::Left(outcome) => return Some(outcome),
                }
            }
        }
    }

    async fn start(&mut self, id: Id) {
        let now = self.ground.world.now();
        let chance = self.ground.world.chance();
        let Some(child) = self.known.get(&id).map(|listed| listed.child.clone()) else {
            // It was taken off the list at the same time; the brain hears of an end that it may forget.
            return self.brain.exited(&id, false, chance, now);
        };
        if child.slot().occupied() {
            return self.brain.postponed(&id, chance, now);
        }
        match child.spawn(&self.ground, Some(self.myself.clone())).await {
            Ok((cell, _)) => {
                self.by_cell.insert(cell.get_id(), id.clone());
                self.alive.insert(id.clone(), (cell, Arc::clone(child.slot())));
                self.brain.started(&id, now);
            }
            // It is not linked yet, so no event tells of it. What it died of stands in its story.
            Err(_) => {
                child.slot().bury(now);
                self.brain.exited(&id, true, chance, now);
            }
        }
        // A thousand children start on the threads that serve requests, which must not wait for all of them.
        tokio::task::yield_now().await;
    }

    fn ended_for_good(&mut self, id: &Id) {
        if let Some(listed) = self.leaving.remove(id) {
            self.forget(&listed);
            if let Some(successor) = self.known.get(id) {
                self.ground.tree.enter(successor.child.slot());
            }
        } else if let Some(listed) = self.known.remove(id) {
            self.branch.forget(listed.number);
            self.forget(&listed);
        }
    }
}

impl Occupant for Supervising {
    async fn step(&mut self, now: Instant) -> Step {
        self.branch.slot().busy("supervise", now);
        self.compare(now);
        if self.brain.deadline().is_some_and(|deadline| deadline <= now) {
            self.brain.expire(now);
        }
        let left = self.perform().await;
        self.branch.slot().idle();
        match left {
            Some(Outcome::Stopped { .. }) => Step::Last(Exit::Stopped),
            Some(Outcome::Escalated(reason)) => Step::Last(Exit::escalated(&reason)),
            None => Step::Idle,
        }
    }

    fn child_ended(&mut self, child: &ActorCell, now: Instant) {
        let Some(id) = self.by_cell.remove(&child.get_id()) else { return };
        let Some((_, slot)) = self.alive.remove(&id) else { return };
        // Whoever was killed has not said so itself.
        let failed = slot.bury(now).is_none_or(|exit| exit.failed());
        self.brain.exited(&id, failed, self.ground.world.chance(), now);
    }

    fn deadline(&self) -> Option<Instant> {
        self.brain.deadline()
    }

    fn inspect(&self, now: Instant) -> Value {
        let Policy { strategy, restarts_max, window, .. } = self.branch.policy();
        let children: Vec<Value> = self
            .brain
            .children()
            .map(|(id, state, until)| {
                let again = until.map(|until| until.saturating_duration_since(now).as_millis() as u64);
                json!({ "id": id.as_str(), "state": state.word(), "again_in_ms": again })
            })
            .collect();
        json!({
            "strategy": strategy.word(),
            "restarts_max": restarts_max,
            "window_ms": window.as_millis() as u64,
            "children": children,
        })
    }

    fn leave(&mut self, now: Instant) {
        self.brain.leave(now);
    }

    async fn clear_up(&mut self) {
        for (cell, slot) in self.alive.values().rev() {
            slot.doom("its supervisor ended");
            cell.kill();
        }
        let ended = async {
            for (cell, _) in self.alive.values() {
                // Without a bound of its own it cannot fail.
                let _ = cell.wait(None).await;
            }
        };
        // A child in the middle of a message cannot be interrupted. Its place is looked at again before it is filled.
        let _ = tokio::time::timeout(CLEAR_WITHIN, ended).await;
    }
}
