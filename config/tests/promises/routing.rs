//! The right route, whatever else is in the table.

use crate::gateway;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use shoal_config::{Ask, Behind, Gateway, HostPattern, ListenerName, Lost, Matcher, Reasons, Route, RouteTable, Segment, ValueMatch};
use std::{cmp::Reverse, fmt::Write, sync::Arc};

/// Routes, each a match with further lines after a `|`.
fn table(routes: &[&str]) -> Gateway {
    let mut text = "[listen.main]\nbind = \"127.0.0.1:1\"\n[listen.b]\nbind = \"127.0.0.1:2\"\n".to_string();
    for route in routes {
        let (matched, lines) = route.split_once('|').unwrap_or((route, ""));
        write!(text, "[[route]]\nid = \"{}\"\nmatch = \"{}\"\nrespond = {{}}\n{lines}\n", text.len(), matched.trim())
            .expect("a string takes everything");
    }
    gateway(&text)
}

struct Request {
    listener: ListenerName,
    method: Method,
    host: String,
    path: String,
    query: String,
    headers: HeaderMap,
}

impl Request {
    /// `METHOD host/path?query name:value…`
    fn new(text: &str) -> Self {
        let mut words = text.split(' ');
        let method = words.next().and_then(|word| word.parse().ok()).expect("a method comes first");
        let target = words.next().expect("a target follows");
        let (host, rest) = target.split_at(target.find('/').expect("a target has a path"));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let headers = words.filter_map(|header| header.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value")));
        let headers = headers.fold(HeaderMap::new(), |mut all, (name, value)| {
            all.append(name, value);
            all
        });
        Self { listener: "main".into(), method, host: host.into(), path: path.into(), query: query.into(), headers }
    }

    fn ask(&self) -> Ask<'_> {
        Ask {
            listener: &self.listener,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
        }
    }
}

#[track_caller]
fn check(routes: &[&str], cases: &[(&str, Option<&str>)]) {
    let gateway = table(routes);
    for (request, expected) in cases {
        let found = gateway.routes.find(&Request::new(request).ask(), &mut ()).map(|route| &*route.matcher.written);
        assert_eq!(found, *expected, "{request}");
    }
}

#[test]
fn the_rest_begins_at_a_segment() {
    check(
        &["/v1/**"],
        &[
            ("GET x/v1", Some("/v1/**")),
            ("GET x/v1/", Some("/v1/**")),
            ("GET x/v1/x", Some("/v1/**")),
            ("GET x/v1/x/y/", Some("/v1/**")),
            ("GET x/v10", None),
            ("GET x/", None),
        ],
    );
    check(&["/**"], &[("GET x/", Some("/**")), ("GET x/a", Some("/**"))]);
}

#[test]
fn a_slash_at_the_end_is_a_segment_of_its_own() {
    check(&["/v1"], &[("GET x/v1", Some("/v1")), ("GET x/v1/", None)]);
    check(&["/v1/"], &[("GET x/v1", None), ("GET x/v1/", Some("/v1/"))]);
    check(&["/v1/{x}"], &[("GET x/v1/", None), ("GET x/v1/a", Some("/v1/{x}")), ("GET x/v1/a/", None)]);
}

#[test]
fn the_most_specific_wins_in_whatever_order() {
    let mut routes = ["/**", "/a/**", "/a/{x}", "/a/b", "GET /a/b", "x.com/**", "*.x.com/**", "*.y.x.com/a/**"];
    for _ in 0..routes.len() {
        routes.rotate_left(1);
        check(
            &routes,
            &[
                ("GET z/a/b", Some("GET /a/b")),
                ("PUT z/a/b", Some("/a/b")),
                ("GET z/a/c", Some("/a/{x}")),
                ("GET z/a/c/d", Some("/a/**")),
                ("GET z/b", Some("/**")),
                ("GET x.com/a/b", Some("x.com/**")),
                ("GET q.x.com/a/b", Some("*.x.com/**")),
                ("GET q.y.x.com/a/b", Some("*.y.x.com/a/**")),
                ("GET q.y.x.com/b", Some("*.x.com/**")),
                ("GET y.x.com.z/b", Some("/**")),
            ],
        );
    }
}

#[test]
fn what_fails_falls_through_to_the_next_best() {
    check(
        &["/a/b/c", "/a/{x}/d", "/{y}/b/e", "GET /a/b/f", "/a/b/{z}"],
        &[
            ("GET x/a/b/d", Some("/a/b/{z}")),
            ("GET x/a/q/d", Some("/a/{x}/d")),
            ("PUT x/a/b/f", Some("/a/b/{z}")),
            ("GET x/q/b/e", Some("/{y}/b/e")),
        ],
    );
    check(
        &["x.com/a|headers = { k = \"1\" }", "/a|query = { q = { regex = \"[0-9]+\" } }", "/**"],
        &[
            ("GET x.com/a k:1", Some("x.com/a")),
            ("GET x.com/a k:2 k:1", Some("x.com/a")),
            ("GET x.com/a?q=12", Some("/a")),
            ("GET x.com/a?q=x&q=1", Some("/a")),
            ("GET x.com/a?%71=%31", Some("/a")),
            ("GET x.com/a?q=1x", Some("/**")),
        ],
    );
}

#[test]
fn predicates_count_in_their_order() {
    check(
        &[
            "/a",
            "/a|query = { p = \"1\", q = \"1\" }",
            "/a|headers = { h = \"1\" }\npriority = -5",
            "PUT /a",
            "/{x}|path_regex = \"/a|/b\"",
            "/{x}",
        ],
        &[("GET x/a?p=1&q=1 h:1", Some("/a")), ("GET x/b", Some("/{x}")), ("PUT x/a h:1", Some("PUT /a"))],
    );
    let gateway = table(&["/a|query = { p = \"1\", q = \"1\" }", "/a|headers = { h = \"1\" }"]);
    let found = gateway.routes.find(&Request::new("GET x/a?p=1&q=1 h:1").ask(), &mut ()).expect("both match");
    assert_eq!(found.matcher.headers.len(), 1);
}

#[test]
fn a_route_is_served_on_its_listeners() {
    let gateway = table(&["/a|listen = [\"b\"]"]);
    let mut request = Request::new("GET x/a");
    assert!(gateway.routes.find(&request.ask(), &mut ()).is_none());
    request.listener = "b".into();
    assert!(gateway.routes.find(&request.ask(), &mut ()).is_some());
}

#[test]
fn captures_are_what_they_stand_for() {
    let gateway = table(&["/a/{x}/{y}/{rest=**}"]);
    let path = &gateway.routes.iter().next().expect("there is a route").matcher.path;
    let check = |text: &str, expected: &[(&str, &str)]| assert_eq!(path.captures(text).collect::<Vec<_>>(), expected, "{text}");
    check("/a/1/2/3/4", &[("x", "1"), ("y", "2"), ("rest", "3/4")]);
    check("/a/1/2/", &[("x", "1"), ("y", "2"), ("rest", "")]);
    check("/a/1/2", &[("x", "1"), ("y", "2"), ("rest", "")]);
    assert_eq!(path.capture("/a/1/2", "z"), None);
}

#[derive(Default)]
struct Heard(Vec<(String, Lost)>);

impl Reasons for Heard {
    fn lost(&mut self, route: &Arc<Route>, why: Lost) {
        self.0.push((route.matcher.written.to_string(), why));
    }
}

#[test]
fn the_runners_up_and_the_losers_know_why() {
    let gateway =
        table(&["x.com/a/b", "/a/b", "PUT /a/b", "/a/{c}|headers = { h = \"1\" }", "/a/{c}", "/a/{c}|path_regex = \"/x\"", "/**"]);
    let request = Request::new("GET x.com/a/b h:2");
    let mut heard = Heard::default();
    let (winner, others) = gateway.routes.survey(&request.ask(), &mut heard);
    assert_eq!(winner.map(|route| &*route.matcher.written), Some("x.com/a/b"));
    let others: Vec<(&str, Behind)> = others.iter().map(|other| (&*other.route.matcher.written, other.behind)).collect();
    assert_eq!(others, [("/a/b", Behind::Host), ("/a/{c}", Behind::Host), ("/**", Behind::Host)]);
    let expected = [("PUT /a/b", Lost::Method), ("/a/{c}", Lost::Header(0)), ("/a/{c}", Lost::PathRegex)];
    assert_eq!(heard.0, expected.map(|(written, why)| (written.to_string(), why)));

    let request = Request::new("GET y/a/b");
    let others = gateway.routes.others(&request.ask());
    let others: Vec<String> = others.iter().map(|other| other.behind.to_string()).collect();
    assert_eq!(others, ["its path is less specific from segment 2 on", "its path is less specific from segment 1 on"]);
}

#[test]
fn a_lookup_never_looks_at_routes_of_other_paths() {
    let routes: Vec<String> = (0..2_000).map(|number| format!("PUT /v1/r{number}/{{id}}")).collect();
    let gateway = table(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    let mut heard = Heard::default();
    assert!(gateway.routes.survey(&Request::new("GET x/v1/r1234/5").ask(), &mut heard).0.is_none());
    assert_eq!(heard.0, [("PUT /v1/r1234/{id}".to_string(), Lost::Method)]);
}

/// Everything that matches, sorted by the whole order: what the table has to agree with.
fn oracle<'a>(table: &'a RouteTable, ask: &Ask<'_>) -> Vec<&'a Arc<Route>> {
    let mut all: Vec<(usize, &Arc<Route>)> = table.iter().enumerate().filter(|(_, route)| matches(&route.matcher, ask)).collect();
    all.sort_by_key(|(index, route)| {
        let matcher = &route.matcher;
        let host = match &matcher.host {
            HostPattern::Exact(_) => (0, Reverse(0)),
            HostPattern::Wildcard(suffix) => (1, Reverse(suffix.split('.').count())),
            HostPattern::Any => (2, Reverse(0)),
        };
        let mut path: Vec<u8> = matcher.path.segments.iter().map(|segment| u8::from(matches!(segment, Segment::Capture(_)))).collect();
        path.push(if matcher.path.rest.is_some() { 2 } else { 0 });
        (
            host,
            path,
            matcher.methods.is_empty(),
            Reverse(matcher.headers.len()),
            Reverse(matcher.query.len()),
            matcher.path_regex.is_none(),
            Reverse(matcher.priority.unwrap_or(0)),
            *index,
        )
    });
    all.into_iter().map(|(_, route)| route).collect()
}

fn matches(matcher: &Matcher, ask: &Ask<'_>) -> bool {
    let host = match &matcher.host {
        HostPattern::Any => true,
        HostPattern::Exact(host) => **host == *ask.host,
        HostPattern::Wildcard(suffix) => ask.host.ends_with(&format!(".{suffix}")),
    };
    let segments: Vec<&str> = ask.path[1..].split('/').collect();
    let wanted = &matcher.path.segments;
    let long_enough = if matcher.path.rest.is_some() { segments.len() >= wanted.len() } else { segments.len() == wanted.len() };
    let path = long_enough
        && wanted.iter().zip(&segments).all(|(wanted, segment)| match wanted {
            Segment::Literal(literal) => **literal == **segment,
            Segment::Capture(_) => !segment.is_empty(),
        });
    let value = |wanted: &ValueMatch, values: &[&str]| match wanted {
        ValueMatch::Exact(exact) => values.contains(&&**exact),
        ValueMatch::Regex(regex) => values.iter().any(|value| regex.is_match(value)),
        ValueMatch::Present => !values.is_empty(),
        ValueMatch::Absent => values.is_empty(),
    };
    let headers = matcher.headers.iter().all(|(name, wanted)| {
        let values: Vec<&str> = ask.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        value(wanted, &values)
    });
    let query = matcher.query.iter().all(|(name, wanted)| {
        let pairs = ask.query.split('&').filter_map(|pair| pair.split_once('='));
        let values: Vec<&str> = pairs.filter(|(key, _)| **key == **name).map(|(_, value)| value).collect();
        value(wanted, &values)
    });
    host && path
        && headers
        && query
        && (matcher.methods.is_empty() || matcher.methods.contains(ask.method))
        && matcher.path_regex.as_ref().is_none_or(|regex| regex.is_match(ask.path))
}

fn any_route() -> impl Strategy<Value = String> {
    let methods = prop::sample::select(vec!["", "", "GET ", "PUT ", "GET,PUT "]);
    let host = prop::sample::select(vec!["", "", "a.x", "b.x", "*.x", "*.a.x", "*.b.a.x"]);
    let segment = prop::sample::select(vec!["a", "b", "c", "{}", "{}"]);
    let rest = prop::sample::select(vec!["", "", "/**", "/{rest=**}", "/"]);
    let headers = prop::sample::select(vec![
        "",
        "",
        "h = \"1\"",
        "h = { present = true }",
        "h = { present = false }",
        "h = \"2\", k = { regex = \"[12]\" }",
    ]);
    let query = prop::sample::select(vec!["", "", "q = \"1\"", "q = { regex = \"1|2\" }, r = { present = false }"]);
    let regex = prop::sample::select(vec!["", "", "", "path_regex = \"/a.*\"\n", "path_regex = \".*/b\"\n"]);
    (methods, host, prop::collection::vec(segment, 0..4), rest, headers, query, regex).prop_map(
        |(methods, host, segments, rest, headers, query, regex)| {
            let mut path = String::new();
            for (index, segment) in segments.iter().enumerate() {
                path += &format!("/{}", segment.replace("{}", &format!("{{p{index}}}")));
            }
            path += rest;
            let path = if path.is_empty() { "/" } else { &path };
            format!("{methods}{host}{path}|headers = {{ {headers} }}\nquery = {{ {query} }}\n{regex}")
        },
    )
}

fn any_request() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec!["GET", "PUT", "POST"]);
    let host = prop::sample::select(vec!["a.x", "b.x", "c.x", "b.a.x", "d.b.a.x", "x", "y"]);
    let segment = prop::sample::select(vec!["a", "b", "c", "d"]);
    let end = prop::sample::select(vec!["", "", "/"]);
    let query = prop::sample::select(vec!["", "?q=1", "?q=3&q=2", "?q=1&r=1"]);
    let headers = prop::sample::select(vec!["", " h:1", " h:2 k:1", " h:3 h:1", " k:3"]);
    (method, host, prop::collection::vec(segment, 0..5), end, query, headers).prop_map(|(method, host, segments, end, query, headers)| {
        let path: String = segments.iter().flat_map(|segment| ["/", segment]).chain([end]).collect();
        format!("{method} {host}{}{query}{headers}", if path.is_empty() { "/" } else { &path })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_table_agrees_with_the_whole_order(routes in prop::collection::vec(any_route(), 1..40), requests in prop::collection::vec(any_request(), 20)) {
        // Different priorities excuse every tie.
        let routes: Vec<String> = routes.iter().enumerate().map(|(index, route)| format!("{route}\npriority = {}", (index * 7) % 41)).collect();
        let gateway = table(&routes.iter().map(String::as_str).collect::<Vec<_>>());
        for text in requests {
            let request = Request::new(&text);
            let expected: Vec<&str> = oracle(&gateway.routes, &request.ask()).iter().map(|route| route.id.as_str()).collect();
            let found = gateway.routes.find(&request.ask(), &mut ()).map(|route| route.id.as_str());
            prop_assert_eq!(found, expected.first().copied(), "{}", &text);

            let (winner, others) = gateway.routes.survey(&request.ask(), &mut ());
            let surveyed: Vec<&str> = winner.into_iter().chain(others.iter().map(|other| &other.route)).map(|route| route.id.as_str()).collect();
            prop_assert_eq!(surveyed, expected, "{}", &text);
        }
    }
}
