//! The node's long-lived parts, as brains: plain structs that take the time and chance as arguments and return
//! decisions. The request path reads what they publish and never waits for them.

pub mod limiter;
pub mod service;
