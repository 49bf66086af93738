//! Which route takes a request, and what a route answers without an endpoint.

use shoal_tests::{Gateway, Origin, ask, get, in_front_of, request};

/// A route that answers with its own name.
fn route(id: &str, keys: &str) -> String {
    format!("[[route]]\nid = \"{id}\"\n{keys}\nrespond = {{ body = \"{id}\" }}\n\n")
}

/// Each case: a request line, the host, a header, and the id of the route that takes it; `-` where none does.
async fn check(routes: &[(&str, &str)], cases: &[(&str, &str, &str, &str)]) {
    let gateway = Gateway::start(&routes.iter().map(|(id, keys)| route(id, keys)).collect::<String>()).await;
    for (line, host, field, expected) in cases {
        let mut request = format!("{line} HTTP/1.1\r\nhost: {host}\r\n");
        if !field.is_empty() {
            request += &format!("{field}\r\n");
        }
        let answer = ask(gateway.main(), request + "\r\n").await;
        match *expected {
            "-" => answer.refuses(404, "E4040"),
            expected => assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{line} at {host} with {field:?}"),
        }
    }
}

#[tokio::test]
async fn the_rest_of_a_path_begins_at_a_boundary() {
    check(
        &[("v1", "match = \"/v1/**\"")],
        &[
            ("GET /v1", "a", "", "v1"),
            ("GET /v1/", "a", "", "v1"),
            ("GET /v1/x", "a", "", "v1"),
            ("GET /v1/x/y?z", "a", "", "v1"),
            ("GET /v10", "a", "", "-"),
            ("GET /", "a", "", "-"),
            ("GET /V1/x", "a", "", "-"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_most_specific_route_takes_the_request_wherever_it_stands() {
    check(
        &[
            ("any", "match = \"/**\""),
            ("capture", "match = \"/v1/{name}\""),
            ("literal", "match = \"/v1/exact\""),
            ("deep", "match = \"/v1/{name}/deep\""),
            ("method", "match = \"POST /v1/{name}\""),
            ("wild", "match = \"*.example.com/**\""),
            ("wilder", "match = \"*.shop.example.com/**\""),
            ("host", "match = \"shop.example.com/**\""),
            ("header", "match = \"/v1/{name}\"\nheaders = { x-preview = \"yes\" }"),
            ("query", "match = \"/v1/{name}\"\nquery = { debug = { present = true } }"),
            ("regex", "match = \"/v1/{name}\"\npath_regex = \"/v1/[0-9]+\""),
        ],
        &[
            ("GET /x", "a", "", "any"),
            ("GET /v1/some", "a", "", "capture"),
            ("GET /v1/exact", "a", "", "literal"),
            ("POST /v1/exact", "a", "", "literal"),
            ("GET /v1/some/deep", "a", "", "deep"),
            ("GET /v1/some/deeper", "a", "", "any"),
            ("POST /v1/some", "a", "", "method"),
            ("GET /v1/some", "a", "x-preview: yes", "header"),
            ("GET /v1/some", "a", "x-preview: no", "capture"),
            ("GET /v1/some?debug", "a", "", "query"),
            ("GET /v1/some?debug=1", "a", "", "query"),
            ("GET /v1/42", "a", "", "regex"),
            ("GET /v1/exact", "shop.example.com", "", "host"),
            ("GET /v1/exact", "SHOP.example.com.:8080", "", "host"),
            ("GET /", "eu.example.com", "", "wild"),
            ("GET /", "eu.shop.example.com", "", "wilder"),
            ("GET /", "a.b.shop.example.com", "", "wilder"),
            ("GET /", "example.com", "", "any"),
        ],
    )
    .await;
}

#[tokio::test]
async fn priority_decides_between_equals() {
    check(
        &[
            ("low", "match = \"/p\"\nheaders = { a = \"1\" }\npriority = 1"),
            ("high", "match = \"/p\"\nheaders = { b = { present = true } }\npriority = 2"),
        ],
        &[("GET /p", "a", "a: 1\r\nb: 1", "high"), ("GET /p", "a", "a: 1", "low"), ("GET /p", "a", "", "-")],
    )
    .await;
}

#[tokio::test]
async fn predicates_are_exact_regular_present_or_absent() {
    check(
        &[
            ("exact", "match = \"/exact\"\nheaders = { x-a = \"b\" }"),
            ("regex", "match = \"/regex\"\nheaders = { x-a = { regex = \"b+\" } }"),
            ("absent", "match = \"/absent\"\nheaders = { x-a = { present = false } }"),
            ("query", "match = \"/query\"\nquery = { a = \"b c\" }"),
        ],
        &[
            ("GET /exact", "a", "x-a: b", "exact"),
            ("GET /exact", "a", "x-a: bb", "-"),
            ("GET /regex", "a", "X-A: bbb", "regex"),
            ("GET /regex", "a", "x-a: abbb", "-"),
            ("GET /absent", "a", "", "absent"),
            ("GET /absent", "a", "x-a: b", "-"),
            ("GET /query?a=b%20c", "a", "", "query"),
            ("GET /query?x=y&a=b+c", "a", "", "query"),
            ("GET /query?a=b", "a", "", "-"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_route_of_one_listener_is_not_served_on_another() {
    let text = "[listen.main]\nbind = \"127.0.0.1:0\"\n[listen.side]\nbind = \"127.0.0.1:0\"\n".to_string()
        + &route("everywhere", "match = \"/e\"")
        + &route("aside", "match = \"/a\"\nlisten = [\"side\"]");
    let gateway = Gateway::start(&text).await;
    assert_eq!(get(gateway.main(), "/e").await.text(), "everywhere");
    assert_eq!(get(gateway.listener("side"), "/e").await.text(), "everywhere");
    assert_eq!(get(gateway.listener("side"), "/a").await.text(), "aside");
    get(gateway.main(), "/a").await.refuses(404, "E4040");
}

#[tokio::test]
async fn a_refusal_says_which_request_it_was_about() {
    let gateway = Gateway::start(&route("one", "match = \"/one\"")).await;
    let answer = get(gateway.main(), "/other").await;
    answer.refuses(404, "E4040");
    let problem = answer.json();
    assert_eq!(problem["type"], "/errors/E4040");
    assert_eq!(problem["trace_id"].as_str().map(str::len), Some(32), "{problem}");
    assert_eq!(answer.fields.get("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_refusal_of_head_has_a_length_and_no_body() {
    let gateway = Gateway::start(&route("one", "match = \"/one\"")).await;
    let mut caller = shoal_tests::Caller::connect(gateway.main()).await;
    let refused = caller.ask(request("HEAD /other", &[], "")).await;
    assert_eq!((refused.status, refused.body.len()), (404, 0));
    assert_ne!(refused.fields.get("content-length"), Some("0"));
    // Had there been a body, it would stand where this answer begins.
    assert_eq!(caller.get("/one").await.text(), "one");
}

#[tokio::test]
async fn a_fixed_answer_is_given_as_it_is_written() {
    let text = "[[route]]\nmatch = \"/robots.txt\"\nrespond = { status = 203, body = \"Disallow: /\\n\", content_type = \"text/plain\" }\n\
        [[route]]\nmatch = \"/empty\"\nrespond = { status = 204 }\n\
        [[route]]\nmatch = \"/gone\"\nrespond = { status = 410, body = \"gone\" }\n\
        response = { set = { x-reason = \"age\" } }\n";
    let gateway = Gateway::start(text).await;
    let mut caller = shoal_tests::Caller::connect(gateway.main()).await;
    let robots = caller.get("/robots.txt").await;
    assert_eq!((robots.status, robots.text().as_str()), (203, "Disallow: /\n"));
    assert_eq!(robots.fields.get("content-type"), Some("text/plain"));
    let head = caller.ask(request("HEAD /robots.txt", &[], "")).await;
    assert_eq!((head.status, head.fields.get("content-length")), (203, Some("12")));
    let empty = caller.get("/empty").await;
    assert_eq!((empty.status, empty.fields.has("content-length"), empty.fields.has("content-type")), (204, false, false));
    let gone = caller.get("/gone").await;
    assert_eq!((gone.status, gone.fields.get("x-reason")), (410, Some("age")));
}

#[tokio::test]
async fn a_redirect_changes_what_it_names_and_keeps_the_rest() {
    for (redirect, path, status, location) in [
        ("scheme = \"https\"", "/a/b?c=d", 308, "https://shop.test/a/b?c=d"),
        ("scheme = \"https\", port = 8443, status = 301", "/a", 301, "https://shop.test:8443/a"),
        ("host = \"www.test\", query = \"drop\"", "/a?b", 308, "http://www.test/a"),
        ("path = \"/v2/{rest}\", status = 302", "/a/b?c", 302, "http://shop.test/v2/a/b?c"),
        ("to = \"https://www.test/new/{rest}\", status = 307", "/a%20b", 307, "https://www.test/new/a%20b"),
        ("port = 8080, status = 303", "/", 303, "http://shop.test:8080/"),
    ] {
        let gateway = Gateway::start(&format!("[[route]]\nmatch = \"/{{rest=**}}\"\nredirect = {{ {redirect} }}\n")).await;
        let answer = get(gateway.main(), path).await;
        assert_eq!((answer.status, answer.fields.get("location")), (status, Some(location)), "{redirect} of {path}");
        assert_eq!(answer.fields.get("content-length"), Some("0"));
    }
}

#[tokio::test]
async fn a_redirect_keeps_the_port_that_was_asked_for() {
    let gateway = Gateway::start("[[route]]\nmatch = \"/old/{name}\"\nredirect = { path = \"/new/{name}\" }\n").await;
    let answer = ask(gateway.main(), "GET /old/x HTTP/1.1\r\nhost: shop.test:8080\r\n\r\n").await;
    assert_eq!(answer.fields.get("location"), Some("http://shop.test:8080/new/x"));
}

#[tokio::test]
async fn a_redirect_of_a_caller_that_names_no_host_stays_where_it_is() {
    let gateway = Gateway::start("[[route]]\nmatch = \"/old\"\nredirect = { path = \"/new\" }\n").await;
    let mut caller = shoal_tests::Caller::connect(gateway.main()).await;
    let answer = caller.ask("GET /old HTTP/1.0\r\n\r\n").await;
    let location = answer.fields.get("location").expect("a redirect has a location");
    assert!(!location.contains("///") && location.ends_with("/new"), "{location}");
}

#[tokio::test]
async fn a_split_follows_its_weights_and_a_sticky_caller_stays() {
    let (old, new) = (Origin::saying("200 OK", "old").await, Origin::saying("200 OK", "new").await);
    let text = format!(
        "[service.old]\nendpoints = [\"{}\"]\n[service.new]\nendpoints = [\"{}\"]\n\
         [[route]]\nmatch = \"/even/**\"\nsplit = [{{ service = \"old\", weight = 1 }}, {{ service = \"new\", weight = 1 }}]\n\
         sticky = \"cookie:session\"\n\
         [[route]]\nmatch = \"/none/**\"\nsplit = [{{ service = \"old\", weight = 1 }}, {{ service = \"new\", weight = 0 }}]\n",
        old.url(),
        new.url()
    );
    let gateway = Gateway::start(&text).await;
    let mut caller = shoal_tests::Caller::connect(gateway.main()).await;
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        *seen.entry(caller.get("/even/x").await.text()).or_default() += 1;
        assert_eq!(caller.get("/none/x").await.text(), "old");
    }
    // Each has one half; that one of them gets less than 10 of 60 happens once in a hundred million runs.
    assert!(seen.len() == 2 && seen.values().all(|count| *count >= 10), "{seen:?}");

    let mut chosen = std::collections::BTreeMap::<String, usize>::new();
    for session in 0..20 {
        let cookie = format!("cookie: other=1; session=s{session}");
        let ask = request("GET /even/x", &[&cookie], "");
        let first = caller.ask(&ask).await.text();
        for _ in 0..4 {
            assert_eq!(caller.ask(&ask).await.text(), first, "session {session} stays");
        }
        *chosen.entry(first).or_default() += 1;
    }
    assert_eq!(chosen.len(), 2, "{chosen:?}");
}

#[tokio::test]
async fn networks_decide_who_may_call() {
    let trusting = "[node]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    for (keys, from, allowed) in [
        ("allow = [\"10.0.0.0/8\"]", "10.1.2.3", true),
        ("allow = [\"10.0.0.0/8\"]", "192.0.2.1", false),
        ("deny = [\"192.0.2.0/24\"]", "192.0.2.1", false),
        ("deny = [\"192.0.2.0/24\"]", "10.1.2.3", true),
        ("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.9.0.0/16\"]", "10.9.0.1", false),
        ("allow = [\"2001:db8::/32\"]", "2001:db8::7", true),
        ("allow = [\"10.0.0.0/8\"]", "::ffff:10.1.2.3", true),
    ] {
        let origin = Origin::ok().await;
        let gateway = Gateway::start(&(trusting.to_string() + &in_front_of(&origin.url(), keys))).await;
        let answer = ask(gateway.main(), request("GET /", &[&format!("x-forwarded-for: {from}")], "")).await;
        if allowed {
            assert_eq!(answer.status, 200, "{keys} from {from}");
        } else {
            answer.refuses(403, "E4030");
            assert_eq!(origin.count(), 0, "{keys} from {from}");
        }
    }
}

#[tokio::test]
async fn a_caller_cannot_pretend_to_come_from_an_allowed_network() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "allow = [\"10.0.0.0/8\"]")).await;
    for field in ["x-forwarded-for: 10.0.0.1", "forwarded: for=10.0.0.1", "x-real-ip: 10.0.0.1"] {
        ask(gateway.main(), request("GET /", &[field], "")).await.refuses(403, "E4030");
    }
}
