//! What may be written about how endpoints are judged, and what it becomes.

use crate::{BASE, Files, gateway, shorts};
use shoal_config::{ProbeKind, Ratio, Service, StatusRange, diff, written};

/// The base's service with these lines in it, the first of which is line 1 of what is reported.
fn text(lines: &str) -> String {
    format!("[service.x]\n{lines}\nendpoints = [\"http://x\"]\n[[route]]\nmatch = \"/x\"\nservice = \"x\"\n{BASE}")
}

fn service(lines: &str) -> Service {
    let gateway = gateway(&text(lines));
    let service = gateway.services.iter().find(|service| service.name.as_str() == "x").expect("it is defined");
    Service::clone(service)
}

#[track_caller]
fn check(lines: &str, expected: &[&str]) {
    let found = shorts(&Files::new(&[("shoal.toml", &text(lines))]).load("shoal.toml"));
    let found: Vec<&str> = found.iter().map(|problem| problem.trim_start_matches("shoal.toml:")).collect();
    assert_eq!(found, expected, "{lines}");
}

#[test]
fn nobody_probes_and_bad_endpoints_are_ejected_unless_something_else_is_said() {
    let silent = service("");
    assert_eq!(silent.health, None);
    let outlier = silent.outlier.expect("ejection is on");
    assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway_failure, outlier.consecutive_local_origin_failure), (5, 5, 5));
    assert_eq!((outlier.max_ejection_percent, outlier.max_ejection_time_jitter, outlier.min_healthy), (Ratio(0.5), Ratio(0.1), 1));
    assert_eq!(outlier.failure_percentage_threshold, None);
    let breaker = silent.breaker;
    assert_eq!((breaker.max_requests, breaker.max_requests_per_endpoint, breaker.errors), (None, None, None));
    assert_eq!(silent.retry.statuses, [500, 502, 503, 504]);
    assert_eq!(service("outlier.enabled = false").outlier, None);
}

#[test]
fn every_choice_about_judging_is_kept() {
    let all = service(
        r#"
health = { path = "/healthz?deep=no", host = "x.internal", statuses = [204, "300-399"], body = "fine", port = 9000, interval = "2s", jitter = "5%", timeout = "500ms", unhealthy = 2, healthy = 1 }
outlier = { consecutive_5xx = 0, failure_percentage_threshold = "85%", base_ejection_time = "30s", success_rate_stdev_factor = 1500 }
breaker = { max_requests = 1000, max_requests_per_endpoint = 10, max_waiting = 0, error_ratio = "40%", window = "5s", min_requests = 7, open = "1s", open_max = "8s", half_open = 1 }
"#,
    );
    let health = all.health.as_ref().expect("it is probed");
    let ProbeKind::Http { path, host, statuses, body } = &health.probe else { panic!("{health:?}") };
    assert_eq!(
        (&**path, host.as_ref().and_then(|host| host.to_str().ok()), body.as_deref()),
        ("/healthz?deep=no", Some("x.internal"), Some("fine"))
    );
    assert_eq!(statuses[..], [StatusRange { first: 204, last: 204 }, StatusRange { first: 300, last: 399 }]);
    assert_eq!((health.port, health.unhealthy, health.healthy, health.jitter), (Some(9000), 2, 1, Ratio(0.05)));
    assert_eq!((written(health.interval), written(health.timeout)), ("2s".to_string(), "500ms".to_string()));
    let outlier = all.outlier.as_ref().expect("ejection is on");
    assert_eq!(
        (outlier.consecutive_5xx, outlier.failure_percentage_threshold, outlier.success_rate_stdev_factor),
        (0, Some(Ratio(0.85)), 1500)
    );
    let errors = all.breaker.errors.as_ref().expect("the breaker is on");
    assert_eq!(
        (errors.ratio, errors.min_requests, written(errors.open), written(errors.open_max)),
        (Ratio(0.4), 7, "1s".into(), "8s".into())
    );
    assert_eq!((all.breaker.max_requests, all.breaker.max_requests_per_endpoint, all.breaker.max_waiting), (Some(1000), Some(10), 0));
    let described = serde_json::to_value(&all).expect("a service is JSON");
    assert_eq!(described["health"]["probe"]["http"]["statuses"], serde_json::json!([204, "300-399"]));
    assert_eq!(described["breaker"]["errors"]["window"], "5s");
}

#[test]
fn probes_without_http_ask_for_nothing_of_it() {
    assert_eq!(service("health = { kind = \"tcp\" }").health.map(|health| health.probe), Some(ProbeKind::Tcp));
    let grpc = service("health = { kind = \"grpc\", grpc_service = \"orders.v1\" }").health.map(|health| health.probe);
    assert_eq!(grpc, Some(ProbeKind::Grpc { service: "orders.v1".into() }));
    let whole = service("health = { kind = \"grpc\" }").health.map(|health| health.probe);
    assert_eq!(whole, Some(ProbeKind::Grpc { service: "".into() }));
}

#[test]
fn probes_that_could_not_be_meant() {
    check("health = {}", &["2:10 E1102"]);
    check("health = { pth = \"/x\" }", &["2:12 E1103"]);
    check("health = { path = \"healthz\" }", &["2:19 E1120"]);
    check("health = { path = \"/x#y\" }", &["2:19 E1120"]);
    check("health = { path = \"/x\", host = \"a b\" }", &["2:32 E1203"]);
    check("health = { kind = \"htpp\", path = \"/x\" }", &["2:19 E1106"]);
    check("health = { kind = \"tcp\", path = \"/x\", statuses = [200] }", &["2:33 E1118", "2:50 E1118"]);
    check("health = { path = \"/x\", grpc_service = \"x\" }", &["2:40 E1118"]);
    check("health = { path = \"/x\", statuses = [] }", &["2:36 E1119"]);
    check(
        "health = { path = \"/x\", statuses = [99, \"2xx\", \"300-200\", \"200-600\"] }",
        &["2:37 E1105", "2:41 E1116", "2:48 E1116", "2:59 E1116"],
    );
    check("health = { path = \"/x\", body = \"\" }", &["2:32 E1119"]);
    check("health = { path = \"/x\", interval = \"1s\", timeout = \"2s\" }", &["2:52 E2023"]);
    check("health = { path = \"/x\", interval = \"50ms\" }", &["2:36 E1105"]);
    check("health = { path = \"/x\", unhealthy = 0, port = 70000 }", &["2:37 E1105", "2:47 E1105"]);
}

#[test]
fn ejections_and_breakers_that_could_not_be_meant() {
    check("outlier = { consecutive_5xxs = 3 }", &["2:13 E1103"]);
    check("outlier = { max_ejection_percent = 50 }", &["2:36 E1101"]);
    check("outlier = { base_ejection_time = \"10m\" }", &["2:34 E2023"]);
    check("outlier = { max_ejection_time = \"2h\" }", &["2:33 E1105"]);
    check("outlier = { failure_percentage_threshold = \"0%\" }", &["2:44 E1105"]);
    check("breaker = { error_ratio = \"0%\" }", &["2:27 E1105"]);
    check("breaker = { open = \"2m\" }", &["2:20 E2023"]);
    check("breaker = { open_max = \"2h\" }", &["2:24 E1105"]);
    check("breaker = { window = \"2h\" }", &["2:22 E1105"]);
    check("breaker = { half_open = 0 }", &["2:25 E1105"]);
    check("breaker = { half_open = 33, max_requests = 0 }", &["2:25 E1105", "2:44 E1105"]);
}

#[test]
fn another_judgement_is_a_change_of_the_service() {
    for lines in ["outlier.enabled = false", "breaker.half_open = 1", "health = { path = \"/x\" }"] {
        assert_eq!(diff(&gateway(&text("")), &gateway(&text(lines))).to_string(), "services ~1", "{lines}");
    }
}
