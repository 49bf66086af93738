//! One endpoint is taken out of service by hand: it gets nothing new, keeps what it has, and comes back by hand alone.

use super::websocket;
use serde_json::{Value, json};
use shoal_tests::{
    Answer, Caller, Gateway, Origin, ask, get,
    origin::nobody,
    request,
    wait::{until, within},
    websocket::hello,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::{sync::Semaphore, task::JoinSet};

const ADMIN: &str = "[admin]\nbind = \"127.0.0.1:0\"\ntoken = { env = \"TOKEN\" }\n[drills]\nallow = true\n";

/// A service with these endpoints, each as it stands in a list, and one route that takes everything to it.
fn service(endpoints: &[String], keys: &str) -> String {
    let endpoints = endpoints.join(", ");
    format!("{ADMIN}[service.up]\nendpoints = [{endpoints}]\n{keys}\n[[route]]\nid = \"all\"\nmatch = \"/**\"\nservice = \"up\"\n")
}

fn urls(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| format!("\"{}\"", origin.url())).collect()
}

async fn call(gateway: &Gateway, line: &str, body: &str) -> Answer {
    let (address, token, length) = (gateway.admin(), gateway.admin_token(), body.len());
    let head = format!("{line} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n");
    ask(address, format!("{head}content-type: application/json\r\n\r\n{body}")).await
}

async fn order(gateway: &Gateway, origin: &Origin, what: &str, body: &str) -> Answer {
    call(gateway, &format!("POST /v1/upstreams/up/endpoints/{}/{what}", origin.address), body).await
}

async fn shown(gateway: &Gateway, origin: &Origin) -> Value {
    let services = call(gateway, "GET /v1/upstreams", "").await.json();
    let endpoints = services[0]["endpoints"].as_array().expect("a list");
    endpoints.iter().find(|shown| shown["endpoint"] == origin.address.to_string()).expect("it is shown").clone()
}

/// Sends requests and returns how many of them reached the origin.
async fn reaching(gateway: &Gateway, origin: &Origin) -> usize {
    let before = origin.count();
    for _ in 0..30 {
        assert_eq!(get(gateway.main(), "/").await.status, 200);
    }
    origin.count() - before
}

async fn three() -> [Origin; 3] {
    [Origin::ok().await, Origin::ok().await, Origin::ok().await]
}

#[tokio::test]
async fn it_gets_nothing_new_until_it_is_taken_back_and_everybody_can_see_it() {
    let origins = three().await;
    let text = service(&urls(&origins), "balance = \"round_robin\"\nslow_start = { window = \"0s\" }");
    let gateway = Gateway::start(&text).await;
    let [drained, ..] = &origins;
    assert!(reaching(&gateway, drained).await > 0);
    let answer = order(&gateway, drained, "drain", "{}").await.json();
    assert_eq!((&answer["changed"], &answer["draining"], &answer["active_requests"]), (&json!(true), &json!(true), &json!(0)));
    assert_eq!(order(&gateway, drained, "drain", "{}").await.json()["changed"], false);
    assert_eq!(reaching(&gateway, drained).await, 0);

    let seen = shown(&gateway, drained).await;
    assert_eq!((&seen["verdict"], &seen["why"]), (&json!("draining"), &json!("drain_by_hand")), "{seen}");
    let question = json!({ "method": "GET", "url": format!("http://{}/", gateway.main()) });
    let explained = call(&gateway, "POST /v1/explain", &question.to_string()).await.json();
    let left_out = &explained["service"]["left_out"][0];
    assert_eq!((&left_out["endpoint"], &left_out["verdict"]), (&json!(drained.address.to_string()), &json!("draining")), "{explained}");
    let metrics = call(&gateway, "GET /metrics", "").await.text();
    assert!(metrics.contains("shoal_upstream_endpoints{service=\"up\",region=\"local\",state=\"draining\"} 1"), "{metrics}");

    // A reload, also one that changes how endpoints are spoken to, and the end of whoever watches change nothing about it.
    gateway.reload(&text.replace("0s", "0ms")).await.expect("a good text");
    assert_eq!(reaching(&gateway, drained).await, 0);
    gateway.reload(&text.replace("[service.up]", "[service.up]\nprotocol = \"h1\"\nretry = { max = 1 }")).await.expect("a good text");
    assert_eq!(reaching(&gateway, drained).await, 0);
    for actor in ["services/up/service", "services/up", "root"] {
        assert_eq!(call(&gateway, "POST /v1/drills", &json!({ "actor": actor, "do": "kill" }).to_string()).await.status, 202);
        assert_eq!(reaching(&gateway, drained).await, 0, "{actor}");
    }

    assert_eq!(order(&gateway, drained, "undrain", "{}").await.json()["draining"], false);
    within("its share of the requests", async { while reaching(&gateway, drained).await < 10 {} }).await;
    assert_eq!(shown(&gateway, drained).await["verdict"], "healthy");
}

#[tokio::test]
async fn what_it_carries_ends_as_it_would() {
    let told = Arc::new(Semaphore::new(0));
    let slow = Origin::start({
        let told = told.clone();
        move |exchange| {
            let told = told.clone();
            Box::pin(async move {
                exchange.body().await?;
                if exchange.request.target == "/slow" {
                    told.acquire().await.expect("nobody closes it").forget();
                }
                exchange.answer("200 OK", "", "late").await
            })
        }
    })
    .await;
    let other = websocket::echoing().await;
    let origins = [slow, other];
    let gateway = Gateway::start(&service(&urls(&origins), "balance = \"round_robin\"")).await;
    let [slow, echoing] = &origins;
    let mut callers = JoinSet::new();
    let address = gateway.main();
    // In turn, so that of two requests one comes to each.
    while slow.count() < 3 {
        let before = slow.count() + echoing.count();
        callers.spawn(async move { get(address, "/slow").await });
        until("the request", || slow.count() + echoing.count() > before).await;
    }
    let mut socket = loop {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(hello("/chat")).await;
        if caller.head().await.start.starts_with("HTTP/1.1 101 ") {
            break caller;
        }
    };
    let drained = order(&gateway, slow, "drain", "{}").await.json();
    assert!(drained["active_requests"].as_u64().is_some_and(|count| count >= 3), "{drained}");
    order(&gateway, slow, "undrain", "{}").await;
    assert_eq!(order(&gateway, echoing, "drain", "{}").await.json()["changed"], true);
    websocket::echo(&mut socket, "still here").await;
    told.add_permits(1_000);
    for answer in callers.join_all().await {
        assert_eq!(answer.status, 200);
    }
    websocket::echo(&mut socket, "and still").await;
    // What carries nothing is closed, so that what is open is what is left.
    within("nothing but the socket", async { while shown(&gateway, echoing).await["connections"] != 1 {} }).await;
    websocket::echo(&mut socket, "at last").await;
    drop(socket);
    within("the last of it", async { while shown(&gateway, echoing).await["connections"] != 0 {} }).await;
}

#[tokio::test]
async fn callers_that_stick_to_it_move_and_the_others_stay() {
    let origins = [Origin::saying("200 OK", "0").await, Origin::saying("200 OK", "1").await, Origin::saying("200 OK", "2").await];
    let keys = "balance = { hash = \"header:x-user\" }\nslow_start = { window = \"0s\" }";
    let gateway = Gateway::start(&service(&urls(&origins), keys)).await;
    let homes = async || {
        let mut caller = Caller::connect(gateway.main()).await;
        let mut homes = Vec::new();
        for user in 0..60 {
            homes.push(caller.ask(request("GET /", &[&format!("x-user: {user}")], "")).await.text());
        }
        homes
    };
    let before = homes().await;
    order(&gateway, &origins[1], "drain", "{}").await;
    for (user, (home, now)) in before.iter().zip(homes().await).enumerate() {
        assert!(if home == "1" { now != "1" } else { now == *home }, "user {user} moved from {home} to {now}");
    }
    order(&gateway, &origins[1], "undrain", "{}").await;
    assert_eq!(homes().await, before);
}

#[tokio::test]
async fn the_last_one_that_is_well_is_kept_unless_it_is_insisted_on() {
    let origins = three().await;
    let mut endpoints = urls(&origins);
    endpoints[2] = format!("{{ url = \"{}\", drain = true }}", origins[2].url());
    let gateway = Gateway::start(&service(&endpoints, "")).await;
    order(&gateway, &origins[2], "undrain", "{}").await.refuses(409, "E9023");
    assert_eq!(order(&gateway, &origins[0], "drain", "{}").await.status, 200);
    let refused = order(&gateway, &origins[1], "drain", "{}").await;
    refused.refuses(409, "E9022");
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("`force`")), "{}", refused.text());
    assert_eq!(order(&gateway, &origins[1], "drain", "{\"force\":true}").await.status, 200);
    // Nobody is left who stays, and an answer is better than none.
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    order(&gateway, &Origin::ok().await, "drain", "{}").await.refuses(404, "E9021");
    call(&gateway, "POST /v1/upstreams/down/endpoints/127.0.0.1:1/drain", "{}").await.refuses(404, "E9020");
}

#[tokio::test]
async fn an_endpoint_that_has_left_comes_back_as_a_newcomer() {
    let origins = three().await;
    let text = service(&urls(&origins), "balance = \"round_robin\"");
    let gateway = Gateway::start(&text).await;
    order(&gateway, &origins[0], "drain", "{}").await;
    gateway.reload(&service(&urls(&origins[1..]), "balance = \"round_robin\"")).await.expect("a good text");
    gateway.reload(&text).await.expect("a good text");
    assert_eq!(shown(&gateway, &origins[0]).await["verdict"], "healthy");
}

#[tokio::test]
async fn endpoints_are_exchanged_one_after_the_other_and_no_post_fails() {
    let addresses = [nobody().await, nobody().await, nobody().await];
    let mut origins = [Origin::at(addresses[0]).await, Origin::at(addresses[1]).await, Origin::at(addresses[2]).await];
    let keys = "retry = { max = 0 }\nslow_start = { window = \"0s\" }\npool = { warm = 2 }";
    let gateway = Gateway::start(&service(&urls(&origins), keys)).await;
    let (stop, main) = (Arc::new(AtomicBool::new(false)), gateway.main());
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let stop = stop.clone();
        callers.spawn(async move {
            let mut caller = Caller::connect(main).await;
            let (mut served, mut failed) = (0, 0);
            while !stop.load(Relaxed) {
                failed += usize::from(caller.ask(request("POST /", &["content-length: 5"], "hello")).await.status != 200);
                served += 1;
            }
            (served, failed)
        });
    }
    for at in 0..3 {
        within("some requests there", async {
            let before = origins[at].count();
            while origins[at].count() < before + 20 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(order(&gateway, &origins[at], "drain", "{}").await.status, 200);
        within("the end of what it carries", async { while shown(&gateway, &origins[at]).await["active_requests"] != 0 {} }).await;
        drop(std::mem::replace(&mut origins[at], Origin::ok().await));
        origins[at] = Origin::at(addresses[at]).await;
        assert_eq!(order(&gateway, &origins[at], "undrain", "{}").await.status, 200);
    }
    stop.store(true, Relaxed);
    for (served, failed) in callers.join_all().await {
        assert!(served > 20 && failed == 0, "{failed} of {served} failed");
    }
}
