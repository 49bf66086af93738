//! What is remembered of one request from its first byte to the last of its answer, and told when it ends.

use crate::{
    listener::Caller,
    node::Node,
    request::{
        Fate, Purpose,
        answer::AnswerError,
        rejection::{self, Rejection},
        transform::Checked,
    },
    snapshot::{LiveRoute, LiveService, Snapshot},
    telemetry::{
        access_log::Line,
        metrics::{Exchange, Retry},
        request_id::RequestId,
        traces::Trace,
    },
    upstream::Upstream,
};
use actors::limiter::{Decision, Take};
use actors::service::{Failure, InFlight, Permit};
use config::{Ask, Route, RouteTable};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The record of one journey. It is told of exactly once, when it is dropped: also when the caller just goes away.
pub(crate) struct Trip {
    pub(crate) caller: Arc<Caller>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) started: Instant,
    pub(crate) trace: Trace,
    request_id: RequestId,
    method: Method,
    uri: Uri,
    version: Version,
    /// As it is understood: lower case, with its port if one was given.
    authority: Option<HeaderValue>,
    /// What the access log may show of the request's fields.
    logged: HeaderMap,
    pub(crate) client_ip: IpAddr,
    pub(crate) route: Option<Arc<LiveRoute>>,
    limit: Option<config::LimitName>,
    pub(crate) upload: Option<Arc<Fate>>,
    /// Whether a body that was not needed has more to come.
    pub(crate) unread: bool,
    pub(crate) retries: u32,
    /// One of the requests that the service may have, until the answer has ended.
    pub(crate) permit: Option<Permit>,
    asked: Option<Asked>,
    /// How long attempts before the last one took, the rests behind them included.
    waited: Duration,
    /// Of the answer that was begun.
    status: Option<StatusCode>,
    /// Whether the answer broke off, and how the endpoint failed by that, if it was the endpoint.
    broken: Option<Option<Failure>>,
    error_code: Option<&'static str>,
    pub(crate) bytes_out: u64,
}

/// The endpoint that was asked last.
struct Asked {
    service: Arc<LiveService>,
    upstream: Arc<Upstream>,
    at: Instant,
    answered: Option<Duration>,
    /// Gone once the endpoint's load has been told how it went.
    in_flight: Option<InFlight>,
    /// Whether it is an attempt beyond the first.
    retry: bool,
}

impl Asked {
    /// How long it took over the head of its answer, or has been taking.
    fn waits(&self, now: Instant) -> Duration {
        self.answered.unwrap_or_else(|| now.saturating_duration_since(self.at))
    }
}

impl Trip {
    pub(crate) fn begin<B>(caller: &Arc<Caller>, snapshot: Arc<Snapshot>, request: &Request<B>) -> Box<Self> {
        let node = &caller.node;
        let world = &*node.world;
        let started = world.now();
        let headers = request.headers();
        let trusted = caller.is_trusted();
        let request_id = RequestId::of(headers, trusted, world.wall(), [world.chance(), world.chance()]);
        caller.listener.metrics.active_requests.add(1);
        Box::new(Self {
            started,
            trace: Trace::of(headers, false, || world.chance()),
            request_id,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            authority: None,
            logged: snapshot.log.keep(headers),
            client_ip: caller.address.ip(),
            route: None,
            limit: None,
            upload: None,
            unread: false,
            retries: 0,
            permit: None,
            asked: None,
            waited: Duration::ZERO,
            status: None,
            broken: None,
            error_code: None,
            bytes_out: 0,
            snapshot,
            caller: caller.clone(),
        })
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.caller.node
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    pub(crate) fn is_h1(&self) -> bool {
        self.version != Version::HTTP_2
    }

    pub(crate) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(crate) fn rejected(&mut self, rejection: &Rejection) {
        self.error_code = Some(rejection.code());
        if let Rejection::Limited(limited) = rejection {
            self.limit = Some(limited.policy.clone());
        }
    }

    /// The head of the answer is ready for the caller.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        let now = self.node().world.now();
        let waited = self.waited + self.asked.as_ref().map_or(Duration::ZERO, |asked| asked.waits(now));
        self.node().numbers.node.overhead.record(now.saturating_duration_since(self.started).saturating_sub(waited));
    }

    /// Whether the caller has more to send than anyone will read before the answer ends.
    pub(crate) fn leaves_unread(&self) -> bool {
        self.unread || self.upload.as_ref().is_some_and(|fate| !fate.is_complete())
    }

    /// An endpoint is asked.
    pub(crate) fn asks(&mut self, service: &Arc<LiveService>, upstream: &Arc<Upstream>, in_flight: InFlight, now: Instant) {
        // One that was asked before and has neither answered nor failed had closed its connection: that says nothing of it.
        self.settle(now, false, None);
        self.waited += self.asked.as_ref().map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked.at));
        service.metrics.active_requests.add(1);
        let retry = self.retries > 0;
        let (service, upstream) = (service.clone(), upstream.clone());
        self.asked = Some(Asked { service, upstream, at: now, answered: None, in_flight: Some(in_flight), retry });
    }

    /// The head of an answer has come, and it is one.
    pub(crate) fn hears(&mut self, status: StatusCode, now: Instant) {
        if let Some(asked) = &mut self.asked {
            asked.answered = Some(now.saturating_duration_since(asked.at));
            if let Some(in_flight) = &asked.in_flight {
                in_flight.answered(status.as_u16(), now);
            }
        }
    }

    /// The attempt has failed. Without a `failure`, the endpoint is not to blame, or its answer has said it.
    pub(crate) fn fails(&mut self, failure: Option<Failure>) {
        let now = self.node().world.now();
        self.settle(now, true, failure);
    }

    /// Takes the request off the endpoint's load.
    fn settle(&mut self, now: Instant, failed: bool, failure: Option<Failure>) {
        let Some(asked) = &mut self.asked else { return };
        let Some(in_flight) = asked.in_flight.take() else { return };
        if let Some(failure) = failure {
            in_flight.failed(failure, now);
        }
        asked.service.metrics.active_requests.sub(1);
        asked.service.metrics.request_duration.record(asked.waits(now));
        if asked.retry {
            asked.service.metrics.retried(if failed { Retry::Failure } else { Retry::Success });
        }
    }

    pub(crate) fn finish(mut self: Box<Self>, error: Option<&AnswerError>) {
        if let Some(error) = error {
            self.error_code = Some(rejection::broken_off(error));
            let caller = self.upload.as_ref().is_some_and(|fate| fate.early().is_some());
            self.broken = Some(match error {
                AnswerError::Broken(_) if !caller => Some(Failure::Reset),
                AnswerError::Idle => Some(Failure::Timeout),
                // Whoever was slow, it need not have been the endpoint.
                AnswerError::Broken(_) | AnswerError::Deadline => None,
            });
        }
        // Telling is what dropping does.
    }

    fn log(&self, status: StatusCode, duration: Duration, bytes_in: u64) {
        let node = self.node();
        let policy = &self.snapshot.log;
        if !policy.wants(status, node.world.chance()) {
            return;
        }
        let asked = self.asked.as_ref();
        let line = Line {
            wall: node.world.wall(),
            request_id: self.request_id.as_str(),
            trace: Some(&self.trace),
            method: self.method.as_str(),
            host: self.authority.as_ref().and_then(|authority| authority.to_str().ok()),
            path: self.uri.path(),
            route: self.route.as_ref().map(|live| live.route.id.as_str()),
            status,
            error_code: self.error_code,
            bytes_in,
            bytes_out: self.bytes_out,
            duration,
            upstream_duration: asked.and_then(|asked| asked.answered),
            service: asked.map(|asked| asked.service.service.name.as_str()),
            upstream: asked.and_then(|asked| asked.upstream.target.authority.to_str().ok()),
            retries: self.retries,
            limit: self.limit.as_ref().map(config::LimitName::as_str),
            peer_ip: self.caller.peer.ip(),
            client_ip: self.client_ip,
            tls: self.caller.tls.as_ref().map(|tls| tls.version),
            proto: match self.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            headers: &self.logged,
        };
        node.access_log.write(policy, &line);
    }
}

impl Purpose for Trip {
    fn knows(&mut self, checked: &Checked<'_>) {
        self.authority.clone_from(&checked.head.authority);
        self.client_ip = checked.origin.client_ip;
    }

    fn find<'t>(&mut self, table: &'t RouteTable, ask: &Ask<'_>) -> Option<&'t Arc<Route>> {
        table.find(ask, &mut ())
    }

    fn takes(&mut self, live: &Arc<LiveRoute>) {
        self.route = Some(live.clone());
    }

    fn spend(&mut self, takes: &[Take<'_>]) -> Decision {
        self.node().limiter.admit(takes, self.started)
    }

    fn chance(&mut self) -> u64 {
        self.node().world.chance()
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        let node = self.caller.node.clone();
        let now = node.world.now();
        // Without a status no answer was begun: the caller went away before there was one.
        let status = self.status.unwrap_or_else(|| {
            self.error_code = Some(rejection::CALLER_GONE);
            rejection::caller_gone()
        });
        // Whoever answered or failed before the answer was begun has been judged by now.
        self.settle(now, status.is_server_error() || self.broken.is_some(), self.broken.flatten());
        let duration = now.saturating_duration_since(self.started);
        let bytes_in = self.upload.as_ref().map_or(0, |fate| fate.bytes());
        let metrics = self.route.as_ref().map_or(&node.numbers.none, |live| &live.metrics);
        metrics.record(Exchange { method: &self.method, status, duration, bytes_in, bytes_out: self.bytes_out });
        if let Some(code) = self.error_code {
            node.numbers.node.rejected(code);
        }
        self.caller.listener.metrics.active_requests.sub(1);
        self.log(status, duration, bytes_in);
        self.caller.pulse.request_over(now);
    }
}

/// Whether a caller speaks gRPC, and so wants its refusals in gRPC's own words.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    // `application/grpc-web` begins the same and is something else.
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}
