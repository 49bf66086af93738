//! Actors look after what requests use, and a request never waits for one: whatever becomes of them, it is served.

use super::websocket;
use serde_json::{Value, json};
use shoal_tests::{
    Answer, Gateway, Origin, ask, get, in_front_of,
    wait::{PATIENCE, until, within},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

const ADMIN: &str = "[admin]\nbind = \"127.0.0.1:0\"\ntoken = { env = \"TOKEN\" }\n";
const DRILLS: &str = "[drills]\nallow = true\n";

/// How long a node may take to show an actor that does not answer.
const SHOWN_WITHIN: Duration = Duration::from_millis(150);

async fn call(gateway: &Gateway, line: &str, body: &str) -> Answer {
    let address = gateway.admin();
    let token = gateway.admin_token();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n");
    ask(address, format!("{head}content-type: application/json\r\n\r\n{body}")).await
}

/// An id as one segment of a path.
fn segment(id: &str) -> String {
    id.replace('%', "%25").replace('/', "%2F")
}

/// All actors, page by page, by id.
async fn actors(gateway: &Gateway) -> BTreeMap<String, Value> {
    let mut actors = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = call(gateway, &format!("GET /v1/actors?limit=40{cursor}"), "").await.json();
        for actor in page["items"].as_array().expect("a list") {
            actors.insert(actor["id"].as_str().expect("an id").to_string(), actor.clone());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return actors,
        }
    }
}

fn restarts(actors: &BTreeMap<String, Value>) -> BTreeMap<String, u64> {
    actors.iter().map(|(id, actor)| (id.clone(), actor["restarts"].as_u64().expect("a count"))).collect()
}

/// Waits until every actor runs and has been started again as often as it should have been.
async fn settled(gateway: &Gateway, expected: &BTreeMap<String, u64>) {
    let mut seen = BTreeMap::new();
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            seen = actors(gateway).await;
            if restarts(&seen) == *expected && seen.values().all(|actor| actor["state"] == "running") {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    if waited.await.is_err() {
        let differs: Vec<_> = seen
            .iter()
            .filter(|(id, actor)| actor["state"] != "running" || actor["restarts"].as_u64() != expected.get(*id).copied())
            .collect();
        panic!("not as expected: {differs:?}");
    }
}

/// Waits until exactly these services and pools, beside what each node and each service has, are there and run.
async fn staffed(gateway: &Gateway, expected: &[&str]) {
    let mut wanted: Vec<String> = expected.iter().map(|id| format!("root/services/{id}")).collect();
    wanted.extend(expected.iter().filter(|id| !id.contains('/')).map(|name| format!("root/services/{name}/service")));
    wanted.sort();
    within("the services' actors", async {
        loop {
            let actors = actors(gateway).await;
            let all_run = actors.values().all(|actor| actor["state"] == "running");
            let found: Vec<String> = actors.into_keys().filter(|id| id.starts_with("root/services/")).collect();
            if found == wanted && all_run {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What a pool's place is called by.
fn authority(origin: &Origin) -> String {
    origin.url().trim_start_matches("http://").to_string()
}

async fn drill(gateway: &Gateway, order: Value) -> Answer {
    call(gateway, "POST /v1/drills", &order.to_string()).await
}

/// Requests one after the other until told to stop; what came of those that failed.
struct Trickle {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Trickle {
    fn start(gateway: &Gateway) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), gateway.main());
        let task = tokio::spawn({
            let stop = stop.clone();
            async move {
                let (mut served, mut failed) = (0, Vec::new());
                while !stop.load(Relaxed) {
                    let answer = get(address, "/").await;
                    served += 1;
                    if answer.status != 200 {
                        failed.push(format!("{} {}", answer.status, answer.text()));
                    }
                }
                (served, failed)
            }
        });
        Self { stop, task }
    }

    async fn served_all(self) {
        self.stop.store(true, Relaxed);
        let (served, failed) = self.task.await.expect("the callers do not panic");
        assert!(failed.is_empty(), "{} of {served} failed: {failed:?}", failed.len());
        assert!(served > 100, "{served} requests are no load");
    }
}

#[tokio::test]
async fn killing_every_actor_costs_no_request() {
    let (one, other) = (Origin::ok().await, Origin::ok().await);
    let text = format!(
        "{ADMIN}{DRILLS}[service.up]\nendpoints = [\"{}\", \"{}\"]\n[[route]]\nid = \"all\"\nmatch = \"/**\"\nservice = \"up\"\n\
         limit = \"1000000/s per client_ip\"\n",
        one.url(),
        other.url()
    );
    let gateway = Gateway::start(&text).await;
    let before = actors(&gateway).await;
    let mut expected = restarts(&before);
    settled(&gateway, &expected).await;
    assert_eq!(expected.len(), 64 + 7, "root, limits, its shards, services, up, its actor, two pools: {expected:?}");

    let trickle = Trickle::start(&gateway);
    // Children before their parents. A quarter of the shards, because more that fail at a time make their supervisor give
    // up, as it should.
    let all: Vec<String> = expected.keys().rev().cloned().collect();
    let kept = |id: &&String| id.split_once("shard:").is_none_or(|(_, number)| number.parse::<u64>().is_ok_and(|number| number % 4 == 0));
    for victim in all.iter().filter(kept) {
        assert_eq!(drill(&gateway, json!({ "actor": victim, "do": "kill" })).await.status, 202, "{victim}");
        let below = format!("{victim}/");
        for (_, restarts) in expected.iter_mut().filter(|(id, _)| *id == victim || id.starts_with(&below)) {
            *restarts += 1;
        }
        settled(&gateway, &expected).await;
        let history = call(&gateway, &format!("GET /v1/actors/{}/history", segment(victim)), "").await.json();
        let lives = history["lives"].as_array().expect("lives");
        let [.., ended, runs] = &lives[..] else { panic!("{history}") };
        assert_eq!(ended["exit"]["text"], "panicked during kill: killed by a drill", "{history}");
        assert_eq!(runs["exit"], Value::Null, "{history}");
    }
    trickle.served_all().await;

    let metrics = call(&gateway, "GET /metrics", "").await.text();
    let line = |class: &str| {
        let start = format!("shoal_actor_restarts_total{{class=\"{class}\",reason=\"panicked\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok())
    };
    assert_eq!((line("shard"), line("pool"), line("supervisor")), (Some(16), Some(2), Some(4)), "{metrics}");
}

#[tokio::test]
async fn an_actor_that_stands_still_is_shown_at_once_and_keeps_nobody_waiting() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(format!("{ADMIN}{DRILLS}") + &in_front_of(&origin.url(), ""))).await;
    let pool = format!("root/services/up/pool:{}", authority(&origin));
    staffed(&gateway, &["up", &pool["root/services/".len()..]]).await;
    let ordered = drill(&gateway, json!({ "actor": pool, "do": "stall", "for": "60s" })).await;
    assert_eq!((ordered.status, &ordered.json()["for_ms"]), (202, &json!(60_000)));

    // The machine may be busy with something else: what counts is that it can be as fast as this.
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..5 {
        for (page, path) in ["/v1/actors?limit=500".to_string(), format!("/v1/actors/{}", segment(&pool))].into_iter().enumerate() {
            let asked = Instant::now();
            let shown = call(&gateway, &format!("GET {path}"), "").await.json();
            fastest[page] = fastest[page].min(asked.elapsed());
            let actor = match &shown["items"] {
                Value::Array(items) => items.iter().find(|item| item["id"] == *pool).expect("the pool is in the tree"),
                _ => &shown,
            };
            assert_eq!((&actor["state"], &actor["busy"]["with"]), (&json!("running"), &json!("stall")), "{shown}");
            assert!(actor["busy"]["for_ms"].is_u64() && actor.get("inside").is_none_or(Value::is_null), "{shown}");
        }
    }
    assert!(fastest.iter().all(|took| *took < SHOWN_WITHIN), "{fastest:?}");
    assert_eq!(get(gateway.main(), "/").await.status, 200);

    assert_eq!(drill(&gateway, json!({ "actor": pool, "do": "release" })).await.status, 202);
    let inside = within("an answer from inside", async {
        loop {
            let actor = call(&gateway, &format!("GET /v1/actors/{}", segment(&pool)), "").await.json();
            if actor["inside"].is_object() {
                return actor["inside"].clone();
            }
        }
    });
    assert_eq!(inside.await["phase"], "serving");
}

#[tokio::test]
async fn nothing_can_be_broken_where_drills_are_not_allowed() {
    let origin = Origin::ok().await;
    let text = |drills: &str| format!("{ADMIN}{drills}") + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text("")).await;
    let order = json!({ "actor": "root/limits", "do": "kill" });
    staffed(&gateway, &["up", &format!("up/pool:{}", authority(&origin))]).await;
    drill(&gateway, order.clone()).await.refuses(403, "E9016");
    gateway.reload(&text(DRILLS)).await.expect("a good text");
    assert_eq!(drill(&gateway, order.clone()).await.status, 202);
    drill(&gateway, json!({ "actor": "root/nobody", "do": "kill" })).await.refuses(404, "E9017");
    drill(&gateway, json!({ "actor": "root/limits", "do": "burn" })).await.refuses(422, "E9015");
    gateway.reload(&text("")).await.expect("a good text");
    drill(&gateway, order).await.refuses(403, "E9016");
}

#[tokio::test]
async fn places_follow_the_configuration_and_keep_their_ids() {
    let origins = [Origin::ok().await, Origin::ok().await, Origin::ok().await];
    let service = |name: &str, endpoints: &[usize], keys: &str| {
        let endpoints: Vec<String> = endpoints.iter().map(|index| format!("\"{}\"", origins[*index].url())).collect();
        format!(
            "[service.{name}]\nendpoints = [{}]\n{keys}[[route]]\nid = \"{name}\"\nmatch = \"/{name}\"\nservice = \"{name}\"\n",
            endpoints.join(", ")
        )
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let gateway = Gateway::start(&(ADMIN.to_string() + &service("a", &[0, 1], "") + &service("b", &[0], ""))).await;
    let check = async |ids: Vec<String>| staffed(&gateway, &sorted(ids).iter().map(String::as_str).collect::<Vec<_>>()).await;
    let pool = |service: &str, index: usize| format!("{service}/pool:{}", authority(&origins[index]));
    check(vec!["a".into(), pool("a", 0), pool("a", 1), "b".into(), pool("b", 0)]).await;
    assert_eq!(get(gateway.main(), "/a").await.status, 200);

    // One endpoint is exchanged, one service leaves, another comes, and a pool has other bounds.
    let text = ADMIN.to_string() + &service("a", &[0, 2], "pool = { max_idle = 3 }\n") + &service("c", &[1], "");
    gateway.reload(&text).await.expect("a good text");
    check(vec!["a".into(), pool("a", 0), pool("a", 2), "c".into(), pool("c", 1)]).await;
    let seen = actors(&gateway).await;
    assert_eq!(seen[&format!("root/services/{}", pool("a", 0))]["restarts"], 0, "what stays is not started again");
    for gone in ["root/services/b".to_string(), format!("root/services/{}", pool("a", 1))] {
        call(&gateway, &format!("GET /v1/actors/{}", segment(&gone)), "").await.refuses(410, "E9018");
    }
    call(&gateway, "GET /v1/actors/root%2Fservices%2Fd", "").await.refuses(404, "E9017");

    gateway.reload(&(ADMIN.to_string() + &service("b", &[0], ""))).await.expect("a good text");
    check(vec!["b".into(), pool("b", 0)]).await;
}

#[tokio::test]
async fn connections_that_should_be_warm_are_there_before_a_request() {
    let origin = Origin::ok().await;
    let text = in_front_of(&origin.url(), "").replace("\n\n[[route]]", "\npool = { warm = 3 }\n\n[[route]]");
    let gateway = Gateway::start(&text).await;
    until("warm connections", || origin.open() == 3).await;
    assert_eq!((get(gateway.main(), "/").await.status, origin.connections()), (200, 3));
}

#[tokio::test]
async fn what_an_endpoint_that_has_left_still_carries_may_end_and_does_not_stay_for_ever() {
    let (origin, other) = (websocket::echoing().await, Origin::ok().await);
    let text = |url: &str| ADMIN.to_string() + &in_front_of(url, "").replace("\n\n[[route]]", "\npool = { drain = \"1s\" }\n\n[[route]]");
    let gateway = Gateway::start(&text(&origin.url())).await;
    let mut caller = websocket::open(&gateway, "/chat").await;
    gateway.reload(&text(&other.url())).await.expect("a good text");
    websocket::echo(&mut caller, "still here").await;
    until("the end of the socket", || origin.open() == 0).await;
    staffed(&gateway, &["up", &format!("up/pool:{}", authority(&other))]).await;
}

#[tokio::test]
async fn a_node_that_leaves_stops_its_actors_even_those_that_stand_still() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(format!("{ADMIN}{DRILLS}") + &in_front_of(&origin.url(), ""))).await;
    staffed(&gateway, &["up", &format!("up/pool:{}", authority(&origin))]).await;
    for id in ["root/limits/shard:63", "root/services/up"] {
        assert_eq!(drill(&gateway, json!({ "actor": id, "do": "stall", "for": "10m" })).await.status, 202, "{id}");
    }
    assert_eq!(within("the end of the node", gateway.drain(Duration::ZERO, Duration::from_secs(1))).await, 0);
}

#[tokio::test]
async fn a_root_that_fails_again_and_again_is_named_as_the_reason_and_is_soon_back() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(format!("{ADMIN}{DRILLS}") + &in_front_of(&origin.url(), ""))).await;
    let pool = format!("up/pool:{}", authority(&origin));
    staffed(&gateway, &["up", &pool]).await;
    let trickle = Trickle::start(&gateway);
    for life in 1..=6 {
        let killed = within("the root", async { while drill(&gateway, json!({ "actor": "root", "do": "kill" })).await.status != 202 {} });
        killed.await;
        within("the end of its life", async {
            while actors(&gateway).await["root"]["incarnation"] == life && actors(&gateway).await["root"]["state"] == "running" {}
        })
        .await;
    }
    // The root may be left out of an id.
    let refused = within("a refusal that says why", async {
        loop {
            let answer = drill(&gateway, json!({ "actor": "services/up/service", "do": "kill" })).await;
            if answer.status == 409 && answer.text().contains("because `root` above it is down") {
                return answer;
            }
        }
    });
    refused.await.refuses(409, "E9019");
    staffed(&gateway, &["up", &pool]).await;
    trickle.served_all().await;
}
