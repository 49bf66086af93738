use super::*;
use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::fmt;

/// The fields that a line may have, in their order.
const ORDER: [&str; 30] = [
    "ts",
    "level",
    "msg",
    "request_id",
    "trace_id",
    "span_id",
    "node",
    "region",
    "config",
    "method",
    "host",
    "path",
    "route",
    "status",
    "error_code",
    "bytes_in",
    "bytes_out",
    "dur_ms",
    "upstream_ms",
    "service",
    "upstream",
    "retries",
    "limit",
    "peer_ip",
    "client_ip",
    "tls",
    "proto",
    "ua",
    "headers",
    // Nothing comes after the headers.
    "",
];

/// The keys of an object as they come.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn policy(headers: &[&str], redact: &[&str]) -> Policy {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().expect("a name")).collect();
    let log = config::AccessLog {
        to: AccessLogTo::Stdout,
        success: Ratio(0.25),
        errors: Ratio(1.0),
        headers: names(headers),
        redact: names(redact),
    };
    let node = Node {
        name: "west-1".into(),
        region: "west\"europe".into(),
        zone: "1".into(),
        state_dir: None,
        workers: None,
        max_connections: 1,
        max_connections_per_address: 1,
        trusted_proxies: Vec::new(),
        dns: Vec::new(),
        drain_wait: Duration::ZERO,
        drain_bound: Duration::ZERO,
    };
    Policy::new(&log, &node, &Revision("a1f3c9".into()))
}

fn line(headers: &HeaderMap) -> Line<'_> {
    Line {
        wall: UNIX_EPOCH + Duration::from_millis(1_795_502_761_007),
        request_id: "0198c0de",
        trace: None,
        method: "GET",
        host: Some("shop.example.com"),
        path: "/v1/stock/42?token=secret",
        route: Some("stock"),
        status: StatusCode::OK,
        error_code: None,
        bytes_in: 0,
        bytes_out: 512,
        duration: Duration::from_micros(12_034),
        upstream_duration: None,
        service: None,
        upstream: None,
        retries: 0,
        limit: None,
        peer_ip: [127, 0, 0, 1].into(),
        client_ip: [203, 0, 113, 9].into(),
        tls: None,
        proto: "HTTP/1.1",
        headers,
    }
}

fn encode(policy: &Policy, line: &Line<'_>) -> String {
    let mut out = Vec::new();
    policy.encode(line, &mut out);
    String::from_utf8(out).expect("a line is UTF-8")
}

#[test]
fn a_plain_line_reads_like_this() {
    assert_eq!(
        encode(&policy(&[], &[]), &line(&HeaderMap::new())),
        "{\"ts\":\"2026-11-24T06:46:01.007Z\",\"level\":\"info\",\"msg\":\"request\",\"request_id\":\"0198c0de\",\
         \"node\":\"west-1\",\"region\":\"west\\\"europe\",\"config\":\"a1f3c9\",\"method\":\"GET\",\"host\":\"shop.example.com\",\
         \"path\":\"/v1/stock/42\",\"route\":\"stock\",\"status\":200,\"bytes_in\":0,\"bytes_out\":512,\"dur_ms\":12.034,\
         \"retries\":0,\"peer_ip\":\"127.0.0.1\",\"client_ip\":\"203.0.113.9\",\"proto\":\"HTTP/1.1\"}\n"
    );
}

#[test]
fn a_full_line_has_every_field_in_its_order() {
    let trace = Trace::of(&HeaderMap::new(), false, || 7);
    let headers = [("user-agent", "curl/8"), ("x-azure-ref", "1"), ("x-azure-ref", "2"), ("cookie", "session=1")]
        .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)));
    let headers = HeaderMap::from_iter(headers);
    let full = Line {
        trace: Some(&trace),
        status: StatusCode::BAD_GATEWAY,
        error_code: Some("E5020"),
        upstream_duration: Some(Duration::from_millis(11)),
        service: Some("inventory"),
        upstream: Some("10.2.0.7:9090"),
        limit: Some("partner"),
        client_ip: "2001:db8::1".parse().expect("an address"),
        tls: Some("TLSv1.3"),
        ..line(&headers)
    };
    let text = encode(&policy(&["x-azure-ref", "x-absent", "cookie"], &["cookie"]), &full);
    let Keys(keys) = serde_json::from_str(&text).expect("JSON");
    assert_eq!(keys, ORDER[..29]);
    for part in [
        "\"level\":\"error\"",
        "\"trace_id\":\"00000000000000070000000000000007\",\"span_id\":\"0000000000000007\"",
        "\"upstream_ms\":11.000",
        "\"client_ip\":\"2001:db8::1\"",
        "\"ua\":\"curl/8\",\"headers\":{\"x-azure-ref\":\"1, 2\",\"cookie\":\"[redacted]\"}}",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_redacted_header_is_redacted_in_its_own_field_too() {
    let headers = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static("secret"))]);
    let text = encode(&policy(&["user-agent"], &["user-agent", "host"]), &line(&headers));
    assert!(!text.contains("secret") && !text.contains("shop.example.com"), "{text}");
}

#[test]
fn shares_are_kept() {
    let policy = policy(&[], &[]);
    let (first, last) = (0, u64::MAX);
    for (status, chance, wanted) in
        [(200, first, true), (200, (1 << 62) - 1, true), (200, 1 << 62, false), (399, last, false), (400, last, true), (503, first, true)]
    {
        assert_eq!(policy.wants(StatusCode::from_u16(status).expect("a status"), chance), wanted, "{status} {chance}");
    }
    assert_eq!((Share::of(Ratio(0.0)), Share::of(Ratio(1.0))), (Share(0), Share(1 << 32)));
}

#[test]
fn dates_are_right() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399, "2000-02-28T23:59:59.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (951_868_800, "2000-03-01T00:00:00.000Z"),
        (1_709_251_199, "2024-02-29T23:59:59.000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000Z"),
    ] {
        let mut out = Vec::new();
        timestamp(&mut out, UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
    let mut out = Vec::new();
    timestamp(&mut out, UNIX_EPOCH - Duration::from_secs(5));
    assert_eq!(out, b"1970-01-01T00:00:00.000Z");
}

#[test]
fn every_day_follows_the_one_before() {
    let mut expected = (1970, 1, 1);
    for days in 0..200_000 {
        assert_eq!(date(days), expected, "day {days}");
        let (year, month, day) = expected;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        expected = match (month, day) {
            (12, 31) => (year + 1, 1, 1),
            (_, day) if day == length => (year, month + 1, 1),
            _ => (year, month, day + 1),
        };
    }
}

proptest! {
    #[test]
    fn whatever_a_caller_sends_is_one_object_on_one_line(
        method in ".{0,10}",
        host in proptest::option::of(".{0,40}"),
        path in ".{0,2000}",
        agent in prop::collection::vec(any::<u8>(), 0..1500),
        upstream in proptest::option::of(".{0,40}"),
        status in 100u16..1000,
        counts: [u64; 3],
    ) {
        let mut headers = HeaderMap::new();
        if let Ok(agent) = HeaderValue::from_bytes(&agent) {
            headers.insert(header::USER_AGENT, agent.clone());
            headers.append("x-seen", agent.clone());
            headers.append("x-seen", agent);
        }
        let line = Line {
            method: &method,
            host: host.as_deref(),
            path: &path,
            upstream: upstream.as_deref(),
            status: StatusCode::from_u16(status).expect("a status"),
            bytes_in: counts[0],
            bytes_out: counts[1],
            duration: Duration::from_nanos(counts[2]),
            ..line(&headers)
        };
        let text = encode(&policy(&["x-seen"], &[]), &line);
        let one_line = text.strip_suffix("}\n").is_some_and(|text| !text.contains(|c: char| c.is_control()));
        prop_assert!(one_line, "{}", text);

        let Keys(keys) = serde_json::from_str(&text).expect("JSON");
        let mut order = ORDER.iter();
        prop_assert!(keys.iter().all(|key| order.any(|known| known == key)), "{:?}", keys);

        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(&read["method"], &method);
        prop_assert_eq!(read["host"].as_str(), host.as_deref());
        prop_assert_eq!(&read["status"], status);
        prop_assert_eq!(&read["bytes_in"], counts[0]);
        let path = path.split('?').next().expect("a first part");
        if path.len() <= FIELD_MAX {
            prop_assert_eq!(&read["path"], path);
        } else {
            prop_assert!(read["path"].as_str().expect("text").len() <= FIELD_MAX + "…".len());
        }
    }
}
