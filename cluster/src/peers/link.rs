//! One conversation with a peer, from the first frame to the last.
//!
//! Whoever dialed says hello first. Each side judges the other's hello; a refusal is said and is the last thing said. The side
//! that was dialed takes the link for one when the first frame after its hello has come, so that both have agreed by then.

use super::{
    Inner, LinkView,
    bound::Bound,
    clock::{Clock, Patience, Sign},
    counts::Counts,
    hello::{self, Peer, Refused, refusal},
    outbox::{Next, Outbox, Put},
    table::Claim,
};
use crate::trust::Identity;
use futures_util::Stream;
use proto::{
    PeerClient, Reason, Refusal,
    codec::Sealed,
    frame::{self, Frame, FrameError, Kind},
};
use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, Sleep, interval, sleep, timeout},
};
use tonic::{Code, Status, Streaming, transport::Channel};

/// A link that both sides have agreed to.
pub(super) struct Link {
    pub(super) peer: Arc<Peer>,
    pub(super) dialed_by_us: bool,
    since: Instant,
    line: Arc<Line>,
    order: watch::Sender<Option<Order>>,
    /// For calls beside the link, if we dialed.
    pub(super) client: Option<PeerClient<Channel>>,
}

/// Why a link is to end that has done nothing wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Another one has taken its place.
    Replaced,
    Unwanted,
}

/// Why a peer has no link any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lost {
    /// It said that it leaves.
    Left,
    /// It has started again.
    Restarted,
    /// It closed the link without a word.
    Closed,
    Broken(String),
    /// Nothing was heard for too long.
    Silent,
    /// It reads nothing any more.
    Stuck,
    /// What came was no frame.
    Malformed(String),
    /// A frame that has no place in a link that stands.
    OutOfTurn(Kind),
    Refused(Reason),
    /// Nobody here wants it.
    Unwanted,
    /// What ran it was dropped.
    Ended,
}

/// What came of dialing, or of being dialed.
#[derive(Debug)]
pub(super) enum Ended {
    Linked { lasted: Duration },
    Refused(Reason),
    Failed(String),
}

impl Link {
    pub(super) fn send(&self, frame: Frame, counts: &Counts) -> bool {
        self.line.put(frame, counts)
    }

    pub(super) fn order(&self, order: Order) {
        self.order.send_replace(Some(order));
    }

    pub(super) fn sign(&self, now: Instant, patience: &Patience) -> Sign {
        self.line.clock().sign(patience, now)
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(super) fn view(&self, now: Instant, patience: &Patience) -> LinkView {
        let clock = self.line.clock();
        let ((frames_in, bytes_in), (frames_out, bytes_out)) = (self.line.received.total(), self.line.sent.total());
        LinkView {
            peer: Arc::clone(&self.peer),
            dialed_by_us: self.dialed_by_us,
            age: self.age(now),
            silence: clock.silence(now),
            sign: clock.sign(patience, now),
            round_trip: clock.round_trip(),
            offset_micros: clock.offset_micros(),
            bytes_in,
            bytes_out,
            frames_in,
            frames_out,
        }
    }
}

/// What both directions of a conversation share, from before it is known who is there.
pub(super) struct Line {
    mail: Mutex<Mail>,
    clock: Mutex<Clock>,
    received: Volume,
    sent: Volume,
}

struct Mail {
    outbox: Outbox,
    waker: Option<Waker>,
    /// When the connection last asked for something to send.
    moved: Instant,
}

#[derive(Default)]
struct Volume {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Volume {
    fn add(&self, bytes: usize) {
        self.frames.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn total(&self) -> (u64, u64) {
        (self.frames.load(Relaxed), self.bytes.load(Relaxed))
    }
}

impl Line {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        let mail = Mail { outbox: Outbox::default(), waker: None, moved: now };
        Arc::new(Self { mail: Mutex::new(mail), clock: Mutex::new(Clock::new(now)), received: Volume::default(), sent: Volume::default() })
    }

    pub(super) fn put(&self, frame: Frame, counts: &Counts) -> bool {
        let put = self.change(|outbox| outbox.put(frame));
        let dropped = match put {
            Put::Kept => 0,
            Put::Overtook(older) => older as u64,
            Put::Full => 1,
        };
        counts.dropped.fetch_add(dropped, Relaxed);
        put != Put::Full
    }

    /// Says this as the last thing, and nothing if there is nothing to say.
    fn end(&self, last: Option<Refusal>) {
        self.change(|outbox| {
            if let Some(refusal) = last {
                outbox.put(Frame::Refusal(refusal));
            }
            outbox.end();
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut mail = self.mail();
        let changed = change(&mut mail.outbox);
        let waker = mail.waker.take();
        drop(mail);
        if let Some(waker) = waker {
            waker.wake();
        }
        changed
    }

    /// For how long the connection has taken nothing although something waits.
    fn stuck(&self, now: Instant) -> Duration {
        let mail = self.mail();
        if mail.outbox.waits() { now.saturating_duration_since(mail.moved) } else { Duration::ZERO }
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the connection sends: it takes from the outbox when it has room, and not before.
pub(super) struct Outgoing {
    inner: Arc<Inner>,
    line: Arc<Line>,
}

impl Outgoing {
    pub(super) fn new(inner: &Arc<Inner>, line: &Arc<Line>) -> Self {
        Self { inner: Arc::clone(inner), line: Arc::clone(line) }
    }

    fn seal(&self, frame: &Frame, counts: &Counts) -> Option<Sealed> {
        match frame.encode() {
            Ok(bytes) => {
                counts.sent.add(frame.kind(), bytes.len());
                self.line.sent.add(bytes.len());
                Some(Sealed(bytes))
            }
            Err(_) => {
                counts.dropped.fetch_add(1, Relaxed);
                None
            }
        }
    }
}

impl Stream for Outgoing {
    type Item = Sealed;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sealed>> {
        let world = &*self.inner.world;
        loop {
            let now = world.now();
            let next = {
                let mut mail = self.line.mail();
                mail.moved = now;
                let next = mail.outbox.next();
                if next == Next::Nothing {
                    mail.waker = Some(cx.waker().clone());
                }
                next
            };
            let frame = match next {
                Next::Frame(frame) => frame,
                Next::Beat => Frame::Beat(self.line.clock().beat(now, world.wall())),
                Next::Nothing => return Poll::Pending,
                Next::End => return Poll::Ready(None),
            };
            if let Some(sealed) = self.seal(&frame, &self.inner.counts) {
                return Poll::Ready(Some(sealed));
            }
        }
    }
}

/// One side of a conversation.
pub(super) struct Conversation {
    pub(super) inner: Arc<Inner>,
    pub(super) identity: Identity,
    pub(super) address: SocketAddr,
    pub(super) line: Arc<Line>,
    /// The number of our attempt and the connection for calls beside the link, if we dialed.
    pub(super) dialed: Option<(u64, PeerClient<Channel>)>,
    pub(super) ear: Ear,
}

impl Conversation {
    /// Ends when the link has ended or was refused. `greeted` is dropped when the greeting is over.
    pub(super) async fn run<G>(mut self, greeted: G) -> Ended {
        let inner = Arc::clone(&self.inner);
        let greeting = timeout(inner.options.handshake, self.greet()).await;
        let mut registered = match greeting {
            Ok(Ok(registered)) => registered,
            Ok(Err(refused_or_lost)) => return self.not_linked(refused_or_lost).await,
            Err(_) => return self.not_linked(NoLink::Lost(Lost::Silent)).await,
        };
        drop(greeted);
        let why = self.talk(&registered.link).await;
        let lasted = registered.link.age(inner.world.now());
        registered.why = why.clone();
        drop(registered);
        self.part(&why).await;
        Ended::Linked { lasted }
    }

    async fn greet(&mut self) -> Result<Registered, NoLink> {
        let Frame::Hello(hello) = self.first_frame().await? else {
            return Err(self.refuse(refusal(Reason::Malformed, format_args!("{} did not say hello first", self.identity.node))));
        };
        let me = self.inner.me();
        let peer = match hello::judge(&me, &self.identity, &hello) {
            Ok(peer) => Arc::new(peer),
            Err(refusal) => return Err(self.refuse(refusal)),
        };
        let claim = Claim { peer, dialed_by_us: self.dialed.is_some(), dial: self.dialed.as_ref().map_or(hello.dial, |(dial, _)| *dial) };
        if self.dialed.is_some() {
            let introduced = (claim.peer.region != me.region).then(|| hello::introduced(&hello).collect());
            let registered = self.register(claim)?;
            self.inner.introduced(introduced.unwrap_or_default());
            return Ok(registered);
        }
        let admitted = self.inner.table().admits(&claim, |link| self.inner.silent(link));
        if let Err(refusal) = admitted {
            return Err(self.refuse(refusal));
        }
        let greeting = hello::introducing(hello::greeting(&me, 0), &self.inner.introductions(&claim.peer));
        self.line.put(Frame::Hello(greeting), &self.inner.counts);
        let first = self.first_frame().await?;
        let registered = self.register(claim)?;
        match self.take(&registered.link.peer, first) {
            None => Ok(registered),
            Some(lost) => Err(NoLink::Lost(lost)),
        }
    }

    /// A refusal is told here: where it is expected, it is not the end of a link that stood.
    async fn first_frame(&mut self) -> Result<Frame, NoLink> {
        match self.ear.hear(&self.inner, &self.line).await {
            Ok(Frame::Refusal(refusal)) => {
                let refused = Refused::new(false, Some(Arc::clone(&self.identity.node)), self.address, &refusal);
                self.inner.refused(&refused);
                Err(NoLink::Refused(refused.reason))
            }
            Ok(frame) => Ok(frame),
            Err(lost) => Err(NoLink::Lost(lost)),
        }
    }

    fn refuse(&self, refusal: Refusal) -> NoLink {
        let refused = Refused::new(true, Some(Arc::clone(&self.identity.node)), self.address, &refusal);
        self.line.end(Some(refusal));
        self.inner.refused(&refused);
        NoLink::Refused(refused.reason)
    }

    fn register(&self, claim: Claim) -> Result<Registered, NoLink> {
        let inner = &self.inner;
        let link = Arc::new(Link {
            peer: Arc::clone(&claim.peer),
            dialed_by_us: claim.dialed_by_us,
            since: inner.world.now(),
            line: Arc::clone(&self.line),
            order: watch::Sender::new(None),
            client: self.dialed.as_ref().map(|(_, client)| client.clone()),
        });
        // Comings and goings are told in the order in which they happen.
        let _telling = inner.telling();
        let inserted = inner.table().insert(claim, Arc::clone(&link), |link| inner.silent(link));
        let replaced = match inserted {
            Ok(replaced) => replaced,
            Err(refusal) => return Err(self.refuse(refusal)),
        };
        let known = replaced.as_ref().is_some_and(|older| older.peer == link.peer);
        if let Some(older) = replaced {
            older.order(Order::Replaced);
            if !known {
                inner.counts.lost.fetch_add(1, Relaxed);
                inner.inbox.lost(&older.peer, &Lost::Restarted);
            }
        }
        if !known {
            inner.counts.linked.fetch_add(1, Relaxed);
            inner.inbox.linked(&link.peer);
        }
        inner.changed();
        self.line.change(Outbox::beat);
        Ok(Registered { inner: Arc::clone(inner), link, why: Lost::Ended })
    }

    /// Until the link ends.
    async fn talk(&mut self, link: &Link) -> Lost {
        let mut orders = link.order.subscribe();
        let mut beats = interval(self.inner.options.beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut left = false;
        loop {
            let order = *orders.borrow_and_update();
            match order {
                Some(Order::Unwanted) => return Lost::Unwanted,
                Some(Order::Replaced) => {
                    self.listen_out(link).await;
                    return Lost::Ended;
                }
                None => {}
            }
            let heard = tokio::select! {
                biased;
                _ = orders.changed() => continue,
                _ = beats.tick() => {
                    if let Some(lost) = self.beat(link) {
                        return lost;
                    }
                    continue;
                }
                heard = self.ear.hear(&self.inner, &self.line) => heard,
            };
            let lost = match heard {
                Ok(frame) => {
                    left |= frame == Frame::Leave;
                    self.take(&link.peer, frame)
                }
                Err(Lost::Closed | Lost::Broken(_)) if left => Some(Lost::Left),
                Err(lost) => Some(lost),
            };
            if let Some(lost) = lost {
                return lost;
            }
        }
    }

    fn beat(&self, link: &Link) -> Option<Lost> {
        let (now, patience) = (self.inner.world.now(), &self.inner.options.patience);
        if link.sign(now, patience) == Sign::Dead {
            return Some(Lost::Silent);
        }
        if self.line.stuck(now) >= patience.dead {
            return Some(Lost::Stuck);
        }
        self.line.change(Outbox::beat);
        None
    }

    /// One frame of a link that stands.
    fn take(&self, peer: &Peer, frame: Frame) -> Option<Lost> {
        match frame {
            Frame::Beat(beat) => {
                let world = &self.inner.world;
                if !self.line.clock().learn(&beat, world.now(), world.wall()) {
                    self.inner.counts.implausible.fetch_add(1, Relaxed);
                }
                None
            }
            Frame::Gossip { .. } | Frame::Leave => {
                self.inner.inbox.frame(peer, frame);
                None
            }
            Frame::Refusal(refusal) => {
                let refused = Refused::new(false, Some(Arc::clone(&peer.node)), self.address, &refusal);
                self.inner.refused(&refused);
                Some(Lost::Refused(refused.reason))
            }
            Frame::Hello(_) => {
                self.inner.counts.malformed.fetch_add(1, Relaxed);
                Some(Lost::OutOfTurn(Kind::Hello))
            }
            Frame::Unknown { .. } => None,
        }
    }

    /// What is still under way on a link that was replaced.
    async fn listen_out(&mut self, link: &Link) {
        self.line.end(None);
        let listening = async {
            while let Ok(frame) = self.ear.hear(&self.inner, &self.line).await {
                if matches!(frame, Frame::Gossip { .. } | Frame::Leave) {
                    self.inner.inbox.frame(&link.peer, frame);
                }
            }
        };
        // Whether it closed or the time is over is the same.
        let _ = timeout(self.inner.options.linger, listening).await;
    }

    async fn not_linked(&mut self, why: NoLink) -> Ended {
        match why {
            NoLink::Refused(reason) => {
                self.drain().await;
                Ended::Refused(reason)
            }
            NoLink::Lost(lost) => {
                if self.dialed.is_none() {
                    self.inner.counts.unfinished.fetch_add(1, Relaxed);
                }
                self.part(&lost).await;
                Ended::Failed(lost.to_string())
            }
        }
    }

    /// Says why, if the peer may not know.
    async fn part(&mut self, why: &Lost) {
        let refusal = match why {
            Lost::Malformed(what) => {
                Some(refusal(Reason::Malformed, format_args!("{} has sent what is no frame: {what}", self.identity.node)))
            }
            Lost::OutOfTurn(kind) => Some(refusal(Reason::Malformed, format_args!("{} has sent a {kind} out of turn", self.identity.node))),
            Lost::Unwanted => None,
            _ => return,
        };
        if let Some(refusal) = &refusal {
            let refused = Refused::new(true, Some(Arc::clone(&self.identity.node)), self.address, refusal);
            self.inner.refused(&refused);
        }
        self.line.end(refusal);
        self.drain().await;
    }

    /// Gives what was said last a moment to arrive, and hears nothing any more.
    async fn drain(&mut self) {
        self.line.end(None);
        let drained = async {
            while self.ear.hear(&self.inner, &self.line).await.is_ok() {}
            if self.ear.spoiled {
                // It can still be told, and cannot be heard to have understood.
                std::future::pending::<()>().await;
            }
        };
        let _ = timeout(self.inner.options.linger, drained).await;
    }
}

enum NoLink {
    Refused(Reason),
    Lost(Lost),
}

/// What comes in, no faster than it may.
pub(super) struct Ear {
    incoming: Streaming<Sealed>,
    bound: Bound,
    pause: Option<Pin<Box<Sleep>>>,
    /// What comes in makes no sense any more.
    spoiled: bool,
}

impl Ear {
    pub(super) fn new(inner: &Inner, incoming: Streaming<Sealed>) -> Self {
        Self { incoming, bound: Bound::new(inner.options.rates, inner.world.now()), pause: None, spoiled: false }
    }

    /// The next frame of a kind that is known. May be dropped while it waits: nothing is lost.
    async fn hear(&mut self, inner: &Inner, line: &Line) -> Result<Frame, Lost> {
        if self.spoiled {
            return Err(Lost::Closed);
        }
        loop {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            let Sealed(bytes) = match self.incoming.message().await {
                Ok(Some(sealed)) => sealed,
                Ok(None) => return Err(Lost::Closed),
                Err(status) => {
                    self.spoiled = true;
                    return Err(self::status(&status, &inner.counts));
                }
            };
            let now = inner.world.now();
            let wait = self.bound.take(bytes.len(), now);
            if !wait.is_zero() {
                inner.counts.throttled.fetch_add(1, Relaxed);
                self.pause = Some(Box::pin(sleep(wait)));
            }
            line.received.add(bytes.len());
            line.clock().heard(now);
            match frame::decode(&bytes) {
                Ok(Frame::Unknown { .. }) => {
                    inner.counts.received.add(Kind::Unknown, bytes.len());
                    inner.counts.skipped.fetch_add(1, Relaxed);
                }
                Ok(frame) => {
                    inner.counts.received.add(frame.kind(), bytes.len());
                    return Ok(frame);
                }
                Err(error) => {
                    self.spoiled = true;
                    return Err(malformed(&error, &inner.counts));
                }
            }
        }
    }
}

fn malformed(error: &FrameError, counts: &Counts) -> Lost {
    counts.malformed.fetch_add(1, Relaxed);
    Lost::Malformed(error.to_string())
}

/// What tonic says instead of a frame.
fn status(status: &Status, counts: &Counts) -> Lost {
    match status.code() {
        // It looks at the length before it gathers the bytes.
        Code::OutOfRange => {
            counts.malformed.fetch_add(1, Relaxed);
            Lost::Malformed(format!("more than {} bytes", frame::BYTES_MAX))
        }
        _ => Lost::Broken(cause(status)),
    }
}

/// The innermost of what an error says, which is where something happened.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<Status>() {
        // The peer may have written it.
        Some(status) => hello::text(status.message()).to_string(),
        None => innermost.to_string(),
    }
}

/// A link in the table, for as long as this is there.
struct Registered {
    inner: Arc<Inner>,
    link: Arc<Link>,
    why: Lost,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _telling = self.inner.telling();
        let there = self.inner.table().remove(&self.link.peer.node, |link| Arc::ptr_eq(link, &self.link));
        if there {
            self.inner.counts.lost.fetch_add(1, Relaxed);
            self.inner.inbox.lost(&self.link.peer, &self.why);
            self.inner.changed();
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("it has left the cluster"),
            Self::Restarted => f.write_str("it has started again"),
            Self::Closed => f.write_str("it closed the link"),
            Self::Broken(why) => write!(f, "the connection broke: {why}"),
            Self::Silent => f.write_str("nothing was heard for too long"),
            Self::Stuck => f.write_str("it reads nothing any more"),
            Self::Malformed(why) => write!(f, "it has sent what is no frame: {why}"),
            Self::OutOfTurn(kind) => write!(f, "it has sent a {kind} out of turn"),
            Self::Refused(reason) => write!(f, "it refused the link ({})", reason.as_str_name().to_lowercase()),
            Self::Unwanted => f.write_str("nobody here wants the link"),
            Self::Ended => f.write_str("this node ended the link"),
        }
    }
}
