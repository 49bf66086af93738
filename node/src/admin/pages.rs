//! What is behind the doors: one function for a page.

use super::{Answer, BODY_MAX, Body, Question, Refusal, Tag, allow, metrics, target::Page};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

pub(super) const READ: &[Method] = &[Method::GET, Method::HEAD];

impl Question<'_> {
    pub(super) fn metrics(self) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        let mut response = Response::new(Bytes::from(self.look.metrics()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
        Ok(response.into())
    }

    pub(super) fn routes(self) -> Answer {
        allow(&self.head.method, READ)?;
        let page = self.query.page()?;
        // One more than wanted tells whether there is a next page.
        let mut routes = self.look.routes(page.after.as_deref(), page.limit + 1);
        let more = routes.len() > page.limit;
        routes.truncate(page.limit);
        let next = routes.last().filter(|_| more).map(|(id, _)| id.clone());
        let items = routes.into_iter().map(|(_, route)| route).collect();
        let (list, link) = page_of(items, next.as_deref(), &format!("/v1/routes?limit={}", page.limit));
        let mut response = self.tagged(&list);
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        Ok(response.into())
    }

    pub(super) fn route(self, id: &str) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        let route = self.look.route(id).ok_or_else(|| Refusal::NoRoute { id: id.into() })?;
        Ok(self.tagged(&route).into())
    }

    pub(super) fn config(self) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        Ok(self.tagged(&self.look.config()).into())
    }

    pub(super) fn upstreams(self) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        Ok(self.tagged(&self.look.upstreams()).into())
    }

    pub(super) fn explain(self) -> Answer {
        allow(&self.head.method, &[Method::POST])?;
        self.query.none()?;
        let explanation = self.look.explain(self.json()?).map_err(|detail| Refusal::Question { detail })?;
        Ok(json_response_of(&explanation).into())
    }

    /// What the body says.
    pub(super) fn json(&self) -> Result<Value, Refusal> {
        if !self.is_json() {
            return Err(Refusal::MediaType);
        }
        let body = match self.body {
            Body::Whole(body) if body.len() <= BODY_MAX => body,
            Body::Whole(_) | Body::TooLarge => return Err(Refusal::TooLarge),
        };
        serde_json::from_slice(body).map_err(|error| Refusal::NotJson { detail: error.to_string() })
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

/// One page of a list, and where the next one begins: behind `last`, if there is more. `path` is the page's own, with its
/// query.
pub(super) fn page_of(items: Vec<Value>, last: Option<&str>, path: &str) -> (Value, Option<HeaderValue>) {
    let next = last.map(Page::cursor);
    let link = next.as_ref().map(|next| format!("<{path}&cursor={next}>; rel=\"next\""));
    let link = link.map(|link| HeaderValue::try_from(link).expect("a cursor is made of digits, and a query came as a header"));
    (json!({ "items": items, "next": next }), link)
}

pub(super) fn body_of(content: &Value) -> Bytes {
    let mut body = serde_json::to_vec(content).expect("a value is JSON");
    body.push(b'\n');
    Bytes::from(body)
}

pub(super) fn json_response_of(content: &Value) -> Response<Bytes> {
    json_response(body_of(content))
}

pub(super) fn json_response(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
