//! What is too much, for whom, and what they are told.

use shoal_tests::{Answer, Caller, Gateway, Origin, ask, get, http2, http2::H2Caller, in_front_of, request};

async fn limited(keys: &str) -> (Gateway, Origin) {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), keys)).await;
    (gateway, origin)
}

/// The parameters of a field with one member: `"name";r=1;t=2`.
fn member(answer: &Answer, field: &str) -> (String, Vec<(String, u64)>) {
    let value = answer.fields.get(field).unwrap_or_else(|| panic!("no {field}: {:?}", answer.fields));
    let mut parts = value.split(';');
    let name = parts.next().unwrap_or_default().trim_matches('"').to_string();
    let parameters = parts.map(|part| {
        let (key, value) = part.split_once('=').expect("a parameter has a value");
        (key.to_string(), value.parse().expect("a number"))
    });
    (name, parameters.collect())
}

#[tokio::test]
async fn a_caller_may_burst_and_is_then_refused() {
    let (gateway, origin) = limited("limit = \"6/min burst 3 per client_ip\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    for left in [2, 1, 0] {
        let answer = caller.get("/").await;
        assert_eq!(answer.status, 200);
        let (name, policy) = member(&answer, "ratelimit-policy");
        assert_eq!(policy, [("q".to_string(), 3), ("w".to_string(), 30)], "three, which take thirty seconds to come back");
        let (same, state) = member(&answer, "ratelimit");
        assert_eq!((same, &state[0]), (name, &("r".to_string(), left)));
        assert!(state[1].0 == "t" && (1..=30).contains(&state[1].1), "{state:?}");
    }
    let refused = caller.get("/").await;
    refused.refuses(429, "E4290");
    let retry_after: u64 = refused.fields.get("retry-after").expect("it says when").parse().expect("seconds");
    assert!((9..=10).contains(&retry_after), "one comes back every ten seconds: {retry_after}");
    let (_, state) = member(&refused, "ratelimit");
    assert_eq!(state[0], ("r".to_string(), 0));
    assert!(retry_after >= state[1].1, "{retry_after} is not before {state:?}");
    let problem = refused.json();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["retry_after_s"], retry_after);
    assert_eq!(problem["violated-policies"].as_array().map(Vec::len), Some(1), "{problem}");
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn what_was_used_up_comes_back() {
    let (gateway, _origin) = limited("limit = \"10/s burst 1 per client_ip\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    assert_eq!(caller.get("/").await.status, 200);
    assert_eq!(caller.get("/").await.status, 429);
    shoal_tests::wait::within("a token", async { while caller.get("/").await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_limit_counts_each_value_of_its_key_apart() {
    let ask_with = |path: &str, host: &str, fields: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n");
    for (key, one, other) in [
        ("header:x-key", ask_with("/a", "a.test", "x-key: 1\r\n"), ask_with("/a", "a.test", "x-key: 2\r\n")),
        ("cookie:id", ask_with("/a", "a.test", "cookie: x=y; id=1\r\n"), ask_with("/a", "a.test", "cookie: id=2\r\n")),
        ("path:first", ask_with("/a", "a.test", ""), ask_with("/b", "a.test", "")),
        ("host", ask_with("/a", "a.test", ""), ask_with("/a", "b.test", "")),
        ("header:x-key,path:first", ask_with("/a", "a.test", "x-key: 1\r\n"), ask_with("/b", "a.test", "x-key: 1\r\n")),
    ] {
        let origin = Origin::ok().await;
        let text = in_front_of(&origin.url(), &format!("limit = \"1/h per {key}\"")).replace("/**", "/{first}");
        let gateway = Gateway::start(&text).await;
        for (request, status) in [(&one, 200), (&one, 429), (&other, 200), (&other, 429)] {
            assert_eq!(ask(gateway.main(), request).await.status, status, "{key}: {request:?}");
        }
    }
}

#[tokio::test]
async fn another_spelling_is_not_another_key() {
    let origin = Origin::ok().await;
    let text = in_front_of(&origin.url(), "limit = \"1/h per host,path:first\"").replace("/**", "/{first}");
    let gateway = Gateway::start(&text).await;
    for (path, host, status) in [("/abc", "a.test", 200), ("/%61bc", "a.test", 429), ("//abc", "A.TEST", 429), ("/abc", "a.test.:80", 429)]
    {
        let answer = ask(gateway.main(), format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{host}{path}");
    }
}

#[tokio::test]
async fn a_route_keeps_its_own_count_and_a_named_limit_is_shared() {
    let origin = Origin::ok().await;
    let text = format!(
        "[service.up]\nendpoints = [\"{}\"]\n[limit.shared]\nrate = \"1/h\"\nburst = 2\nkey = \"client_ip\"\n\
         [[route]]\nmatch = \"/own/a\"\nservice = \"up\"\nlimit = \"1/h per client_ip\"\n\
         [[route]]\nmatch = \"/own/b\"\nservice = \"up\"\nlimit = \"1/h per client_ip\"\n\
         [[route]]\nmatch = \"/shared/a\"\nservice = \"up\"\nlimit = \"shared\"\n\
         [[route]]\nmatch = \"/shared/b\"\nservice = \"up\"\nlimit = \"shared\"\n",
        origin.url()
    );
    let gateway = Gateway::start(&text).await;
    for (path, status) in [
        ("/own/a", 200),
        ("/own/b", 200),
        ("/own/a", 429),
        ("/own/b", 429),
        ("/shared/a", 200),
        ("/shared/b", 200),
        ("/shared/a", 429),
        ("/shared/b", 429),
    ] {
        assert_eq!(get(gateway.main(), path).await.status, status, "{path}");
    }
    let refused = get(gateway.main(), "/shared/a").await;
    assert_eq!(refused.json()["violated-policies"], serde_json::json!(["shared"]));
    assert_eq!(member(&refused, "ratelimit").0, "shared");
}

#[tokio::test]
async fn several_limits_are_taken_all_or_none() {
    let origin = Origin::ok().await;
    let text = "[limit.wide]\nrate = \"1/h\"\nburst = 3\nkey = \"client_ip\"\n".to_string()
        + &in_front_of(&origin.url(), "limit = [\"wide\", \"1/h burst 1 per header:x-key\"]");
    let gateway = Gateway::start(&text).await;
    let ask_as = |key: &str| request("GET /", &[&format!("x-key: {key}")], "");
    assert_eq!(ask(gateway.main(), ask_as("a")).await.status, 200);
    // The narrow limit refuses; the wide one must not be charged for it.
    for _ in 0..5 {
        assert_eq!(ask(gateway.main(), ask_as("a")).await.status, 429);
    }
    assert_eq!(ask(gateway.main(), ask_as("b")).await.status, 200);
    assert_eq!(ask(gateway.main(), ask_as("c")).await.status, 200);
    let refused = ask(gateway.main(), ask_as("d")).await;
    assert_eq!(refused.json()["violated-policies"], serde_json::json!(["wide"]));
    let policies = refused.fields.get("ratelimit-policy").expect("it says what applies");
    assert!(policies.contains("\"wide\";q=3") && policies.contains(", "), "{policies}");
}

#[tokio::test]
async fn a_shadow_limit_refuses_nobody_and_says_nothing() {
    let origin = Origin::ok().await;
    let text = "[limit.dark]\nrate = \"1/h\"\nkey = \"client_ip\"\nmode = \"shadow\"\n".to_string()
        + &in_front_of(&origin.url(), "limit = \"dark\"");
    let gateway = Gateway::start(&text).await;
    for _ in 0..3 {
        let answer = get(gateway.main(), "/").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.fields.has("ratelimit") && !answer.fields.has("ratelimit-policy"), "{:?}", answer.fields);
    }
}

#[tokio::test]
async fn a_request_without_a_key_shares_skips_or_is_refused() {
    for (missing, expected) in [("share", [200, 429]), ("skip", [200, 200]), ("refuse", [429, 429])] {
        let origin = Origin::ok().await;
        let text = format!("[limit.keyed]\nrate = \"1/h\"\nkey = \"header:x-key\"\nmissing = \"{missing}\"\n")
            + &in_front_of(&origin.url(), "limit = \"keyed\"");
        let gateway = Gateway::start(&text).await;
        // An empty value is none, and of two nobody knows which one counts for the endpoint.
        for (fields, status) in [&["x-key:"][..], &["x-key: b", "x-key: a"]].into_iter().zip(expected) {
            let answer = ask(gateway.main(), request("GET /", fields, "")).await;
            assert_eq!(answer.status, status, "{missing}");
            if missing == "refuse" {
                answer.refuses(429, "E4291");
            }
        }
        assert_eq!(ask(gateway.main(), request("GET /", &["x-key: a"], "")).await.status, 200, "{missing}");
    }
}

#[tokio::test]
async fn what_an_endpoint_says_of_its_own_limits_stays() {
    let origin =
        Origin::start(|exchange| Box::pin(async move { exchange.answer("200 OK", "ratelimit: \"theirs\";r=5;t=1\r\n", "ok").await })).await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "limit = \"10/h per client_ip\"")).await;
    let all = get(gateway.main(), "/").await;
    let all = all.fields.all("ratelimit");
    assert!(all.len() == 2 && all.contains(&"\"theirs\";r=5;t=1"), "{all:?}");
}

#[tokio::test]
async fn a_limit_applies_to_redirects_and_fixed_answers_too() {
    let gateway = Gateway::start("[[route]]\nmatch = \"/**\"\nrespond = { body = \"ok\" }\nlimit = \"1/h per client_ip\"\n").await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    get(gateway.main(), "/").await.refuses(429, "E4290");
}

#[tokio::test]
async fn a_refused_grpc_caller_is_told_in_its_own_words() {
    let (gateway, _origin) = limited("limit = \"1/h per client_ip\"").await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    let call = || {
        let request =
            http2::request(http::Method::POST, "/shop.Cart/Add").header("content-type", "application/grpc").header("te", "trailers");
        request.body(http2::full("x")).expect("a request")
    };
    assert_eq!(caller.send(call()).await.status, 200);
    let refused = caller.send(call()).await;
    assert_eq!((refused.status, refused.header("grpc-status")), (http::StatusCode::OK, Some("8")));
    assert_eq!(refused.header("content-type"), Some("application/grpc"));
    assert!(refused.headers.contains_key("grpc-message") && refused.headers.contains_key("ratelimit"), "{:?}", refused.headers);
    assert!(refused.body.is_empty());
}

#[tokio::test]
async fn a_limit_is_exact_when_many_ask_at_once() {
    let (gateway, origin) = limited("limit = \"1/h burst 50 per client_ip\"").await;
    let address = gateway.main();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        asking.spawn(async move {
            let mut caller = Caller::connect(address).await;
            let mut granted = 0;
            for _ in 0..5 {
                granted += usize::from(caller.get("/").await.status == 200);
            }
            granted
        });
    }
    let granted: usize = asking.join_all().await.into_iter().sum();
    assert_eq!((granted, origin.count()), (50, 50));
}

#[tokio::test]
async fn an_address_of_ipv6_counts_with_its_network() {
    let origin = Origin::ok().await;
    let text = "[node]\ntrusted_proxies = [\"127.0.0.0/8\"]\n".to_string() + &in_front_of(&origin.url(), "limit = \"1/h per client_ip\"");
    let gateway = Gateway::start(&text).await;
    for (from, status) in [
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 429),
        ("2001:db8:0:2::1", 200),
        ("192.0.2.1", 200),
        ("::ffff:192.0.2.1", 429),
        ("192.0.2.2", 200),
    ] {
        let answer = ask(gateway.main(), request("GET /", &[&format!("x-forwarded-for: {from}")], "")).await;
        assert_eq!(answer.status, status, "{from}");
    }
}

#[tokio::test]
async fn many_keys_are_told_apart() {
    let (gateway, _origin) = limited("limit = \"1/h per header:x-key\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    let ask_as = |key: usize| request("GET /", &[&format!("x-key: k{key}")], "");
    assert_eq!(caller.ask(ask_as(0)).await.status, 200);
    for key in 1..2_000 {
        assert_eq!(caller.ask(ask_as(key)).await.status, 200, "{key}");
    }
    assert_eq!(caller.ask(ask_as(0)).await.status, 429, "the first is remembered");
}
