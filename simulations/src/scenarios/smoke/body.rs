//! A body of a few pieces with pauses between them, which may break off.

use crate::chance::Chance;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

#[derive(Default)]
pub(super) struct Pieces {
    pieces: VecDeque<Bytes>,
    pause: Duration,
    pausing: Option<Pin<Box<Sleep>>>,
    /// Whether its length is said beforehand.
    sized: bool,
    /// Whether it fails where the last piece would have been.
    cut: bool,
}

impl Pieces {
    /// Cuts `content` into one to four pieces.
    pub(super) fn of(content: &Bytes, chance: &mut Chance) -> Self {
        let mut pieces = VecDeque::new();
        let mut rest = content.clone();
        for _ in 0..chance.between(0..=3) {
            if rest.len() > 1 {
                pieces.push_back(rest.split_to(chance.between(1..=rest.len() as u64 - 1) as usize));
            }
        }
        pieces.push_back(rest);
        Self { pieces, pause: chance.millis(0..=15), pausing: None, sized: chance.one_in(2), cut: false }
    }

    /// Waits for so long between any two pieces.
    pub(super) fn halting(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    pub(super) fn cut(mut self) -> Self {
        self.cut = true;
        self
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(pausing) = &mut self.pausing {
            ready!(pausing.as_mut().poll(cx));
            self.pausing = None;
        }
        if self.cut && self.pieces.len() == 1 {
            return Poll::Ready(Some(Err(io::Error::other("the service breaks off"))));
        }
        let piece = self.pieces.pop_front();
        if piece.is_some() && !self.pieces.is_empty() {
            self.pausing = Some(Box::pin(sleep(self.pause)));
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        if self.sized { SizeHint::with_exact(length) } else { SizeHint::new() }
    }
}

/// `length` bytes that are the same for the same seed.
pub(super) fn content(length: u64, chance: &mut Chance) -> Bytes {
    let alphabet = b"abcdefghijklmnopqrstuvwxyz012345";
    (0..length).map(|_| alphabet[(chance.draw() >> 59) as usize]).collect()
}
