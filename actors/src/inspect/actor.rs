//! Asks an actor for the state inside it, and does not wait long.

use super::{Slot, Snapshot};
use std::{future::poll_fn, task::Poll, time::Duration};

/// How long an actor may take to answer before it is shown as it is: busy, or down.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(100);

/// The state inside an actor, if it answers within [`ANSWER_WITHIN`]. Asking many actors at the same time takes no longer
/// than asking one.
pub async fn look_into(slot: &Slot) -> Snapshot {
    if !slot.occupied() {
        return Snapshot::Stale(slot.last_answer());
    }
    let given = slot.ask();
    let answer = poll_fn(|cx| match slot.answer_after(given, cx.waker()) {
        Some(state) => Poll::Ready(state),
        None => Poll::Pending,
    });
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(state) => Snapshot::Fresh(state),
        Err(_) => Snapshot::Stale(slot.last_answer()),
    }
}
