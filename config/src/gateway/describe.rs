//! A gateway as JSON for those who operate it: what is in effect, and where each part was written. Secrets are masked.

use crate::{
    Action, Gateway, HeaderEdits, HostPattern, Matcher, PathPattern, PathRewrite, Revision, Route, Segment, Template, TemplatePart,
    ValueMatch,
};
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use std::fmt;

impl Gateway {
    /// The whole configuration with every default filled in.
    pub fn describe(&self) -> Value {
        json!({
            "revision": self.revision,
            "node": self.node,
            "cluster": self.cluster,
            "listeners": self.listeners,
            "services": self.services,
            "limits": self.limits,
            "routes": self.routes.iter().map(|route| route.describe()).collect::<Vec<_>>(),
            "admin": self.admin,
            "telemetry": self.telemetry,
            "drills": self.drills,
            "files": self.files,
        })
    }
}

impl Gateway {
    /// A hash over what all nodes of a cluster should serve alike: services, limits and routes, wherever they are written.
    /// What a node is, where it listens and who may operate it is its own.
    pub fn common(&self) -> Revision {
        let mut common = json!({
            "services": self.services,
            "limits": self.limits,
            "routes": self.routes.iter().map(|route| route.describe()).collect::<Vec<_>>(),
        });
        forget_places(&mut common);
        Revision::of(std::iter::once(common.to_string().as_str()))
    }
}

/// Takes out where something is written, which may differ where all else is equal.
fn forget_places(value: &mut Value) {
    match value {
        Value::Object(members) => {
            // Only a place has all three: what is called `place` by an operator stays.
            members.retain(|name, value| !(name == "place" && value["line"].is_number() && value["column"].is_number()));
            members.values_mut().for_each(forget_places);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_places),
        _ => {}
    }
}

impl Route {
    /// What it matches, what happens to a request, and what it may cost, with its place in the files.
    pub fn describe(&self) -> Value {
        let mut route = self.matcher.describe();
        route["id"] = json!(self.id);
        route["place"] = json!(self.place);
        match &self.action {
            Action::Forward(forward) => {
                match &forward.split[..] {
                    [(service, _)] => route["service"] = json!(service.name),
                    split => {
                        route["split"] =
                            split.iter().map(|(service, weight)| json!({ "service": service.name, "weight": weight })).collect();
                    }
                }
                if let Some(sticky) = &forward.sticky {
                    route["sticky"] = json!(sticky);
                }
            }
            Action::Redirect(redirect) => {
                route["redirect"] = json!({
                    "status": redirect.status,
                    "scheme": redirect.scheme,
                    "host": redirect.host,
                    "port": redirect.port,
                    "path": redirect.path.as_ref().map(Template::to_string),
                    "query": if redirect.keep_query { "keep" } else { "drop" },
                });
            }
            Action::Respond(respond) => {
                route["respond"] = json!({ "status": respond.status, "content_type": shown(&respond.content_type), "body": respond.body });
            }
        }
        route["limits"] = json!(self.limits);
        route["allow"] = json!(self.networks.allow);
        route["deny"] = json!(self.networks.deny);
        route["request"] = edits(&self.request.headers);
        match &self.request.path {
            Some(PathRewrite::To(template)) => route["request"]["path"] = json!(template.to_string()),
            Some(PathRewrite::StripPrefix(prefix)) => route["request"]["strip_prefix"] = json!(prefix),
            None => {}
        }
        let set = self.request.query_set.iter().map(|(name, value)| (name.to_string(), json!(value)));
        route["request"]["query"] = json!({ "set": set.collect::<Map<_, _>>(), "remove": self.request.query_remove });
        route["response"] = edits(&self.response.headers);
        route["max_body"] = self.max_body.map_or(json!("unlimited"), |size| json!(size));
        route["deadlines"] = json!(self.deadlines);
        route["retry"] = json!(self.retry);
        route["encoded_slash"] = json!(if self.encoded_slash { "keep" } else { "reject" });
        route["semicolon"] = json!(if self.semicolon { "keep" } else { "reject" });
        route["websocket"] = json!(self.websocket);
        route
    }
}

impl Matcher {
    fn describe(&self) -> Value {
        let headers = self.headers.iter().map(|(name, wanted)| (name.to_string(), condition(wanted)));
        let query = self.query.iter().map(|(name, wanted)| (name.to_string(), condition(wanted)));
        json!({
            "match": self.written,
            "methods": self.methods.iter().map(http::Method::as_str).collect::<Vec<_>>(),
            "host": self.host.to_string(),
            "path": self.path.to_string(),
            "headers": headers.collect::<Map<_, _>>(),
            "query": query.collect::<Map<_, _>>(),
            "path_regex": self.path_regex.as_ref().map(regex::Regex::as_str),
            "priority": self.priority,
            "listen": self.listeners,
        })
    }
}

fn condition(wanted: &ValueMatch) -> Value {
    match wanted {
        ValueMatch::Exact(exact) => json!(exact),
        ValueMatch::Regex(regex) => json!({ "regex": regex.as_str() }),
        ValueMatch::Present => json!({ "present": true }),
        ValueMatch::Absent => json!({ "present": false }),
    }
}

fn edits(edits: &HeaderEdits) -> Value {
    let pairs = |pairs: &[(HeaderName, HeaderValue)]| -> Value {
        pairs.iter().map(|(name, value)| (name.to_string(), json!(shown(value)))).collect::<Map<_, _>>().into()
    };
    json!({
        "set": pairs(&edits.set),
        "add": pairs(&edits.add),
        "remove": edits.remove.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
    })
}

fn shown(value: &HeaderValue) -> String {
    if value.is_sensitive() { "••••".to_string() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::Capture(name) => write!(f, "/{{{name}}}")?,
            }
        }
        match &self.rest {
            Some(rest) if rest.0.is_empty() => f.write_str("/**"),
            Some(rest) => write!(f, "/{{{}=**}}", rest.0),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            TemplatePart::Literal(literal) => f.write_str(literal),
            TemplatePart::Capture(name) => write!(f, "{{{name}}}"),
        })
    }
}
