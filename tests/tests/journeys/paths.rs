//! One path, however it is spelled: what is matched is what the endpoint sees.

use shoal_tests::{Gateway, Origin, ask, get, in_front_of, request};

#[tokio::test]
async fn the_endpoint_sees_the_path_that_was_matched() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for (sent, expected) in [
        ("/", "/"),
        ("/a/b?c=d", "/a/b?c=d"),
        ("/a?", "/a"),
        ("/%61%2D%7e", "/a-~"),
        ("/a//b///c/", "/a/b/c/"),
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/q?a=%2f&b=../..&c=//", "/q?a=%2f&b=../..&c=//"),
        ("/100%25", "/100%25"),
    ] {
        let before = origin.count();
        let answer = get(gateway.main(), sent).await;
        assert_eq!(answer.status, 200, "{sent}: {}", answer.text());
        let seen = origin.requests()[before].target.clone();
        // A question mark with nothing behind it says nothing.
        assert_eq!(seen.strip_suffix('?').unwrap_or(&seen), expected, "{sent}");
    }
}

#[tokio::test]
async fn a_path_that_could_be_read_in_two_ways_reaches_nobody() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for sent in [
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/a%0a",
        "/a%7f",
        "/a;b",
        "/a%3bb",
        "/..",
        "/a/../..",
        "/%2e%2e",
        "/a/..;/b",
        "/%252f",
        "/%252e%252e/",
        "/%ff",
        "/%c0%af",
        "/%",
        "/%4",
        "/%zz",
        "*",
    ] {
        ask(gateway.main(), request(&format!("GET {sent}"), &[], "")).await.refuses(400, "E4001");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_route_may_let_escaped_slashes_and_semicolons_pass() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "encoded_slash = \"keep\"\nsemicolon = \"keep\"")).await;
    for (sent, expected) in [("/a%2fb", "/a%2Fb"), ("/a;v=1/b", "/a;v=1/b"), ("/a%5cb;c", "/a%5Cb;c")] {
        let before = origin.count();
        assert_eq!(get(gateway.main(), sent).await.status, 200, "{sent}");
        assert_eq!(origin.requests()[before].target, expected);
    }
    // What hides dots is refused whatever a route says.
    get(gateway.main(), "/a/..;/b").await.refuses(400, "E4001");
    get(gateway.main(), "/a/..%2fb").await.refuses(400, "E4001");
}

#[tokio::test]
async fn another_spelling_does_not_lead_around_a_route() {
    let origin = Origin::ok().await;
    let text = in_front_of(&origin.url(), "") + "[[route]]\nmatch = \"/secret/**\"\nrespond = { status = 403, body = \"no\" }\n";
    let gateway = Gateway::start(&text).await;
    for sent in ["/secret", "/secret/x", "//secret/x", "/./secret/x", "/a/../secret/x", "/%73ecret/x", "/a/%2e%2e/secret"] {
        assert_eq!(get(gateway.main(), sent).await.status, 403, "{sent}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_query_reaches_the_endpoint_in_a_form_that_a_strict_reader_takes() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for query in ["a=b%20c&d", "filter[name]=x", "q={\"a\":1}", "p=a|b", "u=caf\u{e9}", "c=a\\b"] {
        // Refused or passed on, as long as the origin has nothing to complain about: it says so when it is dropped.
        let answer = ask(gateway.main(), request(&format!("GET /q?{query}"), &[], "")).await;
        assert!(matches!(answer.status, 200 | 400), "{query}: {}", answer.status);
    }
}

#[tokio::test]
async fn a_rewritten_path_is_made_of_what_the_route_says() {
    for (route, sent, expected) in [
        ("match = \"/api/**\"\nrequest = { strip_prefix = \"/api\" }", "/api/users?x=1", "/users?x=1"),
        ("match = \"/api/**\"\nrequest = { strip_prefix = \"/api\" }", "/api", "/"),
        ("match = \"/v2/users/{id}\"\nrequest = { path = \"/internal/{id}\" }", "/v2/users/a%20b", "/internal/a%20b"),
        ("match = \"/f/{rest=**}\"\nrequest = { path = \"/g/{rest}\" }", "/f/a/b", "/g/a/b"),
        (
            "match = \"/q\"\nrequest = { query = { set = { source = \"gateway\" }, remove = [\"debug\"] } }",
            "/q?debug=1&a=b&source=me",
            "/q?a=b&source=gateway",
        ),
    ] {
        let origin = Origin::ok().await;
        let text = format!("[service.up]\nendpoints = [\"{}\"]\n[[route]]\n{route}\nservice = \"up\"\n", origin.url());
        let gateway = Gateway::start(&text).await;
        assert_eq!(get(gateway.main(), sent).await.status, 200, "{sent}");
        assert_eq!(origin.request().target, expected, "{route}");
    }
}
