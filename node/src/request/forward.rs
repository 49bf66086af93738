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
    upstream::{ConnectError, ExchangeError, H1, Lease, Purpose, RequestHead, Stream, Upstream},
};
use actors::service::{self, InFlight, Refused, Tried, admit, backoff};
use cluster::World;
use config::{Deadlines, HostHeader, RetryPolicy};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri::PathAndQuery};
use hyper::upgrade::OnUpgrade;
use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
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
    /// The time for the whole journey is over; whether it was spent waiting for the endpoint.
    Deadline {
        endpoint: bool,
    },
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
    trip.permit = Some(service.watch.breaker().enter()?);

    let mut tried = Tried::default();
    let mut fresh = false;
    loop {
        let now = world.now();
        let (index, upstream, in_flight) = choose(service, world.chance(), now, key, tried)?;
        let upstream = &upstream;
        // Whoever tries an endpoint that failed others does so for all of them, and need not pay for another attempt.
        let trial = in_flight.is_trial();
        trip.asks(service, upstream, in_flight, now);
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
                let answered = match lease {
                    Lease::H1(connection) => exchange(connection, &mut outbound, service, upstream, &clock, now, trip).await,
                    Lease::H2(_) if outbound.upgrade.is_some() => return Err(Rejection::BadGateway),
                    // Boxed, so that a journey over HTTP/1.1 does not carry the room for it.
                    Lease::H2(stream) => Box::pin(exchange_h2(stream, &mut outbound, service, upstream, &clock, now, trip)).await,
                };
                match answered {
                    Ok(response) => {
                        tried = tried.and(index);
                        let unwanted = retry.statuses.contains(&response.status().as_u16());
                        if unwanted
                            && outbound.is_repeatable()
                            && let Some(rest) = clock.rest_before(retry, trip)
                            && allows_another(retry, service, tried, trial, trip)
                        {
                            // What it answered has told its load that it failed.
                            trip.fails(None);
                            Box::pin(again(rest, trip)).await;
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
        let gone = reused && failure.says_gone(shared);
        if survived && gone && !fresh {
            // The endpoint closed an idle connection as we took it. A new one to the same endpoint is not a retry.
            fresh = true;
            continue;
        }
        fresh = false;
        tried = tried.and(index);
        trip.fails(failure.fault());
        if survived
            && let Some(rest) = clock.rest_before(retry, trip)
            && allows_another(retry, service, tried, trial, trip)
        {
            Box::pin(again(rest, trip)).await;
            continue;
        }
        return Err(failure.into());
    }
}

/// The endpoint that takes the request, as its place among those of the service. If they change between two attempts, the second may
/// at worst leave out one that it could have asked.
fn choose(
    service: &LiveService,
    chance: u64,
    now: Instant,
    key: Option<u64>,
    tried: Tried,
) -> Result<(usize, Arc<Upstream>, InFlight), Refused> {
    let endpoints = service.endpoints.load();
    let pick = |tried| endpoints.balancer.pick(chance, now, key, tried);
    let (index, in_flight) = admit(tried, now, pick, |at| &endpoints.upstreams[at].load)?;
    Ok((index, endpoints.upstreams[index].clone(), in_flight))
}

/// Whether the policy and the budget have room for another attempt, and there is another endpoint for it.
fn allows_another(retry: &RetryPolicy, service: &LiveService, tried: Tried, free: bool, trip: &Trip) -> bool {
    let elsewhere = || (0..service.endpoints.load().upstreams.len()).any(|endpoint| !tried.contains(endpoint));
    if trip.retries >= retry.max || !elsewhere() {
        return false;
    }
    if free {
        return true;
    }
    let affordable = service.budget.withdraw(trip.node().world.now());
    if !affordable {
        service.metrics.retried(Retry::OverBudget);
    }
    affordable
}

async fn again(rest: Duration, trip: &mut Trip) {
    trip.retries += 1;
    tokio::time::sleep(rest).await;
}

async fn lease(upstream: &Arc<Upstream>, clock: &Clock<'_>, purpose: Purpose, fresh: bool, trip: &Trip) -> Result<Lease, Failure> {
    let world = &*trip.node().world;
    let mut within = clock.deadlines.connect;
    if let Some(total) = clock.total {
        within = within.min(total.saturating_duration_since(world.now()));
    }
    let lease = if fresh { upstream.lease_new(world, purpose, within).await } else { upstream.lease(world, within).await };
    lease.map_err(|error| {
        let endpoint = !matches!(error, ConnectError::PoolFull | ConnectError::WaitingFull);
        if clock.is_over(world.now()) { Failure::Deadline { endpoint } } else { Failure::Connect(error) }
    })
}

/// Sends the request and returns the answer, its body still to come.
async fn exchange(
    mut connection: Box<H1>,
    outbound: &mut Outbound,
    service: &LiveService,
    upstream: &Arc<Upstream>,
    clock: &Clock<'_>,
    since: Instant,
    trip: &mut Trip,
) -> Result<Response<Answer>, Failure> {
    let world = &*trip.caller.node.world;
    let upload = outbound.upload();
    connection.begin(&outbound.head(upstream, &service.service.host), upload);
    let response = clock.head(|cx| connection.poll_head(cx), since, trip.upload.as_deref(), world).await?;
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let caller_half = if switches { Some(outbound.upgrade.take().ok_or(Failure::Ambiguous)?) } else { None };
    trip.hears(response.status(), trip.caller.node.world.now());
    if let Some(caller_half) = caller_half {
        tunnel::join(caller_half, connection.into_tunnel(), clock.deadlines.idle, trip.caller.clone());
        return Ok(response.map(|()| Answer::whole(bytes::Bytes::new())));
    }
    let from = From::H1 { connection, upstream: upstream.clone() };
    Ok(response.map(|()| clock.body(from, &*trip.caller.node.world)))
}

async fn exchange_h2(
    mut stream: Stream,
    outbound: &mut Outbound,
    service: &LiveService,
    upstream: &Arc<Upstream>,
    clock: &Clock<'_>,
    since: Instant,
    trip: &mut Trip,
) -> Result<Response<Answer>, Failure> {
    let world = &*trip.caller.node.world;
    let upload = outbound.upload();
    let mut sent = Box::pin(stream.sender.try_send_request(outbound.request(upload, upstream, &service.service.host)));
    let poll = |cx: &mut Context<'_>| sent.as_mut().poll(cx).map_err(ExchangeError::from);
    let response = clock.head(poll, since, trip.upload.as_deref(), world).await?;
    drop(sent);
    if !hygiene::is_plain(&response) {
        return Err(Failure::Ambiguous);
    }
    trip.hears(response.status(), trip.caller.node.world.now());
    let (head, incoming) = response.into_parts();
    let from = From::H2 { incoming, _stream: stream };
    Ok(Response::from_parts(head, clock.body(from, &*trip.caller.node.world)))
}

impl Outbound {
    /// What one attempt sends of the body.
    fn upload(&mut self) -> Upload {
        match &mut self.body {
            Body::Empty => Upload::Empty,
            Body::Once(upload) => upload.take().unwrap_or(Upload::Empty),
            Body::Again(kept) => Upload::Again { kept: kept.clone(), next: 0 },
        }
    }

    /// The host that the endpoint is told.
    fn host<'a>(&'a self, upstream: &'a Upstream, host: &'a HostHeader) -> &'a HeaderValue {
        let own = &upstream.target.authority;
        match host {
            // A caller of HTTP/1.0 may name no host; an endpoint of HTTP/1.1 must be told one.
            HostHeader::Keep => self.headers.get(header::HOST).unwrap_or(own),
            HostHeader::Endpoint => own,
            HostHeader::Name(name) => name,
        }
    }

    fn head<'a>(&'a self, upstream: &'a Upstream, host: &'a HostHeader) -> RequestHead<'a> {
        RequestHead {
            method: &self.method,
            path: &self.path,
            host: self.host(upstream, host),
            headers: &self.headers,
            upgrade: self.upgrade.is_some(),
        }
    }

    fn request(&self, upload: Upload, upstream: &Upstream, host: &HostHeader) -> Request<Upload> {
        let mut request = Request::new(upload);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().remove(header::HOST);
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = absolute(&self.path, self.host(upstream, host), upstream.target.tls);
        request
    }

    /// Whether the request can be sent again after this failure without being acted on twice in a way that matters.
    /// Takes back what was never sent.
    fn survives(&mut self, failure: &mut Failure) -> bool {
        match failure {
            Failure::Connect(_) => true,
            Failure::Exchange(ExchangeError::Unsent(upload)) => match &mut self.body {
                Body::Empty => true,
                Body::Once(slot) => {
                    *slot = Some(std::mem::replace(upload, Upload::Empty));
                    true
                }
                Body::Again(kept) => kept.is_whole(),
            },
            Failure::Exchange(_) | Failure::Ambiguous | Failure::FirstByte => self.is_repeatable(),
            Failure::Deadline { .. } => false,
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

impl Failure {
    /// Whether a connection that had been used before ended under the request. A late or bad answer is another thing: it is the
    /// endpoint's. On a shared connection only a request that was never sent says so.
    fn says_gone(&self, shared: bool) -> bool {
        match self {
            Self::Exchange(ExchangeError::Unsent(_)) => true,
            Self::Exchange(ExchangeError::Broken(_) | ExchangeError::Closed) => !shared,
            Self::Exchange(ExchangeError::Garbled(_)) | Self::Connect(_) | Self::Ambiguous | Self::FirstByte | Self::Deadline { .. } => {
                false
            }
        }
    }

    /// What the endpoint has to answer for.
    fn fault(&self) -> Option<service::Failure> {
        match self {
            Self::Connect(ConnectError::PoolFull | ConnectError::WaitingFull) | Self::Deadline { endpoint: false } => None,
            Self::Connect(_) => Some(service::Failure::Connect),
            Self::Exchange(_) | Self::Ambiguous => Some(service::Failure::Reset),
            Self::FirstByte | Self::Deadline { endpoint: true } => Some(service::Failure::Timeout),
        }
    }
}

impl Clock<'_> {
    /// How long to rest before another attempt; `None` if there would be no time left for it afterwards.
    fn rest_before(&self, retry: &RetryPolicy, trip: &Trip) -> Option<Duration> {
        let world = &*trip.node().world;
        let rest = backoff(trip.retries + 1, world.chance(), retry.backoff_min, retry.backoff_max);
        (!self.is_over(world.now() + rest)).then_some(rest)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.total.is_some_and(|total| now >= total)
    }

    /// Waits for the head of an answer to a request that was sent at `since`: as long as `first_byte` allows, and never
    /// beyond the total. While the body is still moving, the endpoint is not late.
    async fn head<B>(
        &self,
        mut answer: impl FnMut(&mut Context<'_>) -> Poll<Result<Response<B>, ExchangeError>>,
        since: Instant,
        fate: Option<&Fate>,
        world: &dyn World,
    ) -> Result<Response<B>, Failure> {
        let mut alarm = Alarm::set(self, since);
        let mut moved = 0;
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = answer(cx) {
                return Poll::Ready(answer.map_err(Failure::Exchange));
            }
            while alarm.poll_late(cx, world) {
                let now = world.now();
                if self.is_over(now) {
                    return Poll::Ready(Err(Failure::Deadline { endpoint: true }));
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

    fn body(&self, from: From, world: &dyn World) -> Answer {
        let deadline = self.total.map(|total| Box::pin(tokio::time::sleep(total.saturating_duration_since(world.now()))));
        Answer::streamed(Streamed::new(from, self.deadlines.idle, deadline))
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
            Failure::Connect(ConnectError::WaitingFull) => Self::WaitingFull,
            Failure::Connect(_) => Self::Unreachable,
            Failure::Exchange(_) | Failure::Ambiguous => Self::BadGateway,
            Failure::FirstByte => Self::FirstByte,
            Failure::Deadline { .. } => Self::Deadline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_ended_is_replaced_without_counting_as_a_retry() {
        let broken = || Failure::Exchange(ExchangeError::Broken(std::io::Error::other("reset").into()));
        for (failure, alone, shared) in [
            (Failure::Exchange(ExchangeError::Unsent(Upload::Empty)), true, true),
            (Failure::Exchange(ExchangeError::Closed), true, false),
            (broken(), true, false),
            (Failure::FirstByte, false, false),
            (Failure::Deadline { endpoint: true }, false, false),
            (Failure::Ambiguous, false, false),
            (Failure::Connect(ConnectError::TimedOut), false, false),
        ] {
            assert_eq!((failure.says_gone(false), failure.says_gone(true)), (alone, shared));
        }
    }
}
