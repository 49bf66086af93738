//! Routes that match the same requests: those of which neither is more specific, and those that never get a turn.
//!
//! Only routes with the same host and the same shape of path can be equally specific for a request, so that routes are
//! compared inside such groups alone.

use super::matcher::literal_path;
use crate::{HostPattern, Matcher, RouteId, Segment, ValueMatch, document::Span, file::Reader, problem::codes, route};
use std::{collections::HashMap, sync::Arc};

/// What has to be known of a route to compare it with others.
pub(super) struct Draft {
    pub(super) id: RouteId,
    pub(super) matcher: Matcher,
    pub(super) at: Span,
}

pub(super) fn report(drafts: &[Draft], r: &mut Reader<'_>) {
    let mut groups: HashMap<Shape<'_>, Vec<&Draft>> = HashMap::new();
    let mut shapes = Vec::new();
    for draft in drafts {
        let group = groups.entry(Shape::of(&draft.matcher)).or_insert_with(|| {
            shapes.push(Shape::of(&draft.matcher));
            Vec::new()
        });
        group.push(draft);
    }
    for shape in shapes {
        for (index, draft) in groups[&shape].iter().enumerate() {
            compare(draft, &groups[&shape][..index], r);
        }
    }
}

/// The host, the literals at their positions, and whether more may follow. Captures of different names are the same.
#[derive(PartialEq, Eq, Hash)]
struct Shape<'m> {
    host: &'m HostPattern,
    segments: Vec<Option<&'m Arc<str>>>,
    rest: bool,
}

impl<'m> Shape<'m> {
    fn of(matcher: &'m Matcher) -> Self {
        let literal = |segment: &'m Segment| match segment {
            Segment::Literal(literal) => Some(literal),
            Segment::Capture(_) => None,
        };
        Self { host: &matcher.host, segments: matcher.path.segments.iter().map(literal).collect(), rest: matcher.path.rest.is_some() }
    }
}

/// Compares a route with those of its group that stand before it in the files, and reports at most one finding.
fn compare(draft: &Draft, earlier: &[&Draft], r: &mut Reader<'_>) {
    for other in earlier {
        let (a, b) = (&draft.matcher, &other.matcher);
        // Of two with one id it has been said already that they are one too many.
        if draft.id == other.id || disjoint(a, b) {
            continue;
        }
        let decided = (a.priority.is_some() || b.priority.is_some()) && a.priority.unwrap_or(0) != b.priority.unwrap_or(0);
        if !decided && route::specificity(a) == route::specificity(b) {
            let message = format!("routes `{}` and `{}` match the same requests and neither is more specific", other.id, draft.id);
            let finding = r.found.error(codes::TIE, draft.at, message);
            finding.help("give one of them a method, a header or a literal segment, or set `priority`").also(other.at);
            return;
        }
        let (first, second) = if route::predicates(a) < route::predicates(b) { (draft, *other) } else { (*other, draft) };
        if covers(&first.matcher, &second.matcher) {
            let message = format!("route `{}` can never match: route `{}` takes all of its requests", second.id, first.id);
            let finding = r.found.warning(codes::UNREACHABLE_ROUTE, second.at, message);
            finding.help("take it away, or make it more specific").also(first.at);
            return;
        }
    }
}

/// Whether it is certain that no request meets both, given the same host and path.
fn disjoint(a: &Matcher, b: &Matcher) -> bool {
    let apart = !a.listeners.is_empty() && !b.listeners.is_empty() && !a.listeners.iter().any(|listener| b.listeners.contains(listener));
    let methods = !a.methods.is_empty() && !b.methods.is_empty() && !a.methods.iter().any(|method| b.methods.contains(method));
    apart || methods || exclude(&a.headers, &b.headers) || exclude(&a.query, &b.query)
}

fn exclude<N: PartialEq>(a: &[(N, ValueMatch)], b: &[(N, ValueMatch)]) -> bool {
    use ValueMatch::{Absent, Exact, Present, Regex};
    a.iter().any(|(name, one)| {
        b.iter().any(|(other_name, other)| {
            name == other_name
                && match (one, other) {
                    (Exact(one), Exact(other)) => one != other,
                    (Exact(exact), Regex(regex)) | (Regex(regex), Exact(exact)) => !regex.is_match(exact),
                    (Absent, Present | Exact(_) | Regex(_)) | (Present | Exact(_) | Regex(_), Absent) => true,
                    _ => false,
                }
        })
    })
}

/// Whether every request that meets `b` certainly meets `a`, given the same host and path.
fn covers(a: &Matcher, b: &Matcher) -> bool {
    let listeners = a.listeners.is_empty() || !b.listeners.is_empty() && b.listeners.iter().all(|listener| a.listeners.contains(listener));
    let methods = a.methods.is_empty() || !b.methods.is_empty() && b.methods.iter().all(|method| a.methods.contains(method));
    let regex = match (&a.path_regex, &b.path_regex) {
        (None, _) => true,
        (Some(a), Some(b)) if a.as_str() == b.as_str() => true,
        (Some(a), _) => literal_path(b).is_some_and(|path| a.is_match(&path)),
    };
    listeners && methods && regex && implied(&a.headers, &b.headers) && implied(&a.query, &b.query)
}

/// Whether what `b` asks for brings what `a` asks for.
fn implied<N: PartialEq>(a: &[(N, ValueMatch)], b: &[(N, ValueMatch)]) -> bool {
    use ValueMatch::{Absent, Exact, Present, Regex};
    a.iter().all(|(name, wanted)| {
        b.iter().any(|(other_name, given)| {
            name == other_name
                && match (wanted, given) {
                    (Present, Present | Exact(_) | Regex(_)) | (Absent, Absent) => true,
                    (Exact(wanted), Exact(given)) => wanted == given,
                    (Regex(wanted), Exact(given)) => wanted.is_match(given),
                    (Regex(wanted), Regex(given)) => wanted.as_str() == given.as_str(),
                    _ => false,
                }
        })
    })
}
