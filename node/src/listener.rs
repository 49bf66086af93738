//! Accepting connections, and serving each until it ends.
//!
//! A connection passes the census, says who it comes from (PROXY), is decrypted (TLS), and then speaks HTTP/1.1 or
//! HTTP/2. From there on every request is `request.rs`'s business; what stays here is how long a connection may take
//! over anything, and how it is told that the node is leaving.

mod census;
pub mod frames;
mod guarded;
pub mod proxy_protocol;
mod pulse;

pub(crate) use census::{Census, Limits, Place};
pub(crate) use pulse::Pulse;

use crate::{
    drain::{Drain, Stage},
    node::Node,
    request::{self, Probe, Rejection, origin::Connected},
    telemetry::metrics::{Ended, ListenerMetrics, Refused},
    tls::ServerTls,
};
use arc_swap::ArcSwap;
use cluster::BoxStream;
use guarded::Guarded;
use http::{HeaderValue, Response, header};
use hyper::{body::Incoming, server::conn::http1, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proxy_protocol::{Decoder, Progress};
use pulse::{Patience, Slow, Stall};
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::AsyncReadExt, sync::watch, task::coop::unconstrained, time::Sleep};
use tokio_rustls::TlsAcceptor;

/// How long accepting rests after it failed, so that a node without file descriptors does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long a PROXY header may take.
const PROXY_WAIT: Duration = Duration::from_secs(5);

/// How long an idle connection may take over its end, once it has been told.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a closed listener waits for the first byte of a connection that it has accepted: whoever was let in just
/// before may have asked for something already.
const LAST_CALL: Duration = Duration::from_millis(250);

/// What an HTTP/2 connection by prior knowledge begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A bound address, and how connections to it are served. The address stays; the settings change with a revision.
pub(crate) struct LiveListener {
    pub(crate) name: config::ListenerName,
    pub(crate) address: SocketAddr,
    pub(crate) settings: ArcSwap<Settings>,
    pub(crate) drain: Drain,
    pub(crate) metrics: ListenerMetrics,
    /// Connections that are open.
    pub(crate) open: AtomicUsize,
    /// Whether connections may still come: until whatever had been let in when it was closed is accepted.
    pub(crate) accepts: AtomicBool,
}

pub(crate) struct Settings {
    pub(crate) listener: Arc<config::Listener>,
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// Of what `tls` was made from: the same files with the same content need no new keys for tickets.
    pub(crate) tls_fingerprint: u64,
}

/// One connection, as its requests see it.
pub(crate) struct Caller {
    pub(crate) node: Arc<Node>,
    pub(crate) listener: Arc<LiveListener>,
    pub(crate) settings: Arc<Settings>,
    /// The other end of the socket.
    pub(crate) peer: SocketAddr,
    /// Who it speaks for: the peer itself, or what its PROXY header says.
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Handshake>,
    pub(crate) pulse: Arc<Pulse>,
    requests: AtomicU64,
    _place: Place,
}

/// What a TLS handshake has settled.
pub(crate) struct Handshake {
    pub(crate) server: Arc<ServerTls>,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) version: &'static str,
}

/// Where a request comes in, as far as that decides what becomes of it.
pub(crate) struct Entrance<'a> {
    pub(crate) listener: &'a config::Listener,
    pub(crate) connected: Connected,
    /// What the connection was shown, and the name it asked for.
    pub(crate) tls: Option<(&'a ServerTls, Option<&'a str>)>,
}

impl Entrance<'_> {
    /// Refuses a host that the certificate of this connection does not cover (RFC 9110, section 15.5.20).
    pub(crate) fn covers(&self, host: &str) -> Result<(), Rejection> {
        match self.tls {
            Some((tls, server_name)) if !tls.covers(server_name, host) => Err(Rejection::Misdirected),
            _ => Ok(()),
        }
    }

    /// Which question about the node itself a path is, where the listener answers them.
    pub(crate) fn probe(&self, path: &str) -> Option<Probe> {
        if self.listener.serve_health { Probe::of(path) } else { None }
    }
}

impl Caller {
    /// Whether what the other end says of others is believed.
    pub(crate) fn is_trusted(&self) -> bool {
        self.node.is_trusted(self.address.ip())
    }

    pub(crate) fn connected(&self) -> Connected {
        let proxied = (self.address != self.peer).then(|| self.address.ip());
        Connected { peer: self.peer.ip(), proxied, tls: self.tls.is_some() }
    }

    /// A caller without a connection.
    #[cfg(test)]
    pub(crate) fn imagined(node: &Arc<Node>, listener: &Arc<LiveListener>, address: SocketAddr, server_name: Option<&str>) -> Arc<Self> {
        let settings = listener.settings.load_full();
        let tls = settings.tls.clone();
        let place = node.census.admit(listener, usize::MAX, &Limits { total: usize::MAX, per_address: usize::MAX });
        Arc::new(Self {
            node: node.clone(),
            listener: listener.clone(),
            peer: address,
            address,
            tls: tls.map(|server| Handshake { server, server_name: server_name.map(Into::into), version: "1.3" }),
            pulse: Arc::new(Pulse::new(node.world.clone())),
            requests: AtomicU64::new(0),
            _place: place.expect("there is room without bounds"),
            settings,
        })
    }

    pub(crate) fn entrance(&self) -> Entrance<'_> {
        let tls = self.tls.as_ref().map(|tls| (&*tls.server, tls.server_name.as_deref()));
        Entrance { listener: &self.settings.listener, connected: self.connected(), tls }
    }

    /// Counts a request; true if the connection should not carry another.
    fn counts_last(&self) -> bool {
        let served = self.requests.fetch_add(1, Relaxed) + 1;
        served >= self.settings.listener.bounds.requests_per_connection || self.listener.drain.is_announced()
    }
}

/// What an accepting task may come across.
enum Event {
    Accepted(io::Result<(BoxStream, SocketAddr)>),
    /// The address belongs to another listener from now on.
    Renamed,
    Closed,
}

/// Accepts for whichever listener the address serves, until that one is closed; then takes what the kernel has already
/// accepted for it.
pub(crate) async fn accept(node: Arc<Node>, mut serves: watch::Receiver<Arc<LiveListener>>, mut socket: Box<dyn cluster::Listener>) {
    let mut renaming = true;
    loop {
        let live = serves.borrow_and_update().clone();
        let mut closed = pin!(live.drain.reached(Stage::Closed));
        let mut changed = pin!(serves.changed());
        loop {
            let event = poll_fn(|cx| {
                if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                    return Poll::Ready(Event::Accepted(accepted));
                }
                // Only an empty backlog may end it: whoever is in there has been told that we listen.
                if closed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Closed);
                }
                if renaming && let Poll::Ready(changed) = changed.as_mut().poll(cx) {
                    // Without a sender the address stays what it is, and its drain will tell when it is over.
                    renaming = changed.is_ok();
                    return Poll::Ready(Event::Renamed);
                }
                Poll::Pending
            })
            .await;
            match event {
                Event::Closed => {
                    live.accepts.store(false, SeqCst);
                    return;
                }
                Event::Renamed => break,
                Event::Accepted(Ok((stream, peer))) => welcome(&node, &live, stream, peer),
                Event::Accepted(Err(_)) => {
                    live.metrics.refused(Refused::Resources);
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

fn welcome(node: &Arc<Node>, live: &Arc<LiveListener>, stream: BoxStream, peer: SocketAddr) {
    let settings = live.settings.load_full();
    match node.census.admit(live, settings.listener.max_connections, &node.limits()) {
        Ok(place) => {
            let arrival = Arrival { node: node.clone(), live: live.clone(), settings, peer, place };
            tokio::spawn(arrival.serve(stream));
        }
        Err(refused) => live.metrics.refused(refused),
    }
}

/// A connection on its way to being served.
struct Arrival {
    node: Arc<Node>,
    live: Arc<LiveListener>,
    settings: Arc<Settings>,
    peer: SocketAddr,
    place: Place,
}

impl Arrival {
    async fn serve(self, stream: BoxStream) {
        let live = self.live.clone();
        let prepared = tokio::select! {
            biased;
            prepared = self.prepare(stream) => prepared,
            () = live.drain.reached(Stage::Aborted) => Err(Refused::Draining),
        };
        match prepared {
            Err(refused) => live.metrics.refused(refused),
            Ok(None) => {}
            Ok(Some((io, caller, h2))) => {
                let ended = if h2 { serve_h2(io, caller).await } else { serve_h1(io, caller).await };
                if let Err(ended) = ended {
                    live.metrics.ended(ended);
                }
            }
        }
    }

    /// Everything before the first request. `None` where the other end went away without asking for anything.
    async fn prepare(mut self, mut stream: BoxStream) -> Result<Option<(Guarded, Arc<Caller>, bool)>, Refused> {
        let settings = self.settings.clone();
        let mut address = self.peer;
        let mut head = Vec::new();
        if !settings.listener.proxy_protocol.is_empty() {
            let from = &settings.listener.proxy_protocol;
            if !from.iter().any(|network| network.contains(&self.peer.ip())) {
                return Err(Refused::ProxyHeader);
            }
            let proxied = tokio::time::timeout(PROXY_WAIT, read_proxy_header(&mut stream, &mut head));
            address = proxied.await.map_err(|_elapsed| Refused::Slow)??.unwrap_or(self.peer);
        }
        if !address.ip().to_canonical().is_loopback() && !self.node.is_trusted(address.ip()) {
            let most = self.node.limits().per_address;
            self.place.count_address(address.ip(), most)?;
        }
        let mut tls = None;
        let mut alpn_h2 = None;
        if let Some(server) = &settings.tls {
            let rewound: BoxStream = Box::new(guarded::Rewound::new(std::mem::take(&mut head), stream));
            let accepting = TlsAcceptor::from(server.config()).accept(rewound);
            let within = settings.listener.bounds.tls_handshake;
            let accepted = tokio::time::timeout(within, accepting).await.map_err(|_elapsed| Refused::Slow)?;
            let accepted = accepted.map_err(|_| Refused::TlsHandshake)?;
            let session = accepted.get_ref().1;
            alpn_h2 = Some(session.alpn_protocol() == Some(b"h2"));
            tls = Some(Handshake {
                server: server.clone(),
                server_name: session.server_name().map(Into::into),
                version: match session.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
                    _ => "1.3",
                },
            });
            stream = Box::new(accepted);
        }
        let listener = &settings.listener;
        let pulse = Arc::new(Pulse::new(self.node.world.clone()));
        let mut io = Guarded::new(stream, head, pulse.clone());
        let h2 = match (alpn_h2, listener.http1, listener.http2) {
            // Over TLS the choice is made: what was not negotiated is not spoken.
            (Some(true), _, true) => true,
            (Some(_), http1, _) => {
                if !http1 {
                    return Err(Refused::TlsHandshake);
                }
                false
            }
            (None, false, true) => true,
            (None, true, false) => false,
            (None, ..) => {
                let sniffing = sniff(&mut io);
                let within = listener.bounds.head_timeout;
                let idle = async {
                    self.live.drain.reached(Stage::Closed).await;
                    tokio::time::sleep(LAST_CALL).await;
                };
                tokio::select! {
                    biased;
                    sniffed = tokio::time::timeout(within, sniffing) => match sniffed {
                        Ok(Ok(h2)) => h2,
                        // Nothing was asked, so nothing is owed.
                        Ok(Err(_)) => return Ok(None),
                        Err(_elapsed) => return Err(Refused::Slow),
                    },
                    () = idle => return Err(Refused::Draining),
                }
            }
        };
        let caller = Arc::new(Caller {
            node: self.node,
            listener: self.live,
            settings: settings.clone(),
            peer: self.peer,
            address,
            tls,
            pulse,
            requests: AtomicU64::new(0),
            _place: self.place,
        });
        Ok(Some((io, caller, h2)))
    }
}

async fn read_proxy_header(stream: &mut BoxStream, rest: &mut Vec<u8>) -> Result<Option<SocketAddr>, Refused> {
    let mut decoder = Decoder::default();
    let mut buffer = [0_u8; 512];
    loop {
        let read = stream.read(&mut buffer).await.map_err(|_| Refused::ProxyHeader)?;
        if read == 0 {
            return Err(Refused::ProxyHeader);
        }
        match decoder.feed(&buffer[..read]) {
            Progress::NeedMore => {}
            Progress::Done { header, consumed } => {
                rest.extend_from_slice(&buffer[consumed..read]);
                return Ok(header.map(|proxied| proxied.source));
            }
            Progress::Bad(_) => return Err(Refused::ProxyHeader),
        }
    }
}

/// Whether the connection begins as HTTP/2 does. Takes no more than the first read needs to tell.
async fn sniff(io: &mut Guarded) -> io::Result<bool> {
    loop {
        let seen = io.peeked();
        let compared = seen.len().min(PREFACE.len());
        if seen[..compared] != PREFACE[..compared] {
            return Ok(false);
        }
        if compared == PREFACE.len() {
            return Ok(true);
        }
        io.peek_more().await?;
    }
}

async fn serve_h1(io: Guarded, caller: Arc<Caller>) -> Result<(), Ended> {
    let bounds = caller.settings.listener.bounds;
    let mut builder = http1::Builder::new();
    let head = usize::try_from(bounds.head_size.0).unwrap_or(usize::MAX);
    builder.max_header_size(head).max_buf_size(head.saturating_mul(2).clamp(64 * 1024, 1024 * 1024));
    // What hyper takes by itself is the same number, but then its table of fields lies on the stack.
    if bounds.head_count != 100 {
        builder.max_headers(bounds.head_count);
    }
    let service = {
        let caller = caller.clone();
        service_fn(move |request: http::Request<Incoming>| {
            let caller = caller.clone();
            async move {
                if caller.counts_last() {
                    caller.pulse.linger();
                }
                let mut response = request::serve(&caller, request).await;
                if caller.pulse.is_lingering() {
                    close_after(&mut response);
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    drive(H1(connection), &caller).await
}

async fn serve_h2(mut io: Guarded, caller: Arc<Caller>) -> Result<(), Ended> {
    let bounds = caller.settings.listener.bounds;
    io.guard_frames(bounds.h2_control_frames);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.h2_streams)
        .max_header_list_size(u32::try_from(bounds.head_size.0).unwrap_or(u32::MAX))
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024);
    let service = {
        let caller = caller.clone();
        service_fn(move |request: http::Request<Incoming>| {
            let caller = caller.clone();
            async move {
                if caller.counts_last() {
                    caller.pulse.ask_to_leave();
                }
                Ok::<_, Infallible>(request::serve(&caller, request).await)
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(io), service);
    drive(H2(connection), &caller).await
}

fn close_after(response: &mut Response<request::Answer>) {
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A connection of either version, as the driver needs it.
trait Served: Unpin {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>>;

    /// Ends it after what is in flight; HTTP/2 says so at once (GOAWAY).
    fn leave(&mut self);

    /// Whether leaving can be said without ending an idle connection.
    const ANNOUNCES: bool;
}

struct H1<C>(C);
struct H2<C>(C);

impl<S> Served for H1<http1::UpgradeableConnection<TokioIo<Guarded>, S>>
where
    S: hyper::service::HttpService<Incoming, ResBody = request::Answer> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    http1::UpgradeableConnection<TokioIo<Guarded>, S>: Future<Output = hyper::Result<()>> + Unpin,
{
    const ANNOUNCES: bool = false;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }

    fn leave(&mut self) {
        Pin::new(&mut self.0).graceful_shutdown();
    }
}

impl<S> Served for H2<http2::Connection<TokioIo<Guarded>, S, TokioExecutor>>
where
    S: hyper::service::HttpService<Incoming, ResBody = request::Answer> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    TokioExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, request::Answer>,
    http2::Connection<TokioIo<Guarded>, S, TokioExecutor>: Future<Output = hyper::Result<()>> + Unpin,
{
    const ANNOUNCES: bool = true;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }

    fn leave(&mut self) {
        Pin::new(&mut self.0).graceful_shutdown();
    }
}

/// Polls a connection to its end, with one timer for everything that it may take too long over.
///
/// The timer is only ever moved forward when it fires: a busy connection re-arms nothing.
async fn drive<C: Served>(mut connection: C, caller: &Caller) -> Result<(), Ended> {
    let bounds = caller.settings.listener.bounds;
    let drain = &caller.listener.drain;
    let pulse = &caller.pulse;
    // A newcomer to a listener that is leaving is served, and told with its answer; told at once, it would come in vain.
    let mut stage = drain.stage().min(Stage::Announced);
    let mut leaving = false;
    let mut idle = false;
    let mut last_call = false;
    let mut stall = Stall::default();
    let mut changed = pin!(drain.changed());
    let mut timer = pin!(tokio::time::sleep(bounds.head_timeout.min(bounds.keep_alive)));
    let mut watching = false;
    poll_fn(|cx| {
        if !watching {
            watching = true;
            let _ = changed.as_mut().poll(cx);
        }
        loop {
            // A task keeps its waker for life, so watching need not begin anew until there has been something to see;
            // then it begins before the next look, so that no stage is missed.
            while drain.stage() > stage {
                stage = drain.stage();
                changed.set(drain.changed());
                let _ = changed.as_mut().poll(cx);
                if stage >= Stage::Aborted {
                    return Poll::Ready(Ok(()));
                }
                if C::ANNOUNCES || (stage >= Stage::Closed && !pulse.awaits_head()) {
                    leaving = true;
                    connection.leave();
                } else if stage >= Stage::Closed {
                    // hyper would close it unread. What has been sent is answered, and the answer says that it is the last.
                    last_call = true;
                    timer.as_mut().reset((pulse.now() + LAST_CALL).into());
                }
            }
            if let Poll::Ready(ended) = connection.poll(cx) {
                return Poll::Ready(match ended {
                    Ok(()) if idle => Err(Ended::Idle),
                    ended => ended.map_err(|error| reason(&error, pulse)),
                });
            }
            let mut again = !leaving && pulse.is_asked_to_leave();
            if again {
                leaving = true;
                connection.leave();
            }
            while has_gone_off(timer.as_mut(), cx) {
                if std::mem::take(&mut last_call) && pulse.awaits_first_byte() {
                    leaving = true;
                    connection.leave();
                    again = true;
                }
                match pulse.patience(&bounds, &mut stall) {
                    Patience::Until(then) => timer.as_mut().reset(then.into()),
                    // The request that waits for the answer decides what that means.
                    Patience::Over(Slow::Answer) => {
                        pulse.answer_is_late();
                        again = true;
                    }
                    Patience::Over(Slow::Idle) if !leaving => {
                        (leaving, idle, again) = (true, true, true);
                        connection.leave();
                        timer.as_mut().reset((pulse.now() + GOODBYE).into());
                    }
                    Patience::Over(what) => {
                        if pulse.expire(what) {
                            // One more turn, in which the connection says why it ends.
                            let _ = connection.poll(cx);
                        }
                        return Poll::Ready(Err(what.into()));
                    }
                }
            }
            if !idle && let Some(sooner) = pulse.shorten(&bounds, timer.deadline().into_std()) {
                timer.as_mut().reset(sooner.into());
                // A timer that was moved has to be polled again to be heard of.
                again |= has_gone_off(timer.as_mut(), cx);
            }
            if !again {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Whether a timer has gone off, told also to a task that has used up its turn. tokio by itself would put it off to the
/// next turn, and whoever never pauses uses up that one too.
pub(crate) fn has_gone_off(timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> bool {
    pin!(unconstrained(timer)).poll(cx).is_ready()
}

fn reason(error: &hyper::Error, pulse: &Pulse) -> Ended {
    if pulse.is_calmed() {
        Ended::Flood
    } else if error.is_parse_too_large() {
        Ended::HeadTooLarge
    } else if error.is_parse() {
        Ended::Malformed
    } else {
        Ended::Broken
    }
}
