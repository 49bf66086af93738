//! The end of a simulated node: it drains, and what it leaves is put on record.

use crate::{
    history::{History, Id, Left},
    shim,
    world::SimWorld,
};
use cluster::World;
use hyper::StatusCode;
use node::Running;
use std::{path::Path, time::Duration};
use tokio::{runtime::Handle, time::sleep};

pub(super) struct Departure {
    /// How long the drain is announced before listeners close.
    pub(super) wait: Duration,
    /// What is open after so long is aborted.
    pub(super) bound: Duration,
    pub(super) access_log: &'static str,
}

/// Drains the node, and looks at what is left.
pub(super) async fn depart(running: Running, world: &SimWorld, departure: &Departure, history: &History) -> turmoil::Result {
    let began = shim::elapsed();
    running.drain(departure.wait, departure.bound).await;
    let drained_in = shim::elapsed() - began;
    // What was told to end takes a turn of the runtime to do so.
    sleep(Duration::from_millis(5)).await;
    let left = Left {
        connections: world.open_connections(),
        listeners: world.open_listeners(),
        tasks: Handle::current().metrics().num_alive_tasks(),
        drained_in,
    };
    let log = world.disk().read(Path::new(departure.access_log))?;
    let mut record = history.record();
    record.logged.extend(String::from_utf8_lossy(&log).lines().filter_map(logged));
    record.left.push(left);
    Ok(())
}

/// Whose line of the access log this is, and the status in it.
fn logged(line: &str) -> Option<(Id, StatusCode)> {
    let after = |key: &str| line.split_once(key).map(|(_, rest)| rest);
    let id = after(r#""x-request":""#)?.split('"').next().and_then(Id::parse)?;
    let status = after(r#""status":"#)?.split([',', '}']).next()?;
    Some((id, StatusCode::from_bytes(status.as_bytes()).ok()?))
}
