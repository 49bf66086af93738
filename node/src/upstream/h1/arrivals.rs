//! Reading what an endpoint has sent, without a buffer for each connection.

use bytes::{Bytes, BytesMut};
use cluster::BoxStream;
use std::{
    cell::RefCell,
    future::Future as _,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncReadExt as _;

/// At most this much is read at once.
const READ_MAX: usize = 128 * 1024;

/// A piece that is larger than this keeps the memory that it was read into; a smaller one is copied out of it, so that
/// it does not hold on to all of it.
const COPIED_MAX: usize = 8 * 1024;

thread_local! {
    /// Read into by every connection of the thread, one at a time.
    static ROOM: RefCell<BytesMut> = RefCell::default();
}

/// What has arrived; nothing at all if the other side will send no more.
pub(super) fn poll(stream: &mut BoxStream, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    ROOM.with_borrow_mut(|room| {
        room.clear();
        if room.capacity() < READ_MAX / 2 {
            room.reserve(READ_MAX);
        }
        let read = ready!(pin!(stream.read_buf(room)).poll(cx))?;
        Poll::Ready(Ok(if read > COPIED_MAX { room.split().freeze() } else { Bytes::copy_from_slice(room) }))
    })
}
