//! Leaving: announced first, then closed to newcomers, and whoever was let in is answered.

use super::websocket;
use shoal_tests::{
    Caller, Gateway, Origin, get,
    h2::{self, Frame, Framed},
    http2::H2Caller,
    in_front_of, listener, request,
    wait::{until, within},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::JoinHandle};

const LONG: Duration = Duration::from_secs(10);

/// An endpoint that answers when it is told to.
async fn held(go: Arc<Notify>) -> Origin {
    Origin::start(move |exchange| {
        let go = go.clone();
        Box::pin(async move {
            go.notified().await;
            exchange.answer("200 OK", "", "ok").await
        })
    })
    .await
}

fn leave(gateway: &Arc<Gateway>, wait: Duration, bound: Duration) -> JoinHandle<usize> {
    let gateway = gateway.clone();
    tokio::spawn(async move { gateway.drain(wait, bound).await })
}

#[tokio::test]
async fn a_node_without_connections_leaves_at_once() {
    let gateway = Gateway::start(&in_front_of("http://127.0.0.1:9", "")).await;
    let address = gateway.main();
    assert_eq!(within("the node", gateway.drain(Duration::ZERO, LONG)).await, 0);
    assert!(Caller::try_connect(address).await.is_none(), "nobody listens any more");
}

#[tokio::test]
async fn a_request_in_flight_is_answered() {
    let go = Arc::new(Notify::new());
    let origin = held(go.clone()).await;
    let gateway = Arc::new(Gateway::start(&in_front_of(&origin.url(), "")).await);
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    let mut h2 = H2Caller::connect(gateway.main()).await;
    let asking = tokio::spawn(async move { h2.get("/").await.status });
    until("both requests", || origin.count() == 2).await;
    let left = leave(&gateway, Duration::ZERO, LONG);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!left.is_finished(), "it waits for them");
    go.notify_waiters();
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.fields.get("connection")), (200, Some("close")));
    assert_eq!(asking.await.expect("an answer"), 200);
    assert_eq!(within("the node", left).await.expect("it leaves"), 0);
}

#[tokio::test]
async fn idle_connections_end_and_do_not_hold_the_node() {
    let origin = Origin::ok().await;
    let gateway = Arc::new(Gateway::start(&in_front_of(&origin.url(), "")).await);
    let mut h1 = Caller::connect(gateway.main()).await;
    assert_eq!(h1.get("/").await.status, 200);
    let mut h2 = H2Caller::connect(gateway.main()).await;
    assert_eq!(h2.get("/").await.status, 200);
    let mut fresh = Caller::connect(gateway.main()).await;
    until("all three", || gateway.connections() == 3).await;
    let began = Instant::now();
    assert_eq!(within("the node", leave(&gateway, Duration::ZERO, LONG)).await.expect("it leaves"), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(h1.end().await, b"");
    fresh.end().await;
    h2.end().await;
}

#[tokio::test]
async fn an_announced_node_still_serves_and_says_that_it_leaves() {
    let origin = Origin::ok().await;
    let gateway = Arc::new(Gateway::start(&(listener("serve = [\"health\"]") + &in_front_of(&origin.url(), ""))).await);
    let address = gateway.main();
    let mut before = Caller::connect(address).await;
    assert_eq!(before.get("/readyz").await.status, 200);
    let mut framed = Framed::connect(address).await;
    framed.send(&Frame::request(1, "GET", "/", false)).await.expect("the gateway reads");
    framed.next_of(h2::DATA).await;

    let left = leave(&gateway, Duration::from_secs(2), LONG);
    // HTTP/2 is told at once, without having asked.
    assert_eq!(framed.next_of(h2::GOAWAY).await.reason(), 0);
    drop(framed);
    let answer = before.get("/readyz").await;
    assert_eq!((answer.status, answer.fields.get("connection")), (503, Some("close")), "load balancers are told");
    let newcomer = get(address, "/").await;
    assert_eq!((newcomer.status, newcomer.fields.get("connection")), (200, Some("close")));
    assert_eq!(get(address, "/livez").await.status, 200, "a node that leaves is not sick");
    for _ in 0..5 {
        assert_eq!(H2Caller::connect(address).await.get("/").await.status, 200, "newcomers of HTTP/2 are served as well");
    }
    assert_eq!(within("the node", left).await.expect("it leaves"), 0);
    assert!(Caller::try_connect(address).await.is_none());
}

#[tokio::test]
async fn a_newcomer_of_http_2_that_takes_its_time_is_served_once() {
    let origin = Origin::ok().await;
    let gateway = Arc::new(Gateway::start(&in_front_of(&origin.url(), "")).await);
    let address = gateway.main();
    let mut first = Framed::connect(address).await;
    first.send(&Frame::request(1, "GET", "/", false)).await.expect("the gateway reads");
    first.next_of(h2::DATA).await;
    let left = leave(&gateway, Duration::from_secs(2), LONG);
    first.next_of(h2::GOAWAY).await;
    drop(first);

    // It asks only once it has seen the settings, as many libraries do; a goodbye before that would send it away for nothing.
    let mut newcomer = Framed::connect(address).await;
    newcomer.next_of(h2::SETTINGS).await;
    newcomer.send(&Frame::new(h2::SETTINGS, h2::ACK, 0, [])).await.expect("the gateway reads");
    let early = tokio::time::timeout(Duration::from_millis(100), newcomer.next_of(h2::GOAWAY)).await;
    assert!(early.is_err(), "it is sent away before it has asked for anything");
    newcomer.send(&Frame::request(1, "GET", "/", false)).await.expect("the gateway reads");
    newcomer.next_of(h2::DATA).await;
    newcomer.next_of(h2::GOAWAY).await;
    drop(newcomer);
    assert_eq!(within("the node", left).await.expect("it leaves"), 0);
}

#[tokio::test]
async fn what_takes_longer_than_the_bound_is_cut_off_and_counted() {
    let origin = Origin::start(|exchange| Box::pin(exchange.silence())).await;
    let gateway = Arc::new(Gateway::start(&in_front_of(&origin.url(), "")).await);
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    origin.until("the request", |_| true).await;
    let cut_off = within("the node", leave(&gateway, Duration::ZERO, Duration::from_millis(300))).await.expect("it leaves");
    assert_eq!(cut_off, 1);
    caller.end().await;
}

#[tokio::test]
async fn a_websocket_lives_until_the_bound() {
    let origin = websocket::echoing().await;
    let gateway = Arc::new(Gateway::start(&in_front_of(&origin.url(), "")).await);
    let mut caller = websocket::open(&gateway, "/chat").await;
    let left = leave(&gateway, Duration::ZERO, Duration::from_secs(1));
    websocket::echo(&mut caller, "still here").await;
    assert_eq!(within("the node", left).await.expect("it leaves"), 1);
    caller.end().await;
}

#[tokio::test]
async fn connections_to_endpoints_end_with_the_node() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    assert_eq!(origin.open(), 1);
    gateway.drain(Duration::ZERO, LONG).await;
    drop(gateway);
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn a_listener_that_is_closed_just_after_it_was_announced_ends_all_the_same() {
    for _ in 0..20 {
        let origin = Origin::ok().await;
        let gateway = Arc::new(Gateway::start(&in_front_of(&origin.url(), "")).await);
        let mut idle = Caller::connect(gateway.main()).await;
        assert_eq!(idle.get("/").await.status, 200);
        let began = Instant::now();
        assert_eq!(within("the node", leave(&gateway, Duration::ZERO, LONG)).await.expect("it leaves"), 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

/// Callers that keep their connections and go to `next` as soon as they are told to.
async fn leave_under_load(first: Gateway, next: Gateway, workers: usize) {
    let (first, next_address) = (Arc::new(first), next.main());
    let (first_address, over) = (first.main(), Arc::new(AtomicBool::new(false)));
    let (answered, moved) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..workers {
        let (over, answered, moved) = (over.clone(), answered.clone(), moved.clone());
        asking.spawn(async move {
            let mut caller = Caller::connect(first_address).await;
            let mut told = false;
            while !over.load(SeqCst) {
                if told {
                    caller = Caller::connect(next_address).await;
                    moved.fetch_add(1, SeqCst);
                }
                let answer = caller.ask(request("POST /", &["content-length: 5"], "hello")).await;
                assert_eq!(answer.status, 200, "caller {number}");
                answered.fetch_add(1, SeqCst);
                told = answer.fields.get("connection") == Some("close");
            }
        });
    }
    until("traffic", || answered.load(SeqCst) > 100).await;
    let cut_off = within("the node", leave(&first, Duration::from_millis(500), LONG)).await.expect("it leaves");
    let after = answered.load(SeqCst);
    until("traffic elsewhere", || answered.load(SeqCst) > after + 100).await;
    over.store(true, SeqCst);
    asking.join_all().await;
    assert_eq!(cut_off, 0);
    assert_eq!(moved.load(SeqCst), workers, "each was told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_listens_to_the_goodbye_notices_it() {
    let origin = Origin::echo().await;
    let text = in_front_of(&origin.url(), "");
    leave_under_load(Gateway::start(&text).await, Gateway::start(&text).await, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_listens_to_the_goodbye_of_http_2_notices_it() {
    let origin = Origin::echo().await;
    let text = in_front_of(&origin.url(), "");
    let (first, next) = (Arc::new(Gateway::start(&text).await), Gateway::start(&text).await);
    let (first_address, next_address) = (first.main(), next.main());
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (over, answered) = (over.clone(), answered.clone());
        asking.spawn(async move {
            let mut caller = H2Caller::connect(first_address).await;
            while !over.load(SeqCst) {
                if caller.is_over() {
                    caller = H2Caller::connect(next_address).await;
                }
                match caller.post("/", "hello").await {
                    Some(reply) => {
                        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "hello"));
                        answered.fetch_add(1, SeqCst);
                    }
                    None => caller = H2Caller::connect(next_address).await,
                }
            }
        });
    }
    until("traffic", || answered.load(SeqCst) > 100).await;
    let cut_off = within("the node", leave(&first, Duration::from_millis(300), LONG)).await.expect("it leaves");
    let after = answered.load(SeqCst);
    until("traffic elsewhere", || answered.load(SeqCst) > after + 100).await;
    over.store(true, SeqCst);
    asking.join_all().await;
    assert_eq!(cut_off, 0);
    assert_eq!(origin.count(), answered.load(SeqCst), "whatever was not answered was not looked at either");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_let_in_is_answered() {
    let origin = Origin::echo().await;
    let text = in_front_of(&origin.url(), "");
    let first = Arc::new(Gateway::start(&text).await);
    let (address, closed, answered) = (first.main(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (closed, answered) = (closed.clone(), answered.clone());
        asking.spawn(async move {
            // A connection for each request, until nobody listens any more.
            while let Some(mut caller) = Caller::try_connect(address).await {
                let answer = caller.ask(request("POST /", &["content-length: 5"], "hello")).await;
                assert_eq!(answer.status, 200);
                answered.fetch_add(1, SeqCst);
            }
            closed.fetch_add(1, SeqCst);
        });
    }
    until("traffic", || answered.load(SeqCst) > 100).await;
    assert_eq!(within("the node", leave(&first, Duration::from_millis(100), LONG)).await.expect("it leaves"), 0);
    asking.join_all().await;
    assert_eq!(closed.load(SeqCst), 4);
}
