//! Routes: what happens to the requests that they take.

use super::{
    Known,
    edits::edits,
    limit,
    matcher::matcher,
    overlap::{self, Draft},
    place, service,
};
use crate::{
    Action, Deadlines, Forward, KeyPart, Networks, PathPattern, PathRewrite, Redirect, RequestRewrite, Respond, ResponseRewrite,
    RetryPolicy, Route, RouteId, Segment, Service,
    document::{Span, Spanned},
    file::{
        DeadlinesOverride, Reader, RedirectTable, RequestTable, RespondTable, RetryOverride, RouteTable, SplitTable,
        text::{PatternPath, Prefix, Uses},
        value::{QueryOfRedirect, Tolerance},
    },
    pattern::id_of_match,
    problem::codes,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Makes the routes that have no errors.
pub(super) fn routes(written: Vec<Spanned<RouteTable>>, known: &mut Known, r: &mut Reader<'_>) -> Vec<Route> {
    let ids = ids(&written, r);
    let mut routes = Vec::with_capacity(written.len());
    let mut drafts = Vec::with_capacity(written.len());
    for (table, id) in written.into_iter().zip(ids) {
        let made = route(table, id, known, r);
        drafts.extend(made.draft);
        routes.extend(made.route);
    }
    overlap::report(&drafts, r);
    routes
}

/// The ids of all routes: as written, or made from the match and told apart by a number.
fn ids(written: &[Spanned<RouteTable>], r: &mut Reader<'_>) -> Vec<RouteId> {
    let mut first: HashMap<Arc<str>, Span> = HashMap::new();
    for route in written {
        let Some(id) = &route.id else { continue };
        if let Some(earlier) = first.get(&id.value.0) {
            let message = format!("two routes have the id `{}`", id.value.0);
            r.found.error(codes::DUPLICATE_NAME, id.at, message).help("rename one of them").also(*earlier);
        } else {
            first.insert(Arc::clone(&id.value.0), id.at);
        }
    }
    let mut taken: HashSet<Arc<str>> = first.into_keys().collect();
    let mut ids = Vec::with_capacity(written.len());
    let mut numbers: HashMap<String, u32> = HashMap::new();
    for route in written {
        if let Some(id) = &route.id {
            ids.push(RouteId::new(Arc::clone(&id.value.0)));
            continue;
        }
        let base = route.r#match.as_ref().map_or_else(|| "route".to_string(), |written| id_of_match(&written.text));
        let number = numbers.entry(base.clone()).or_insert(0);
        let id = loop {
            *number += 1;
            let id: Arc<str> = if *number == 1 { base.as_str().into() } else { format!("{base}-{number}").into() };
            if taken.insert(Arc::clone(&id)) {
                break id;
            }
        };
        ids.push(RouteId::new(id));
    }
    ids
}

struct Made {
    route: Option<Route>,
    /// There even if the rest of the route has errors, so that ties are found at once.
    draft: Option<Draft>,
}

fn route(table: Spanned<RouteTable>, id: RouteId, known: &mut Known, r: &mut Reader<'_>) -> Made {
    let at = table.at;
    let table = table.value;
    let errors = r.found.errors();
    let matched = matcher(&table, known, r);
    let path = table.r#match.as_ref().map(|written| &written.parsed.path);

    let action = action(&table, at, path, known, r);
    let limits = limit::of_route(&table.limit.0, &id, path, known, r);
    let services: Vec<&Arc<Service>> = match &action {
        Some(Action::Forward(forward)) => forward.split.iter().map(|(service, _)| service).collect(),
        _ => Vec::new(),
    };
    let deadlines = table.deadlines.as_ref().and_then(|written| deadlines(written, &services, r));
    let retry = table.retry.as_ref().and_then(|written| retry(written, &services, r));
    if matches!(action, Some(Action::Redirect(_) | Action::Respond(_))) {
        for (key, at) in [("deadlines", table.deadlines.as_ref().map(|it| it.at)), ("retry", table.retry.as_ref().map(|it| it.at))] {
            if let Some(at) = at {
                let finding = r.found.warning(codes::NO_EFFECT, at, format!("`{key}` has no effect where no service is asked"));
                finding.help("take it away");
            }
        }
    }
    let request = request(&table.request, path, r);
    let response = ResponseRewrite { headers: edits(&table.response.set, &table.response.add, &table.response.remove, r) };
    let draft = matched.as_ref().map(|(matcher, at)| Draft { id: id.clone(), matcher: matcher.clone(), at: *at });

    let sound = table.meta.all_sound() && r.found.errors() == errors;
    let parts = matched.zip(action).zip(limits).zip(request).filter(|_| sound);
    let route = parts.map(|((((matcher, _), action), limits), request)| Route {
        number: 0,
        id,
        matcher,
        action,
        limits,
        networks: Networks {
            allow: table.allow.iter().map(|network| network.value).collect(),
            deny: table.deny.iter().map(|network| network.value).collect(),
        },
        request,
        response,
        max_body: table.max_body.0,
        deadlines,
        retry,
        encoded_slash: table.encoded_slash.value == Tolerance::Keep,
        semicolon: table.semicolon.value == Tolerance::Keep,
        websocket: table.websocket.value,
        place: place(at, r),
    });
    Made { route, draft }
}

fn action(table: &RouteTable, at: Span, path: Option<&PathPattern>, known: &mut Known, r: &mut Reader<'_>) -> Option<Action> {
    const KEYS: [&str; 4] = ["service", "split", "redirect", "respond"];
    let places = [
        table.service.as_ref().map(|it| it.at),
        table.split.as_ref().map(|it| it.at),
        table.redirect.as_ref().map(|it| it.at),
        table.respond.as_ref().map(|it| it.at),
    ];
    let mut present = places.iter().zip(KEYS).filter_map(|(at, key)| at.map(|at| (key, at)));
    let first = present.next();
    if let (Some((first, first_at)), Some((second, second_at))) = (first, present.next()) {
        let message = format!("a route has either `{first}` or `{second}`");
        r.found.error(codes::EXCLUSIVE_KEYS, second_at, message).help("take one of them away").also(first_at);
        return None;
    }
    if first.is_none() {
        if table.meta.sound(&KEYS) && !r.documents.is_damaged(at) {
            let message = "this route does nothing with the requests that it takes";
            r.found.error(codes::EXCLUSIVE_KEYS, at, message).help("add one of `service`, `split`, `redirect` and `respond`");
        }
        return None;
    }
    if let Some(sticky) = &table.sticky {
        limit::captured(sticky, sticky.at, path, r);
        if table.split.is_none() && table.meta.sound(&["split"]) {
            let message = "`sticky` chooses between the services of a `split`, and there is none";
            r.found.error(codes::EXCLUSIVE_KEYS, sticky.at, message).help("take it away, or write `split` instead of `service`");
        }
    }
    if let Some(name) = &table.service {
        let service = known.services.named(name, codes::UNKNOWN_SERVICE, r)??;
        balance(&service, name.at, path, r);
        return Some(Action::Forward(Forward { split: vec![(service, 1)], sticky: None }));
    }
    if let Some(split) = &table.split {
        let sticky = table.sticky.as_ref().map(|sticky| sticky.value.clone());
        let split = self::split(split, table.meta.sound(&["split"]), path, known, r)?;
        return Some(Action::Forward(Forward { split, sticky }));
    }
    if let Some(table) = &table.redirect {
        return redirect(table, path, r).map(Action::Redirect);
    }
    table.respond.as_ref().and_then(|table| respond(table, r)).map(Action::Respond)
}

/// A service that is chosen by a capture which the route does not have would send everything to one endpoint.
fn balance(service: &Service, at: Span, path: Option<&PathPattern>, r: &mut Reader<'_>) {
    if let (crate::Balance::Hash { key: KeyPart::Path(name), .. }, Some(path)) = (&service.balance, path)
        && !path.capture_names().any(|known| known == &**name)
    {
        let message = format!("service `{}` is balanced by the capture `{name}`, which this match does not have", service.name);
        r.found.warning(codes::NO_EFFECT, at, message).help(format!("write {{{name}}} as a segment of the match"));
    }
}

fn split(
    written: &Spanned<Vec<Spanned<SplitTable>>>,
    sound: bool,
    path: Option<&PathPattern>,
    known: &mut Known,
    r: &mut Reader<'_>,
) -> Option<Vec<(Arc<Service>, u32)>> {
    if written.is_empty() && sound {
        r.found.error(codes::EMPTY, written.at, "a split needs a service").help("write split = [{ service = \"…\", weight = 1 }]");
    } else if sound && written.iter().all(|part| part.weight.0 == 0) {
        r.found.error(codes::NO_WEIGHT, written.at, "all weights of this split are 0").help("give one of them a weight");
    }
    let mut split = Vec::new();
    let mut complete = sound;
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for part in written.iter() {
        let Some(name) = &part.service else {
            complete = false;
            continue;
        };
        if let Some(earlier) = seen.insert(&name.value, name.at) {
            let finding = r.found.error(codes::DUPLICATE_NAME, name.at, format!("service `{}` is in this split twice", name.value));
            finding.help("add the weights up").also(earlier);
        }
        match known.services.named(name, codes::UNKNOWN_SERVICE, r) {
            Some(Some(service)) => {
                balance(&service, name.at, path, r);
                split.push((service, part.weight.get()));
            }
            _ => complete = false,
        }
    }
    complete.then_some(split)
}

fn redirect(table: &Spanned<RedirectTable>, path: Option<&PathPattern>, r: &mut Reader<'_>) -> Option<Redirect> {
    let keep_query = table.query.value == QueryOfRedirect::Keep;
    let parts = [
        table.scheme.as_ref().map(|it| it.at),
        table.host.as_ref().map(|it| it.at),
        table.port.as_ref().map(|it| it.at),
        table.path.as_ref().map(|it| it.at),
    ];
    let part = parts.into_iter().flatten().next();
    if let Some(to) = &table.to {
        if let Some(part) = part {
            let finding = r.found.error(codes::EXCLUSIVE_KEYS, part, "`to` is the whole location and excludes its parts");
            finding.help("write either `to`, or some of `scheme`, `host`, `port` and `path`").also(to.at);
            return None;
        }
        if to.has_query && keep_query {
            let message = "the location has a query of its own, and the caller's is kept too";
            r.found.error(codes::CONTRADICTION, to.at, message).help("add query = \"drop\"");
        }
        captures(&to.uses, path, r);
        let to = &to.value;
        return Some(Redirect {
            status: table.status.0,
            scheme: to.scheme.clone(),
            host: to.host.clone(),
            port: to.port,
            path: to.path.clone(),
            keep_query,
        });
    }
    if part.is_none() {
        if table.meta.sound(&["to", "scheme", "host", "port", "path"]) && !r.documents.is_damaged(table.at) {
            let finding = r.found.error(codes::EXCLUSIVE_KEYS, table.at, "this redirect leads to where the caller comes from");
            finding.help("add `to`, or some of `scheme`, `host`, `port` and `path`");
        }
        return None;
    }
    if let Some(written) = &table.path {
        captures(&written.uses, path, r);
    }
    Some(Redirect {
        status: table.status.0,
        scheme: table.scheme.as_ref().map(|scheme| Arc::clone(&scheme.value.0)),
        host: table.host.as_ref().map(|host| Arc::clone(&host.value.0)),
        port: table.port.map(|port| port.get()),
        path: table.path.as_ref().map(|written| written.template.clone()),
        keep_query,
    })
}

fn respond(table: &Spanned<RespondTable>, r: &mut Reader<'_>) -> Option<Respond> {
    let status = table.status.value.0;
    if matches!(status, 204 | 205 | 304) && !table.body.is_empty() {
        let finding = r.found.error(codes::CONTRADICTION, table.body.at, format!("an answer with status {status} has no body"));
        finding.help("take `body` away, or choose another status");
    }
    Some(Respond { status, body: Arc::clone(&table.body.value), content_type: table.content_type.value.0.clone() })
}

fn captures(uses: &Uses, path: Option<&PathPattern>, r: &mut Reader<'_>) {
    let Some(path) = path else { return };
    for (name, at) in uses {
        limit::capture(name, *at, path, r);
    }
}

fn request(table: &RequestTable, path: Option<&PathPattern>, r: &mut Reader<'_>) -> Option<RequestRewrite> {
    let headers = edits(&table.set, &table.add, &table.remove, r);
    if let (Some(to), Some(strip)) = (&table.path, &table.strip_prefix) {
        let finding = r.found.error(codes::EXCLUSIVE_KEYS, strip.at, "`path` makes the whole path and excludes `strip_prefix`");
        finding.help("take one of them away").also(to.at);
        return None;
    }
    if let Some(PatternPath { uses, .. }) = table.path.as_ref().map(|to| &to.value) {
        captures(uses, path, r);
    }
    if let (Some(strip), Some(path)) = (&table.strip_prefix, path) {
        strip_prefix(strip, path, r);
    }
    let rewrite = match (&table.path, &table.strip_prefix) {
        (Some(to), _) => Some(PathRewrite::To(to.template.clone())),
        (None, Some(strip)) => Some(PathRewrite::StripPrefix(strip.0.iter().flat_map(|segment| ["/", segment]).collect::<String>().into())),
        (None, None) => None,
    };
    Some(RequestRewrite {
        headers,
        path: rewrite,
        query_set: table.query.set.0.iter().map(|(name, value)| (Arc::clone(&name.value), Arc::clone(&value.value))).collect(),
        query_remove: table.query.remove.iter().map(|name| Arc::clone(&name.value)).collect(),
    })
}

/// Every path of the match has to begin with the prefix, or some requests would silently keep it.
fn strip_prefix(strip: &Spanned<Prefix>, path: &PathPattern, r: &mut Reader<'_>) {
    let begins = strip.0.len() <= path.segments.len()
        && strip.0.iter().zip(&path.segments).all(|(wanted, segment)| matches!(segment, Segment::Literal(literal) if literal == wanted));
    if !begins {
        let message = "the paths of this match do not all begin with the prefix";
        r.found.error(codes::STRIP_PREFIX, strip.at, message).help("write the prefix at the beginning of the match's path");
    }
}

/// What a route says, over what its service says. Of several services the first stands for all, and where that
/// makes a difference it is said.
fn deadlines(written: &Spanned<DeadlinesOverride>, services: &[&Arc<Service>], r: &mut Reader<'_>) -> Option<Deadlines> {
    let over = |base: Deadlines| Deadlines {
        total: written.total.map_or(base.total, |total| total.0),
        connect: written.connect.map_or(base.connect, |it| it.value),
        first_byte: written.first_byte.map_or(base.first_byte, |it| it.value),
        idle: written.idle.map_or(base.idle, |it| it.value),
    };
    let first = over(services.first()?.deadlines);
    if let Some(other) = services.iter().find(|service| over(service.deadlines) != first) {
        mixed("deadlines", written.at, services[0], other, r);
    }
    Some(first)
}

fn retry(written: &Spanned<RetryOverride>, services: &[&Arc<Service>], r: &mut Reader<'_>) -> Option<RetryPolicy> {
    let over = |base: &RetryPolicy| RetryPolicy {
        max: written.max.map_or(base.max, |max| max.get()),
        statuses: match &written.statuses {
            Some(statuses) => statuses.iter().map(|status| status.get()).collect(),
            None => base.statuses.clone(),
        },
        budget: written.budget.map_or(base.budget, |it| it.value),
        budget_min: written.budget_min.map_or(base.budget_min, |it| it.get()),
        backoff_min: written.backoff_min.map_or(base.backoff_min, |it| it.0),
        backoff_max: written.backoff_max.map_or(base.backoff_max, |it| it.0),
    };
    let first = over(&services.first()?.retry);
    if let Some(other) = services.iter().find(|service| over(&service.retry) != first) {
        mixed("retry", written.at, services[0], other, r);
    }
    service::backoff(&first, written.at, written.meta.all_sound(), r);
    Some(first)
}

fn mixed(key: &str, at: Span, first: &Service, other: &Service, r: &mut Reader<'_>) {
    let message =
        format!("what this `{key}` leaves out is taken from service `{}` for the whole split, and `{}` differs", first.name, other.name);
    r.found.warning(codes::MIXED_SPLIT, at, message).help("write all keys, or make the services agree");
}
