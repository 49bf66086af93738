//! Finishing and leaving, in three steps that every connection can see: announce, close, abort.
//!
//! Announced, a listener still accepts and serves, but says on every answer that the connection ends with it, so that
//! callers and load balancers go elsewhere at their own pace. Closed, it accepts nothing and ends idle connections.
//! Aborted, it drops what is still in flight.

use std::{
    pin::pin,
    sync::atomic::{AtomicU8, Ordering::SeqCst},
};
use tokio::sync::{Notify, futures::Notified};

/// How far something is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    Serving,
    Announced,
    Closed,
    Aborted,
}

/// How a node was told to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// Load balancers get the time to notice.
    Politely,
    AtOnce,
}

#[derive(Default)]
pub(crate) struct Drain {
    stage: AtomicU8,
    changed: Notify,
}

impl Drain {
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(SeqCst) {
            0 => Stage::Serving,
            1 => Stage::Announced,
            2 => Stage::Closed,
            _ => Stage::Aborted,
        }
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.stage() >= Stage::Announced
    }

    /// Goes on to a stage; never back.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, SeqCst);
        self.changed.notify_waiters();
    }

    /// Resolves at the next change. Poll it once before looking at [`Drain::stage`], so that no change is missed.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Waits until at least `stage` is reached.
    pub(crate) async fn reached(&self, stage: Stage) {
        loop {
            let mut changed = pin!(self.changed());
            changed.as_mut().enable();
            if self.stage() >= stage {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_later_stage_is_every_stage_before_it() {
        let drain = Arc::new(Drain::default());
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move {
                drain.reached(Stage::Announced).await;
                drain.reached(Stage::Closed).await;
            }
        });
        drain.advance(Stage::Closed);
        waiting.await.expect("the waiting task ends");
        drain.advance(Stage::Announced);
        assert_eq!(drain.stage(), Stage::Closed);
    }
}
