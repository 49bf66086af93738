//! Which endpoints are asked when some of them are not well: they are left soon, without a caller noticing, and come back by
//! themselves.

use serde_json::{Value, json};
use shoal_tests::{
    Answer, Caller, Gateway, Origin, ask, get,
    origin::{Exchange, nobody},
    request,
    wait::{PATIENCE, until, within},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const ADMIN: &str = "[admin]\nbind = \"127.0.0.1:0\"\ntoken = { env = \"TOKEN\" }\n";
const TOKEN: &str = "authorization: Bearer 0123456789abcdef0123456789abcdef";

/// How an endpoint fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Well,
    /// Answers 500 to everything.
    Errs,
    /// Says what is no answer.
    Garbles,
    /// Hears the request and closes the connection.
    HangsUp,
    /// Accepts and never answers, as a process that was stopped.
    Stalls,
    /// Breaks off in the middle of an answer.
    BreaksOff,
    /// Fails probes and nothing else.
    FailsProbes,
    /// Passes probes with another body than before.
    SaysOtherwise,
}

/// An endpoint whose mood may change at any time.
struct Moody {
    origin: Origin,
    mood: Arc<AtomicU8>,
}

impl Moody {
    async fn new() -> Self {
        let mood = Arc::new(AtomicU8::new(Mood::Well as u8));
        let seen = mood.clone();
        let origin = Origin::start(move |exchange| {
            let mood = seen.load(SeqCst);
            Box::pin(answer(exchange, mood))
        })
        .await;
        Self { origin, mood }
    }

    fn becomes(&self, mood: Mood) {
        self.mood.store(mood as u8, SeqCst);
    }

    /// Requests that are no probes.
    fn count(&self) -> usize {
        self.origin.requests().iter().filter(|request| request.target != "/healthz").count()
    }

    fn name(&self) -> String {
        self.origin.address.to_string()
    }
}

async fn answer(exchange: &mut Exchange, mood: u8) -> std::io::Result<()> {
    let is = |of: Mood| mood == of as u8;
    let probe = exchange.request.target == "/healthz";
    if is(Mood::Errs) || is(Mood::FailsProbes) && probe {
        return exchange.answer("500 Internal Server Error", "", "no").await;
    }
    if is(Mood::Stalls) {
        return exchange.silence().await;
    }
    if is(Mood::Garbles) {
        exchange.hang_up();
        return exchange.say("garbage\r\n\r\n").await;
    }
    if is(Mood::BreaksOff) {
        exchange.hang_up();
        return exchange.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    }
    if is(Mood::HangsUp) {
        exchange.hang_up();
        return Ok(());
    }
    exchange.answer("200 OK", "", if probe && !is(Mood::SaysOtherwise) { "all is fine" } else { "ok" }).await
}

/// A service with these endpoints and `keys`, and one route that takes everything to it.
fn service(endpoints: &[String], keys: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("\"http://{endpoint}\"")).collect();
    let service = format!("[service.up]\nendpoints = [{}]\n{keys}\n", endpoints.join(", "));
    format!("{ADMIN}{service}[[route]]\nmatch = \"/**\"\nservice = \"up\"\n")
}

async fn admin(gateway: &Gateway, line: &str, body: &str) -> Answer {
    let address = gateway.admin();
    let fields = format!("host: {address}\r\n{TOKEN}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    ask(address, format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n{body}")).await
}

/// What the node shows of an endpoint.
async fn shown(gateway: &Gateway, endpoint: &str) -> Value {
    let services = admin(gateway, "GET /v1/upstreams", "").await.json();
    let found = services[0]["endpoints"].as_array().and_then(|all| all.iter().find(|shown| shown["endpoint"] == endpoint).cloned());
    found.unwrap_or_else(|| panic!("{endpoint} is not shown in {services}"))
}

/// Sends requests until the node shows this verdict of an endpoint, and returns what it shows.
async fn until_verdict(gateway: &Gateway, endpoint: &str, verdict: &str) -> Value {
    let began = Instant::now();
    loop {
        let shown = shown(gateway, endpoint).await;
        if shown["verdict"] == verdict {
            return shown;
        }
        assert!(began.elapsed() < PATIENCE, "{endpoint} never became {verdict}: {shown}");
        get(gateway.main(), "/").await;
    }
}

async fn three() -> [Moody; 3] {
    [Moody::new().await, Moody::new().await, Moody::new().await]
}

fn names(endpoints: &[Moody]) -> Vec<String> {
    endpoints.iter().map(Moody::name).collect()
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_soon_and_comes_back_gradually() {
    for (mood, why) in [
        (Mood::Errs, "consecutive_5xx"),
        (Mood::Garbles, "consecutive_local_origin_failure"),
        (Mood::HangsUp, "consecutive_local_origin_failure"),
        (Mood::Stalls, "consecutive_local_origin_failure"),
    ] {
        let endpoints = three().await;
        let keys = "balance = \"round_robin\"\noutlier = { base_ejection_time = \"2s\" }\ndeadlines = { first_byte = \"100ms\" }\n\
                    retry = { backoff_min = \"0ms\", backoff_max = \"1ms\" }";
        let gateway = Gateway::start(&service(&names(&endpoints), keys)).await;
        let bad = &endpoints[1];
        bad.becomes(mood);
        for _ in 0..60 {
            assert_eq!(get(gateway.main(), "/").await.status, 200, "{mood:?}");
        }
        assert!((1..=10).contains(&bad.count()), "{mood:?}: asked {} times", bad.count());
        let shown = shown(&gateway, &bad.name()).await;
        assert_eq!((&shown["verdict"], &shown["why"]), (&json!("ejected"), &json!(why)), "{mood:?}: {shown}");
        assert!(shown["tried_in_ms"].as_u64().is_some_and(|wait| wait <= 2_200), "{shown}");

        bad.becomes(Mood::Well);
        let shown = until_verdict(&gateway, &bad.name(), "healthy").await;
        assert!(shown["slow_start_percent"].as_f64().is_some_and(|share| share < 50.0), "{mood:?}: {shown}");
    }
}

#[tokio::test]
async fn an_endpoint_that_breaks_off_its_answers_is_left_too() {
    let endpoints = three().await;
    let gateway = Gateway::start(&service(&names(&endpoints), "balance = \"round_robin\"")).await;
    endpoints[0].becomes(Mood::BreaksOff);
    let mut broken = 0;
    for _ in 0..60 {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("GET /", &[], "")).await;
        let (_, mut decoder) = caller.begin().await;
        // Nobody can be asked again once the head has been passed on.
        broken += usize::from(within("the answer's end", caller.wire.body(&mut decoder)).await.is_err());
    }
    assert!((1..=6).contains(&broken), "{broken} answers broke off");
    assert_eq!(shown(&gateway, &endpoints[0].name()).await["verdict"], "ejected");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_left_even_if_it_is_one_of_many() {
    let endpoints = [Moody::new().await];
    let mut names = names(&endpoints);
    for _ in 0..3 {
        names.push(nobody().await.to_string());
    }
    let gateway = Gateway::start(&service(&names, "balance = \"round_robin\"\nretry = { max = 3, budget_min = 100 }")).await;
    for _ in 0..40 {
        assert_eq!(get(gateway.main(), "/").await.status, 200);
    }
    // More of them than may be ejected: nothing is lost without those that cannot even be connected to.
    for name in &names[1..] {
        assert_eq!(shown(&gateway, name).await["verdict"], "ejected");
    }
}

#[tokio::test]
async fn the_last_endpoint_is_never_left() {
    let alone = [Moody::new().await];
    alone[0].becomes(Mood::Errs);
    let gateway = Gateway::start(&service(&names(&alone), "")).await;
    for _ in 0..20 {
        assert_eq!(get(gateway.main(), "/").await.status, 500, "what it says is passed on");
    }
    assert_eq!(alone[0].count(), 20);
    assert_eq!(shown(&gateway, &alone[0].name()).await["verdict"], "healthy");
}

#[tokio::test]
async fn when_all_are_dead_callers_are_told_so_in_time() {
    let dead = [nobody().await, nobody().await, nobody().await].map(|address| address.to_string());
    let gateway = Gateway::start(&service(&dead, "health = { kind = \"tcp\", interval = \"200ms\", timeout = \"200ms\" }")).await;
    let stalled = three().await;
    stalled.iter().for_each(|endpoint| endpoint.becomes(Mood::Stalls));
    let slow = Gateway::start(&service(&names(&stalled), "deadlines = { first_byte = \"100ms\" }")).await;
    for _ in 0..20 {
        let began = Instant::now();
        get(gateway.main(), "/").await.refuses(502, "E5020");
        get(slow.main(), "/").await.refuses(504, "E5040");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

const PROBED: &str = "interval = \"200ms\", timeout = \"200ms\", unhealthy = 2, healthy = 2";

#[tokio::test]
async fn an_endpoint_that_fails_its_probes_is_left_before_a_request_meets_it() {
    for mood in [Mood::FailsProbes, Mood::SaysOtherwise] {
        let endpoints = three().await;
        endpoints[2].becomes(mood);
        let keys = format!("balance = \"round_robin\"\nhealth = {{ path = \"/healthz\", body = \"is fine\", {PROBED} }}");
        let gateway = Gateway::start(&service(&names(&endpoints), &keys)).await;
        let shown = until_verdict(&gateway, &endpoints[2].name(), "unhealthy").await;
        assert_eq!(shown["why"], "probes");
        assert!(shown["last_probe_error"]["what"].is_string(), "{shown}");
        let before = endpoints[2].count();
        for _ in 0..12 {
            get(gateway.main(), "/").await;
        }
        assert_eq!(endpoints[2].count(), before, "{mood:?}");
        let question = json!({ "method": "GET", "url": format!("http://{}/", gateway.main()) });
        let explained = admin(&gateway, "POST /v1/explain", &question.to_string()).await.json();
        assert_eq!(explained["service"]["left_out"][0]["endpoint"], endpoints[2].name(), "{explained}");
        let metrics = admin(&gateway, "GET /metrics", "").await.text();
        assert!(metrics.contains("shoal_upstream_endpoints{service=\"up\",region=\"local\",state=\"unhealthy\"} 1"), "{metrics}");
        assert!(metrics.contains("shoal_upstream_probes_total{service=\"up\",result=\"failed\"}"), "{metrics}");

        endpoints[2].becomes(Mood::Well);
        until_verdict(&gateway, &endpoints[2].name(), "healthy").await;
    }
}

#[tokio::test]
async fn a_probe_may_only_want_a_connection() {
    let well = [Moody::new().await];
    let dead = nobody().await.to_string();
    let keys = format!("health = {{ kind = \"tcp\", {PROBED} }}");
    let gateway = Gateway::start(&service(&[well[0].name(), dead.clone()], &keys)).await;
    let shown = until_verdict(&gateway, &dead, "unhealthy").await;
    assert!(shown["last_probe_error"]["what"].as_str().is_some_and(|said| said.contains("not connected")), "{shown}");
}

#[tokio::test]
async fn a_probe_may_ask_for_a_service_of_grpc() {
    let serving = Arc::new(AtomicBool::new(true));
    let (grpc, other) = (health_v1(serving.clone()).await, health_v1(Arc::new(AtomicBool::new(true))).await);
    let keys = |name: &str| format!("protocol = \"h2\"\nhealth = {{ kind = \"grpc\", grpc_service = \"{name}\", {PROBED} }}");
    let names = [grpc.to_string(), other.to_string()];
    let gateway = Gateway::start(&service(&names, &keys("shop.Stock"))).await;
    serving.store(false, SeqCst);
    let shown_now = until_verdict(&gateway, &names[0], "unhealthy").await;
    assert_eq!(shown_now["last_probe_error"]["what"], "the endpoint says that it is not serving");
    serving.store(true, SeqCst);
    until_verdict(&gateway, &names[0], "healthy").await;
    // Another name, of which the endpoint knows nothing.
    gateway.reload(&service(&names, &keys("shop.Other"))).await.expect("a sound text");
    let shown_now = until_verdict(&gateway, &names[0], "unhealthy").await;
    assert_eq!(shown_now["last_probe_error"]["what"], "the endpoint does not know the service that was asked for");
}

/// `grpc.health.v1` with one service, `shop.Stock`.
async fn health_v1(serving: Arc<AtomicBool>) -> std::net::SocketAddr {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = shoal_tests::origin::listen();
    let address = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = serving.clone();
            let answer = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let serving = serving.clone();
                async move {
                    let asked = request.into_body().collect().await?.to_bytes();
                    let mut trailers = http::HeaderMap::new();
                    let known = asked.get(7..) == Some(b"shop.Stock");
                    trailers.insert("grpc-status", http::HeaderValue::from(if known { 0u16 } else { 5 }));
                    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, if serving.load(SeqCst) { 1 } else { 2 }]);
                    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
                    let response = http::Response::builder().header("content-type", "application/grpc").body(body);
                    Ok::<_, hyper::Error>(response.expect("a response"))
                }
            });
            tokio::spawn(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer));
        }
    });
    address
}

#[tokio::test]
async fn what_is_too_much_is_503_at_once() {
    for (keys, code) in [
        ("breaker = { max_requests = 2 }", "E5031"),
        ("breaker = { max_requests_per_endpoint = 2 }", "E5031"),
        ("breaker = { max_waiting = 0 }\npool = { max_connections = 2, max_idle = 2 }", "E5032"),
    ] {
        let stalled = [Moody::new().await];
        stalled[0].becomes(Mood::Stalls);
        let gateway = Gateway::start(&service(&names(&stalled), keys)).await;
        let mut callers = Vec::new();
        for count in 1..=2 {
            let mut caller = Caller::connect(gateway.main()).await;
            caller.send(request("GET /", &[], "")).await;
            until("the request", || stalled[0].count() == count).await;
            callers.push(caller);
        }
        let answer = get(gateway.main(), "/").await;
        answer.refuses(503, code);
        assert_eq!(answer.fields.get("retry-after"), Some("1"));
        // Whoever goes away makes room.
        callers.pop();
        stalled[0].becomes(Mood::Well);
        let began = Instant::now();
        while get(gateway.main(), "/").await.status != 200 {
            assert!(began.elapsed() < PATIENCE, "{keys}: the room never came back");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_drains_gets_nothing_new() {
    let endpoints = [Moody::new().await, Moody::new().await];
    let text = |drain: bool| {
        let [first, second] = [&endpoints[0], &endpoints[1]].map(Moody::name);
        let endpoints = format!("{{ url = \"http://{first}\", drain = {drain} }}, \"http://{second}\"");
        service(&[], "balance = \"round_robin\"").replace("endpoints = []", &format!("endpoints = [{endpoints}]"))
    };
    let gateway = Gateway::start(&text(false)).await;
    let begin = async || {
        for _ in 0..10 {
            assert_eq!(get(gateway.main(), "/").await.status, 200);
        }
        endpoints[0].count()
    };
    assert!(begin().await > 0);
    gateway.reload(&text(true)).await.expect("a sound text");
    let before = endpoints[0].count();
    assert_eq!(begin().await, before);
    let shown_now = shown(&gateway, &endpoints[0].name()).await;
    assert_eq!((&shown_now["verdict"], &shown_now["why"]), (&json!("draining"), &json!("drain")));
    gateway.reload(&text(false)).await.expect("a sound text");
    assert!(begin().await > before);
}

/// Sends `count` requests over eight connections and returns how many were not answered with 200.
async fn load(gateway: &Gateway, count: usize) -> usize {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let address = gateway.main();
        callers.spawn(async move {
            let mut caller = Caller::connect(address).await;
            let mut failed = 0;
            for _ in 0..count / 8 {
                failed += usize::from(caller.get("/").await.status != 200);
            }
            failed
        });
    }
    callers.join_all().await.into_iter().sum()
}

#[tokio::test]
async fn of_five_endpoints_two_may_fail_in_any_way_and_callers_do_not_notice() {
    let mut endpoints = Vec::new();
    for _ in 0..5 {
        endpoints.push(Moody::new().await);
    }
    let keys = "outlier = { base_ejection_time = \"500ms\", max_ejection_time = \"1s\" }\ndeadlines = { first_byte = \"300ms\" }";
    let gateway = Gateway::start(&service(&names(&endpoints), keys)).await;
    assert_eq!(load(&gateway, 400).await, 0);
    for (at, mood) in [(0, Mood::Stalls), (1, Mood::Errs)] {
        endpoints[at].becomes(mood);
        assert_eq!(load(&gateway, 800).await, 0, "{mood:?}");
        endpoints[at].becomes(Mood::Well);
        until_verdict(&gateway, &endpoints[at].name(), "healthy").await;
    }
    // Killed, and another one stalls while it is away.
    let killed = endpoints.remove(4);
    drop(killed);
    assert_eq!(load(&gateway, 800).await, 0);
    endpoints[2].becomes(Mood::Stalls);
    let failed = load(&gateway, 800).await;
    assert!(failed <= 2, "{failed} of 800 failed: both attempts met one that is not well");
    // Both are tried again now and then, and a request may be the one that tries the two.
    let failed = load(&gateway, 400).await;
    assert!(failed <= 1, "{failed} of 400 failed: both attempts met one that is not well");
}
