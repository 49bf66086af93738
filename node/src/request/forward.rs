//! Asking an endpoint, and another one where that is safe.
//!
//! A request may be sent again only if no endpoint can have acted on it, or if acting twice is the same as acting once
//! and its body is still at hand. Everything beyond the first attempt is paid for from the service's retry budget,
//! except for the one case that is nobody's failure: an idle connection that the endpoint closed as we took it.

use crate::{
    listener::{Pulse, has_gone_off},
    request::{
        Answer, Trip, Upload,
        answer::{From, Streamed},
        hygiene,
        rejection::Rejection,
        tunnel,
        upload::{Early, Fate, Kept},
    },
    snapshot::{LiveRoute, LiveService},
    telemetry::metrics::Retry,
    upstream::{ConnectError, ExchangeError, Lease, Purpose, Upstream},
};
use actors::service::{Tried, backoff};
use cluster::World;
use config::{Deadlines, HostHeader, RetryPolicy};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header, uri::PathAndQuery};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tokio::time::Sleep;

/// A request as an endpoint will see it.
pub(crate) struct Outbound {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// The caller's half of a tunnel, where it asks for a WebSocket.
    pub(crate) upgrade: Option<OnUpgrade>,
}

/// What of the body an attempt can have.
pub(crate) enum Body {
    Empty,
    Once(Option<Upload>),
    Again(Arc<Kept>),
}

/// Why one attempt brought no answer.
enum Failure {
    /// Nothing was sent.
    Connect(ConnectError),
    Exchange(ExchangeError),
    /// There is an answer, and two readers could take it for different ones.
    Ambiguous,
    FirstByte,
    Deadline,
}

/// How long things may take, and since when they have been going on.
struct Clock<'a> {
    deadlines: Deadlines,
    total: Option<Instant>,
    /// Of a connection that carries one request at a time, whose own timer then serves for the request, too.
    pulse: Option<&'a Pulse>,
}

/// Goes off when an answer is late.
enum Alarm<'a> {
    Connection(&'a Pulse),
    /// Set once there is something to wait for.
    Own {
        due: Instant,
        sleep: Option<Pin<Box<Sleep>>>,
    },
}

impl<'a> Alarm<'a> {
    fn set(clock: &Clock<'a>, since: Instant) -> Self {
        let due = clock.due(since);
        match clock.pulse {
            Some(pulse) => {
                pulse.expect_answer(due);
                Self::Connection(pulse)
            }
            None => Self::Own { due, sleep: None },
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>, world: &dyn World) -> bool {
        match self {
            Self::Connection(pulse) => pulse.is_answer_late(),
            Self::Own { due, sleep } => {
                let rest = due.saturating_duration_since(world.now());
                has_gone_off(sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(rest))).as_mut(), cx)
            }
        }
    }
}

pub(crate) async fn forward(
    live: &LiveRoute,
    service: &Arc<LiveService>,
    mut outbound: Outbound,
    key: Option<u64>,
    trip: &mut Trip,
) -> Result<Response<Answer>, Rejection> {
    let caller = trip.caller.clone();
    let world = &*caller.node.world;
    let deadlines = live.route.deadlines.unwrap_or(service.service.deadlines);
    let pulse = trip.is_h1().then_some(&*caller.pulse);
    let clock = Clock { deadlines, total: deadlines.total.map(|total| trip.started + total), pulse };
    let retry = live.route.retry.as_ref().unwrap_or(&service.service.retry);
    service.budget.deposit(trip.started);

    let mut tried = Tried::default();
    let mut fresh = false;
    loop {
        let now = world.now();
        let index = service.balancer.pick(world.chance(), now, key, tried).ok_or(Rejection::Unreachable)?;
        let upstream = &service.upstreams[index];
        trip.asks(service, upstream, now, !fresh);
        let (reused, shared);
        let purpose = if outbound.upgrade.is_some() { Purpose::Upgrade } else { Purpose::Requests };
        let unused = fresh || purpose == Purpose::Upgrade;
        let open = if unused { None } else { upstream.lease_open() };
        // What happens once per connection, and not once per request, does not make every journey larger.
        let leased = match open {
            Some(lease) => Ok(lease),
            None => Box::pin(lease(upstream, &clock, purpose, unused, trip)).await,
        };
        let mut failure = match leased {
            Err(failure) => {
                (reused, shared) = (false, false);
                failure
            }
            Ok(lease) => {
                (reused, shared) = (lease.is_reused(), matches!(lease, Lease::H2(_)));
                let attempt = outbound.attempt(upstream, &service.service.host, &lease);
                if outbound.upgrade.is_some() {
                    return Box::pin(upgrade(lease, attempt, &mut outbound, &clock, now, trip)).await;
                }
                match exchange(lease, attempt, upstream, &clock, now, trip).await {
                    Ok(response) => {
                        tried = tried.and(index);
                        let unwanted = retry.statuses.contains(&response.status().as_u16());
                        if unwanted && outbound.is_repeatable() && allows_another(retry, service, tried, trip) {
                            Box::pin(again(retry, trip)).await;
                            continue;
                        }
                        return Ok(response);
                    }
                    Err(failure) => failure,
                }
            }
        };
        if let Some(early) = trip.upload.as_ref().and_then(|fate| fate.early()) {
            return Err(Rejection::of(early));
        }
        let survived = outbound.survives(&mut failure);
        // On a shared connection only a request that was never sent says that the connection is gone.
        let gone = reused && (!shared || matches!(failure, Failure::Exchange(ExchangeError::Unsent(_))));
        if survived && gone && !fresh {
            // The endpoint closed an idle connection as we took it. A new one to the same endpoint is not a retry.
            fresh = true;
            continue;
        }
        fresh = false;
        tried = tried.and(index);
        if survived && !clock.is_over(world.now()) && allows_another(retry, service, tried, trip) {
            Box::pin(again(retry, trip)).await;
            continue;
        }
        return Err(failure.into());
    }
}

/// Whether the policy and the budget have room for another attempt, and there is another endpoint for it.
fn allows_another(retry: &RetryPolicy, service: &LiveService, tried: Tried, trip: &Trip) -> bool {
    let elsewhere = (0..service.upstreams.len()).any(|endpoint| !tried.contains(endpoint));
    if trip.retries >= retry.max || !elsewhere {
        return false;
    }
    let affordable = service.budget.withdraw(trip.node().world.now());
    if !affordable {
        service.metrics.retried(Retry::OverBudget);
    }
    affordable
}

async fn again(retry: &RetryPolicy, trip: &mut Trip) {
    trip.retries += 1;
    let chance = trip.node().world.chance();
    let wait = backoff(trip.retries, chance, retry.backoff_min, retry.backoff_max);
    tokio::time::sleep(wait).await;
}

async fn lease(upstream: &Arc<Upstream>, clock: &Clock<'_>, purpose: Purpose, fresh: bool, trip: &Trip) -> Result<Lease, Failure> {
    let world = &*trip.node().world;
    let mut within = clock.deadlines.connect;
    if let Some(total) = clock.total {
        within = within.min(total.saturating_duration_since(world.now()));
    }
    let lease = if fresh { upstream.lease_new(world, purpose, within).await } else { upstream.lease(world, within).await };
    lease.map_err(|error| if clock.is_over(world.now()) { Failure::Deadline } else { Failure::Connect(error) })
}

/// Sends the request and returns the answer, its body still to come.
async fn exchange(
    lease: Lease,
    request: Request<Upload>,
    upstream: &Arc<Upstream>,
    clock: &Clock<'_>,
    since: Instant,
    trip: &mut Trip,
) -> Result<Response<Answer>, Failure> {
    let caller = trip.caller.clone();
    let world = &caller.node.world;
    let fate = trip.upload.clone();
    let (response, from) = match lease {
        Lease::H1(mut connection) => {
            let response = clock.head(pin!(connection.exchange(request)), since, fate.as_deref(), &**world).await?;
            (response, From::H1 { connection: Some(connection), upstream: upstream.clone() })
        }
        Lease::H2(mut stream) => {
            let sent = stream.sender.try_send_request(request);
            // Boxed, so that a journey over HTTP/1.1 does not carry the room for it.
            let sent = Box::pin(async { sent.await.map_err(ExchangeError::from) });
            (clock.head(pin!(sent), since, fate.as_deref(), &**world).await?, From::Shared(Some(stream)))
        }
    };
    trip.hears(world.now());
    if !hygiene::is_plain(&response) {
        return Err(Failure::Ambiguous);
    }
    let (head, incoming) = response.into_parts();
    Ok(Response::from_parts(head, clock.body(incoming, from, &**world).await))
}

/// Sends a request that asks for a WebSocket, and joins both halves if the endpoint agrees.
async fn upgrade(
    lease: Lease,
    request: Request<Upload>,
    outbound: &mut Outbound,
    clock: &Clock<'_>,
    since: Instant,
    trip: &mut Trip,
) -> Result<Response<Answer>, Rejection> {
    let caller = trip.caller.clone();
    let world = &caller.node.world;
    let Lease::H1(connection) = lease else { return Err(Rejection::BadGateway) };
    let answer = pin!(connection.exchange_upgrade(request));
    let answered = clock.head(answer, since, None, &**world).await;
    let mut response = answered.map_err(Rejection::from)?;
    trip.hears(world.now());
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        if !hygiene::is_plain(&response) {
            return Err(Rejection::BadGateway);
        }
        let (head, incoming) = response.into_parts();
        return Ok(Response::from_parts(head, clock.body(incoming, From::Shared(None), &**world).await));
    }
    let Some(caller_half) = outbound.upgrade.take() else { return Err(Rejection::BadGateway) };
    let endpoint_half = hyper::upgrade::on(&mut response);
    tunnel::join(caller_half, endpoint_half, clock.deadlines.idle, trip.caller.clone());
    let (head, _) = response.into_parts();
    Ok(Response::from_parts(head, Answer::whole(bytes::Bytes::new())))
}

impl Outbound {
    /// One attempt's request: this one's parts, dressed for the protocol of the connection.
    fn attempt(&mut self, upstream: &Upstream, host: &HostHeader, lease: &Lease) -> Request<Upload> {
        let body = match &mut self.body {
            Body::Empty => Upload::Empty,
            Body::Once(upload) => upload.take().unwrap_or(Upload::Empty),
            Body::Again(kept) => Upload::Again { kept: kept.clone(), next: 0 },
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let named = match host {
            // A caller of HTTP/1.0 may name no host; an endpoint of HTTP/1.1 must be told one.
            HostHeader::Keep if self.headers.contains_key(header::HOST) => None,
            HostHeader::Keep | HostHeader::Endpoint => Some(&upstream.target.authority),
            HostHeader::Name(name) => Some(name),
        };
        if let Some(named) = named {
            request.headers_mut().insert(header::HOST, named.clone());
        }
        match lease {
            Lease::H1(_) => {
                *request.uri_mut() = Uri::from(self.path.clone());
                // For these methods hyper takes a body without a length for none.
                if matches!(self.method, Method::GET | Method::HEAD) && request.body().size_hint().exact().is_none() {
                    request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
            }
            Lease::H2(_) => {
                let authority = request.headers_mut().remove(header::HOST);
                *request.version_mut() = Version::HTTP_2;
                *request.uri_mut() = absolute(&self.path, authority.as_ref().unwrap_or(&upstream.target.authority), upstream.target.tls);
            }
        }
        request
    }

    /// Whether the request can be sent again after this failure without being acted on twice in a way that matters.
    /// Takes back what was never sent.
    fn survives(&mut self, failure: &mut Failure) -> bool {
        match failure {
            Failure::Connect(_) => true,
            Failure::Exchange(ExchangeError::Unsent(request)) => {
                if let Body::Once(upload) = &mut self.body {
                    *upload = Some(std::mem::replace(request.body_mut(), Upload::Empty));
                }
                true
            }
            Failure::Exchange(ExchangeError::Broken(_) | ExchangeError::Closed) => self.is_repeatable(),
            Failure::Ambiguous | Failure::FirstByte | Failure::Deadline => false,
        }
    }

    /// RFC 9110, section 9.2.2: idempotent methods; and the body still at hand.
    fn is_repeatable(&self) -> bool {
        let idempotent = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        idempotent
            && match &self.body {
                Body::Empty => true,
                Body::Once(_) => false,
                Body::Again(kept) => kept.is_whole(),
            }
    }
}

impl Clock<'_> {
    fn is_over(&self, now: Instant) -> bool {
        self.total.is_some_and(|total| now >= total)
    }

    /// Waits for the head of an answer to a request that was sent at `since`: as long as `first_byte` allows, and never
    /// beyond the total. While the body is still moving, the endpoint is not late.
    async fn head(
        &self,
        mut answer: Pin<&mut impl Future<Output = Result<Response<Incoming>, ExchangeError>>>,
        since: Instant,
        fate: Option<&Fate>,
        world: &dyn World,
    ) -> Result<Response<Incoming>, Failure> {
        let mut alarm = Alarm::set(self, since);
        let mut moved = 0;
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer.map_err(Failure::Exchange));
            }
            while alarm.poll_late(cx, world) {
                let now = world.now();
                if self.is_over(now) {
                    return Poll::Ready(Err(Failure::Deadline));
                }
                let sent = fate.map_or(0, Fate::bytes);
                if sent == moved {
                    return Poll::Ready(Err(Failure::FirstByte));
                }
                moved = sent;
                alarm = Alarm::set(self, now);
            }
            Poll::Pending
        })
        .await;
        if let Some(pulse) = self.pulse {
            pulse.expect_none();
        }
        answer
    }

    /// When an answer to what was sent at `since` is late.
    fn due(&self, since: Instant) -> Instant {
        let due = since + self.deadlines.first_byte;
        self.total.map_or(due, |total| due.min(total))
    }

    async fn body(&self, incoming: Incoming, from: From, world: &dyn World) -> Answer {
        let deadline = self.total.map(|total| Box::pin(tokio::time::sleep(total.saturating_duration_since(world.now()))));
        let mut streamed = Streamed::new(incoming, from, self.deadlines.idle, deadline);
        // An answer without a body is complete already, and its connection free.
        if poll_fn(|cx| Poll::Ready(streamed.complete_if_ended(cx))).await {
            return Answer::whole(bytes::Bytes::new());
        }
        Answer::streamed(streamed)
    }
}

/// `scheme://authority/path`, from which an HTTP/2 connection takes its pseudo-header fields.
fn absolute(path: &PathAndQuery, authority: &HeaderValue, tls: bool) -> Uri {
    let scheme = if tls { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP };
    Uri::builder()
        .scheme(scheme)
        .authority(authority.as_bytes())
        .path_and_query(path.clone())
        .build()
        .unwrap_or_else(|_| Uri::from(path.clone()))
}

impl Rejection {
    pub(crate) fn of(early: Early) -> Self {
        match early {
            Early::TooLarge => Self::BodyTooLarge,
            Early::TooSlow => Self::BodyTooSlow,
            Early::Broken => Self::CallerGone,
        }
    }
}

impl std::convert::From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connect(ConnectError::PoolFull) => Self::Busy,
            Failure::Connect(_) => Self::Unreachable,
            Failure::Exchange(_) | Failure::Ambiguous => Self::BadGateway,
            Failure::FirstByte => Self::FirstByte,
            Failure::Deadline => Self::Deadline,
        }
    }
}
