//! A connection that becomes a WebSocket carries bytes both ways until one side ends it.

use shoal_tests::{
    Caller, Gateway, Origin, ask, in_front_of, listener, request,
    wait::{until, within},
    websocket::{ACCEPT, KEY, hello, receive, send, welcome},
};

/// Greets, and sends every text back until the other side is gone.
pub(super) async fn echoing() -> Origin {
    Origin::start(|exchange| {
        Box::pin(async move {
            if !exchange.request.fields.has("upgrade") {
                return exchange.answer("200 OK", "", "ok").await;
            }
            exchange.hang_up();
            exchange.say(welcome()).await?;
            while let Some(text) = receive(&mut exchange.wire).await? {
                send(&mut exchange.wire, &text, false).await?;
            }
            Ok(())
        })
    })
    .await
}

pub(super) async fn open(gateway: &Gateway, path: &str) -> Caller {
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(hello(path)).await;
    let head = caller.head().await;
    assert!(head.start.starts_with("HTTP/1.1 101 "), "{}", head.start);
    assert_eq!(head.fields.get("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(head.fields.get("upgrade"), Some("websocket"));
    caller
}

pub(super) async fn echo(caller: &mut Caller, text: &str) {
    within("room to send", send(&mut caller.wire, text, true)).await.expect("the socket stands");
    let echoed = within("an echo", receive(&mut caller.wire)).await.expect("the socket stands");
    assert_eq!(echoed.as_deref(), Some(text));
}

#[tokio::test]
async fn a_websocket_carries_messages_both_ways() {
    let origin = echoing().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = open(&gateway, "/chat").await;
    for word in ["one", "two", "three"] {
        echo(&mut caller, word).await;
    }
    let seen = origin.request();
    assert_eq!(seen.target, "/chat");
    assert_eq!(seen.fields.get("sec-websocket-key"), Some(KEY));
    assert_eq!(seen.fields.get("sec-websocket-version"), Some("13"));
    assert_eq!(gateway.connections(), 1);
    drop(caller);
    until("the endpoint to be let go", || origin.open() == 0).await;
    until("the connection to be forgotten", || gateway.connections() == 0).await;
}

#[tokio::test]
async fn an_endpoint_may_end_a_websocket() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.hang_up();
            exchange.say(welcome()).await?;
            send(&mut exchange.wire, "bye", false).await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = open(&gateway, "/").await;
    assert_eq!(within("a message", receive(&mut caller.wire)).await.expect("a message").as_deref(), Some("bye"));
    assert_eq!(within("the end", receive(&mut caller.wire)).await.expect("an end"), None);
}

#[tokio::test]
async fn a_route_without_websockets_refuses_them() {
    let origin = echoing().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "websocket = false")).await;
    ask(gateway.main(), hello("/")).await.refuses(403, "E4031");
    assert_eq!(origin.count(), 0);
    assert_eq!(ask(gateway.main(), request("GET /", &[], "")).await.status, 200);
}

#[tokio::test]
async fn an_endpoint_may_decline_a_websocket() {
    let origin = Origin::saying("426 Upgrade Required", "not here").await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let answer = caller.ask(hello("/")).await;
    assert_eq!((answer.status, answer.text().as_str()), (426, "not here"));
}

#[tokio::test]
async fn nothing_of_a_declined_websocket_is_passed_on() {
    let origin = Origin::saying("400 Bad Request", "no").await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    // Sent before the endpoint has agreed to anything, in the hope that it is tunnelled.
    caller.send(hello("/") + "GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert_eq!(caller.answer().await.status, 400);
    let _ = caller.wire.finish().await;
    caller.end().await;
    let seen = origin.requests();
    // It may be answered as the request that it is; as such it has been through everything that requests go through.
    assert!(seen.iter().all(|request| request.fields.has("x-request-id")), "{seen:?}");
}

#[tokio::test]
async fn bytes_sent_before_the_greeting_is_over_are_kept() {
    let origin = echoing().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let mut early = hello("/").into_bytes();
    early.extend([0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    caller.send(early).await;
    assert!(caller.head().await.start.starts_with("HTTP/1.1 101 "));
    assert_eq!(within("an echo", receive(&mut caller.wire)).await.expect("an echo").as_deref(), Some("hi"));
}

#[tokio::test]
async fn a_websocket_that_stays_silent_is_ended() {
    let origin = echoing().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { idle = \"200ms\" }")).await;
    let mut caller = open(&gateway, "/").await;
    echo(&mut caller, "hello").await;
    caller.end().await;
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn a_websocket_outlives_what_other_requests_may_take() {
    let origin = echoing().await;
    let bounds = listener("bounds = { head_timeout = \"100ms\", keep_alive = \"100ms\", body_idle = \"100ms\" }");
    let gateway = Gateway::start(&(bounds + &in_front_of(&origin.url(), "deadlines = { first_byte = \"100ms\" }"))).await;
    let mut caller = open(&gateway, "/").await;
    for _ in 0..6 {
        tokio::time::sleep(std::time::Duration::from_millis(80)).await;
        echo(&mut caller, "still here").await;
    }
}

#[tokio::test]
async fn an_unreachable_websocket_is_a_bad_gateway() {
    let nobody = shoal_tests::origin::nobody().await;
    let gateway = Gateway::start(&in_front_of(&format!("http://{nobody}"), "")).await;
    ask(gateway.main(), hello("/")).await.refuses(502, "E5020");
}
