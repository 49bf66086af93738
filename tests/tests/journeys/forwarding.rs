//! What reaches the endpoint of a request, and the caller of an answer: all of it, but for what belongs to a connection.

use shoal_tests::{Caller, Gateway, Origin, ask, get, in_front_of, request};

#[tokio::test]
async fn an_endpoint_sees_what_was_sent() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let fields =
        ["x-a: 1", "x-a: 2", "cookie: a=b", "cookie: c=d", "accept: */*", "x-empty:", "authorization: Basic eDp5", "content-length: 5"];
    assert_eq!(ask(gateway.main(), request("PATCH /p?q", &fields, "hello")).await.status, 200);
    let seen = origin.request();
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.text().as_str()), ("PATCH", "/p?q", "hello"));
    assert_eq!(seen.fields.get("host"), Some("shop.test"));
    assert_eq!(seen.fields.all("x-a"), ["1", "2"]);
    assert_eq!(seen.fields.get("cookie"), Some("a=b; c=d"), "several lines of cookies are one line (RFC 6265)");
    assert_eq!(seen.fields.get("x-empty"), Some(""));
    assert_eq!(seen.fields.get("authorization"), Some("Basic eDp5"));
    assert_eq!(seen.fields.get("content-length"), Some("5"));
}

#[tokio::test]
async fn a_caller_sees_what_was_answered() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.answer("418 I'm a teapot", "set-cookie: a=b\r\nset-cookie: c=d\r\nx-powered-by: tea\r\n", "short and stout").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let answer = get(gateway.main(), "/").await;
    assert_eq!((answer.status, answer.text().as_str()), (418, "short and stout"));
    assert_eq!(answer.fields.all("set-cookie"), ["a=b", "c=d"]);
    assert_eq!(answer.fields.get("x-powered-by"), Some("tea"));
    assert_eq!(answer.fields.get("content-length"), Some("15"));
}

#[tokio::test]
async fn any_method_but_two_is_passed_on() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "M-SEARCH", "get"] {
        let before = origin.count();
        let mut caller = Caller::connect(gateway.main()).await;
        assert_eq!(caller.ask(request(&format!("{method} /"), &[], "")).await.status, 200, "{method}");
        assert_eq!(origin.requests()[before].method, method);
    }
    ask(gateway.main(), request("TRACE /", &[], "")).await.refuses(405, "E4050");
    ask(gateway.main(), "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\n").await.refuses(501, "E5010");
}

#[tokio::test]
async fn fields_of_the_connection_end_with_it() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for (sent, gone) in [
        (&["connection: keep-alive", "keep-alive: timeout=5"][..], &["connection", "keep-alive"][..]),
        (&["proxy-connection: keep-alive"], &["proxy-connection"]),
        (&["connection: close, x-hop", "x-hop: 1"], &["connection", "x-hop"]),
        (&["connection: X-Hop", "connection: x-other", "x-hop: 1", "x-other: 1"], &["x-hop", "x-other"]),
        (&["te: gzip, trailers"], &[]),
        (&["te: gzip"], &["te"]),
        (&["proxy-authorization: Basic eDp5"], &["proxy-authorization"]),
        (&["connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQ"], &["upgrade", "http2-settings"]),
        (&["connection: upgrade", "upgrade: websocket, h2c"], &["upgrade"]),
        (&["upgrade: websocket"], &["upgrade"]),
        (&["expect: 100-continue"], &["expect"]),
        (&["trailer: x-sum"], &["trailer"]),
    ] {
        let before = origin.count();
        let answer = ask(gateway.main(), request("GET /", sent, "")).await;
        assert_eq!(answer.status, 200, "{sent:?}");
        let seen = &origin.requests()[before];
        for name in gone {
            assert!(!seen.fields.has(name), "{sent:?}: {}", seen.raw_head);
        }
    }
}

#[tokio::test]
async fn a_caller_cannot_have_end_to_end_fields_taken_away() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for name in [
        "host",
        "content-length",
        "content-type",
        "authorization",
        "cookie",
        "x-forwarded-for",
        "x-forwarded-host",
        "forwarded",
        "x-real-ip",
        "x-shoal-client",
        "x-jwt-sub",
        "x-api-client",
    ] {
        let nominating = format!("connection: close, {name}");
        ask(gateway.main(), request("GET /", &[&nominating], "")).await.refuses(400, "E4000");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn fields_of_the_endpoints_connection_end_with_it() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            let fields =
                "connection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nproxy-authenticate: Basic\r\nupgrade: h2c\r\n";
            exchange.answer("200 OK", fields, "ok").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let answer = get(gateway.main(), "/").await;
    for name in ["connection", "keep-alive", "x-hop", "proxy-authenticate", "upgrade"] {
        assert!(!answer.fields.has(name), "{name}: {:?}", answer.fields);
    }
}

#[tokio::test]
async fn an_answer_to_head_says_how_long_the_body_would_be() {
    let origin = Origin::start(|exchange| Box::pin(async move { exchange.answer("200 OK", "etag: \"x\"\r\n", "hello").await })).await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let head = caller.ask(request("HEAD /", &[], "")).await;
    assert_eq!((head.status, head.fields.get("content-length"), head.fields.get("etag")), (200, Some("5"), Some("\"x\"")));
    assert_eq!(caller.get("/").await.text(), "hello");
}

#[tokio::test]
async fn answers_without_a_body_stay_without_one() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            let status = exchange.request.target.trim_start_matches('/').to_string();
            exchange.say(format!("HTTP/1.1 {status} Fine\r\netag: \"x\"\r\n\r\n")).await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    for status in [204, 304, 204] {
        let answer = caller.get(&format!("/{status}")).await;
        assert_eq!((answer.status, answer.fields.get("etag")), (status, Some("\"x\"")));
        assert!(!answer.fields.has("transfer-encoding"));
    }
}

#[tokio::test]
async fn a_caller_of_http_1_0_is_answered_in_its_own_way() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            exchange.chunk("hello").await?;
            exchange.chunk("").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send("GET /old HTTP/1.0\r\nhost: shop.test\r\n\r\n").await;
    let said = String::from_utf8_lossy(&caller.end().await).into_owned();
    assert!(said.contains(" 200 OK\r\n") && said.ends_with("\r\n\r\nhello"), "{said}");
    assert!(!said.to_ascii_lowercase().contains("transfer-encoding"), "{said}");
}

#[tokio::test]
async fn a_caller_of_http_1_0_need_not_name_a_host() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send("GET / HTTP/1.0\r\n\r\n").await;
    let said = String::from_utf8_lossy(&caller.end().await).into_owned();
    assert!(said.contains(" 200 OK\r\n") || said.contains(" 400 "), "{said}");
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_their_order() {
    let origin = Origin::echo().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let pipelined: String = (0..10).map(|number| request("POST /", &["content-length: 1"], &number.to_string())).collect();
    caller.send(pipelined).await;
    for number in 0..10 {
        assert_eq!(caller.answer().await.text(), number.to_string());
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn connections_to_an_endpoint_are_used_again() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for _ in 0..20 {
        assert_eq!(get(gateway.main(), "/").await.status, 200);
    }
    assert_eq!((origin.count(), origin.connections()), (20, 1));
}

#[tokio::test]
async fn the_service_says_which_host_its_endpoints_see() {
    let origin = Origin::ok().await;
    for (host, expected) in
        [("keep", "shop.test:8080".to_string()), ("endpoint", origin.address.to_string()), ("www.test", "www.test".into())]
    {
        let text =
            format!("[service.up]\nendpoints = [\"{}\"]\nhost = \"{host}\"\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n", origin.url());
        let gateway = Gateway::start(&text).await;
        let before = origin.count();
        ask(gateway.main(), "GET / HTTP/1.1\r\nhost: Shop.TEST:8080\r\n\r\n").await;
        let seen = &origin.requests()[before];
        assert_eq!(seen.fields.get("host"), Some(expected.as_str()), "{host}");
        assert_eq!(seen.fields.get("x-forwarded-host"), Some("shop.test:8080"), "{host}");
    }
}

#[tokio::test]
async fn a_route_changes_the_fields_that_it_names() {
    let origin =
        Origin::start(|exchange| Box::pin(async move { exchange.answer("200 OK", "server: tea\r\nx-keep: 1\r\n", "ok").await })).await;
    let keys = "request = { remove = [\"x-gone\"], set = { x-set = \"new\" }, add = { x-add = \"2\" } }\n\
                response = { remove = [\"server\"], set = { x-set = \"new\" }, add = { x-keep = \"2\" } }";
    let gateway = Gateway::start(&in_front_of(&origin.url(), keys)).await;
    let answer = ask(gateway.main(), request("GET /", &["x-gone: 1", "x-set: old", "x-add: 1"], "")).await;
    let seen = origin.request();
    assert!(!seen.fields.has("x-gone"));
    assert_eq!(seen.fields.get("x-set"), Some("new"));
    assert_eq!(seen.fields.all("x-add"), ["1", "2"]);
    assert!(!answer.fields.has("server"));
    assert_eq!(answer.fields.get("x-set"), Some("new"));
    assert_eq!(answer.fields.all("x-keep"), ["1", "2"]);
}

#[tokio::test]
async fn a_get_with_a_body_keeps_it() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for (fields, body) in [("content-length: 5", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        let before = origin.count();
        assert_eq!(ask(gateway.main(), request("GET /search", &[fields], body)).await.status, 200, "{fields}");
        assert_eq!(origin.requests()[before].text(), "hello", "{fields}");
    }
}
