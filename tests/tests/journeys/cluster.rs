//! Nodes of a cluster know each other and answer for each other, and each is a complete gateway whatever becomes of the rest.

use serde_json::{Value, json};
use shoal_tests::{
    Origin,
    cluster::{Cluster, all_see_all, together},
    get, in_front_of,
    origin::nobody,
    wait::within,
};
use std::time::{Duration, Instant};

/// How soon a goodbye has arrived.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn nodes_of_two_regions_see_each_other_and_say_so() {
    let cluster = Cluster::new();
    let (_seats, nodes) = together(cluster.three()).await;
    for node in &nodes {
        let views = node.until_page("/v1/views", |views| views["disagree"] == json!([])).await;
        assert_eq!((&views["by"], &views["members"]), (&json!(node.name), &json!(["a", "b", "c"])), "{views:#}");
        for view in views["views"].as_array().expect("a list") {
            assert_eq!((&view["told_by"], &view["why"]), (&json!("itself"), &Value::Null), "{views:#}");
            assert_eq!(view["sees"], json!({ "a": "alive", "b": "alive", "c": "alive" }), "{views:#}");
        }
        for region in ["eu", "us"] {
            assert_eq!(views["regions"][region]["reachable"], true, "{views:#}");
        }
        let members = node.members().await;
        let shown = |name: &str| ["region", "zone", "seen", "self"].map(|key| members[name][key].clone());
        assert_eq!(shown("c"), [json!("us"), json!("us-1"), json!("alive"), json!(node.name == "c")]);
        node.until_metric("shoal_cluster_links{state=\"up\"}", |links| links == 2.0).await;
        assert_eq!(node.metric("shoal_cluster_members{seen=\"alive\"}").await, 3.0);
        assert_eq!(node.metric("shoal_cluster_regions{reachable=\"yes\"}").await, 2.0);
        assert_eq!(node.metric("shoal_cluster_configurations").await, 1.0);
    }
}

#[tokio::test]
async fn nodes_may_be_started_in_any_order() {
    let cluster = Cluster::new();
    let [first, b, c] = cluster.three();
    let address = nobody().await;
    let (b, c) = (b.joins_at(address).start().await, c.joins_at(address).start().await);
    for alone in [&b, &c] {
        alone.until_sees(&[(&alone.name, "alive")]).await;
        get(alone.main(), "/").await.refuses(404, "E4040");
    }
    let first = first.with_keys(&format!("bind = \"{address}\"")).start().await;
    all_see_all(&[&first, &b, &c]).await;
}

#[tokio::test]
async fn any_node_answers_for_any_member() {
    let cluster = Cluster::new();
    let (_seats, nodes) = together(cluster.three()).await;
    for asked in &nodes {
        for meant in &nodes {
            let page = |page: &str| format!("/v1/members/{}/{page}", meant.name);
            let config = asked.get(&page("config")).await;
            assert_eq!(config.status, 200, "{}", config.text());
            assert_eq!(config.json(), meant.get("/v1/config").await.json(), "{} of {}", meant.name, asked.name);
            let actors = asked.get(&page("actors?limit=500&under=root%2Fcluster")).await;
            let found = actors.text().contains("root/cluster/membership");
            assert!(found, "{}", actors.text());
            assert_eq!(asked.get(&page("actors/root%2Fcluster%2Fdoor")).await.json()["id"], "root/cluster/door");
            let refusal = asked.get(&page("routes/nowhere")).await;
            assert_eq!((refusal.status, refusal.code().as_str()), (404, "E9009"));
            asked.get(&page("nonsense")).await.refuses(404, "E9008");
            asked.get(&page("views")).await.refuses(404, "E9008");
            asked.post(&page("leave"), json!({ "wait": false })).await.refuses(405, "E9010");
        }
        asked.get("/v1/members/d/config").await.refuses(404, "E9031");
    }
}

/// They wait for failures to be seen, which takes its time: together it is the same time.
#[tokio::test]
async fn who_fails_is_missed_and_who_comes_back_is_welcome() {
    tokio::join!(
        a_member_that_is_gone_is_told_as_such_and_since_when(),
        who_stands_still_is_gone_and_is_back_when_it_goes_on(),
        a_dead_member_is_forgotten_on_demand_and_comes_back_as_a_new_life()
    );
}

async fn a_member_that_is_gone_is_told_as_such_and_since_when() {
    let origin = Origin::ok().await;
    let cluster = Cluster::new();
    let seats = cluster.three().map(|seat| seat.with(&in_front_of(&origin.url(), "")));
    let (_seats, [a, b, c]) = together(seats).await;
    c.kill().await;
    for node in [&a, &b] {
        node.until_sees(&[("a", "alive"), ("b", "alive"), ("c", "gone")]).await;
        let refusal = node.get("/v1/members/c/config").await;
        refusal.refuses(504, "E9032");
        assert!(refusal.text().contains("not seen for"), "{}", refusal.text());
        let member = node.get("/v1/members/c").await.json();
        assert!(member["gone_for_ms"].is_u64() && member["link"].is_null(), "{member:#}");
        assert_eq!(node.metric("shoal_cluster_members{seen=\"gone\"}").await, 1.0);
        assert_eq!(get(node.main(), "/").await.status, 200);
        let views = node.until_page("/v1/views", |views| views["regions"]["us"]["reachable"] == false).await;
        assert_eq!(views["disagree"], json!([]), "nobody wonders at not being seen by the dead: {views:#}");
    }
}

async fn who_stands_still_is_gone_and_is_back_when_it_goes_on() {
    let cluster = Cluster::new();
    let (_seats, [a, b, c]) = together(cluster.three()).await;
    let thaw = b.freeze();
    for node in [&a, &c] {
        node.until_sees(&[("a", "alive"), ("b", "gone"), ("c", "alive")]).await;
    }
    let asked = Instant::now();
    a.get("/v1/members/b/config").await.refuses(504, "E9032");
    assert!(asked.elapsed() < Duration::from_secs(8), "an operator waits no longer than a question may take: {:?}", asked.elapsed());
    drop(thaw);
    all_see_all(&[&a, &b, &c]).await;
}

#[tokio::test]
async fn a_leave_is_told_and_missed_by_nobody() {
    let cluster = Cluster::new();
    let (_seats, [a, b, c]) = together(cluster.three()).await;
    let told = b.post("/v1/leave", json!({ "wait": false })).await;
    assert_eq!((told.status, &told.json()["name"]), (202, &json!("b")));
    b.drained(Duration::ZERO, Duration::from_secs(1)).await;
    let left = Instant::now();
    for node in [&a, &c] {
        node.until_sees(&[("a", "alive"), ("b", "left"), ("c", "alive")]).await;
        assert!(left.elapsed() < TOLD_WITHIN, "{} has heard of it after {:?}", node.name, left.elapsed());
    }
    // Whoever has left is nobody's failure, even once its links have been missing for longer than a failure takes to be seen.
    let later = Instant::now();
    while later.elapsed() < Duration::from_secs(4) {
        for node in [&a, &c] {
            assert_eq!(node.sees().await["b"], "left", "{}", node.name);
            assert_eq!(node.metric("shoal_cluster_members{seen=\"gone\"}").await, 0.0);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let views = a.get("/v1/views").await.json();
    assert_eq!((&views["members"], &views["disagree"]), (&json!(["a", "c"]), &json!([])), "{views:#}");
}

#[tokio::test]
async fn a_node_that_drains_is_shown_to_drain() {
    let cluster = Cluster::new();
    let (_seats, [a, b, c]) = together(cluster.three()).await;
    assert_eq!(c.post("/v1/leave", json!({ "wait": true })).await.status, 202);
    let drained = tokio::spawn(c.drained(Duration::from_secs(2), Duration::from_secs(1)));
    for node in [&a, &b] {
        node.until_page("/v1/members/c", |member| member["state"] == "draining" && member["seen"] == "alive").await;
    }
    drained.await.expect("a drain does not panic");
    for node in [&a, &b] {
        node.until_sees(&[("a", "alive"), ("b", "alive"), ("c", "left")]).await;
    }
}

async fn a_dead_member_is_forgotten_on_demand_and_comes_back_as_a_new_life() {
    let cluster = Cluster::new();
    let ([_, b_seat, c_seat], [a, b, c]) = together(cluster.three()).await;
    let before = a.get("/v1/members/c").await.json()["generation"].as_u64().expect("a number");
    a.post("/v1/members/forget", json!({ "name": "c" })).await.refuses(409, "E9033");
    a.post("/v1/members/forget", json!({ "region": "eu" })).await.refuses(409, "E9033");
    c.kill().await;
    for node in [&a, &b] {
        node.until_sees(&[("a", "alive"), ("b", "alive"), ("c", "gone")]).await;
    }
    let forgotten = a.post("/v1/members/forget", json!({ "region": "us" })).await;
    assert_eq!((forgotten.status, &forgotten.json()["forgotten"]), (202, &json!(["c"])), "{}", forgotten.text());
    for node in [&a, &b] {
        node.until_sees(&[("a", "alive"), ("b", "alive")]).await;
        node.get("/v1/members/c/config").await.refuses(404, "E9031");
    }
    let c = c_seat.start().await;
    all_see_all(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        let generation = node.get("/v1/members/c").await.json()["generation"].as_u64().expect("a number");
        assert!(generation > before, "{generation} and {before}");
    }
    b.kill().await;
    for node in [&a, &c] {
        node.until_sees(&[("a", "alive"), ("b", "gone"), ("c", "alive")]).await;
    }
    let forgotten = c.post("/v1/members/forget", json!({ "name": "b" })).await;
    assert_eq!((forgotten.status, &forgotten.json()["forgotten"]), (202, &json!(["b"])), "by one of another region");
    for node in [&a, &c] {
        node.until_sees(&[("a", "alive"), ("c", "alive")]).await;
    }
    let b = b_seat.start().await;
    all_see_all(&[&a, &b, &c]).await;
}

#[tokio::test]
async fn configurations_that_differ_are_shown() {
    let origin = Origin::ok().await;
    let cluster = Cluster::new();
    let [a, b, c] = cluster.three();
    let (_seats, nodes) = together([a, b, c.with(&in_front_of(&origin.url(), ""))]).await;
    for node in &nodes {
        node.until_metric("shoal_cluster_configurations", |different| different == 2.0).await;
        for (name, member) in node.members().await {
            let differs = (name == "c") != (node.name == "c");
            assert_eq!(member["configuration_differs"], differs, "{name} of {}: {member:#}", node.name);
        }
    }
    let [a, b, c] = nodes;
    // What is about one node alone differs from node to node, and is no difference.
    let text = format!("{}\n[listen.main]\nbind = \"127.0.0.1:0\"\n", cluster.seat("c", "us").text());
    let gateway = shoal_tests::gateway::read(&text).expect("a good text");
    c.running().apply(gateway).await.expect("it can be served");
    for node in [&a, &b, &c] {
        node.until_metric("shoal_cluster_configurations", |different| different == 1.0).await;
    }
}

#[tokio::test]
async fn a_node_finds_the_others_by_what_it_remembers_alone() {
    let cluster = Cluster::new();
    let ([_, b_seat, c_seat], [a, b, c]) = together(cluster.three()).await;
    let mut back = Vec::new();
    for (seat, node) in [(b_seat, b), (c_seat, c)] {
        both_are_remembered(seat.state_dir()).await;
        node.kill().await;
        let alone = cluster.seat(&seat.name, &seat.region);
        assert_eq!(alone.keys, "", "nobody tells it of anybody");
        back.push(alone.start().await);
        for node in back.iter().chain([&a]) {
            node.until_sees(&[("a", "alive"), ("b", "alive"), ("c", "alive")]).await;
        }
    }
}

/// Waits until a node of three has written down the others.
async fn both_are_remembered(folder: &std::path::Path) {
    within("both peers in memory", async {
        while remembered(folder) < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

fn remembered(folder: &std::path::Path) -> usize {
    use cluster::World;
    let disk = node::world::RealWorld::new().disk();
    cluster::store::Memory::beside(disk, Some(folder)).map_or(0, |memory| memory.peers().len())
}

#[tokio::test]
async fn a_cluster_that_was_down_altogether_is_back_without_a_seed() {
    let cluster = Cluster::new();
    let mut seats = Vec::new();
    for seat in cluster.three() {
        seats.push(seat.with_keys(&format!("bind = \"{}\"", nobody().await)));
    }
    let seats: [_; 3] = seats.try_into().unwrap_or_else(|_| unreachable!("three"));
    let (mut seats, nodes) = together(seats).await;
    for (seat, node) in seats.iter().zip(nodes) {
        both_are_remembered(seat.state_dir()).await;
        node.kill().await;
    }
    let mut nodes = Vec::new();
    for seat in &mut seats {
        seat.keys = seat.keys.lines().filter(|line| !line.starts_with("join")).map(|line| format!("{line}\n")).collect();
        nodes.push(seat.start().await);
    }
    all_see_all(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn whatever_fails_below_the_cluster_costs_no_request_and_comes_back() {
    let origin = Origin::ok().await;
    let cluster = Cluster::new();
    let seats = cluster.three().map(|seat| seat.with(&in_front_of(&origin.url(), "")));
    let (_seats, [a, b, c]) = together(seats).await;
    let (stop, address) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), a.main());
    let calling = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut served = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(get(address, "/").await.status, 200);
                served += 1;
            }
            served
        }
    });
    let ids = ["certificate", "door", "links", "seeds", "membership", "course", "news"].map(|duty| format!("root/cluster/{duty}"));
    for id in ids.iter().chain([&"root/cluster".to_string()]) {
        let killed = a.post("/v1/drills", json!({ "actor": id, "do": "kill" })).await;
        assert_eq!(killed.status, 202, "{id}: {}", killed.text());
        let path = format!("/v1/actors/{}", id.replace('/', "%2F"));
        a.until_page(&path, |actor| actor["restarts"].as_u64() > Some(0) && actor["state"] == "running").await;
    }
    all_see_all(&[&a, &b, &c]).await;
    let views = a.until_page("/v1/views", |views| views["disagree"] == json!([])).await;
    assert!(views["views"].as_array().expect("a list").iter().all(|view| view["told_by"] == "itself"), "{views:#}");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let served = calling.await.expect("no request fails");
    assert!(served > 10, "{served} requests are no load");
}

#[tokio::test]
async fn orders_about_the_cluster_are_checked() {
    let cluster = Cluster::new();
    let alone = cluster.enrolled("a", "eu").start().await;
    for body in [json!({}), json!({ "address": "nowhere" }), json!({ "address": 7 }), json!({ "address": "a.test" }), json!([])] {
        alone.post("/v1/members/join", body).await.refuses(422, "E9015");
    }
    for body in [json!({}), json!({ "name": "b", "region": "eu" }), json!({ "name": 7 }), json!("b"), json!({ "name": ["b"] })] {
        alone.post("/v1/members/forget", body).await.refuses(422, "E9015");
    }
    for (body, status, code) in
        [(json!({ "name": "b" }), 404, "E9031"), (json!({ "region": "us" }), 404, "E9031"), (json!({ "name": "a" }), 409, "E9033")]
    {
        alone.post("/v1/members/forget", body).await.refuses(status, code);
    }
    for body in [json!({}), json!({ "wait": "yes" }), json!(true)] {
        alone.post("/v1/leave", body).await.refuses(422, "E9015");
    }
    for path in ["/v1/members/join", "/v1/members/forget", "/v1/leave"] {
        alone.get(path).await.refuses(405, "E9010");
        alone.call(&format!("POST {path}"), "{").await.refuses(400, "E9014");
    }
    for path in ["/v1/members?limit=0", "/v1/members?region=eu", "/v1/views?by=a", "/v1/sees?x"] {
        alone.get(path).await.refuses(400, "E9011");
    }
    // Asking where nobody is harms nobody.
    let asked = alone.post("/v1/members/join", json!({ "address": nobody().await.to_string() })).await;
    assert_eq!(asked.status, 202);
    alone.until_sees(&[("a", "alive")]).await;
}

#[tokio::test]
async fn a_node_is_told_where_the_cluster_is_while_it_runs() {
    let cluster = Cluster::new();
    let [a, b, _] = cluster.three();
    let (a, b) = (a.start().await, b.start().await);
    // A name will do as well.
    let asked = a.post("/v1/members/join", json!({ "address": format!("localhost:{}", b.peers().port()) })).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    all_see_all(&[&a, &b]).await;
}

#[tokio::test]
async fn a_node_without_a_cluster_says_so() {
    let gateway = shoal_tests::Gateway::start("[admin]\nbind = \"127.0.0.1:0\"\ntoken = { env = \"TOKEN\" }\n").await;
    let (address, token) = (gateway.admin(), gateway.admin_token());
    for path in ["/v1/members", "/v1/views", "/v1/sees", "/v1/members/a", "/v1/members/a/config"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n");
        shoal_tests::ask(address, request).await.refuses(404, "E9030");
    }
}
