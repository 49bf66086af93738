//! Being dialed: connections that come in, from the first byte to the link or the call they are for.

use super::{
    Inner,
    admission::Stage,
    hello::{Refused, refusal},
    leash::Leash,
    link::{Conversation, Ear, Line, Outgoing},
};
use crate::{
    BoxStream, Listener,
    trust::{Identity, is_doubted_by_us},
};
use futures_util::{
    StreamExt,
    stream::{self, Map},
};
use proto::{AskReply, AskRequest, EnrolReply, EnrolRequest, Peer, PeerServer, Reason, codec::Sealed, frame};
use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// After an error of accept, which is nearly always one of too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Streams of one connection: a link, and calls beside it.
const STREAMS_MAX: u32 = 16;

const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

pub(super) async fn serve(inner: &Arc<Inner>, mut listener: Box<dyn Listener>) {
    let mut visits = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            // A visit that panicked is over, as any other.
            Some(_) = visits.join_next() => continue,
            accepted = poll_fn(|cx| listener.poll_accept(cx)) => accepted,
        };
        let Ok((stream, from)) = accepted else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        match Admitted::enter(inner, Stage::Securing(from.ip())) {
            Some(securing) => {
                visits.spawn(visit(Arc::clone(inner), stream, from, securing));
            }
            None => drop(stream),
        }
    }
}

/// One connection.
async fn visit(inner: Arc<Inner>, stream: BoxStream, from: SocketAddr, securing: Admitted) {
    let secured = timeout(inner.options.handshake, inner.trust.accept(stream)).await;
    let (stream, identity) = match secured {
        Ok(Ok(secured)) => secured,
        broken => {
            let doubt = broken.ok().and_then(Result::err).and_then(|error| Some((is_doubted_by_us(&error)?, error)));
            match doubt {
                Some((by_us, error)) => inner.refused(&Refused::new(by_us, None, from, &refusal(Reason::Untrusted, error))),
                None => _ = inner.counts.unfinished.fetch_add(1, Relaxed),
            }
            return;
        }
    };
    let stage = identity.as_ref().map_or(Stage::Anonymous(from.ip()), |identity| Stage::Known(Arc::clone(&identity.node)));
    let Some(admitted) = Admitted::enter(&inner, stage) else { return };
    drop(securing);

    let (leash, mut hold) = Leash::new(stream);
    let (links, mut link) = mpsc::channel(1);
    let door = Door { inner: Arc::clone(&inner), identity: identity.clone(), from, links };
    let service = PeerServer::new(door).max_decoding_message_size(frame::BYTES_MAX);
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(8 << 10)
        .http2_max_pending_accept_reset_streams(Some(STREAMS_MAX as usize))
        .http2_max_local_error_reset_streams(Some(STREAMS_MAX as usize));
    // tonic ends when nothing more can come in, and this connection with it: so more could always come.
    let incoming = stream::once(async { Ok::<_, Infallible>(leash) }).chain(stream::once(pending()));
    let opened = tokio::select! {
        biased;
        _ = server.serve_with_incoming(service, incoming) => None,
        () = hold.gone() => None,
        opened = link.recv() => opened,
        () = sleep(inner.options.visit) => None,
    };
    // No second one on this connection.
    drop(link);
    if let (Some((incoming, line)), Some(identity)) = (opened, identity) {
        let ear = Ear::new(&inner, incoming);
        Conversation { inner, identity, address: from, line, dialed: None, ear }.run(admitted).await;
    }
}

/// What one connection may ask for.
#[derive(Clone)]
struct Door {
    inner: Arc<Inner>,
    identity: Option<Identity>,
    from: SocketAddr,
    links: mpsc::Sender<(Streaming<Sealed>, Arc<Line>)>,
}

impl Door {
    fn identity(&self) -> Result<&Identity, Status> {
        self.identity.as_ref().ok_or_else(|| {
            let message = "a connection without a certificate of the cluster may ask for one and for nothing else";
            self.inner.refused(&Refused::new(true, None, self.from, &refusal(Reason::Anonymous, message)));
            Status::unauthenticated(message)
        })
    }
}

#[tonic::async_trait]
impl Peer for Door {
    type LinkStream = Map<Outgoing, fn(Sealed) -> Result<Sealed, Status>>;

    async fn link(&self, request: Request<Streaming<Sealed>>) -> Result<Response<Self::LinkStream>, Status> {
        self.identity()?;
        let line = Line::new(self.inner.world.now());
        let opened = self.links.try_send((request.into_inner(), Arc::clone(&line)));
        opened.map_err(|_| Status::already_exists("a connection carries one link"))?;
        Ok(Response::new(Outgoing::new(&self.inner, &line).map(Ok)))
    }

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<AskReply>, Status> {
        let identity = self.identity()?;
        let _permit = self.inner.asks.try_acquire().map_err(|_| Status::unavailable("too many questions at once"))?;
        let asked = timeout(self.inner.options.ask, self.inner.inbox.ask(identity, request.into_inner())).await;
        asked.map(Response::new).map_err(|_| Status::deadline_exceeded("there was no answer in time"))
    }

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let _permit = self.inner.enrolments.try_acquire().map_err(|_| Status::unavailable("too many nodes join at once"))?;
        let asked = timeout(self.inner.options.visit, self.inner.inbox.enrol(self.identity.as_ref(), request.into_inner())).await;
        let answer = asked.map_err(|_| Status::deadline_exceeded("there was no answer in time"))?;
        Ok(Response::new(answer.unwrap_or_else(|refusal| EnrolReply { refusal: Some(refusal), ..EnrolReply::default() })))
    }
}

/// A place in a stage, for as long as this is there.
struct Admitted {
    inner: Arc<Inner>,
    stage: Stage,
}

impl Admitted {
    fn enter(inner: &Arc<Inner>, stage: Stage) -> Option<Self> {
        if inner.admission().enter(&stage) {
            return Some(Self { inner: Arc::clone(inner), stage });
        }
        inner.counts.turned_away.fetch_add(1, Relaxed);
        None
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.inner.admission().leave(&self.stage);
    }
}
