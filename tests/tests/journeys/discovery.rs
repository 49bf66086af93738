//! Services whose endpoints are found by name: every address is one, and they come and go while requests are served.

use serde_json::Value;
use shoal_tests::{
    Gateway, NameServer, Origin, ask,
    dns::{Data, Says},
    get,
    wait::{until, within},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

const NAME: &str = "orders.test";
const ADMIN: &str = "[admin]\nbind = \"127.0.0.1:0\"\ntoken = { env = \"TOKEN\" }\n[drills]\nallow = true\n";

fn service(names: &NameServer, keys: &str) -> String {
    format!("{}{ADMIN}[service.up]\n{keys}\n[[route]]\nid = \"all\"\nmatch = \"/**\"\nservice = \"up\"\n", names.keys())
}

/// A service whose one endpoint is [`NAME`] at the port of these origins.
fn named(names: &NameServer, origins: &[Origin], keys: &str) -> String {
    service(names, &format!("endpoints = [\"http://{NAME}:{}\"]\npool = {{ drain = \"1s\" }}\n{keys}", origins[0].address.port()))
}

async fn call(gateway: &Gateway, line: &str, body: &str) -> Value {
    let (address, token, length) = (gateway.admin(), gateway.admin_token(), body.len());
    let head = format!("{line} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n");
    ask(address, format!("{head}content-type: application/json\r\n\r\n{body}")).await.json()
}

async fn seen(gateway: &Gateway) -> Value {
    call(gateway, "GET /v1/upstreams", "").await[0].take()
}

/// Waits until the service is as it should be.
async fn shows(gateway: &Gateway, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    within(what, async {
        loop {
            let service = seen(gateway).await;
            if wanted(&service) {
                return service;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// What the endpoints are called, without their ports.
fn hosts(service: &Value) -> Vec<String> {
    let name = |endpoint: &Value| endpoint["endpoint"].as_str().expect("a name").rsplit_once(':').expect("a port").0.to_string();
    service["endpoints"].as_array().expect("a list").iter().map(name).collect()
}

fn found(ips: &[&str]) -> Vec<String> {
    ips.iter().map(|ip| format!("{NAME}@{ip}")).collect()
}

async fn has(gateway: &Gateway, ips: &[&str]) -> Value {
    shows(gateway, &format!("{ips:?}"), |service| hosts(service) == found(ips)).await
}

/// Waits until each of these has been asked by a request.
async fn asks_all(gateway: &Gateway, origins: &[&Origin]) {
    let before: Vec<usize> = origins.iter().map(|origin| origin.count()).collect();
    within("a request at each of them", async {
        while origins.iter().zip(&before).any(|(origin, before)| origin.count() == *before) {
            assert_eq!(get(gateway.main(), "/").await.status, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn every_address_of_a_name_is_an_endpoint() {
    let origins = Origin::siblings::<2>().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::addresses(60, &["127.0.0.1", "127.0.0.2"]));
    let gateway = Gateway::start(&named(&names, &origins, "")).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200, "nobody waits for names");
    let service = has(&gateway, &["127.0.0.1", "127.0.0.2"]).await;
    assert_eq!((&service["names"][0]["name"], &service["names"][0]["state"]), (&NAME.into(), &"fresh".into()));
    asks_all(&gateway, &[&origins[0], &origins[1]]).await;
}

#[tokio::test]
async fn addresses_change_under_load_and_no_request_fails() {
    let origins = Origin::siblings::<3>().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::addresses(1, &["127.0.0.1", "127.0.0.2"]));
    let gateway = Gateway::start(&named(&names, &origins, "")).await;
    has(&gateway, &["127.0.0.1", "127.0.0.2"]).await;
    let (stop, address) = (Arc::new(AtomicBool::new(false)), gateway.main());
    let trickle = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut statuses = Vec::new();
            while !stop.load(Relaxed) {
                statuses.push(get(address, "/").await.status);
            }
            statuses
        }
    });
    for (ips, gone) in [(["127.0.0.2", "127.0.0.3"], 0), (["127.0.0.1", "127.0.0.3"], 1), (["127.0.0.1", "127.0.0.2"], 2)] {
        names.set(NAME, Says::addresses(1, &ips));
        let service = has(&gateway, &ips).await;
        assert_eq!(service["endpoints"].as_array().map(Vec::len), Some(2));
        until("the end of the connections to the old address", || origins[gone].open() == 0).await;
        let count = origins[gone].connections();
        let others: Vec<&Origin> = (0..3).filter(|at| *at != gone).map(|at| &origins[at]).collect();
        asks_all(&gateway, &others).await;
        assert_eq!(origins[gone].connections(), count, "nobody goes to an address that has left");
    }
    stop.store(true, Relaxed);
    let statuses = trickle.await.expect("the caller does not panic");
    assert!(statuses.len() > 100 && statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[tokio::test]
async fn what_servers_fail_to_say_takes_no_address_away() {
    let origins = Origin::siblings::<2>().await;
    for (what, says) in [("SERVFAIL", Some(Says::ServerFailure)), ("silence", Some(Says::Silence)), ("NXDOMAIN", None)] {
        let names = NameServer::start().await;
        names.set(NAME, Says::addresses(1, &["127.0.0.1", "127.0.0.2"]));
        let gateway = Gateway::start(&named(&names, &origins, "")).await;
        has(&gateway, &["127.0.0.1", "127.0.0.2"]).await;
        match says {
            Some(says) => names.set(NAME, says),
            None => names.remove(NAME),
        }
        let service = shows(&gateway, what, |service| service["names"][0]["state"] == "stale").await;
        assert!(service["names"][0]["why"].is_string(), "{service}");
        assert_eq!(hosts(&service), found(&["127.0.0.1", "127.0.0.2"]), "{what}");
        asks_all(&gateway, &[&origins[0], &origins[1]]).await;
    }
}

#[tokio::test]
async fn a_name_that_stays_gone_stands_for_itself_again() {
    let origins = Origin::siblings::<1>().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::addresses(1, &["127.0.0.1"]));
    let gateway = Gateway::start(&named(&names, &origins, "discovery = { stale = \"1s\" }")).await;
    has(&gateway, &["127.0.0.1"]).await;
    names.remove(NAME);
    shows(&gateway, "the end of its addresses", |service| hosts(service) == [NAME]).await;
    get(gateway.main(), "/").await.refuses(502, "E5020");
    names.set(NAME, Says::addresses(1, &["127.0.0.1"]));
    has(&gateway, &["127.0.0.1"]).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}

#[tokio::test]
async fn srv_records_bring_ports_and_weights_and_there_is_nobody_before_them() {
    let (near, far) = (Origin::ok().await, Origin::ok().await);
    let names = NameServer::start().await;
    names.set("node.test", Says::addresses(60, &["127.0.0.1"]));
    let text = service(&names, "discovery = { kind = \"srv\", name = \"_http._tcp.orders.test\", ttl_max = \"1s\" }");
    let gateway = Gateway::start(&text).await;
    let refused = within("an answer", get(gateway.main(), "/")).await;
    assert_eq!(refused.fields.get("retry-after"), Some("1"));
    refused.refuses(503, "E5034");

    let record = |origin: &Origin, weight| Data::Service { priority: 0, weight, port: origin.address.port(), target: "node.test".into() };
    names.set("_http._tcp.orders.test", Says::Records(60, vec![record(&near, 30), record(&far, 10)]));
    let service = shows(&gateway, "two endpoints", |service| hosts(service).len() == 2).await;
    let mut weights: Vec<(String, u64)> = Vec::new();
    for endpoint in service["endpoints"].as_array().expect("a list") {
        weights.push((endpoint["endpoint"].as_str().expect("a name").to_string(), endpoint["weight"].as_u64().expect("a weight")));
    }
    let mut expected = vec![(format!("node.test@{}", near.address), 30), (format!("node.test@{}", far.address), 10)];
    weights.sort();
    expected.sort();
    assert_eq!(weights, expected);
    asks_all(&gateway, &[&near, &far]).await;
}

#[tokio::test]
async fn a_reload_keeps_the_addresses_and_their_connections() {
    let origins = Origin::siblings::<2>().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::addresses(1, &["127.0.0.1", "127.0.0.2"]));
    let gateway = Gateway::start(&named(&names, &origins, "")).await;
    has(&gateway, &["127.0.0.1", "127.0.0.2"]).await;
    asks_all(&gateway, &[&origins[0], &origins[1]]).await;
    names.set(NAME, Says::Silence);
    let connections = origins.each_ref().map(Origin::connections);
    for seconds in 5..8 {
        let text = named(&names, &origins, &format!("retry = {{ max = 1 }}\ndiscovery = {{ stale = \"{seconds}m\" }}"));
        gateway.reload(&text).await.expect("a good text");
        assert_eq!(hosts(&seen(&gateway).await), found(&["127.0.0.1", "127.0.0.2"]));
        asks_all(&gateway, &[&origins[0], &origins[1]]).await;
    }
    assert_eq!(origins.each_ref().map(Origin::connections), connections);
}

#[tokio::test]
async fn killing_the_services_actor_takes_no_address_away() {
    let origins = Origin::siblings::<2>().await;
    let names = NameServer::start().await;
    names.set(NAME, Says::addresses(1, &["127.0.0.1", "127.0.0.2"]));
    let gateway = Gateway::start(&named(&names, &origins, "")).await;
    has(&gateway, &["127.0.0.1", "127.0.0.2"]).await;
    asks_all(&gateway, &[&origins[0], &origins[1]]).await;
    names.set(NAME, Says::ServerFailure);
    let connections = origins.each_ref().map(Origin::connections);
    let actor = "GET /v1/actors/root%2Fservices%2Fup%2Fservice";
    for life in 1..4 {
        call(&gateway, "POST /v1/drills", "{\"actor\":\"root/services/up/service\",\"do\":\"kill\"}").await;
        within("another life", async {
            loop {
                assert_eq!(get(gateway.main(), "/").await.status, 200);
                let shown = call(&gateway, actor, "").await;
                if shown["restarts"] == life && shown["inside"]["names"][0]["state"] == "stale" {
                    return;
                }
            }
        })
        .await;
        assert_eq!(hosts(&seen(&gateway).await), found(&["127.0.0.1", "127.0.0.2"]));
    }
    assert_eq!(origins.each_ref().map(Origin::connections), connections);
    names.set(NAME, Says::addresses(1, &["127.0.0.2"]));
    has(&gateway, &["127.0.0.2"]).await;
}

#[tokio::test]
async fn a_node_that_looks_names_up_leaves_in_time() {
    let names = NameServer::start().await;
    names.set(NAME, Says::Silence);
    let gateway = Gateway::start(&service(&names, &format!("endpoints = [\"http://{NAME}:80\"]"))).await;
    until("a question", || names.asked(NAME) > 0).await;
    assert_eq!(within("the end of the node", gateway.drain(Duration::ZERO, Duration::from_secs(1))).await, 0);
}
