//! What shoal tells about a request: to the caller, to the endpoint, in the log and in numbers.

use shoal_tests::{Caller, Gateway, Origin, ask, get, in_front_of, listener, request, wait::until_some};
use std::collections::BTreeMap;

const ADMIN: &str = "[admin]\nbind = \"127.0.0.1:0\"\nmetrics = \"open\"\n";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The lines of an exposition: the series and its value.
async fn numbers(gateway: &Gateway) -> BTreeMap<String, f64> {
    let page = ask(gateway.admin(), format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.admin())).await;
    assert_eq!(page.status, 200);
    let text = page.text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            (series.to_string(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        })
        .collect()
}

/// The sum of a family's series that have all of these labels.
fn sum(numbers: &BTreeMap<String, f64>, family: &str, labels: &[&str]) -> f64 {
    let of_family = numbers.iter().filter(|(series, _)| series.split('{').next() == Some(family));
    of_family.filter(|(series, _)| labels.iter().all(|label| series.contains(label))).map(|(_, value)| value).sum()
}

#[tokio::test]
async fn an_endpoint_and_its_caller_know_a_request_by_the_same_id() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let one = ask(gateway.main(), request("GET /", &["x-request-id: mine"], "")).await;
    let other = get(gateway.main(), "/").await;
    let ids: Vec<_> = [&one, &other].iter().map(|answer| answer.fields.get("x-request-id").expect("an id").to_string()).collect();
    assert_ne!(ids[0], ids[1]);
    assert_ne!(ids[0], "mine", "a caller does not choose it");
    for (seen, id) in origin.requests().iter().zip(&ids) {
        assert_eq!(seen.fields.get("x-request-id"), Some(id.as_str()));
        assert!(id.len() == 36 && id.as_bytes()[14] == b'7', "{id} is a UUID of version 7");
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_bring_an_id() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&("[node]\ntrusted_proxies = [\"127.0.0.0/8\"]\n".to_string() + &in_front_of(&origin.url(), ""))).await;
    let answer = ask(gateway.main(), request("GET /", &["x-request-id: from-the-edge"], "")).await;
    assert_eq!(answer.fields.get("x-request-id"), Some("from-the-edge"));
    assert_eq!(origin.request().fields.get("x-request-id"), Some("from-the-edge"));
}

#[tokio::test]
async fn a_trace_goes_on_through_the_gateway() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    ask(gateway.main(), request("GET /", &[&format!("traceparent: {PARENT}"), "tracestate: a=1", "tracestate: b=2"], "")).await;
    let seen = origin.request();
    let parent = seen.fields.get("traceparent").expect("a parent").to_string();
    assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent.ends_with("-01"), "{parent}");
    assert!(!parent.contains("00f067aa0ba902b7"), "the endpoint's parent is the gateway's span, not the caller's: {parent}");
    let state: String = seen.fields.all("tracestate").join(",").replace(' ', "");
    assert_eq!(state, "a=1,b=2");
}

#[tokio::test]
async fn a_trace_begins_where_there_is_none_or_a_broken_one() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for fields in [
        &[][..],
        &["traceparent: nonsense", "tracestate: a=1"],
        &["traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01", "tracestate: a=1"],
        &["traceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate: a=1"],
        &["traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "tracestate: a=1"],
    ] {
        let before = origin.count();
        ask(gateway.main(), request("GET /", fields, "")).await;
        let seen = &origin.requests()[before];
        let parts: Vec<&str> = seen.fields.get("traceparent").expect("a parent").split('-').collect();
        assert!(parts.len() == 4 && parts[0] == "00" && parts[1].len() == 32 && parts[2].len() == 16, "{parts:?}");
        assert_ne!(parts[1], "4bf92f3577b34da6a3ce929d0e0e4736", "{fields:?}");
        assert!(!seen.fields.has("tracestate"), "{fields:?}");
    }
}

#[tokio::test]
async fn what_endpoints_take_is_not_the_overhead_of_the_node() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(ADMIN.to_string() + &in_front_of(&origin.url(), "").replace("/**", "/here"))).await;
    for path in ["/here", "/here", "/elsewhere"] {
        get(gateway.main(), path).await;
    }
    let numbers = numbers(&gateway).await;
    let total = |family: &str| sum(&numbers, family, &[]);
    assert_eq!(total("shoal_overhead_seconds_count"), 3.0);
    let parts = total("shoal_overhead_seconds_sum") + total("http_client_request_duration_seconds_sum");
    let whole = total("http_server_request_duration_seconds_sum");
    assert!(total("shoal_overhead_seconds_sum") > 0.0 && parts < whole + 1e-6, "{parts} of {whole}");
}

#[tokio::test]
async fn a_refusal_names_the_trace_it_is_part_of() {
    let gateway = Gateway::start("").await;
    let answer = ask(gateway.main(), request("GET /", &[&format!("traceparent: {PARENT}")], "")).await;
    assert_eq!(answer.json()["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

/// A node that logs to a file, and the lines in it once there are so many.
struct Logging {
    gateway: Gateway,
    folder: tempfile::TempDir,
}

impl Logging {
    async fn start(keys: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("access.log");
        let log = format!("[telemetry]\naccess_log = {{ to = {{ file = {file:?} }}{keys} }}\n");
        Self { gateway: Gateway::start(&(log + text)).await, folder }
    }

    async fn lines(&self, count: usize) -> Vec<serde_json::Value> {
        let path = self.folder.path().join("access.log");
        until_some(&format!("{count} lines"), || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            (text.ends_with('\n') && text.lines().count() >= count).then_some(text)
        })
        .await
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
    }
}

#[tokio::test]
async fn each_request_is_one_line() {
    let origin = Origin::saying("200 OK", "hello").await;
    let text = in_front_of(&origin.url(), "").replace("/**", "/here/**");
    let logging = Logging::start("", &text).await;
    let fields = [&format!("traceparent: {PARENT}"), "user-agent: tests", "authorization: Basic c2VjcmV0", "content-length: 3"];
    let answer = ask(logging.gateway.main(), request("POST /here/x?token=secret", &fields, "abc")).await;
    get(logging.gateway.main(), "/elsewhere").await;
    let lines = logging.lines(2).await;
    let line = &lines[0];
    for (key, expected) in [
        ("msg", "request".into()),
        ("level", "info".into()),
        ("request_id", answer.fields.get("x-request-id").expect("an id").into()),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".into()),
        ("method", "POST".into()),
        ("host", "shop.test".into()),
        ("path", "/here/x".into()),
        ("route", "all".into()),
        ("service", "up".into()),
        ("upstream", origin.address.to_string().into()),
        ("status", serde_json::Value::from(200)),
        ("bytes_in", 3.into()),
        ("bytes_out", 5.into()),
        ("retries", 0.into()),
        ("peer_ip", "127.0.0.1".into()),
        ("client_ip", "127.0.0.1".into()),
        ("proto", "HTTP/1.1".into()),
        ("ua", "tests".into()),
    ] {
        assert_eq!(line[key], expected, "{key}: {line}");
    }
    assert!(line["dur_ms"].as_f64() >= line["upstream_ms"].as_f64(), "{line}");
    assert!(!line.to_string().contains("secret") && !line.to_string().contains("c2VjcmV0"), "{line}");
    assert_eq!((&lines[1]["status"], &lines[1]["error_code"], &lines[1]["level"]), (&404.into(), &"E4040".into(), &"warn".into()));
}

#[tokio::test]
async fn a_line_names_the_host_that_the_certificate_does_not_cover() {
    let authority = shoal_tests::certificates::Authority::new();
    let secure = listener(&format!("tls = {}", authority.issue("shop", &["shop.test"]).toml()));
    let logging = Logging::start("", &(secure + &in_front_of("http://127.0.0.1:1", ""))).await;
    let mut caller = authority.call(logging.gateway.main(), "shop.test").await;
    caller.ask("GET / HTTP/1.1\r\nhost: other.test\r\n\r\n").await.refuses(421, "E4210");
    let line = &logging.lines(1).await[0];
    assert_eq!((&line["status"], &line["host"]), (&421.into(), &"other.test".into()), "{line}");
}

#[tokio::test]
async fn a_line_cannot_be_forged() {
    let origin = Origin::ok().await;
    let logging = Logging::start(", headers = [\"x-a\", \"x-b\"]", &in_front_of(&origin.url(), "")).await;
    let long = "y".repeat(3_000);
    ask(
        logging.gateway.main(),
        request("GET /%22%7D?%0a", &["x-a: \",\"status\":999,\"x\":\"\\", "user-agent: a\tb\"", &format!("x-b: {long}")], ""),
    )
    .await;
    get(logging.gateway.main(), "/next").await;
    let lines = logging.lines(2).await;
    assert_eq!((lines.len(), &lines[0]["status"], &lines[0]["path"]), (2, &200.into(), &"/%22%7D".into()));
    assert_eq!(lines[0]["headers"]["x-a"], "\",\"status\":999,\"x\":\"\\");
    assert!(lines[0]["headers"]["x-b"].as_str().is_some_and(|value| value.len() < 1_100), "{}", lines[0]);
}

#[tokio::test]
async fn secrets_are_not_logged_even_where_they_are_asked_for() {
    let origin = Origin::ok().await;
    let logging = Logging::start(
        ", headers = [\"authorization\", \"cookie\", \"x-mine\", \"x-open\"], redact = [\"x-mine\"]",
        &in_front_of(&origin.url(), ""),
    )
    .await;
    let fields = ["authorization: Bearer hidden", "cookie: a=hidden", "x-mine: hidden", "x-open: shown"];
    ask(logging.gateway.main(), request("GET /", &fields, "")).await;
    let line = &logging.lines(1).await[0];
    assert!(!line.to_string().contains("hidden"), "{line}");
    assert_eq!(line["headers"]["x-open"], "shown");
}

#[tokio::test]
async fn a_share_of_answers_is_logged() {
    let origin = Origin::ok().await;
    let text = in_front_of(&origin.url(), "").replace("/**", "/here");
    let logging = Logging::start(", success = \"0%\", errors = \"100%\"", &text).await;
    let mut caller = Caller::connect(logging.gateway.main()).await;
    for _ in 0..20 {
        caller.get("/here").await;
    }
    caller.get("/elsewhere").await;
    let lines = logging.lines(1).await;
    assert!(lines.len() == 1 && lines[0]["status"] == 404, "{lines:?}");
}

#[tokio::test]
async fn a_caller_that_went_away_is_logged_as_such() {
    let origin = Origin::start(|exchange| Box::pin(exchange.silence())).await;
    let logging = Logging::start("", &in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(logging.gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    origin.until("the request", |_| true).await;
    drop(caller);
    let line = &logging.lines(1).await[0];
    assert_eq!((&line["status"], &line["error_code"]), (&499.into(), &"E4990".into()), "{line}");
}

#[tokio::test]
async fn an_answer_that_broke_off_is_logged_as_such() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.hang_up();
            exchange.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await
        })
    })
    .await;
    let logging = Logging::start("", &in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(logging.gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    caller.end().await;
    let line = &logging.lines(1).await[0];
    assert_eq!((&line["status"], &line["error_code"], &line["bytes_out"]), (&200.into(), &"E5022".into(), &5.into()), "{line}");
}

#[tokio::test]
async fn requests_are_counted_by_route_method_and_status() {
    let origin = Origin::ok().await;
    let text = ADMIN.to_string() + &in_front_of(&origin.url(), "limit = \"1/h burst 3 per client_ip\"").replace("/**", "/here/{name}");
    let gateway = Gateway::start(&text).await;
    let mut caller = Caller::connect(gateway.main()).await;
    for name in ["a", "b", "c", "d"] {
        caller.get(&format!("/here/{name}")).await;
    }
    caller.get("/elsewhere").await;
    let numbers = numbers(&gateway).await;
    for (family, labels, expected) in [
        ("http_server_request_duration_seconds_count", &["shoal_route=\"all\"", "http_response_status_class=\"2xx\""][..], 3.0),
        ("http_server_request_duration_seconds_count", &["http_route=\"/here/{name}\"", "http_response_status_class=\"4xx\""], 1.0),
        ("http_server_request_duration_seconds_bucket", &["shoal_route=\"all\"", "le=\"+Inf\""], 4.0),
        ("shoal_http_responses_total", &["route=\"all\"", "code=\"200\""], 3.0),
        ("shoal_http_responses_total", &["route=\"all\"", "code=\"429\""], 1.0),
        ("shoal_http_responses_total", &["route=\"_none\"", "code=\"404\""], 1.0),
        ("shoal_rejections_total", &["code=\"E4290\""], 1.0),
        ("shoal_rejections_total", &["code=\"E4040\""], 1.0),
        ("http_client_request_duration_seconds_count", &["shoal_service=\"up\""], 3.0),
        ("http_client_open_connections", &["shoal_service=\"up\""], 1.0),
        ("shoal_http_response_bytes_total", &["route=\"all\""], 6.0 + 400.0),
        ("http_server_active_requests", &[], 0.0),
        ("shoal_connections", &["listener=\"main\""], 1.0),
        ("shoal_config_info", &[], 1.0),
        ("shoal_ratelimit_decisions_total", &["result=\"allow\""], 3.0),
    ] {
        let found = sum(&numbers, family, labels);
        if family == "shoal_http_response_bytes_total" {
            assert!((6.0..=expected * 2.0).contains(&found), "{family}: {found}");
        } else {
            assert_eq!(found, expected, "{family} {labels:?} in {numbers:#?}");
        }
    }
    let series = numbers["shoal_metrics_series"];
    assert_eq!(series as usize, numbers.len(), "it counts its own lines");
}

#[tokio::test]
async fn what_was_ended_or_refused_is_counted_by_its_reason() {
    let origin = Origin::ok().await;
    let bounds =
        "bounds = { head_timeout = \"150ms\", keep_alive = \"150ms\", head_size = \"8KiB\", h2_control_frames = 50 }\nmax_connections = 20";
    let gateway = Gateway::start(&(ADMIN.to_string() + &listener(bounds) + &in_front_of(&origin.url(), ""))).await;
    let before = numbers(&gateway).await;
    let counted = |numbers: &BTreeMap<String, f64>| sum(numbers, "shoal_connections_ended_total", &[]);

    let mut slow = Caller::connect(gateway.main()).await;
    slow.send("GET / HTTP/1.1\r\n").await;
    slow.end().await;
    let mut idle = Caller::connect(gateway.main()).await;
    idle.get("/").await;
    idle.end().await;
    let mut large = Caller::connect(gateway.main()).await;
    let _ = large.try_send(request("GET /", &[&format!("x-a: {}", "b".repeat(20_000))], "")).await;
    large.end().await;
    let mut garbage = Caller::connect(gateway.main()).await;
    let _ = garbage.try_send("garbage\r\n\r\n").await;
    garbage.end().await;
    let mut flood = shoal_tests::h2::Framed::connect(gateway.main()).await;
    let ping = shoal_tests::h2::Frame::new(shoal_tests::h2::PING, 0, 0, [0; 8]).bytes().repeat(100);
    let _ = flood.send_bytes(ping).await;
    flood.end().await;

    // A connection that a caller sees end lingers a little, in case the caller is still sending.
    let after = shoal_tests::wait::within("five ends", async {
        loop {
            let after = numbers(&gateway).await;
            if counted(&after) - counted(&before) >= 5.0 {
                return after;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let reasons: Vec<&String> = after.keys().filter(|series| series.starts_with("shoal_connections_ended_total")).collect();
    assert_eq!(counted(&after) - counted(&before), 5.0, "{after:#?}");
    let moved = reasons.iter().filter(|series| after[**series] > before.get(**series).copied().unwrap_or_default()).count();
    assert_eq!(moved, 5, "each has a reason of its own: {after:#?}");
}

#[tokio::test]
async fn a_route_that_is_gone_takes_its_series_with_it() {
    let origin = Origin::ok().await;
    let text = |id: &str| ADMIN.to_string() + &in_front_of(&origin.url(), "").replace("\"all\"", &format!("\"{id}\""));
    let gateway = Gateway::start(&text("first")).await;
    get(gateway.main(), "/").await;
    assert_eq!(sum(&numbers(&gateway).await, "shoal_http_responses_total", &["route=\"first\""]), 1.0);
    gateway.reload(&text("second")).await.expect("a good text");
    get(gateway.main(), "/").await;
    let numbers = numbers(&gateway).await;
    assert_eq!(sum(&numbers, "shoal_http_responses_total", &["route=\"second\""]), 1.0);
    assert!(!numbers.keys().any(|series| series.contains("route=\"first\"")), "{numbers:#?}");
    assert_eq!(sum(&numbers, "shoal_config_apply_total", &["result=\"applied\""]), 1.0);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nobody() {
    let origin = Origin::ok().await;
    let text = ADMIN.to_string() + "[telemetry]\naccess_log = { to = { file = \"/dev/full\" } }\n" + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    let mut caller = Caller::connect(gateway.main()).await;
    for _ in 0..50 {
        assert_eq!(caller.get("/").await.status, 200);
    }
    shoal_tests::wait::within("what was dropped to be counted", async {
        while sum(&numbers(&gateway).await, "shoal_telemetry_dropped_total", &["access_log"]) < 50.0 {}
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_was_turned_away_is_counted_by_its_reason() {
    let origin = Origin::ok().await;
    let authority = shoal_tests::certificates::Authority::new();
    let files = authority.issue("gateway", &["shop.test"]);
    let text = ADMIN.to_string()
        + &listener("max_connections = 1")
        + &format!("[listen.secure]\nbind = \"127.0.0.1:0\"\ntls = {}\n", files.toml())
        + "[listen.proxied]\nbind = \"127.0.0.1:0\"\nproxy_protocol = [\"127.0.0.0/8\"]\n"
        + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    let mut one = Caller::connect(gateway.main()).await;
    assert_eq!(one.get("/").await.status, 200);
    Caller::connect(gateway.main()).await.end().await;
    let garbage = request("GET /", &[], "");
    for listener in ["secure", "proxied"] {
        let mut caller = Caller::connect(gateway.listener(listener)).await;
        let _ = caller.try_send(&garbage).await;
        caller.end().await;
    }
    let numbers = numbers(&gateway).await;
    for listener in ["main", "secure", "proxied"] {
        let label = format!("listener=\"{listener}\"");
        assert_eq!(sum(&numbers, "shoal_connections_refused_total", &[&label]), 1.0, "{listener}: {numbers:#?}");
    }
    let reasons = numbers.iter().filter(|(series, value)| series.starts_with("shoal_connections_refused_total") && **value > 0.0).count();
    assert_eq!(reasons, 3, "{numbers:#?}");
}

#[tokio::test]
async fn series_stay_within_their_cap() {
    let origin = Origin::ok().await;
    let routes: String =
        (0..200).map(|number| format!("[[route]]\nid = \"r{number}\"\nmatch = \"/r/{number}\"\nservice = \"up\"\n")).collect();
    let text =
        ADMIN.to_string() + "[telemetry]\naccess_log = { to = \"off\" }\nmax_series = 500\n" + &in_front_of(&origin.url(), "") + &routes;
    let gateway = Gateway::start(&text).await;
    let mut caller = Caller::connect(gateway.main()).await;
    for number in 0..200 {
        assert_eq!(caller.get(&format!("/r/{number}")).await.status, 200);
    }
    let numbers = numbers(&gateway).await;
    assert!(numbers["shoal_metrics_series"] <= 600.0, "{}", numbers["shoal_metrics_series"]);
    assert_eq!(sum(&numbers, "shoal_http_responses_total", &["code=\"200\""]), 200.0, "none is lost");
    assert!(sum(&numbers, "shoal_http_responses_total", &["route=\"_other\""]) > 0.0, "{numbers:#?}");
}
