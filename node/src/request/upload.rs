//! The caller's body on its way to an endpoint: counted, capped, timed, and kept as long as it may be sent again.

use bytes::Bytes;
use cluster::World;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::Sleep;

/// A body that may have to be sent twice is remembered up to here.
const KEPT_MAX: usize = 64 * 1024;

/// How long a body may take before it has to be faster than the listener's `body_rate_min`.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// A body that nobody wants is read up to here, so that the next request can follow it.
const SKIPPED_MAX: u64 = 64 * 1024;

/// How long that may take.
const SKIP_WAIT: Duration = Duration::from_secs(1);

/// What one attempt sends.
pub(crate) enum Upload {
    Empty,
    /// Sent once: whoever holds this holds the only copy.
    Once(Box<Paced>),
    /// Sent as often as needed, while what went before is still remembered.
    Again {
        kept: Arc<Kept>,
        next: usize,
    },
}

/// What the journey learns about a body that others consume.
#[derive(Default)]
pub(crate) struct Fate {
    bytes: AtomicU64,
    end: AtomicU8,
}

/// Why a body ended early, on the caller's side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Early {
    TooLarge,
    TooSlow,
    /// The caller went away, or sent what is no body.
    Broken,
}

/// What is written in the place of an [`Early`] when all of a body has come.
const COMPLETE: u8 = u8::MAX;

impl Fate {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn early(&self) -> Option<Early> {
        match self.end.load(Relaxed) {
            1 => Some(Early::TooLarge),
            2 => Some(Early::TooSlow),
            3 => Some(Early::Broken),
            _ => None,
        }
    }

    /// Whether nothing of the body is left to be read.
    pub(crate) fn is_complete(&self) -> bool {
        self.end.load(Relaxed) == COMPLETE
    }

    fn complete(&self) {
        self.end.store(COMPLETE, Relaxed);
    }

    fn end(&self, early: Early) -> UploadError {
        self.end.store(early as u8 + 1, Relaxed);
        UploadError(early)
    }
}

#[derive(Debug)]
pub(crate) struct UploadError(Early);

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Early::TooLarge => "the body is larger than allowed",
            Early::TooSlow => "the body came too slowly",
            Early::Broken => "the body ended early",
        })
    }
}

impl Error for UploadError {}

/// Bounds on one body.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// `u64::MAX` is no bound.
    pub(crate) size_max: u64,
    pub(crate) idle: Duration,
    pub(crate) rate_min: u64,
}

/// The caller's body under its bounds. Only time spent waiting for the caller counts against the caller.
pub(crate) struct Paced {
    incoming: Incoming,
    pace: Pace,
    fate: Arc<Fate>,
    world: Arc<dyn World>,
    /// Counted already, and not sent after all.
    unsent: Bytes,
    waiting_since: Option<Instant>,
    waited: Duration,
    idle: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(crate) fn new(incoming: Incoming, pace: Pace, fate: Arc<Fate>, world: Arc<dyn World>) -> Self {
        Self { incoming, pace, fate, world, unsent: Bytes::new(), waiting_since: None, waited: Duration::ZERO, idle: None }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if !self.unsent.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.unsent)))));
        }
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.poll_patience(cx),
        };
        if let Some(since) = self.waiting_since.take() {
            self.waited += self.world.now().saturating_duration_since(since);
        }
        Poll::Ready(match frame {
            None => {
                self.fate.complete();
                None
            }
            Some(Err(_)) => Some(Err(self.fate.end(Early::Broken))),
            Some(Ok(frame)) => Some(self.admit(frame)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.incoming.size_hint();
        hint.exact().map_or(hint, |length| SizeHint::with_exact(length + self.unsent.len() as u64))
    }

    fn admit(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, UploadError> {
        let Some(data) = frame.data_ref() else {
            // Trailers are the end, and nobody need ask for more to be told so.
            self.fate.complete();
            return Ok(frame);
        };
        let total = self.fate.bytes.fetch_add(data.len() as u64, Relaxed) + data.len() as u64;
        if total > self.pace.size_max {
            return Err(self.fate.end(Early::TooLarge));
        }
        let due = (self.pace.rate_min as f64 * self.waited.as_secs_f64()) as u64;
        if self.waited > RATE_GRACE && total < due {
            return Err(self.fate.end(Early::TooSlow));
        }
        if self.incoming.is_end_stream() {
            self.fate.complete();
        }
        Ok(frame)
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let idle = self.pace.idle;
        if self.waiting_since.is_none() {
            self.waiting_since = Some(self.world.now());
            match &mut self.idle {
                Some(sleep) => {
                    let until = sleep.deadline().max(self.waiting_since.map_or(sleep.deadline(), |now| (now + idle).into()));
                    sleep.as_mut().reset(until);
                }
                None => self.idle = Some(Box::pin(tokio::time::sleep(idle))),
            }
        }
        let sleep = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(self.fate.end(Early::TooSlow))))
    }
}

/// Reads a body to its end and forgets it. False where that would take too much, or too long.
pub(crate) async fn skip(body: &mut Incoming) -> bool {
    if body.size_hint().lower() > SKIPPED_MAX {
        return false;
    }
    let reading = async {
        let mut read = 0;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            let Ok(frame) = frame else { return false };
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > SKIPPED_MAX {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(SKIP_WAIT, reading).await.unwrap_or(false)
}

/// A body that can be sent again: the frames so far, and the rest of it.
pub(crate) struct Kept {
    length: SizeHint,
    slot: Mutex<Slot>,
}

struct Slot {
    rest: Option<Box<Paced>>,
    frames: VecDeque<Bytes>,
    size: usize,
    /// Frames that were let go because the body grew past `KEPT_MAX`.
    lost: usize,
}

impl Kept {
    pub(crate) fn new(paced: Paced) -> Arc<Self> {
        let length = paced.size_hint();
        let slot = Slot { rest: Some(Box::new(paced)), frames: VecDeque::new(), size: 0, lost: 0 };
        Arc::new(Self { length, slot: Mutex::new(slot) })
    }

    /// Whether another attempt could still send the whole body.
    pub(crate) fn is_whole(&self) -> bool {
        self.lock().lost == 0
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Slot {
    fn poll_frame(&mut self, next: &mut usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if *next < self.lost {
            // Only an attempt that was begun in spite of `is_whole` comes here.
            return Poll::Ready(Some(Err(UploadError(Early::Broken))));
        }
        if let Some(data) = self.frames.get(*next - self.lost) {
            *next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let frame = ready!(rest.poll_frame(cx));
        match &frame {
            None => self.rest = None,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    *next += 1;
                    self.remember(data.clone());
                }
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn remember(&mut self, data: Bytes) {
        self.size += data.len();
        self.frames.push_back(data);
        if self.size > KEPT_MAX {
            self.lost += self.frames.len();
            self.frames.clear();
        }
    }
}

impl Upload {
    /// Takes back a piece that was asked for and could not be sent.
    pub(crate) fn put_back(&mut self, piece: Bytes) {
        match self {
            Self::Empty => {}
            Self::Once(paced) => paced.unsent = piece,
            Self::Again { next, .. } => *next = next.saturating_sub(usize::from(!piece.is_empty())),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Once(paced) => paced.poll_frame(cx),
            Self::Again { kept, next } => kept.lock().poll_frame(next, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(paced) => paced.unsent.is_empty() && paced.incoming.is_end_stream(),
            Self::Again { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Once(paced) => paced.size_hint(),
            Self::Again { kept, .. } => kept.length,
        }
    }
}
