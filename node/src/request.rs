//! The journey of a request, whole, on one screen.
//!
//! Every step returns here before the next one begins. None of them waits for anything but the endpoint.

mod admit;
mod answer;
mod forward;
pub mod hygiene;
pub mod origin;
mod rejection;
pub mod target;
mod transform;
mod trip;
mod tunnel;
mod upload;

pub(crate) use admit::{Keys, quoted};
pub(crate) use answer::Answer;
pub(crate) use rejection::{Rejection, seconds_up};
pub(crate) use transform::Checked;
pub(crate) use trip::Trip;
pub(crate) use upload::{Fate, Upload};

use crate::{
    listener::{Caller, Entrance},
    snapshot::{LiveAction, LiveRoute, LiveService, Snapshot},
};
use actors::limiter::{Decision, Take};
use admit::Grant;
use bytes::Bytes;
use config::{Ask, Redirect, Respond, Route, RouteTable};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts, uri::PathAndQuery};
use http_body::Body as _;
use hyper::body::Incoming;
use origin::Origin;
use std::sync::Arc;

/// Answers a request, whatever happens to it.
pub(crate) async fn serve(caller: &Arc<Caller>, request: Request<Incoming>) -> Response<Answer> {
    caller.pulse.request_begins();
    let snapshot = caller.node.snapshot.load_full();
    let mut trip = Trip::begin(caller, snapshot, &request);
    let grpc = trip::is_grpc(request.headers());
    let mut response = match journey(request, &mut trip).await {
        Ok(response) => response,
        Err(rejection) => {
            trip.rejected(&rejection);
            rejection.into_response(&trip, grpc)
        }
    };
    trip.answered(response.status());
    if trip.leaves_unread() {
        caller.pulse.linger();
    }
    response.headers_mut().insert("x-request-id", trip.request_id().header());
    response.map(|answer| answer.ends(trip))
}

/// Whether the node is well, for those who ask on a public listener.
pub(crate) fn health(good: bool) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(Bytes::from_static(if good { b"ok\n" } else { b"no\n" })));
    *response.status_mut() = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

async fn journey(request: Request<Incoming>, trip: &mut Trip) -> Result<Response<Answer>, Rejection> {
    let caller = trip.caller.clone();
    // One snapshot for the whole journey: a reload never changes the rules half-way.
    let snapshot = trip.snapshot.clone();
    let declared = request.body().size_hint().exact();
    let (parts, mut body) = request.into_parts();
    let uri = parts.uri.clone();

    let decided = decide(&parts, &uri, declared, &caller.entrance(), &snapshot, trip);
    if !body.is_end_stream() && !decided.as_ref().is_ok_and(Decided::needs_body) {
        // A caller that waits for leave to send its body is not given it. HTTP/2 ends one stream and goes on with the others.
        let skippable = trip.is_h1() && !parts.headers.contains_key(header::EXPECT);
        trip.unread = !(skippable && Box::pin(upload::skip(&mut body)).await);
    }
    let routed = match decided? {
        Decided::Health(probe) => return Ok(health(caller.node.is_well(probe))),
        Decided::Routed(routed) => routed,
    };
    let response = match routed.step {
        Step::Respond(respond) => transform::respond(respond, &parts.method),
        Step::Redirect(redirect, location) => transform::redirect(redirect, location),
        Step::Forward(onward) => {
            if transform::claims_no_body(&parts, &body) {
                body = Box::pin(transform::no_body(body, caller.settings.listener.bounds.body_idle)).await?;
            }
            let outbound = transform::outbound(parts, body, onward.path, &routed.checked, routed.live, trip);
            forward::forward(routed.live, onward.service, outbound, onward.affinity, trip).await?
        }
    };
    Ok(routed.grant.annotate(transform::response(response, &routed.live.route, trip.is_h1())))
}

/// Decides what becomes of a request, from its head and from how long its body says that it is. Waits for nothing.
///
/// `uri` is the target of `parts`, on its own because what is decided outlives them.
pub(crate) fn decide<'a>(
    parts: &Parts,
    uri: &'a Uri,
    declared: Option<u64>,
    entrance: &Entrance<'_>,
    snapshot: &'a Snapshot,
    purpose: &mut impl Purpose,
) -> Result<Decided<'a>, Rejection> {
    let head = hygiene::inspect(parts, &entrance.listener.bounds)?;
    let origin = Origin::find(entrance.connected, &parts.headers, &snapshot.gateway.node.trusted_proxies);
    let path = target::normalise(uri.path())?;
    let checked = Checked { head, origin, path, query: target::query(uri.query().unwrap_or_default()) };
    purpose.knows(&checked);
    entrance.covers(checked.head.host())?;
    if let Some(probe) = entrance.probe(&checked.path.text) {
        return Ok(Decided::Health(probe));
    }

    let ask = checked.ask(&entrance.listener.name, &parts.method, &parts.headers);
    let route = purpose.find(snapshot.table(), &ask).ok_or(Rejection::NoRoute)?;
    let live = snapshot.live(route);
    purpose.takes(live);
    checked.allowed_by(route)?;
    admit::network(&route.networks, checked.origin.client_ip)?;
    let keys = checked.keys(&parts.headers, route);
    let grant = admit::limits(live, &keys, |takes| purpose.spend(takes))?;

    let step = match &live.action {
        LiveAction::Respond(respond) => Step::Respond(respond),
        LiveAction::Redirect(redirect) => Step::Redirect(redirect, transform::location(redirect, route, &checked)?),
        LiveAction::Forward(to) => {
            let service = to.choose(keys.lot(to.sticky.as_ref(), || purpose.chance()));
            let affinity = keys.affinity(&service.service.balance);
            transform::may_upgrade(&checked, &parts.method, route)?;
            let path = transform::path(route, &checked, uri)?;
            transform::fits(route, declared)?;
            Step::Forward(Onward { service, affinity, path })
        }
    };
    Ok(Decided::Routed(Routed { checked, live, grant, step }))
}

/// What something is decided for: a journey, which acts on it, or a question, which only wants the reasons.
pub(crate) trait Purpose {
    /// The head has been read: who asks, and for what.
    fn knows(&mut self, checked: &Checked<'_>);

    fn find<'t>(&mut self, table: &'t RouteTable, ask: &Ask<'_>) -> Option<&'t Arc<Route>>;

    fn takes(&mut self, live: &Arc<LiveRoute>);

    /// Puts the request to its limits.
    fn spend(&mut self, takes: &[Take<'_>]) -> Decision;

    fn chance(&mut self) -> u64;
}

/// What becomes of a request that is not rejected.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and a box would be an allocation for each request")]
pub(crate) enum Decided<'a> {
    /// It asks for the node's own health.
    Health(Probe),
    Routed(Routed<'a>),
}

impl Decided<'_> {
    fn needs_body(&self) -> bool {
        matches!(self, Self::Routed(Routed { step: Step::Forward(_), .. }))
    }
}

pub(crate) struct Routed<'a> {
    pub(crate) checked: Checked<'a>,
    pub(crate) live: &'a LiveRoute,
    pub(crate) grant: Grant<'a>,
    pub(crate) step: Step<'a>,
}

/// What its route does with it.
pub(crate) enum Step<'a> {
    Respond(&'a Respond),
    Redirect(&'a Redirect, HeaderValue),
    Forward(Onward<'a>),
}

pub(crate) struct Onward<'a> {
    pub(crate) service: &'a Arc<LiveService>,
    /// What a hashing balancer goes by.
    pub(crate) affinity: Option<u64>,
    /// As the endpoint sees it.
    pub(crate) path: PathAndQuery,
}

/// What may be asked of the node itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe {
    Live,
    Ready,
    Started,
}

impl Probe {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/startupz" => Some(Self::Started),
            _ => None,
        }
    }
}
