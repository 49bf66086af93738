//! Strings with a small language inside: regular expressions, matches, templates, locations.

use super::{
    endpoint::is_authority,
    reader::{Node, Read, Reader},
    section::section,
    shape::{Shape, Text},
    value::unknown_word,
};
use crate::{
    Template,
    document::Span,
    pattern::{self, Match, WrittenTemplate},
    problem::codes,
};
use http::HeaderValue;
use std::{ops::Range, sync::Arc};
use toml::de::DeValue;

/// A regular expression that has to match a whole text.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) regex::Regex);

impl Read for Pattern {
    fn shape() -> Shape {
        Shape::text("a regular expression", "/v[0-9]+/.*")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        // Checked by itself first, so that `a)(b` does not become whole by what is put around it.
        let compiled = regex::Regex::new(text).and_then(|_| regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 20).build());
        match compiled {
            Ok(regex) => Some(Self(regex)),
            Err(error) => {
                let why = match &error {
                    regex::Error::CompiledTooBig(_) => "it would take more than 1 MiB".to_string(),
                    error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string(),
                };
                r.found.error(codes::BAD_REGEX, node.at, format!("this is no regular expression: {why}"));
                None
            }
        }
    }
}

section! {
    /// A condition on a value; exactly one of its keys.
    ConditionTable {
        /// What the whole value must match.
        regex: Pattern,
        /// Whether there must be one, or must not.
        present: bool,
    }
}

/// What a header or a parameter must be.
#[derive(Clone, Debug)]
pub(crate) struct ValueChoice(pub(crate) crate::ValueMatch);

impl Read for ValueChoice {
    fn shape() -> Shape {
        Shape::Any(vec![Shape::text("a string", "exact"), ConditionTable::shape()])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        use crate::ValueMatch::{Absent, Exact, Present, Regex};
        match node.value {
            DeValue::String(text) => Some(Self(Exact(Arc::from(&**text)))),
            DeValue::Table(_) => {
                let table = ConditionTable::read(node, r)?;
                match (table.regex, table.present) {
                    (Some(regex), None) => Some(Self(Regex(regex.value.0))),
                    (None, Some(present)) => Some(Self(if present.value { Present } else { Absent })),
                    _ if table.meta.all_sound() => {
                        let message = "a condition has either `regex` or `present`";
                        r.found.error(codes::EXCLUSIVE_KEYS, node.at, message).help("write { regex = \"…\" } or { present = true }");
                        None
                    }
                    _ => None,
                }
            }
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}

/// A route's match, as written and taken apart.
#[derive(Clone, Debug)]
pub(crate) struct MatchText {
    pub(crate) text: Arc<str>,
    pub(crate) parsed: Match,
}

impl Read for MatchText {
    fn shape() -> Shape {
        Shape::Text(Text { what: "a match", example: "GET shop.example.com/v1/orders/{id}", pattern: Some("^([A-Z,-]+ )?[^/ ]*/[^ ?#]*$") })
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        match pattern::parse_match(text) {
            Ok(parsed) => Some(Self { text: text.into(), parsed }),
            Err(error) => error.report(node.at, text, r),
        }
    }
}

/// Captures that a template uses, each with its place.
pub(crate) type Uses = Vec<(Arc<str>, Span)>;

fn uses(written: &WrittenTemplate, text: &str, offset: usize, at: Span, r: &Reader<'_>) -> Uses {
    let place = |range: &Range<usize>| r.documents.within(at, text, range.start + offset..range.end + offset);
    written.captures.iter().map(|(name, range)| (Arc::clone(name), place(range))).collect()
}

/// A path with captures in it.
#[derive(Clone, Debug)]
pub(crate) struct PatternPath {
    pub(crate) template: Template,
    pub(crate) uses: Uses,
}

impl Read for PatternPath {
    fn shape() -> Shape {
        Shape::text("a path", "/v2/{name}")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        match pattern::template(text, false) {
            Ok(written) => Some(Self { uses: uses(&written, text, 0, node.at, r), template: written.template }),
            Err(error) => error.report(node.at, text, r),
        }
    }
}

/// A location with captures in its path.
#[derive(Clone, Debug)]
pub(crate) struct PatternTarget {
    pub(crate) scheme: Option<Arc<str>>,
    pub(crate) host: Option<Arc<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<Template>,
    pub(crate) uses: Uses,
    /// It brings a query of its own.
    pub(crate) has_query: bool,
}

impl Read for PatternTarget {
    fn shape() -> Shape {
        Shape::text("a location", "https://shop.example.com/v2/{name}")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        let mut target = Self { scheme: None, host: None, port: None, path: None, uses: Vec::new(), has_query: text.contains('?') };
        let mut path = text;
        if let Some((scheme, rest)) = text.split_once("://") {
            let slash = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let authority = &rest[..slash];
            if !matches!(scheme, "http" | "https") || !is_authority(authority) {
                let right = "write it as https://host/path, or as a path alone";
                r.found.error(codes::BAD_TEXT, node.at, format!("`{text}` is no location")).help(right);
                return None;
            }
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !authority.ends_with(']') => (host, port.parse().ok()),
                _ => (authority, None),
            };
            target.scheme = Some(scheme.into());
            target.host = Some(host.to_ascii_lowercase().into());
            target.port = port;
            path = &rest[slash..];
        }
        if path.is_empty() {
            return Some(target);
        }
        let offset = text.len() - path.len();
        match pattern::template(path, true) {
            Ok(written) => {
                target.uses = uses(&written, text, offset, node.at, r);
                target.path = Some(written.template);
                Some(target)
            }
            Err(mut error) => {
                error.range = error.range.start + offset..error.range.end + offset;
                error.report(node.at, text, r)
            }
        }
    }
}

/// Whole literal segments, as `/api/v1`.
#[derive(Clone, Debug)]
pub(crate) struct Prefix(pub(crate) Vec<Arc<str>>);

impl Read for Prefix {
    fn shape() -> Shape {
        Shape::text("a prefix", "/api")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        if !text.starts_with('/') || text.len() < 2 || text.ends_with('/') {
            let message = format!("`{text}` is no prefix");
            r.found.error(codes::BAD_TEXT, node.at, message).help("a prefix begins with a slash and ends without one: \"/api\"");
            return None;
        }
        match pattern::path(text) {
            Ok(path) if path.rest.is_none() && path.capture_names().next().is_none() => {
                let literal = |segment| match segment {
                    crate::Segment::Literal(literal) => literal,
                    crate::Segment::Capture(name) => name,
                };
                Some(Self(path.segments.into_iter().map(literal).collect()))
            }
            Ok(_) => {
                r.found.error(codes::BAD_TEXT, node.at, "a prefix has no captures").help("use `path` to make the whole path anew");
                None
            }
            Err(error) => error.report(node.at, text, r),
        }
    }
}

/// Text that can be the value of a header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderText(pub(crate) HeaderValue);

impl Read for HeaderText {
    fn shape() -> Shape {
        Shape::text("a header's value", "text/html")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        let value = HeaderValue::from_str(text).ok();
        if value.is_none() {
            let key = r.key();
            r.found
                .error(codes::BAD_TEXT, node.at, format!("`{key}` cannot be the value of a header"))
                .help("leave out control characters");
        }
        value.map(Self)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Scheme(pub(crate) Arc<str>);

impl Read for Scheme {
    fn shape() -> Shape {
        Shape::Words(&["http", "https"])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match r.text(node, &Self::shape())? {
            scheme @ ("http" | "https") => Some(Self(scheme.into())),
            text => unknown_word(text, &["http", "https"], node.at, r),
        }
    }
}

fn status(node: Node<'_>, r: &mut Reader<'_>, shape: &Shape, valid: fn(u16) -> bool, which: &str) -> Option<u16> {
    let DeValue::Integer(number) = node.value else { return r.wrong_type(node, shape) };
    let status = u16::from_str_radix(number.as_str(), number.radix()).ok().filter(|status| valid(*status));
    if status.is_none() {
        let key = r.key();
        r.found.error(codes::BAD_STATUS, node.at, format!("`{key}` is {which}, not {number}"));
    }
    status
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RedirectStatus(pub(crate) u16);

impl Read for RedirectStatus {
    fn shape() -> Shape {
        Shape::Whole { min: 301, max: 308 }
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let valid = |status| matches!(status, 301 | 302 | 303 | 307 | 308);
        status(node, r, &Self::shape(), valid, "301, 302, 303, 307 or 308").map(Self)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RespondStatus(pub(crate) u16);

impl Read for RespondStatus {
    fn shape() -> Shape {
        Shape::Whole { min: 200, max: 599 }
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        status(node, r, &Self::shape(), |status| (200..=599).contains(&status), "a status from 200 to 599").map(Self)
    }
}
