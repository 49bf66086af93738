//! The body around a [`Duty`]: it takes the duty up when its life begins, and ends with it.

use super::Duty;
use crate::{
    body::{Body, Turn},
    handles::{Mailbox, Message},
    supervisor::{Branch, Child},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};

/// The actor of a duty, to be added below `above`. `kind` is what operators filter by.
pub fn child(above: &Branch, name: &str, kind: &'static str, duty: Arc<dyn Duty>) -> Child {
    let mailbox = Mailbox::new(above.id().child(name), kind);
    Child::actor(&mailbox, move |turn| Performing::new(Arc::clone(&duty), turn))
}

/// The duty could not be gone on with.
pub(super) struct Ended(String);

impl Message for Ended {
    fn kind(&self) -> &'static str {
        "ended"
    }
}

/// One life of who performs it.
struct Performing {
    duty: Arc<dyn Duty>,
    since: Instant,
}

impl Performing {
    fn new(duty: Arc<dyn Duty>, turn: &mut Turn<'_, Ended>) -> Self {
        let task = Arc::clone(&duty).perform();
        turn.begin(Box::pin(async move { Ended(task.await) })).expect("a life begins without tasks");
        Self { duty, since: turn.now() }
    }
}

impl Body for Performing {
    type Message = Ended;

    const TASKS_MAX: usize = 1;

    fn handle(&mut self, Ended(why): Ended, turn: &mut Turn<'_, Ended>) {
        turn.fail(why);
    }

    fn inspect(&self, now: Instant) -> Value {
        let mut state = self.duty.inspect(now);
        if let Some(fields) = state.as_object_mut() {
            fields.insert("performed_for_ms".into(), json!(now.saturating_duration_since(self.since).as_millis() as u64));
        }
        state
    }
}
