//! Who is here and who owns what; and the [`World`] that a node lives in.
//!
//! A node meets the outside only through its world: the clock, chance, sockets, names, blocking work and the disk.
//! The real one is `node/src/world.rs`, the simulated one lives in `simulations`. That is what lets the same node run
//! on a network and a clock that a seed decides.

pub mod dns;
pub mod gossip;
pub mod health;
pub mod keyring;
pub mod limits;
pub mod member;
pub mod peers;
pub mod store;
pub mod token;
pub mod topology;
pub mod trust;
pub mod views;
mod world;

pub use world::*;
