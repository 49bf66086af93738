//! Limits, named and on the spot.

use super::{Known, place};
use crate::{
    KeyPart, Limit, LimitMode, LimitName, Missing, PathPattern, Rate, RouteId, Scope,
    document::{Span, Spanned},
    file::{LimitTable, Reader, near},
    pattern::{inline_limit, is_inline_limit},
    problem::codes,
};
use std::sync::Arc;

pub(super) fn named(name: &Arc<str>, table: Spanned<LimitTable>, r: &mut Reader<'_>) -> Option<Limit> {
    let at = table.at;
    let table = table.value;
    let errors = r.found.errors();
    if table.key.0.is_empty() && table.meta.sound(&["key"]) {
        r.found.error(codes::EMPTY, table.key.at, "a limit needs a key to count by").help("write key = \"client_ip\"");
    }
    for (index, part) in table.key.0.iter().enumerate() {
        if let Some(earlier) = table.key.0[..index].iter().find(|earlier| earlier.value == part.value) {
            r.found.error(codes::BAD_KEY, part.at, "this key is named twice").help("once is enough").also(earlier.at);
        }
    }
    let rate = table.rate?.value;
    let limit = Limit {
        name: LimitName::new(Arc::clone(name)),
        rate,
        burst: table.burst.map_or_else(|| burst(rate), |burst| burst.get()),
        key: table.key.value.0.into_iter().map(|part| part.value).collect(),
        mode: table.mode.value,
        missing: table.missing.value,
        scope: Scope::Node,
        place: place(at, r),
    };
    (r.found.errors() == errors).then_some(limit)
}

/// One second of the rate, and at least one request.
fn burst(rate: Rate) -> u64 {
    let second = u128::from(rate.count) * 1_000_000_000 / rate.per.as_nanos();
    u64::try_from(second).unwrap_or(u64::MAX).clamp(1, crate::pattern::BURST_MAX)
}

/// The limits of a route, in the order they are written.
pub(super) fn of_route(
    written: &[Spanned<Arc<str>>],
    id: &RouteId,
    path: Option<&PathPattern>,
    known: &mut Known,
    r: &mut Reader<'_>,
) -> Option<Vec<Arc<Limit>>> {
    let mut limits = Vec::new();
    let errors = r.found.errors();
    for (index, text) in written.iter().enumerate() {
        if let Some(earlier) = written[..index].iter().find(|earlier| earlier.value == text.value) {
            let message = format!("limit `{}` is written twice", text.value);
            r.found.error(codes::DUPLICATE_KEY, text.at, message).help("once is enough").also(earlier.at);
            continue;
        }
        if is_inline_limit(text) {
            match inline_limit(text) {
                Ok(limit) => {
                    for (part, range) in &limit.key {
                        captured(part, r.documents.within(text.at, text, range.clone()), path, r);
                    }
                    limits.push(Arc::new(Limit {
                        // No name that an operator gives has this sign, so that it stays the route's own.
                        name: LimitName::new(format!("{id}#{}", index + 1)),
                        rate: limit.rate,
                        burst: limit.burst.unwrap_or_else(|| burst(limit.rate)),
                        key: limit.key.into_iter().map(|(part, _)| part).collect(),
                        mode: LimitMode::Enforce,
                        missing: Missing::Share,
                        scope: Scope::Node,
                        place: place(text.at, r),
                    }));
                }
                Err(error) => {
                    error.report::<()>(text.at, text, r);
                }
            }
        } else if let Some(Some(limit)) = known.limits.named(text, codes::UNKNOWN_LIMIT, r) {
            for part in &limit.key {
                captured(part, text.at, path, r);
            }
            limits.push(limit);
        }
    }
    (r.found.errors() == errors).then_some(limits)
}

/// Reports a key that asks for a capture which the route's match does not have.
pub(super) fn captured(part: &KeyPart, at: Span, path: Option<&PathPattern>, r: &mut Reader<'_>) {
    if let (KeyPart::Path(name), Some(path)) = (part, path) {
        capture(name, at, path, r);
    }
}

pub(super) fn capture(name: &str, at: Span, path: &PathPattern, r: &mut Reader<'_>) {
    if path.capture_names().any(|known| known == name) {
        return;
    }
    let near = near(name, path.capture_names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let message = format!("the match has no capture `{name}`{near}");
    r.found.error(codes::UNKNOWN_CAPTURE, at, message).help(format!("write {{{name}}} as a segment of the match"));
}
