//! A task that starts the root, and starts it again by the same rules as any child of a supervisor.
//!
//! The node's startup owns it. A root that fails again and again is down for a while like anybody else, and requests go on
//! with what was published last; but not for as long, since without it nobody else is started again either.

use crate::{
    body::actor::Ground,
    inspect::Slot,
    supervisor::{Branch, Child, Effect, Outcome, Policy, Supervisor},
};
use ractor::ActorCell;
use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle};

/// How long a root is down that fails again and again, at first and at most.
const DOWN_MIN: Duration = Duration::from_secs(3);
const DOWN_MAX: Duration = Duration::from_secs(60);

pub struct Keeper {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts the root and all that is on its list.
    pub fn start(ground: Ground, root: &Arc<Branch>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let child = Child::supervisor(root);
        ground.tree.enter(child.slot());
        let mut brain =
            Supervisor::new(Policy { stop_within: child.spec().stop_within, down_min: DOWN_MIN, down_max: DOWN_MAX, ..Policy::default() });
        brain.add(child.spec(), ground.world.now()).expect("a new supervisor has room for its first child");
        let task = tokio::spawn(Keeping { brain, child, ground, stopping, alive: None }.keep());
        Self { stop, task }
    }

    /// Stops all actors, the last started first. It takes no longer than the root's policy says and a few seconds; whoever
    /// cannot be stopped by then is left behind.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // It ends by itself; there is nothing to be done about one that panicked.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeping {
    brain: Supervisor,
    child: Child,
    ground: Ground,
    stopping: watch::Receiver<bool>,
    alive: Option<Root>,
}

/// The root's life. Whoever drops it ends it.
struct Root {
    cell: ActorCell,
    slot: Arc<Slot>,
    ended: JoinHandle<()>,
}

impl Drop for Root {
    fn drop(&mut self) {
        self.slot.doom("its keeper ended");
        self.cell.kill();
    }
}

enum Event {
    Ended,
    Stop,
    Deadline,
}

impl Keeping {
    async fn keep(mut self) {
        let mut leaving = false;
        loop {
            if self.perform().await.is_some() {
                return;
            }
            let event = self.next(leaving).await;
            let now = self.ground.world.now();
            match event {
                Event::Ended => {
                    self.alive = None;
                    let failed = self.child.slot().bury(now).is_none_or(|exit| exit.failed());
                    self.brain.exited(self.child.id(), failed, self.ground.world.chance(), now);
                }
                Event::Stop => {
                    leaving = true;
                    self.brain.leave(now);
                }
                Event::Deadline => self.brain.expire(now),
            }
        }
    }

    async fn perform(&mut self) -> Option<Outcome> {
        loop {
            let effects = self.brain.take_effects();
            if effects.is_empty() {
                return None;
            }
            for effect in effects {
                match effect {
                    Effect::Start(_) => self.begin().await,
                    Effect::Stop(_) => self.child.slot().ask_to_leave(),
                    Effect::Kill(_) => {
                        if let Some(root) = &self.alive {
                            root.slot.doom("it did not stop in time");
                            root.cell.kill();
                        }
                    }
                    Effect::Became { state, until, .. } => self.child.slot().show(state, until),
                    Effect::Forget(_) => {}
                    Effect::Left(outcome) => return Some(outcome),
                }
            }
        }
    }

    async fn begin(&mut self) {
        let now = self.ground.world.now();
        let chance = self.ground.world.chance();
        if self.child.slot().occupied() {
            return self.brain.postponed(self.child.id(), chance, now);
        }
        match self.child.spawn(&self.ground, None).await {
            Ok((cell, ended)) => {
                self.alive = Some(Root { cell, slot: Arc::clone(self.child.slot()), ended });
                self.brain.started(self.child.id(), now);
            }
            Err(_) => {
                self.child.slot().bury(now);
                self.brain.exited(self.child.id(), true, chance, now);
            }
        }
    }

    async fn next(&mut self, leaving: bool) -> Event {
        let deadline = self.brain.deadline().map(|deadline| self.until(deadline));
        let Self { alive, stopping, .. } = self;
        let ended = async {
            match alive {
                // A life that was ended from outside has ended, too.
                Some(root) => drop((&mut root.ended).await),
                None => pending().await,
            }
        };
        let stop = async {
            match leaving {
                // A keeper that was dropped aborts this task anyway.
                false => drop(stopping.wait_for(|stop| *stop).await),
                true => pending().await,
            }
        };
        let sleep = async {
            match deadline {
                Some(wait) => tokio::time::sleep(wait).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ended => Event::Ended,
            () = stop => Event::Stop,
            () = sleep => Event::Deadline,
        }
    }

    fn until(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(self.ground.world.now())
    }
}
