//! What the tests share: whole nodes on loopback, endpoints that can misbehave, and callers that are not shoal.
//!
//! Nothing in here is made of the gateway's own parts, except for the node that is under test: whoever checks what it
//! sends reads it for himself.

#![expect(clippy::disallowed_methods, reason = "a node is met from outside here, over real sockets and with real files")]

pub mod caller;
pub mod certificates;
pub mod cluster;
pub mod dns;
pub mod gateway;
pub mod h1;
pub mod h2;
pub mod http2;
pub mod origin;
pub mod peers;
pub mod wait;
pub mod websocket;

pub use caller::{Answer, Caller, ask, get, request};
pub use dns::NameServer;
pub use gateway::{Gateway, in_front_of, listener};
pub use origin::{Exchange, Origin, Recorded};
