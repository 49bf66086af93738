//! Which of two routes that match the same request comes first.

use crate::{HostPattern, Matcher, PathPattern, Route, Segment};
use std::{cmp::Reverse, fmt, sync::Arc};

/// A route that would have taken a request if it were not for a better one.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub route: Arc<Route>,
    pub behind: Behind,
}

/// In what a route is less specific than the one that was chosen: the first difference, in the order of precedence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    Host,
    /// Which segment of the path, from 1.
    Segment(usize),
    /// Only the chosen one names methods.
    Method,
    /// The chosen one has more header predicates.
    Headers,
    /// The chosen one has more query predicates.
    Query,
    /// Only the chosen one has a `path_regex`.
    PathRegex,
    Priority,
    /// In nothing: it stands later in the file. Only routes whose predicates exclude each other for all but unusual requests (a
    /// header sent twice) can be so equal.
    Order,
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("its host is less specific"),
            Self::Segment(number) => write!(f, "its path is less specific from segment {number} on"),
            Self::Method => f.write_str("it names no method"),
            Self::Headers => f.write_str("it has fewer header predicates"),
            Self::Query => f.write_str("it has fewer query predicates"),
            Self::PathRegex => f.write_str("it has no path_regex"),
            Self::Priority => f.write_str("its priority is lower"),
            Self::Order => f.write_str("it stands later in the file"),
        }
    }
}

/// The part of the order that is left once host and path are the same; smaller comes first.
pub(crate) fn predicates(matcher: &Matcher) -> impl Ord + use<> {
    (specificity(matcher), Reverse(matcher.priority.unwrap_or(0)))
}

/// Like [`predicates`], without what an operator decides by `priority`.
pub(crate) fn specificity(matcher: &Matcher) -> (bool, Reverse<usize>, Reverse<usize>, bool) {
    (matcher.methods.is_empty(), Reverse(matcher.headers.len()), Reverse(matcher.query.len()), matcher.path_regex.is_none())
}

/// Smaller comes first. Only the lengths of wildcards that both match the same host are ever compared.
fn host(pattern: &HostPattern) -> (u8, Reverse<usize>) {
    match pattern {
        HostPattern::Exact(_) => (0, Reverse(0)),
        HostPattern::Wildcard(suffix) => (1, Reverse(suffix.len())),
        HostPattern::Any => (2, Reverse(0)),
    }
}

/// A path that ends is as definite as a literal.
fn segment(path: &PathPattern, index: usize) -> u8 {
    match path.segments.get(index) {
        Some(Segment::Literal(_)) => 0,
        Some(Segment::Capture(_)) => 1,
        None if path.rest.is_some() => 2,
        None => 0,
    }
}

/// Says where two routes that match the same request part, the first being the one that was chosen.
pub(super) fn behind(winner: &Matcher, loser: &Matcher) -> Behind {
    let segments = winner.path.segments.len().max(loser.path.segments.len());
    let parted = |index: &usize| segment(&winner.path, *index) != segment(&loser.path, *index);
    if host(&winner.host) != host(&loser.host) {
        Behind::Host
    } else if let Some(index) = (0..=segments).find(parted) {
        Behind::Segment(index + 1)
    } else if winner.methods.is_empty() != loser.methods.is_empty() {
        Behind::Method
    } else if winner.headers.len() != loser.headers.len() {
        Behind::Headers
    } else if winner.query.len() != loser.query.len() {
        Behind::Query
    } else if winner.path_regex.is_some() != loser.path_regex.is_some() {
        Behind::PathRegex
    } else if winner.priority.unwrap_or(0) != loser.priority.unwrap_or(0) {
        Behind::Priority
    } else {
        Behind::Order
    }
}
