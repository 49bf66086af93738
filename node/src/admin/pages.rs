//! What is behind the doors: one function for a page.

use super::{Answer, BODY_MAX, Body, Question, Refusal, Tag, allow, metrics, target::Page};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

const READ: &[Method] = &[Method::GET, Method::HEAD];

impl Question<'_> {
    pub(super) fn metrics(self) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        let mut response = Response::new(Bytes::from(self.look.metrics()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
        Ok(response)
    }

    pub(super) fn routes(self) -> Answer {
        allow(&self.head.method, READ)?;
        let page = self.query.page()?;
        // One more than wanted tells whether there is a next page.
        let mut routes = self.look.routes(page.after.as_deref(), page.limit + 1);
        let more = routes.len() > page.limit;
        routes.truncate(page.limit);
        let next = routes.last().filter(|_| more).map(|(id, _)| Page::cursor(id));
        let items: Vec<Value> = routes.into_iter().map(|(_, route)| route).collect();
        let mut response = self.tagged(&json!({ "items": items, "next": next }));
        if let Some(next) = next {
            let link = format!("</v1/routes?limit={}&cursor={next}>; rel=\"next\"", page.limit);
            response.headers_mut().insert(header::LINK, HeaderValue::from_str(&link).expect("a cursor is made of digits"));
        }
        Ok(response)
    }

    pub(super) fn route(self, id: &str) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        let route = self.look.route(id).ok_or_else(|| Refusal::NoRoute { id: id.into() })?;
        Ok(self.tagged(&route))
    }

    pub(super) fn config(self) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        Ok(self.tagged(&self.look.config()))
    }

    pub(super) fn upstreams(self) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        Ok(self.tagged(&self.look.upstreams()))
    }

    pub(super) fn explain(self) -> Answer {
        allow(&self.head.method, &[Method::POST])?;
        self.query.none()?;
        if !self.is_json() {
            return Err(Refusal::MediaType);
        }
        let body = match self.body {
            Body::Whole(body) if body.len() <= BODY_MAX => body,
            Body::Whole(_) | Body::TooLarge => return Err(Refusal::TooLarge),
        };
        let question = serde_json::from_slice(body).map_err(|error| Refusal::NotJson { detail: error.to_string() })?;
        let explanation = self.look.explain(question).map_err(|detail| Refusal::Question { detail })?;
        Ok(json_response(body_of(&explanation)))
    }

    /// Nothing but the media type itself decides: a page elsewhere can send any other without asking first.
    fn is_json(&self) -> bool {
        let mut types = self.head.headers.get_all(header::CONTENT_TYPE).iter();
        let (Some(value), None) = (types.next(), types.next()) else { return false };
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
    }

    /// The content with its tag, or 304 to whoever has it.
    fn tagged(&self, content: &Value) -> Response<Bytes> {
        let body = body_of(content);
        let tag = Tag::of(&body);
        let mut response = json_response(body);
        if tag.known_to(&self.head.headers) {
            response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response.headers_mut().insert(header::ETAG, tag.header());
        response
    }
}

fn body_of(content: &Value) -> Bytes {
    let mut body = serde_json::to_vec(content).expect("a value is JSON");
    body.push(b'\n');
    Bytes::from(body)
}

fn json_response(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
