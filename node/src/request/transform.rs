//! What is changed on the way: the request before an endpoint sees it, the answer before the caller does.

use crate::{
    request::{
        Answer, Trip,
        admit::Keys,
        forward::{Body, Outbound},
        hygiene::{self, Head, Upgrade},
        origin::Origin,
        rejection::Rejection,
        target::{self, Path},
        upload::{Fate, Kept, Pace, Paced, Upload},
    },
    snapshot::LiveRoute,
    telemetry::traces::SpanId,
};
use bytes::Bytes;
use config::{Ask, HeaderEdits, ListenerName, PathRewrite, Redirect, Respond, Route, Template};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version, header, request::Parts, uri::PathAndQuery};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{borrow::Cow, future::poll_fn, pin::Pin, sync::Arc, time::Duration};

/// What is known of a request once its head has been read.
pub(crate) struct Checked<'a> {
    pub(crate) head: Head,
    pub(crate) origin: Origin,
    pub(crate) path: Path<'a>,
    pub(crate) query: Cow<'a, str>,
}

impl Checked<'_> {
    /// Whether the route lets pass what routing could only note.
    pub(crate) fn allowed_by(&self, route: &Route) -> Result<(), Rejection> {
        if self.path.encoded_slash && !route.encoded_slash {
            return Err(Rejection::BadTarget("the path contains an encoded slash"));
        }
        if self.path.semicolon && !route.semicolon {
            return Err(Rejection::BadTarget("the path contains a semicolon"));
        }
        Ok(())
    }

    pub(crate) fn ask<'k>(&'k self, listener: &'k ListenerName, method: &'k Method, headers: &'k HeaderMap) -> Ask<'k> {
        Ask { listener, method, host: self.head.host(), path: &self.path.text, query: &self.query, headers }
    }

    pub(crate) fn keys<'k>(&'k self, headers: &'k HeaderMap, route: &'k Route) -> Keys<'k> {
        Keys { client_ip: self.origin.client_ip, headers, host: self.head.host(), path: &self.path.text, route }
    }
}

/// The request as the endpoints of a route will see it.
pub(crate) fn outbound(
    mut parts: Parts,
    body: Incoming,
    path: PathAndQuery,
    checked: &Checked<'_>,
    live: &LiveRoute,
    trip: &mut Trip,
) -> Outbound {
    let route = &*live.route;
    let upgrade = checked.head.upgrade.and_then(|Upgrade::WebSocket| parts.extensions.remove::<OnUpgrade>());
    let headers = &mut parts.headers;
    hygiene::strip(headers, &checked.head, checked.origin.is_vouched_for());
    // The authority of the target wins over a `Host` that says the same in other letters.
    if let Some(authority) = &checked.head.authority {
        headers.insert(header::HOST, authority.clone());
    }
    edit(headers, &route.request.headers);
    checked.origin.write(headers, checked.head.authority.as_ref());
    let span = SpanId::new(trip.node().world.chance());
    trip.trace.pass_on(span, headers);
    headers.insert(&crate::telemetry::request_id::X_REQUEST_ID, trip.request_id().header());
    if upgrade.is_some() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    let body = upload(body, &parts.method, live, trip);
    Outbound { method: parts.method, path, headers: parts.headers, body, upgrade }
}

/// Refuses to become a WebSocket where the route does not allow it.
pub(crate) fn may_upgrade(checked: &Checked<'_>, method: &Method, route: &Route) -> Result<(), Rejection> {
    match checked.head.upgrade {
        Some(Upgrade::WebSocket) if *method == Method::CONNECT => Err(Rejection::NotImplemented),
        Some(Upgrade::WebSocket) if !route.websocket => Err(Rejection::Upgrade),
        Some(Upgrade::WebSocket) | None => Ok(()),
    }
}

/// Refuses a body whose length is known to be too much before any of it has come.
pub(crate) fn fits(route: &Route, declared: Option<u64>) -> Result<(), Rejection> {
    match (route.max_body, declared) {
        (Some(max), Some(declared)) if declared > max.0 => Err(Rejection::BodyTooLarge),
        _ => Ok(()),
    }
}

/// The normalised path, rewritten as the route says, and the query.
pub(crate) fn path(route: &Route, checked: &Checked<'_>, uri: &Uri) -> Result<PathAndQuery, Rejection> {
    let rewrite = &route.request;
    let edits_query = !rewrite.query_set.is_empty() || !rewrite.query_remove.is_empty();
    let unchanged = matches!((&checked.path.text, &checked.query), (Cow::Borrowed(_), Cow::Borrowed(_)));
    if rewrite.path.is_none()
        && !edits_query
        && unchanged
        && let Some(as_it_came) = uri.path_and_query()
    {
        return Ok(as_it_came.clone());
    }
    let normalised = &*checked.path.text;
    let mut text = match &rewrite.path {
        None => normalised.to_owned(),
        Some(PathRewrite::To(template)) => fill(template, route, normalised)?,
        // A route whose match does not begin with the prefix leaves the path as it is.
        Some(PathRewrite::StripPrefix(prefix)) => target::strip_prefix(normalised, prefix).unwrap_or(normalised).to_owned(),
    };
    let edited;
    let query = if edits_query {
        edited = target::edit_query(&checked.query, &rewrite.query_remove, &rewrite.query_set);
        &edited
    } else {
        &*checked.query
    };
    if !query.is_empty() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).map_err(|_| Rejection::BadTarget("the rewritten path is no path"))
}

fn fill(template: &Template, route: &Route, path: &str) -> Result<String, Rejection> {
    target::render(template, |name| route.matcher.path.capture(path, name))
        .map_err(|_| Rejection::BadTarget("the path cannot be written into the route's template"))
}

/// The body under its bounds, and remembered if the request may be sent twice.
fn upload(body: Incoming, method: &Method, live: &LiveRoute, trip: &mut Trip) -> Body {
    if body.is_end_stream() {
        return Body::Empty;
    }
    let size_max = live.route.max_body.map_or(u64::MAX, |size| size.0);
    let bounds = &trip.caller.settings.listener.bounds;
    let pace = Pace { size_max, idle: bounds.body_idle, rate_min: bounds.body_rate_min.0 };
    let fate = Arc::new(Fate::default());
    trip.upload = Some(fate.clone());
    let paced = Paced::new(body, pace, fate, trip.node().world.clone());
    let repeatable = matches!(*method, Method::PUT | Method::DELETE | Method::OPTIONS | Method::GET | Method::HEAD);
    if repeatable { Body::Again(Kept::new(paced)) } else { Body::Once(Some(Upload::Once(Box::new(paced)))) }
}

/// Whether a request of HTTP/2 says that it has no body, and might still send one.
pub(crate) fn claims_no_body(parts: &Parts, body: &Incoming) -> bool {
    parts.version == Version::HTTP_2
        && !body.is_end_stream()
        && parts.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// Waits until it is sure that no body follows: an HTTP/1.1 endpoint would take it for a request of its own.
pub(crate) async fn no_body(mut body: Incoming, within: Duration) -> Result<Incoming, Rejection> {
    let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
    match tokio::time::timeout(within, next).await {
        Ok(None) => Ok(body),
        Ok(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) && body.is_end_stream() => Ok(body),
        Ok(Some(_)) => Err(Rejection::BadRequest("the body is longer than its declared length")),
        Err(_elapsed) => Err(Rejection::BodyTooSlow),
    }
}

fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edits.add {
        headers.append(name, value.clone());
    }
}

/// The answer as the caller will see it.
pub(crate) fn response(mut response: Response<Answer>, route: &Route, to_h1: bool) -> Response<Answer> {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    hygiene::strip_response(headers);
    if switching && to_h1 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    edit(headers, &route.response.headers);
    // The version of the answer is the caller's connection's, not the endpoint's.
    *response.version_mut() = Version::HTTP_11;
    response
}

/// A fixed answer.
pub(crate) fn respond(respond: &Respond, method: &Method) -> Response<Answer> {
    let status = StatusCode::from_u16(respond.status).unwrap_or(StatusCode::OK);
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let body = if bodiless || *method == Method::HEAD { Bytes::new() } else { Bytes::copy_from_slice(respond.body.as_bytes()) };
    let mut response = Response::new(Answer::whole(body));
    *response.status_mut() = status;
    if !bodiless {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, respond.content_type.clone());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(respond.body.len()));
    }
    response
}

/// Where a redirect sends the caller.
pub(crate) fn location(redirect: &Redirect, route: &Route, checked: &Checked<'_>) -> Result<HeaderValue, Rejection> {
    let scheme = redirect.scheme.as_deref().unwrap_or(checked.origin.scheme.as_str());
    let host = redirect.host.as_deref().unwrap_or(checked.head.host());
    let path = match &redirect.path {
        Some(template) => fill(template, route, &checked.path.text)?,
        None => checked.path.text.clone().into_owned(),
    };
    if host.is_empty() {
        // A caller of HTTP/1.0 that names no host can be sent to another path of wherever it is, and no further.
        if redirect.scheme.is_some() || redirect.port.is_some() {
            return Err(Rejection::BadRequest("there is no Host, and this address redirects by it"));
        }
        return reference(path, redirect, checked);
    }
    let mut location = format!("{scheme}://{host}");
    let own_port = if scheme == "https" { 443 } else { 80 };
    // A port belongs to a host and a scheme: where either is replaced, the caller's port means nothing any more.
    let kept = if redirect.host.is_none() && redirect.scheme.is_none() { checked.head.port } else { None };
    if let Some(port) = redirect.port.or(kept).filter(|port| *port != own_port) {
        location.push_str(&format!(":{port}"));
    }
    location.push_str(&path);
    reference(location, redirect, checked)
}

/// A location, with the caller's query if it goes along.
fn reference(mut location: String, redirect: &Redirect, checked: &Checked<'_>) -> Result<HeaderValue, Rejection> {
    if redirect.keep_query && !checked.query.is_empty() {
        location.push('?');
        location.push_str(&checked.query);
    }
    HeaderValue::try_from(location).map_err(|_| Rejection::BadTarget("the location is no URI"))
}

/// Sends the caller elsewhere.
pub(crate) fn redirect(redirect: &Redirect, location: HeaderValue) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0_u64));
    response
}
