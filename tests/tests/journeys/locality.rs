//! Requests stay as near as they can: they go farther when what is near is not well, and come back when it has been well for a
//! while.

use serde_json::Value;
use shoal_tests::{
    Caller, Gateway, Origin, ask, get,
    origin::nobody,
    wait::{PATIENCE, within},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const ADMIN: &str = "[node]\nregion = \"west\"\nzone = \"a\"\n[admin]\nbind = \"127.0.0.1:0\"\ntoken = { env = \"TOKEN\" }\n";
const PROBED: &str = "balance = \"round_robin\"\nslow_start = { window = \"0s\" }\nhealth = { path = \"/healthz\", interval = \"400ms\", timeout = \"400ms\", \
                      unhealthy = 2, healthy = 2 }\n";

/// An endpoint whose probes pass or fail, and that serves whatever they say.
struct Probed {
    origin: Origin,
    well: Arc<AtomicBool>,
}

impl Probed {
    async fn new() -> Self {
        let well = Arc::new(AtomicBool::new(true));
        let says = well.clone();
        let origin = Origin::start(move |exchange| {
            let status = if says.load(SeqCst) || exchange.request.target != "/healthz" { "200 OK" } else { "503 Service Unavailable" };
            Box::pin(async move { exchange.answer(status, "", "ok").await })
        })
        .await;
        Self { origin, well }
    }

    async fn some<const COUNT: usize>() -> [Self; COUNT] {
        let mut all = Vec::new();
        for _ in 0..COUNT {
            all.push(Self::new().await);
        }
        all.try_into().unwrap_or_else(|_| unreachable!("as many were made"))
    }

    fn becomes(&self, well: bool) {
        self.well.store(well, SeqCst);
    }

    /// Requests that are no probes.
    fn count(&self) -> usize {
        self.origin.requests().iter().filter(|request| request.target != "/healthz").count()
    }

    fn at(&self, place: &str) -> String {
        format!("{{ url = \"{}\", {place} }}", self.origin.url())
    }
}

fn service(endpoints: &[String], keys: &str) -> String {
    let endpoints = endpoints.join(", ");
    format!("{ADMIN}[service.up]\nendpoints = [{endpoints}]\n{keys}\n[[route]]\nid = \"all\"\nmatch = \"/**\"\nservice = \"up\"\n")
}

async fn shown(gateway: &Gateway) -> Value {
    let (address, token) = (gateway.admin(), gateway.admin_token());
    let asked = format!("GET /v1/upstreams HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n");
    ask(address, asked).await.json()[0].take()
}

/// `70 30`, with `!` behind a level that panics, as `shoal upstreams` shows them.
fn shares(service: &Value) -> String {
    let levels = service["levels"].as_array().expect("a list").iter();
    let level = |level: &Value| format!("{}{}", level["share_percent"], if level["panic"] == true { "!" } else { "" });
    levels.map(level).collect::<Vec<_>>().join(" ")
}

async fn until_shares(gateway: &Gateway, expected: &str) {
    let began = Instant::now();
    loop {
        let service = shown(gateway).await;
        if shares(&service) == expected {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "never {expected}: {service}");
    }
}

/// How many of thirty requests each of them gets, all of which are answered.
async fn parts<const COUNT: usize>(gateway: &Gateway, endpoints: &[Probed; COUNT]) -> [usize; COUNT] {
    let before = endpoints.each_ref().map(Probed::count);
    let mut caller = Caller::connect(gateway.main()).await;
    for _ in 0..30 {
        assert_eq!(caller.get("/").await.status, 200);
    }
    std::array::from_fn(|at| endpoints[at].count() - before[at])
}

#[tokio::test]
async fn zone_then_region_then_elsewhere_and_back_after_a_while() {
    let endpoints = Probed::some::<3>().await;
    let [near, beside, far] = &endpoints;
    let places = [far.at("region = \"east\""), near.at("zone = \"a\""), beside.at("zone = \"b\"")];
    let hysteresis = Duration::from_millis(1_500);
    let gateway = Gateway::start(&service(&places, &format!("{PROBED}locality = {{ hysteresis = \"1500ms\" }}"))).await;
    assert_eq!(parts(&gateway, &endpoints).await, [30, 0, 0]);
    near.becomes(false);
    until_shares(&gateway, "0 100 0").await;
    assert_eq!(parts(&gateway, &endpoints).await, [0, 30, 0]);
    beside.becomes(false);
    until_shares(&gateway, "0 0 100").await;
    assert_eq!(parts(&gateway, &endpoints).await, [0, 0, 30]);
    let well = Instant::now();
    near.becomes(true);
    until_shares(&gateway, "100 0 0").await;
    assert!(well.elapsed() >= hysteresis, "it is trusted after {:?}", well.elapsed());
    assert_eq!(parts(&gateway, &endpoints).await, [30, 0, 0]);
}

#[tokio::test]
async fn where_nobody_else_is_left_nobody_waits() {
    let endpoints = Probed::some::<2>().await;
    let places = [endpoints[0].at("priority = 0"), endpoints[1].at("priority = 1")];
    let gateway = Gateway::start(&service(&places, &format!("{PROBED}locality = {{ hysteresis = \"10m\" }}"))).await;
    endpoints[0].becomes(false);
    until_shares(&gateway, "0 100").await;
    endpoints[0].becomes(true);
    endpoints[1].becomes(false);
    until_shares(&gateway, "100 0").await;
    assert_eq!(parts(&gateway, &endpoints).await, [30, 0]);
}

#[tokio::test]
async fn what_the_near_ones_cannot_carry_spills_and_a_priority_goes_before_a_zone() {
    let endpoints = Probed::some::<5>().await;
    let places: Vec<String> = [
        "priority = 0, zone = \"b\"",
        "priority = 0, zone = \"b\"",
        "priority = 0, zone = \"b\"",
        "priority = 0, zone = \"b\"",
        "priority = 1, zone = \"a\"",
    ]
    .iter()
    .zip(&endpoints)
    .map(|(place, endpoint)| endpoint.at(place))
    .collect();
    let gateway = Gateway::start(&service(&places, PROBED)).await;
    assert_eq!(parts(&gateway, &endpoints).await[4], 0);
    endpoints[0].becomes(false);
    endpoints[1].becomes(false);
    until_shares(&gateway, "70 30").await;
    let parts = parts(&gateway, &endpoints).await;
    assert!(parts[..2] == [0, 0] && (1..=20).contains(&parts[4]), "{parts:?}");
}

#[tokio::test]
async fn when_too_many_are_not_well_health_is_ignored_until_they_are() {
    let endpoints = Probed::some::<5>().await;
    let places: Vec<String> = endpoints.iter().map(|endpoint| endpoint.at("zone = \"a\"")).collect();
    let gateway = Gateway::start(&service(&places, PROBED)).await;
    endpoints[..3].iter().for_each(|endpoint| endpoint.becomes(false));
    until_shares(&gateway, "100!").await;
    let counts = parts(&gateway, &endpoints).await;
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    // The threshold is the operator's, and a reload is enough.
    gateway.reload(&service(&places, &format!("{PROBED}panic_threshold = \"20%\""))).await.expect("a good text");
    until_shares(&gateway, "100").await;
    assert_eq!(parts(&gateway, &endpoints).await[..3], [0, 0, 0]);
    gateway.reload(&service(&places, PROBED)).await.expect("a good text");
    until_shares(&gateway, "100!").await;
    endpoints[0].becomes(true);
    until_shares(&gateway, "100").await;
    assert_eq!(parts(&gateway, &endpoints).await[1..3], [0, 0]);
}

#[tokio::test]
async fn a_near_endpoint_that_is_gone_costs_no_request_before_anybody_has_looked() {
    let far = Probed::new().await;
    let near = format!("{{ url = \"http://{}\", zone = \"a\" }}", nobody().await);
    let gateway = Gateway::start(&service(&[near, far.at("region = \"east\"")], "")).await;
    for _ in 0..30 {
        assert_eq!(get(gateway.main(), "/").await.status, 200);
    }
    until_shares(&gateway, "0 100").await;
}

#[tokio::test]
async fn a_node_that_is_moved_to_another_zone_asks_what_is_near_there() {
    let endpoints = Probed::some::<2>().await;
    let places = [endpoints[0].at("zone = \"a\""), endpoints[1].at("zone = \"b\"")];
    let text = service(&places, PROBED);
    let gateway = Gateway::start(&text).await;
    assert_eq!(parts(&gateway, &endpoints).await, [30, 0]);
    gateway
        .reload(&text.replace("[node]\nregion = \"west\"\nzone = \"a\"", "[node]\nregion = \"west\"\nzone = \"b\""))
        .await
        .expect("a good text");
    assert_eq!(parts(&gateway, &endpoints).await, [0, 30]);
}

#[tokio::test]
async fn connections_are_warm_where_requests_may_go_and_nowhere_else() {
    let endpoints = Probed::some::<4>().await;
    let [asked, fallback, weightless, withdrawn] = &endpoints;
    let places = [asked.at("priority = 0"), fallback.at("priority = 1"), weightless.at("weight = 0"), withdrawn.at("drain = true")];
    let gateway = Gateway::start(&service(&places, "pool = { warm = 2, idle = \"1s\" }")).await;
    let open = || endpoints.each_ref().map(|endpoint| endpoint.origin.open());
    within("warm connections", async {
        while open() != [2, 2, 0, 0] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // What is idle for too long is closed, and replaced.
    within("other connections", async {
        while asked.origin.connections() < 6 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(open()[2..], [0, 0]);
    drop(gateway);
}
