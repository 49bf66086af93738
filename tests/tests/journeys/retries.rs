//! A request is tried again only where nothing can be done twice.

use shoal_tests::{
    Caller, Exchange, Gateway, Origin, ask, get,
    origin::{BoxFuture, nobody},
    request,
};
use std::io;

/// Closes the connection without a word, after it has read the request.
fn hangs_up(exchange: &mut Exchange) -> BoxFuture<'_, io::Result<()>> {
    Box::pin(async move {
        exchange.body().await?;
        exchange.hang_up();
        Ok(())
    })
}

/// Endpoints are asked in turn, so that the first request goes to the first of them.
fn two(first: &str, second: &str, keys: &str) -> String {
    format!(
        "[service.up]\nendpoints = [\"{first}\", \"{second}\"]\nbalance = \"round_robin\"\n{keys}\n\
         [[route]]\nmatch = \"/**\"\nservice = \"up\"\n"
    )
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_passed_over() {
    let (nobody, origin) = (nobody().await, Origin::echo().await);
    let gateway = Gateway::start(&two(&format!("http://{nobody}"), &origin.url(), "")).await;
    for _ in 0..6 {
        // Nothing was sent to the other one, so that any method may go on.
        let answer = ask(gateway.main(), request("POST /", &["content-length: 5"], "hello")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    assert_eq!(origin.count(), 6);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let (one, two_) = (Origin::start(hangs_up).await, Origin::start(hangs_up).await);
    let gateway = Gateway::start(&two(&one.url(), &two_.url(), "retry = { max = 5 }")).await;
    for count in 1..=6 {
        ask(gateway.main(), request("POST /", &["content-length: 5"], "hello")).await.refuses(502, "E5021");
        assert_eq!(one.count() + two_.count(), count);
    }
    // Not even where the connection had been used before.
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            if exchange.request.method == "GET" { exchange.answer("200 OK", "", "ok").await } else { hangs_up(exchange).await }
        })
    })
    .await;
    let gateway = Gateway::start(&two(&origin.url(), &one.url(), "").replace(&format!(", \"{}\"", one.url()), "")).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    ask(gateway.main(), request("POST /", &["content-length: 5"], "hello")).await.refuses(502, "E5021");
    assert_eq!(origin.requests().iter().filter(|request| request.method == "POST").count(), 1);
}

#[tokio::test]
async fn a_get_that_broke_off_is_tried_elsewhere() {
    let (bad, good) = (Origin::start(hangs_up).await, Origin::ok().await);
    let gateway = Gateway::start(&two(&bad.url(), &good.url(), "")).await;
    for _ in 0..4 {
        assert_eq!(get(gateway.main(), "/").await.status, 200);
    }
    assert!(bad.count() >= 1, "it was tried");
    assert_eq!(good.count(), 4);
}

#[tokio::test]
async fn a_put_is_tried_elsewhere_with_its_whole_body() {
    let (bad, good) = (Origin::start(hangs_up).await, Origin::echo().await);
    let gateway = Gateway::start(&two(&bad.url(), &good.url(), "")).await;
    for (field, sent) in [("content-length: 5", "hello"), ("transfer-encoding: chunked", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")] {
        for _ in 0..2 {
            let answer = ask(gateway.main(), request("PUT /", &[field], sent)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{field}");
        }
    }
    assert!(bad.count() >= 1 && bad.requests().iter().all(|request| request.text() == "hello"));
}

#[tokio::test]
async fn a_body_too_large_to_keep_is_not_tried_again() {
    let (bad, good) = (Origin::start(hangs_up).await, Origin::ok().await);
    let gateway = Gateway::start(&two(&bad.url(), &good.url(), "")).await;
    let body = "x".repeat(200_000);
    let put = request("PUT /", &[&format!("content-length: {}", body.len())], &body);
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(ask(gateway.main(), &put).await.status);
    }
    statuses.sort();
    assert_eq!((statuses, bad.count(), good.count()), (vec![200, 502], 1, 1));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_nothing() {
    // Each connection carries one request; its end comes with the answer, or a moment later.
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.answer("200 OK", "", "ok").await?;
            exchange.hang_up();
            Ok(())
        })
    })
    .await;
    let gateway =
        Gateway::start(&two(&origin.url(), &origin.url(), "retry = { max = 0 }").replacen(&format!(", \"{}\"", origin.url()), "", 1)).await;
    let mut caller = Caller::connect(gateway.main()).await;
    for _ in 0..50 {
        assert_eq!(caller.get("/").await.status, 200);
    }
    assert_eq!(origin.count(), 50);
}

#[tokio::test]
async fn statuses_that_a_service_names_are_tried_elsewhere() {
    for (line, tried_again) in [("GET /", true), ("PUT /", true), ("DELETE /", true), ("POST /", false), ("PATCH /", false)] {
        let (bad, good) = (Origin::saying("503 Service Unavailable", "no").await, Origin::ok().await);
        let gateway = Gateway::start(&two(&bad.url(), &good.url(), "retry = { statuses = [503] }")).await;
        let mut caller = Caller::connect(gateway.main()).await;
        let mut statuses = vec![caller.ask(request(line, &[], "")).await.status, caller.ask(request(line, &[], "")).await.status];
        statuses.sort();
        assert_eq!(statuses, if tried_again { [200, 200] } else { [200, 503] }, "{line}");
    }
}

#[tokio::test]
async fn a_status_that_nobody_names_is_an_answer() {
    let (bad, good) = (Origin::saying("503 Service Unavailable", "no").await, Origin::ok().await);
    let gateway = Gateway::start(&two(&bad.url(), &good.url(), "retry = { statuses = [] }")).await;
    let mut statuses = vec![get(gateway.main(), "/").await.status, get(gateway.main(), "/").await.status];
    statuses.sort();
    assert_eq!(statuses, [200, 503]);
}

#[tokio::test]
async fn the_last_answer_is_passed_on_where_all_are_bad() {
    let (one, other) = (Origin::saying("503 Service Unavailable", "no").await, Origin::saying("503 Service Unavailable", "no").await);
    let gateway = Gateway::start(&two(&one.url(), &other.url(), "retry = { statuses = [503] }")).await;
    let answer = get(gateway.main(), "/").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "no"));
    assert_eq!((one.count(), other.count()), (1, 1));
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let (bad, good) = (Origin::saying("503 Service Unavailable", "no").await, Origin::saying("503 Service Unavailable", "no").await);
    let gateway = Gateway::start(&two(
        &bad.url(),
        &good.url(),
        "retry = { statuses = [503], budget = \"0%\", budget_min = 3, backoff_min = \"0ms\", backoff_max = \"0ms\" }",
    ))
    .await;
    let began = std::time::Instant::now();
    for _ in 0..40 {
        assert_eq!(get(gateway.main(), "/").await.status, 503);
    }
    let retries = bad.count() + good.count() - 40;
    // Three at once, and three for each second that has passed.
    let most = 3 + 3 * (began.elapsed().as_secs() as usize + 1);
    assert!((1..=most).contains(&retries), "{retries} retries");
}

#[tokio::test]
async fn a_route_may_turn_retries_off() {
    let (nobody, origin) = (nobody().await, Origin::ok().await);
    let text = two(&format!("http://{nobody}"), &origin.url(), "") + "retry = { max = 0 }\n";
    let gateway = Gateway::start(&text).await;
    let mut statuses = vec![get(gateway.main(), "/").await.status, get(gateway.main(), "/").await.status];
    statuses.sort();
    assert_eq!(statuses, [200, 502]);
}
