//! What a route asks of a request.

use super::{Known, distinct};
use crate::{
    HostPattern, ListenerName, Matcher, Segment,
    document::Span,
    file::{Reader, RouteTable, value::Tolerance},
    pattern::header_name,
    problem::codes,
};
use std::sync::Arc;

/// A route's matcher and where its `match` is written, if everything about it is sound.
pub(super) fn matcher(table: &RouteTable, known: &mut Known, r: &mut Reader<'_>) -> Option<(Matcher, Span)> {
    let errors = r.found.errors();
    distinct(&table.headers, r);
    let mut headers = Vec::new();
    for (name, wanted) in &table.headers.0 {
        match header_name(name) {
            Ok(header) if header == http::header::HOST => {
                let message = "the host does not belong to the headers of a route";
                r.found.error(codes::FORBIDDEN_HEADER, name.at, message).help("write it in `match`, as in \"shop.example.com/**\"");
            }
            Ok(header) => headers.push((header, wanted.0.clone())),
            Err(error) => {
                error.report::<()>(name.at, name, r);
            }
        }
    }
    let mut listeners = Vec::new();
    for name in table.listen.iter() {
        known.listeners.named(name, codes::UNKNOWN_LISTENER, r);
        listeners.push(ListenerName::new(Arc::clone(&name.value)));
    }
    let written = table.r#match.as_ref()?;
    let sound = table.meta.sound(&["match", "headers", "query", "path_regex", "priority", "listen"]) && r.found.errors() == errors;
    let matcher = Matcher {
        written: Arc::clone(&written.text),
        methods: written.parsed.methods.clone(),
        host: written.parsed.host.clone(),
        path: written.parsed.path.clone(),
        headers,
        query: table.query.0.iter().map(|(name, wanted)| (Arc::clone(&name.value), wanted.0.clone())).collect(),
        path_regex: table.path_regex.as_ref().map(|pattern| pattern.value.0.clone()),
        priority: table.priority.map(|priority| priority.get()),
        listeners,
    };
    if sound {
        contradictions(&matcher, table, written.at, r);
    }
    sound.then_some((matcher, written.at))
}

/// Warns of a matcher that no request can meet.
fn contradictions(matcher: &Matcher, table: &RouteTable, at: Span, r: &mut Reader<'_>) {
    if let (Some(regex), Some(path)) = (&table.path_regex, literal_path(matcher))
        && !regex.value.0.is_match(&path)
    {
        let message = format!("this route can never match: its `path_regex` does not fit `{path}`");
        r.found.warning(codes::UNREACHABLE_ROUTE, at, message).help("take one of them away").also(regex.at);
    }
    let semicolon = |segment: &Segment| matches!(segment, Segment::Literal(literal) if literal.contains(';') || literal.contains("%3B"));
    if table.semicolon.value == Tolerance::Reject && matcher.path.segments.iter().any(semicolon) {
        let message = "this route can never match: a `;` in a path is refused";
        r.found.warning(codes::UNREACHABLE_ROUTE, at, message).help("add semicolon = \"keep\"");
    }
    // Hosts of requests have no port and no trailing dot, and a lone label with digits only is a broken address.
    if let HostPattern::Exact(host) = &matcher.host
        && host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && host.parse::<std::net::Ipv4Addr>().is_err()
    {
        r.found.error(codes::BAD_HOST, at, format!("`{host}` is neither a name nor an address")).help("write all four numbers");
    }
}

/// The only path that a pattern without captures matches.
pub(super) fn literal_path(matcher: &Matcher) -> Option<String> {
    if matcher.path.rest.is_some() {
        return None;
    }
    let mut path = String::new();
    for segment in &matcher.path.segments {
        match segment {
            Segment::Literal(literal) => {
                path.push('/');
                path.push_str(literal);
            }
            Segment::Capture(_) => return None,
        }
    }
    Some(path)
}
