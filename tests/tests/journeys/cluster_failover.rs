//! Requests go to another region's endpoints where the nearer ones are down: which of the others, regions say of themselves, and
//! nothing that they say counts against what a node has met itself.

use serde_json::Value;
use shoal_tests::{
    Caller, Origin,
    cluster::{Cluster, Node, Seat, together},
    origin::nobody,
};
use std::net::SocketAddr;

const PROBED: &str = "balance = \"round_robin\"\nslow_start = { window = \"0s\" }\nlocality = { hysteresis = \"100ms\" }\n\
                      health = { kind = \"tcp\", interval = \"200ms\", timeout = \"200ms\", unhealthy = 2, healthy = 2 }";

/// One service, with an endpoint in each of three regions.
fn serving(seat: Seat, places: &[(&str, SocketAddr)]) -> Seat {
    let endpoints: Vec<String> =
        places.iter().map(|(region, address)| format!("{{ url = \"http://{address}\", region = \"{region}\" }}")).collect();
    let endpoints = endpoints.join(", ");
    seat.with(&format!("[service.up]\nendpoints = [{endpoints}]\n{PROBED}\n[[route]]\nid = \"all\"\nmatch = \"/**\"\nservice = \"up\"\n"))
}

fn address(origin: &Origin) -> SocketAddr {
    origin.url().trim_start_matches("http://").parse().expect("a URL of an address")
}

/// Waits until the levels of the service are so: `DOUBTED HEALTHY SHARE` of each.
async fn until_levels(node: &Node, expected: &[(bool, u64, u64)]) {
    let levels = |page: &Value| -> Vec<(bool, u64, u64)> {
        let levels = page[0]["levels"].as_array().into_iter().flatten();
        levels
            .map(|level| {
                let healthy = u64::from(level["healthy_weight"].as_f64().unwrap_or_default() > 0.0);
                (level["doubted"] == true, healthy, level["share_percent"].as_u64().unwrap_or_default())
            })
            .collect()
    };
    node.until_page("/v1/upstreams", |page| levels(page) == expected).await;
}

/// Whether each of the origins gets any of twenty requests, all of which are answered.
async fn asked(node: &Node, origins: [&Origin; 2]) -> [bool; 2] {
    let before = origins.map(Origin::count);
    let mut caller = Caller::connect(node.main()).await;
    for _ in 0..20 {
        assert_eq!(caller.get("/").await.status, 200);
    }
    std::array::from_fn(|at| origins[at].count() > before[at])
}

#[tokio::test]
async fn another_region_is_chosen_by_what_regions_say_and_never_against_what_was_met() {
    let (own, doubtful, flaky) = (nobody().await, nobody().await, nobody().await);
    let (us, ap) = (Origin::ok().await, Origin::at(flaky).await);
    let cluster = Cluster::new();
    // The region `eu` has its own endpoint down. The one of `us` answers `eu`, and does not answer the nodes of `us`.
    let a = serving(cluster.enrolled("a", "eu"), &[("eu", own), ("us", address(&us)), ("ap", flaky)]);
    let b = serving(cluster.enrolled("b", "us"), &[("us", doubtful)]);
    let (_seats, [a, b]) = together([a, b]).await;
    until_levels(&a, &[(false, 0, 0), (false, 1, 100), (true, 1, 0)]).await;
    assert_eq!(asked(&a, [&us, &ap]).await, [false, true], "`us` says that it is unwell");

    // What `us` says is worth less than what is met here.
    drop(ap);
    until_levels(&a, &[(false, 0, 0), (false, 0, 0), (true, 1, 100)]).await;
    assert_eq!(asked(&a, [&us, &us]).await, [true, true], "there is nobody else who answers");

    let ap = Origin::at(flaky).await;
    until_levels(&a, &[(false, 0, 0), (false, 1, 100), (true, 1, 0)]).await;
    // It is well again there, and so nobody doubts it here: both serve.
    let _well = Origin::at(doubtful).await;
    until_levels(&a, &[(false, 0, 0), (false, 1, 100)]).await;
    assert_eq!(asked(&a, [&us, &ap]).await, [true, true]);

    // Whom nothing is heard of is not thought ill of, and not well either.
    b.kill().await;
    a.until_sees(&[("a", "alive"), ("b", "gone")]).await;
    assert_eq!(asked(&a, [&us, &ap]).await, [true, true]);
}
