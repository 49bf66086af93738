//! The body of an answer on its way to the caller, and the end of a journey with it.

use crate::{
    request::Trip,
    upstream::{H1, Stream, Upstream},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Sleep;

pub(crate) struct Answer {
    source: Source,
    /// Gone once the journey has been told of.
    trip: Option<Box<Trip>>,
    /// Whether the connection, which is one of HTTP/2, could have a piece and does not ask for it.
    held: bool,
}

enum Source {
    Whole(Option<Bytes>),
    Streamed(Streamed),
}

/// A body that an endpoint is still sending.
pub(crate) struct Streamed {
    incoming: Incoming,
    from: From,
    idle_max: Duration,
    idle: Option<Pin<Box<Sleep>>>,
    /// Whether bytes came since `idle` was set.
    moved: bool,
    /// When the whole journey has to be over.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Why there is no more to come, until that is told.
    failed: Option<AnswerError>,
}

/// What keeps the bytes coming.
pub(crate) enum From {
    /// Driven from here, and given back as soon as the body is complete.
    H1 { connection: Option<Box<H1>>, upstream: Arc<Upstream> },
    /// Driven by a task of its own; the hold on it ends with the body.
    Shared(Option<Stream>),
}

#[derive(Debug)]
pub(crate) enum AnswerError {
    Broken(String),
    Idle,
    Deadline,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "the endpoint's answer broke off: {error}"),
            Self::Idle => f.write_str("the endpoint's answer stood still for too long"),
            Self::Deadline => f.write_str("the deadline passed before the answer was complete"),
        }
    }
}

impl Error for AnswerError {}

impl Streamed {
    pub(crate) fn new(incoming: Incoming, from: From, idle_max: Duration, deadline: Option<Pin<Box<Sleep>>>) -> Self {
        Self { incoming, from, idle_max, idle: None, moved: false, deadline, failed: None }
    }

    /// Frees the connection of an answer that has no body. False where there is one to come.
    pub(crate) fn complete_if_ended(&mut self, cx: &mut Context<'_>) -> bool {
        let ended = self.incoming.is_end_stream();
        if ended {
            self.complete(cx);
        }
        ended
    }

    /// What came before a failure goes out before the failure is told: the codec throws away what it has not written by
    /// then, and a caller that sees no byte of an answer may take it that the request can be sent again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(self.poll_next(cx)) {
            Some(Err(error)) => {
                self.failed = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        // Before the bytes: an endpoint that always has some would never be late.
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.abandon();
            return Poll::Ready(Some(Err(AnswerError::Deadline)));
        }
        match self.poll_incoming(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.moved = true;
                if self.incoming.is_end_stream() {
                    self.complete(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.abandon();
                Poll::Ready(Some(Err(AnswerError::Broken(error.to_string()))))
            }
            Poll::Ready(None) => {
                self.complete(cx);
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_patience(cx),
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        let From::H1 { connection: Some(connection), .. } = &mut self.from else { return frame };
        if frame.is_ready() {
            return frame;
        }
        // Nothing has arrived yet: move the connection, and look again.
        let done = connection.poll_drive(cx).is_ready();
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if done {
            // It must not be driven again, and what it has delivered is all there will be.
            self.abandon();
        }
        frame
    }

    fn complete(&mut self, cx: &mut Context<'_>) {
        match &mut self.from {
            From::H1 { connection, upstream } => {
                if let Some(connection) = connection.take() {
                    upstream.give_back(connection, cx);
                }
            }
            From::Shared(stream) => *stream = None,
        }
    }

    fn abandon(&mut self) {
        match &mut self.from {
            From::H1 { connection, .. } => *connection = None,
            From::Shared(stream) => *stream = None,
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let idle = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.idle_max)));
        if std::mem::take(&mut self.moved) {
            let fresh = tokio::time::sleep(self.idle_max).deadline();
            idle.as_mut().reset(fresh);
        }
        ready!(idle.as_mut().poll(cx));
        self.abandon();
        Poll::Ready(Some(Err(AnswerError::Idle)))
    }
}

impl Answer {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { source: Source::Whole((!body.is_empty()).then_some(body)), trip: None, held: false }
    }

    pub(crate) fn streamed(streamed: Streamed) -> Self {
        Self { source: Source::Streamed(streamed), trip: None, held: false }
    }

    /// Ties the end of the journey to the end of this body.
    pub(crate) fn ends(mut self, trip: Box<Trip>) -> Self {
        self.trip = Some(trip);
        if self.is_end_stream() {
            self.finish(None);
        }
        self.hold();
        self
    }

    fn hold(&mut self) {
        if let Some(trip) = self.trip.as_ref().filter(|trip| !trip.is_h1()) {
            trip.caller.pulse.holds();
            self.held = true;
        }
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.held)
            && let Some(trip) = &self.trip
        {
            trip.caller.pulse.releases();
        }
    }

    fn finish(&mut self, error: Option<&AnswerError>) {
        if let Some(trip) = self.trip.take() {
            trip.finish(error);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.release();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let answer = self.get_mut();
        answer.release();
        let frame = match &mut answer.source {
            Source::Whole(body) => body.take().map(|body| Ok(Frame::data(body))),
            Source::Streamed(streamed) => ready!(streamed.poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(trip), Some(data)) = (&mut answer.trip, frame.data_ref()) {
                    trip.bytes_out += data.len() as u64;
                }
                if answer.is_end_stream() {
                    answer.finish(None);
                }
                answer.hold();
            }
            Some(Err(error)) => {
                if let Some(trip) = answer.trip.take() {
                    trip.finish(Some(error));
                }
            }
            None => answer.finish(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(body) => body.is_none(),
            Source::Streamed(streamed) => streamed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Source::Streamed(streamed) => streamed.incoming.size_hint(),
        }
    }
}
