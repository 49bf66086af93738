use super::*;
use crate::{pool::TICK, service::epoch};
use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

/// Connections as numbers, and what was done to them.
#[derive(Default)]
struct Scripted(Mutex<Script>);

#[derive(Default)]
struct Script {
    seen: Seen,
    warm: usize,
    /// Idle connections that have to go at the next look.
    old: usize,
    left: Option<Instant>,
    done: Vec<&'static str>,
}

impl Scripted {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().expect("no test panics in here")
    }

    fn did(&self, what: &'static str) {
        self.script().done.push(what);
    }

    fn take_done(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.script().done)
    }
}

impl Connections for Scripted {
    fn seen(&self) -> Seen {
        self.script().seen
    }

    fn policy(&self) -> PoolPolicy {
        PoolPolicy {
            max_connections: 100,
            max_idle: 50,
            warm: self.script().warm,
            idle: Duration::from_secs(60),
            age_max: Duration::from_secs(600),
            drain: Duration::from_secs(30),
        }
    }

    fn left(&self) -> Option<Instant> {
        self.script().left
    }

    fn reap(&self, _: Reap) {
        let mut script = self.script();
        let old = std::mem::take(&mut script.old);
        script.seen.open -= old;
        script.seen.idle -= old;
        drop(script);
        self.did("reap");
    }

    fn open(&self) -> BoxFuture<'static, bool> {
        self.did("open");
        Box::pin(std::future::ready(true))
    }

    fn close_all(&self) {
        self.did("close all");
    }

    fn gone(&self) {
        self.did("gone");
    }
}

/// A pool that is looked at whenever it wants to be.
struct Tended {
    tending: Tending,
    connections: Arc<Scripted>,
}

impl Tended {
    fn new(script: Script, epoch: Instant) -> Self {
        let connections = Arc::new(Scripted(Mutex::new(script)));
        Self { tending: Tending::new(connections.clone(), epoch), connections }
    }

    /// Looks at `now`, with room for so many tasks, and says what was done.
    fn look(&mut self, now: Instant, room: usize) -> Vec<&'static str> {
        self.tending.handle(Order::Look, &mut Turn::new(now, &|| 0, room));
        self.connections.take_done()
    }
}

#[test]
fn what_should_be_warm_is_opened_at_once() {
    let epoch = epoch();
    let mut tended = Tended::new(Script { warm: 2, ..Script::default() }, epoch);
    assert_eq!(tended.tending.deadline(), Some(epoch));
    assert_eq!(tended.look(epoch, 8), ["open", "open"]);
}

#[test]
fn what_grows_old_together_is_replaced_at_the_same_look() {
    let epoch = epoch();
    let seen = Seen { open: 2, idle: 2, streams: 1, ..Seen::default() };
    let mut tended = Tended::new(Script { warm: 2, seen, ..Script::default() }, epoch);
    assert_eq!(tended.look(epoch, 8), ["reap"]);
    tended.connections.script().old = 2;
    assert_eq!(tended.look(epoch + TICK, 8), ["reap", "open", "open"]);
    assert_eq!(tended.look(epoch + TICK, 8), Vec::<&str>::new(), "those are on their way");
}

#[test]
fn what_there_is_no_room_to_open_is_tried_again_later() {
    let epoch = epoch();
    let mut tended = Tended::new(Script { warm: 1, ..Script::default() }, epoch);
    tended.look(epoch, 0);
    assert_eq!(tended.tending.inspect(epoch)["open_failures"], 1);
    assert_eq!(tended.look(epoch + Duration::from_secs(60), 8), ["open"]);
}

#[test]
fn an_endpoint_that_has_left_is_drained_from_then_on_whoever_tends_it() {
    let left = epoch();
    let mut tended = Tended::new(Script { left: Some(left), seen: Seen { open: 1, ..Seen::default() }, ..Script::default() }, left);
    assert!(tended.look(left + TICK, 8).contains(&"reap"));
    // The life before ended, and the time that it gave is not given again.
    let connections = tended.connections;
    let mut next = Tended { tending: Tending::new(connections.clone(), left + 29 * TICK), connections };
    assert!(!next.look(left + 29 * TICK, 8).contains(&"close all"));
    assert!(next.look(left + 30 * TICK, 8).contains(&"close all"));
    next.connections.script().seen.open = 0;
    assert_eq!(next.look(left + 31 * TICK, 8), ["gone"]);
    assert_eq!(next.tending.deadline(), None);
    next.connections.script().left = None;
    next.look(left + 32 * TICK, 8);
    assert_eq!(next.tending.inspect(left)["phase"], "serving");
}

#[test]
fn what_was_lost_in_an_earlier_life_is_not_lost_again() {
    let seen = Seen { open: 10, idle: 10, lost: 100, ..Seen::default() };
    let epoch = epoch();
    let mut tended = Tended::new(Script { seen, ..Script::default() }, epoch);
    tended.look(epoch, 8);
    assert_eq!(tended.tending.inspect(epoch)["lost"], 0);
}
