//! What a node tells its operators: numbers, one line a request, and whose trace a request belongs to.
//!
//! Everything belongs to one node. There is no global recorder and no global subscriber, so that one process may hold
//! many nodes. The request path holds handles that were made with its revision and touches atomics only; whatever
//! formats, writes or takes a lock happens elsewhere, and what cannot be kept is dropped and counted, never waited for.

pub mod access_log;
pub mod histogram;
pub mod metrics;
pub mod request_id;
pub mod traces;
