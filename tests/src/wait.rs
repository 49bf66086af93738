//! Waiting for something to become true, never for time to pass: every wait has a bound, and says what it was for.

use std::{future::Future, time::Duration};

/// Longer than anything takes that works, on a machine that does several other things as well.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(3);

/// What `work` comes to. Panics where it takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(made) => made,
        Err(_elapsed) => panic!("waited in vain for {what}"),
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(())).await;
}

/// Waits until there is something to be had.
pub async fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(LOOK).await,
            }
        }
    })
    .await
}
