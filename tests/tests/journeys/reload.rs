//! A new revision changes what it changes, and nothing else.

use super::websocket;
use shoal_tests::{Caller, Gateway, Origin, gateway::whole, get, in_front_of, wait::until};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::sync::mpsc;

fn answering(body: &str) -> String {
    format!("[[route]]\nid = \"page\"\nmatch = \"/page\"\nrespond = {{ body = \"{body}\" }}\n")
}

#[tokio::test]
async fn the_next_request_meets_the_new_revision() {
    let gateway = Gateway::start(&answering("one")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    assert_eq!(caller.get("/page").await.text(), "one");
    gateway.reload(&answering("two")).await.expect("a good text");
    assert_eq!(caller.get("/page").await.text(), "two");
    assert_eq!(get(gateway.main(), "/page").await.text(), "two");
}

#[tokio::test]
async fn a_bad_text_leaves_the_good_one_in_place() {
    let gateway = Gateway::start(&answering("one")).await;
    let revision = gateway.running().gateway().revision.clone();
    for bad in ["[[route]]\nmatch = \"nonsense\"\n", "[listen.main]\nbind = \"here\"\n", "not toml ["] {
        assert!(gateway.reload(bad).await.is_err(), "{bad}");
        assert_eq!(get(gateway.main(), "/page").await.text(), "one");
    }
    assert_eq!(gateway.running().gateway().revision, revision);
}

#[tokio::test]
async fn a_websocket_on_a_route_that_stays_stays() {
    let origin = websocket::echoing().await;
    let text = |body: &str| in_front_of(&origin.url(), "") + &answering(body);
    let gateway = Gateway::start(&text("one")).await;
    let mut caller = websocket::open(&gateway, "/chat").await;
    for round in 0..5 {
        gateway.reload(&text(&format!("round {round}"))).await.expect("a good text");
        websocket::echo(&mut caller, &format!("after {round}")).await;
        assert_eq!(get(gateway.main(), "/page").await.text(), format!("round {round}"));
    }
}

#[tokio::test]
async fn a_request_in_flight_ends_under_the_rules_it_began_with() {
    let go = Arc::new(tokio::sync::Notify::new());
    let origin = Origin::start({
        let go = go.clone();
        move |exchange| {
            let go = go.clone();
            Box::pin(async move {
                go.notified().await;
                exchange.answer("200 OK", "", "ok").await
            })
        }
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "response = { set = { x-rules = \"old\" } }")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(shoal_tests::request("GET /", &[], "")).await;
    origin.until("the request", |_| true).await;
    gateway.reload(&answering("new")).await.expect("a good text");
    go.notify_one();
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.fields.get("x-rules")), (200, Some("old")));
    assert_eq!(caller.get("/page").await.text(), "new");
}

#[tokio::test]
async fn connections_to_an_endpoint_survive_a_reload() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for round in 0..5 {
        assert_eq!(get(gateway.main(), "/").await.status, 200);
        let text = in_front_of(&origin.url(), "") + &answering(&round.to_string());
        gateway.reload(&text).await.expect("a good text");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn what_a_caller_has_used_up_stays_used_up() {
    let text = |body: &str| {
        format!("[[route]]\nid = \"page\"\nmatch = \"/page\"\nrespond = {{ body = \"{body}\" }}\nlimit = \"1/h per client_ip\"\n")
    };
    let gateway = Gateway::start(&text("one")).await;
    assert_eq!(get(gateway.main(), "/page").await.status, 200);
    gateway.reload(&text("two")).await.expect("a good text");
    get(gateway.main(), "/page").await.refuses(429, "E4290");
}

#[tokio::test]
async fn a_new_listener_answers_and_a_removed_one_leaves() {
    let side = "[listen.side]\nbind = \"127.0.0.1:0\"\n";
    let main = "[listen.main]\nbind = \"127.0.0.1:0\"\n";
    let gateway = Gateway::start(&(main.to_string() + &answering("one"))).await;
    let before = gateway.main();
    gateway.reload(&format!("{main}{side}{}", answering("two"))).await.expect("a good text");
    assert_eq!(gateway.main(), before, "a listener that stays keeps its port");
    let beside = gateway.listener("side");
    let mut caller = Caller::connect(beside).await;
    assert_eq!(caller.get("/page").await.text(), "two");

    gateway.reload(&(main.to_string() + &answering("three"))).await.expect("a good text");
    assert_eq!(caller.end().await, b"", "an idle connection of the removed one ends");
    // Its port is free again once whatever was in the backlog is served.
    shoal_tests::wait::within("the port to be closed", async { while Caller::try_connect(beside).await.is_some() {} }).await;
    assert_eq!(get(gateway.main(), "/page").await.text(), "three");
}

#[tokio::test]
async fn a_request_on_a_removed_listener_is_answered() {
    let go = Arc::new(tokio::sync::Notify::new());
    let origin = Origin::start({
        let go = go.clone();
        move |exchange| {
            let go = go.clone();
            Box::pin(async move {
                go.notified().await;
                exchange.answer("200 OK", "", "ok").await
            })
        }
    })
    .await;
    let (main, side) = ("[listen.main]\nbind = \"127.0.0.1:0\"\n", "[listen.side]\nbind = \"127.0.0.1:0\"\n");
    let gateway = Gateway::start(&format!("{main}{side}{}", in_front_of(&origin.url(), ""))).await;
    let mut caller = Caller::connect(gateway.listener("side")).await;
    caller.send(shoal_tests::request("GET /", &[], "")).await;
    origin.until("the request", |_| true).await;
    gateway.reload(&format!("{main}{}", in_front_of(&origin.url(), ""))).await.expect("a good text");
    go.notify_one();
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.fields.get("connection")), (200, Some("close")));
    caller.end().await;
}

#[tokio::test]
async fn a_listener_may_get_another_name() {
    let free = shoal_tests::origin::nobody().await;
    let text = |name: &str, body: &str| format!("[listen.{name}]\nbind = \"{free}\"\n{}", answering(body));
    let gateway = Gateway::start(&text("main", "one")).await;
    assert_eq!(get(free, "/page").await.text(), "one");
    gateway.reload(&text("other", "two")).await.expect("the address is the node's own");
    assert_eq!(get(free, "/page").await.text(), "two");
}

#[tokio::test]
async fn an_address_in_use_leaves_everything_as_it_was() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let taken = (taken.local_addr().expect("an address"), taken);
    let gateway = Gateway::start(&answering("one")).await;
    let text = format!("[listen.main]\nbind = \"127.0.0.1:0\"\n[listen.side]\nbind = \"{}\"\n{}", taken.0, answering("two"));
    let error = gateway.reload(&text).await.expect_err("the address is taken");
    assert!(error.contains("listen.side") && error.contains("in use"), "{error}");
    assert_eq!(get(gateway.main(), "/page").await.text(), "one");
}

#[tokio::test]
async fn a_node_that_is_in_its_own_way_says_so() {
    let free = shoal_tests::origin::nobody().await;
    let text = |address: &str| format!("[listen.main]\nbind = \"{address}\"\ntls = \"none\"\n{}", answering("one"));
    let gateway = Gateway::start(&text(&free.to_string())).await;
    let error = gateway.reload(&text(&format!("0.0.0.0:{}", free.port()))).await.expect_err("the address includes the one before");
    assert!(error.contains(&format!("while this node listens on {free}")), "{error}");
    assert_eq!(get(free, "/page").await.text(), "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_revisions_change() {
    let origin = websocket::echoing().await;
    let text = |round: usize| {
        let routes: String = (0..200)
            .map(|number| {
                let body = if number % 100 == round % 100 { format!("changed {round}") } else { "same".to_string() };
                format!("[[route]]\nid = \"r{number}\"\nmatch = \"/r/{number}\"\nrespond = {{ body = \"{body}\" }}\n")
            })
            .collect();
        in_front_of(&origin.url(), "") + &answering(&round.to_string()) + &routes
    };
    let gateway = Arc::new(Gateway::start(&text(0)).await);
    let mut socket = websocket::open(&gateway, "/chat").await;
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (over, answered, address) = (over.clone(), answered.clone(), gateway.main());
        asking.spawn(async move {
            let mut caller = Caller::connect(address).await;
            while !over.load(SeqCst) {
                let path = if number % 2 == 0 { format!("/r/{}", number * 7) } else { "/through".to_string() };
                assert_eq!(caller.get(&path).await.status, 200);
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    for round in 1..=30 {
        if round % 10 == 0 {
            assert!(gateway.reload("[[route]]\nmatch = \"bad\"\n").await.is_err());
        }
        gateway.reload(&text(round)).await.expect("a good text");
        assert_eq!(get(gateway.main(), "/page").await.text(), round.to_string(), "a revision answers before the next one");
        websocket::echo(&mut socket, "still here").await;
    }
    over.store(true, SeqCst);
    asking.join_all().await;
    assert!(answered.load(SeqCst) > 0);
}

/// A node that reads its configuration from a folder and watches it.
struct Watched {
    gateway: Gateway,
    watching: tokio::task::JoinHandle<()>,
    ask: mpsc::Sender<()>,
    told: Arc<std::sync::Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl Watched {
    async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shoal.toml");
        write(&path, text);
        let world = Arc::new(node::world::RealWorld::new());
        let files = node::reload::Files { path, environment: Default::default() };
        let loaded = files.load(&*world);
        let gateway = loaded.gateway.unwrap_or_else(|| panic!("{:?}", loaded.problems));
        let gateway = Gateway::of(node::start(world, gateway).await.expect("a node"));
        let (ask, asked) = mpsc::channel(1);
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let watching = tokio::spawn({
            let (running, told) = (gateway.running(), told.clone());
            async move {
                files
                    .watch(&running, asked, |reloaded| {
                        let name = match reloaded {
                            node::reload::Reloaded::Applied { .. } => "applied",
                            node::reload::Reloaded::Rejected { .. } => "rejected",
                        };
                        told.lock().expect("no test panics in here").push(name.to_string());
                    })
                    .await;
            }
        });
        let watched = Self { gateway, watching, ask, told, folder };
        // The first answer says that watching has begun; a change before it could be taken for how things always were.
        watched.ask.send(()).await.expect("somebody listens");
        watched.until_told(&["applied"]).await;
        watched.told.lock().expect("no test panics in here").clear();
        watched
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().expect("no test panics in here").clone()
    }

    async fn until_told(&self, expected: &[&str]) {
        until(&format!("{expected:?}"), || self.told() == expected).await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// As editors and deployments do it: whole, under another name first.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, whole(text)).expect("a file");
    std::fs::rename(beside, path).expect("a file");
}

#[tokio::test]
async fn a_changed_file_is_read_again_by_itself() {
    let watched = Watched::start(&answering("one")).await;
    let file = watched.folder.path().join("shoal.toml");
    assert_eq!(get(watched.gateway.main(), "/page").await.text(), "one");
    write(&file, &answering("two"));
    watched.until_told(&["applied"]).await;
    assert_eq!(get(watched.gateway.main(), "/page").await.text(), "two");
    write(&file, "[[route]]\nmatch = \"bad\"\n");
    watched.until_told(&["applied", "rejected"]).await;
    assert_eq!(get(watched.gateway.main(), "/page").await.text(), "two");
    write(&file, &answering("three"));
    watched.until_told(&["applied", "rejected", "applied"]).await;
    assert_eq!(get(watched.gateway.main(), "/page").await.text(), "three");
}

#[tokio::test]
async fn a_signal_reads_the_file_again_at_once() {
    let watched = Watched::start(&answering("one")).await;
    write(&watched.folder.path().join("shoal.toml"), &answering("two"));
    watched.ask.send(()).await.expect("somebody listens");
    until("the new text", || watched.told().contains(&"applied".to_string())).await;
    assert_eq!(get(watched.gateway.main(), "/page").await.text(), "two");
}

#[tokio::test]
async fn a_file_that_comes_into_an_included_folder_is_found() {
    let folder_text = format!("include = [\"routes.d/*.toml\"]\n{}", answering("one"));
    let watched = Watched::start(&folder_text).await;
    let routes = watched.folder.path().join("routes.d");
    std::fs::create_dir(&routes).expect("a folder");
    std::fs::write(routes.join("more.toml"), "[[route]]\nmatch = \"/more\"\nrespond = { body = \"more\" }\n").expect("a file");
    watched.until_told(&["applied"]).await;
    assert_eq!(get(watched.gateway.main(), "/more").await.text(), "more");
    std::fs::remove_file(routes.join("more.toml")).expect("the file");
    watched.until_told(&["applied", "applied"]).await;
    get(watched.gateway.main(), "/more").await.refuses(404, "E4040");
}

#[tokio::test]
async fn a_renewed_certificate_is_noticed_by_itself() {
    let (authority, successor) = (shoal_tests::certificates::Authority::new(), shoal_tests::certificates::Authority::new());
    let files = authority.issue("gateway", &["shop.test"]);
    let text = shoal_tests::listener(&format!("tls = {}", files.toml())) + &answering("one");
    let watched = Watched::start(&text).await;
    assert_eq!(authority.call(watched.gateway.main(), "shop.test").await.get("/page").await.text(), "one");
    let renewed = successor.issue("gateway", &["shop.test"]);
    std::fs::copy(&renewed.cert, &files.cert).expect("a copy");
    std::fs::copy(&renewed.key, &files.key).expect("a copy");
    let address = watched.gateway.main();
    shoal_tests::wait::within("the new certificate", async { while successor.try_call(address, "shop.test", None).await.is_err() {} })
        .await;
}
