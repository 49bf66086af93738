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

/// Where the bytes come from.
pub(crate) enum From {
    /// Driven from here, and given back as soon as the body is complete.
    H1 { connection: Box<H1>, upstream: Arc<Upstream> },
    /// Driven by a task of its own; the hold on it ends with the body.
    H2 { incoming: Incoming, _stream: Stream },
    /// There is no more, and nothing is held.
    Nowhere,
}

impl From {
    fn is_ended(&self) -> bool {
        match self {
            Self::H1 { connection, .. } => connection.is_ended(),
            Self::H2 { incoming, .. } => incoming.is_end_stream(),
            Self::Nowhere => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1 { connection, .. } => connection.size_hint(),
            Self::H2 { incoming, .. } => incoming.size_hint(),
            Self::Nowhere => SizeHint::with_exact(0),
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let broken = |error: &dyn fmt::Display| AnswerError::Broken(error.to_string());
        match self {
            Self::H1 { connection, .. } => connection.poll_frame(cx).map_err(|error| broken(&error)),
            Self::H2 { incoming, .. } => Pin::new(incoming).poll_frame(cx).map_err(|error| broken(&error)),
            Self::Nowhere => Poll::Ready(None),
        }
    }

    /// Lets go of it, and gives back a connection that can carry another request.
    fn complete(&mut self) {
        if let Self::H1 { connection, upstream } = std::mem::replace(self, Self::Nowhere) {
            upstream.give_back(connection);
        }
    }
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
    pub(crate) fn new(from: From, idle_max: Duration, deadline: Option<Pin<Box<Sleep>>>) -> Self {
        Self { from, idle_max, idle: None, moved: false, deadline, failed: None }
    }

    /// What came before a failure goes out before the failure is told: the codec throws away what it has not written by
    /// then, and a caller that sees no byte of an answer may take it that the request can be sent again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(self.poll_next(cx)) {
            Some(Err(error)) => {
                self.from = From::Nowhere;
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
            return Poll::Ready(Some(Err(AnswerError::Deadline)));
        }
        let Poll::Ready(frame) = self.from.poll_frame(cx) else { return self.poll_patience(cx) };
        self.moved = true;
        if self.from.is_ended() {
            self.from.complete();
        }
        Poll::Ready(frame)
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let idle = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.idle_max)));
        if std::mem::take(&mut self.moved) {
            let fresh = tokio::time::sleep(self.idle_max).deadline();
            idle.as_mut().reset(fresh);
        }
        ready!(idle.as_mut().poll(cx));
        Poll::Ready(Some(Err(AnswerError::Idle)))
    }
}

impl Answer {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { source: Source::Whole((!body.is_empty()).then_some(body)), trip: None, held: false }
    }

    /// A body that is still being sent. One that turns out to be none frees its connection at once.
    pub(crate) fn streamed(mut streamed: Streamed) -> Self {
        if streamed.from.is_ended() {
            streamed.from.complete();
            return Self::whole(Bytes::new());
        }
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
            Source::Streamed(streamed) => streamed.failed.is_none() && streamed.from.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Source::Streamed(streamed) if streamed.failed.is_none() => streamed.from.size_hint(),
            Source::Streamed(_) => SizeHint::default(),
        }
    }
}
