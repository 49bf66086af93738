//! The wire between peers: messages, the frame around them, and the size limits that hold before anything is decoded.
//!
//! A node on its own has no peers, so nothing is here yet; this crate gets its first frame with the first peer link.
