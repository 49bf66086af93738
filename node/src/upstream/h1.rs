//! One HTTP/1.1 connection to an endpoint, driven by whoever holds it.
//!
//! A codec of our own, for three reasons: an exchange is driven in place by the request that needs it, without a task
//! or a channel between the two; an idle connection holds no buffer; and an answer that two readers could take for two
//! different ones is refused here, before anybody acts on it. What is decided about bytes is decided in the files below
//! this one, which know no socket.

mod arrivals;
mod body;
mod head;
mod sending;

pub(crate) use self::{body::BodyError, head::RequestHead};

use self::{
    body::Remaining,
    head::{Asked, HeadError, Parsed},
    sending::Sending,
};
use crate::{request::Upload, upstream::permit::Permit};
use bytes::{Buf as _, Bytes, BytesMut};
use cluster::BoxStream;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::client::conn::TrySendError;
use std::{
    error::Error,
    fmt,
    future::{Future as _, poll_fn},
    io,
    pin::pin,
    task::{Context, Poll, ready},
};
use tokio::task::unconstrained;

/// An endpoint that sends a longer head than this gets no second chance.
const HEAD_MAX: usize = 64 * 1024;

/// Interim answers (1xx) to one request.
const INTERIM_MAX: u32 = 64;

pub(crate) struct H1 {
    stream: BoxStream,
    sending: Sending,
    asked: Asked,
    /// Of a head that has not come whole.
    partial: BytesMut,
    /// What has come after the head and is not read yet.
    rest: Bytes,
    remaining: Remaining,
    /// Whether the endpoint keeps the connection open behind this answer.
    persistent: bool,
    interim: u32,
    /// Whether it has been idle before: only then may its loss be the endpoint's idle timeout.
    pub(super) used: bool,
    /// Ticks of the pool at which it was opened and last given back.
    pub(super) opened: u32,
    pub(super) idle_since: u32,
    permit: Permit,
}

/// Why an exchange ended without an answer.
pub(crate) enum ExchangeError {
    /// Nothing of the request has reached the connection: its body is here again, whole.
    Unsent(Upload),
    /// The endpoint may have seen the request.
    Broken(Box<dyn Error + Send + Sync>),
    /// The connection ended without a word.
    Closed,
    /// What came is no answer, or could be read as two different ones.
    Garbled(HeadError),
}

impl From<TrySendError<Request<Upload>>> for ExchangeError {
    fn from(mut error: TrySendError<Request<Upload>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(request.into_body()),
            None => Self::Broken(error.into_error().into()),
        }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(_) => f.write_str("connection closed before the request was sent"),
            Self::Broken(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("connection closed without an answer"),
            Self::Garbled(error) => write!(f, "the answer's head is not acceptable: {error}"),
        }
    }
}

/// What an endpoint's connection becomes when it agrees to an upgrade: the bytes that came behind its answer, and
/// the connection, which counts as one of the endpoint's for as long as the permit is held.
pub(crate) struct Tunnel {
    pub(crate) first: Bytes,
    pub(crate) stream: BoxStream,
    pub(crate) permit: Permit,
}

impl H1 {
    pub(super) fn open(stream: BoxStream, permit: Permit, tick: u32) -> Box<Self> {
        Box::new(Self {
            stream,
            sending: Sending::default(),
            asked: Asked::default(),
            partial: BytesMut::new(),
            rest: Bytes::new(),
            remaining: Remaining::Done,
            persistent: true,
            interim: 0,
            used: false,
            opened: tick,
            idle_since: tick,
            permit,
        })
    }

    /// Whether an idle connection is still open, and silent as it should be.
    ///
    /// Asked outside tokio's budget: a task that has used it up is told of every stream that nothing has come, and would take
    /// what is closed, or holds somebody's bytes, for silent.
    pub(super) fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        pin!(unconstrained(poll_fn(|cx| arrivals::poll(&mut self.stream, cx)))).poll(cx).is_pending()
    }

    /// Whether the exchange before is over in every respect, so that the next one may begin.
    pub(super) fn is_ready(&self) -> bool {
        self.persistent && self.sending.is_complete() && self.is_ended() && self.rest.is_empty()
    }

    /// Nobody drives it until it is taken again.
    pub(super) fn rest(&mut self, tick: u32) {
        self.idle_since = tick;
        self.used = true;
        self.permit.rest();
    }

    /// Makes the request ready to be sent. [`H1::poll_head`] sends it.
    pub(crate) fn begin(&mut self, head: &RequestHead<'_>, upload: Upload) {
        self.interim = 0;
        self.asked = head.asked();
        self.sending.begin(head, upload);
    }

    /// Sends, and waits for the head of the answer. The body behind it comes from [`H1::poll_frame`].
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, ExchangeError>> {
        self.sending.poll(&mut self.stream, cx);
        if let Some(upload) = self.sending.take_unsent() {
            return Poll::Ready(Err(ExchangeError::Unsent(upload)));
        }
        if self.sending.is_cut_short() {
            return Poll::Ready(Err(self.lost(None)));
        }
        loop {
            // A failure to send is told only if there is no answer: an endpoint may refuse a body, say so, and close.
            let arrived = match ready!(self.poll_arrival(cx)) {
                Ok(arrived) => arrived,
                Err(error) => return Poll::Ready(Err(self.lost(Some(error)))),
            };
            if arrived.is_empty() {
                return Poll::Ready(Err(self.lost(None)));
            }
            match self.read_head(arrived) {
                Ok(None) => {}
                Ok(Some(response)) => return Poll::Ready(Ok(response)),
                Err(error) => return Poll::Ready(Err(ExchangeError::Garbled(error))),
            }
        }
    }

    /// What has arrived. Whoever waits for it also hears that the connection has to end.
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let arrived = arrivals::poll(&mut self.stream, cx);
        if arrived.is_pending() && self.permit.poll_cut(cx).is_ready() {
            return Poll::Ready(Err(io::Error::other("the endpoint has left, and the time that it had is over")));
        }
        arrived
    }

    fn lost(&mut self, error: Option<io::Error>) -> ExchangeError {
        match self.sending.take_failure().or(error) {
            Some(error) => ExchangeError::Broken(error.into()),
            None => ExchangeError::Closed,
        }
    }

    fn read_head(&mut self, arrived: Bytes) -> Result<Option<Response<()>>, HeadError> {
        let ends_a_line = arrived.contains(&b'\n');
        let mut whole = if self.partial.is_empty() {
            arrived
        } else {
            self.partial.extend_from_slice(&arrived);
            std::mem::take(&mut self.partial).freeze()
        };
        // Only the end of a line can end a head: reading it anew for each byte that drips in would be work for nothing.
        while ends_a_line && !whole.is_empty() {
            match head::parse(&whole, self.asked)? {
                Parsed::Partial => break,
                Parsed::Interim(length) if length > HEAD_MAX => return Err(HeadError::TooLarge),
                Parsed::Final(parsed) if parsed.length > HEAD_MAX => return Err(HeadError::TooLarge),
                Parsed::Interim(length) => {
                    self.interim += 1;
                    if self.interim > INTERIM_MAX {
                        return Err(HeadError::Interim);
                    }
                    whole.advance(length);
                }
                Parsed::Final(parsed) => {
                    whole.advance(parsed.length);
                    self.rest = whole;
                    self.remaining = parsed.remaining;
                    self.persistent = parsed.persistent;
                    return Ok(Some(Response::from_parts(parsed.head, ())));
                }
            }
        }
        if whole.len() > HEAD_MAX {
            return Err(HeadError::TooLarge);
        }
        self.partial = whole.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
        Ok(None)
    }

    /// The next piece of the answer's body; what is left of the request goes on being sent meanwhile.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.sending.poll(&mut self.stream, cx);
        if self.sending.is_cut_short() {
            return Poll::Ready(Some(Err(BodyError::Request)));
        }
        loop {
            match self.remaining.take(&mut self.rest) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.is_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            let arrived = match ready!(self.poll_arrival(cx)) {
                Ok(arrived) => arrived,
                Err(error) => return Poll::Ready(Some(Err(BodyError::Lost(error)))),
            };
            if arrived.is_empty() {
                return Poll::Ready(self.remaining.closed().err().map(Err));
            }
            self.rest = arrived;
        }
    }

    /// Whether nothing of the answer is left to come.
    pub(crate) fn is_ended(&self) -> bool {
        self.remaining.is_done()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.remaining.size_hint()
    }

    pub(crate) fn into_tunnel(self: Box<Self>) -> Tunnel {
        let Self { stream, rest, permit, .. } = *self;
        Tunnel { first: rest, stream, permit }
    }
}
