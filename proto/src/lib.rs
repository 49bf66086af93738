//! The wire between peers: messages, the frame around them, and the size limits that hold before anything is decoded.
//!
//! `proto/shoal/peer/v1/peer.proto` lists the calls and the messages that evolve. [`frame`] is what a link carries and the
//! only decoder of it; [`codec`] puts both on a tonic stream, with a limit for each kind of message.

pub mod codec;
pub mod frame;

#[allow(
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "written by tonic and prost"
)]
mod peer {
    tonic::include_proto!("shoal.peer.v1");
}

pub use peer::{
    AskReply, AskRequest, EnrolReply, EnrolRequest, Hello, Refusal, Signer,
    peer_client::PeerClient,
    peer_server::{Peer, PeerServer},
    refusal::Reason,
};

/// The protocols that this build speaks on a link: the newest, and the one before it.
pub const PROTOCOLS: std::ops::RangeInclusive<u32> = 1..=1;
