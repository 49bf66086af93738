//! One process: listeners, the journey of a request, admin, start and drain.

pub mod admin;
pub mod cli;
pub mod cluster;
mod drain;
pub mod explain;
pub mod json;
pub mod listener;
mod memory;
mod node;
pub mod problem;
mod rehearsal;
pub mod reload;
pub mod request;
mod snapshot;
pub mod startup;
mod supervision;
pub mod telemetry;
pub mod tls;
mod upstream;
pub mod world;

pub use cluster::part::{Given, PartError};
pub use drain::Leaving;
pub use rehearsal::{Obstacle, Rehearsal, obstacles, rehearse};
pub use startup::{Running, StartError, start, start_given};
