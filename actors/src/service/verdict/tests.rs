use super::*;
use crate::service::{
    breaker::tests::{breaker, outlier},
    load::tests::epoch,
};
use config::Ratio;
use serde_json::json;

type Endpoints = Vec<(Arc<str>, Arc<Load>)>;

fn service(names: &[&str], now: Instant) -> (Arc<Breaker>, Endpoints) {
    let policy = config::OutlierPolicy { max_ejection_time_jitter: Ratio(0.0), ..outlier() };
    let shared = Arc::new(Breaker::new(&breaker(), Some(&policy)));
    shared.set_endpoints(names.len(), Ratio(0.5));
    let made = names.iter().map(|name| (Arc::from(*name), Arc::new(Load::judged(Arc::clone(&shared), now)))).collect();
    (shared, made)
}

fn read(breaker: &Breaker, endpoints: &[(Arc<str>, Arc<Load>)], now: Instant) -> Verdicts {
    Verdicts::read(breaker, endpoints.iter().map(|(name, load)| (name, &**load)), now)
}

#[test]
fn what_is_shown_is_in_order_and_says_why() {
    let start = epoch();
    let (shared, endpoints) = service(&["b:2", "a:1"], start);
    (0..5).for_each(|_| endpoints[0].1.begin(start).answered(503, start));
    let now = start + Duration::from_secs(2);
    let shown = serde_json::to_value(read(&shared, &endpoints, now)).expect("verdicts are JSON");
    let none = json!({ "picks": 0, "successes": 0, "server_errors": 0, "gateway_failures": 0, "connects": 0, "timeouts": 0, "resets": 0 });
    let expected = json!({
        "out": 1,
        "out_max": 1,
        "endpoints": [
            { "endpoint": "a:1", "verdict": "healthy", "times_out": 0, "in_flight": 0, "requests": none },
            {
                "endpoint": "b:2",
                "verdict": "ejected",
                "for_ms": 1_984,
                "why": "consecutive_gateway_failure",
                "tried_in_ms": 3_000,
                "times_out": 1,
                "last_error": { "what": "answered 503", "age_ms": 2_000 },
                "in_flight": 0,
                "requests": { "picks": 5, "successes": 0, "server_errors": 0, "gateway_failures": 5, "connects": 0, "timeouts": 0, "resets": 0 },
            },
        ],
    });
    // Times are told to a sixteenth of a second.
    let told = shown["endpoints"][1]["for_ms"].as_u64().expect("it changed");
    assert!((1_900..=2_100).contains(&told), "{told}");
    let mut shown = shown;
    shown["endpoints"][1]["for_ms"] = json!(1_984);
    assert_eq!(shown, expected);
}

#[test]
fn every_reason_and_every_failure_survives_its_number() {
    for why in Why::ALL {
        assert_eq!(Why::of(why as u32), Some(why));
        assert_eq!(serde_json::to_value(why).expect("a reason is JSON"), json!(why.as_str()));
    }
    assert_eq!(Why::of(0), None);
    for failure in [Failure::Connect, Failure::Timeout, Failure::Reset, Failure::Status(500), Failure::Status(999)] {
        assert_eq!(Failed::of(failure).failure(), Some(failure));
    }
    assert_eq!(Failed(0).failure(), None);
    for verdict in Verdict::ALL {
        assert_eq!(serde_json::to_value(verdict).expect("a verdict is JSON"), json!(verdict.as_str()));
    }
}
