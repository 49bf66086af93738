//! How long an endpoint may take.

use shoal_tests::{
    Caller, Gateway, Origin, ask, get,
    http2::H2Caller,
    in_front_of, request,
    wait::{until, within},
};
use std::{
    io,
    time::{Duration, Instant},
};

async fn silent() -> Origin {
    Origin::start(|exchange| Box::pin(exchange.silence())).await
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_time_is_504() {
    let origin = silent().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { first_byte = \"200ms\" }")).await;
    get(gateway.main(), "/").await.refuses(504, "E5040");
    ask(gateway.main(), request("POST /", &["content-length: 5"], "hello")).await.refuses(504, "E5040");
    assert_eq!(H2Caller::connect(gateway.main()).await.get("/").await.status, 504);
    assert_eq!(origin.count(), 3, "what may have been acted on is not tried again");
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn interim_answers_without_end_are_no_answer() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            let storm = "HTTP/1.1 100 Continue\r\n\r\n".repeat(500);
            loop {
                exchange.say(&storm).await?;
            }
            #[expect(unreachable_code, reason = "it gives the type of the loop that only an error ends")]
            io::Result::Ok(())
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { first_byte = \"300ms\" }")).await;
    get(gateway.main(), "/").await.refuses(502, "E5021");
    assert_eq!(H2Caller::connect(gateway.main()).await.get("/").await.status, 502);
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn the_total_bounds_everything_together() {
    let origin = silent().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { total = \"200ms\", first_byte = \"10s\" }")).await;
    let began = Instant::now();
    get(gateway.main(), "/").await.refuses(504, "E5041");
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_total_ends_an_answer_that_never_ends() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                exchange.chunk("tick").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { total = \"300ms\" }")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    let (head, mut body) = caller.begin().await;
    assert!(head.start.contains(" 200 "), "{}", head.start);
    assert!(within("the end of the answer", caller.wire.body(&mut body)).await.is_err(), "it does not look whole");
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn the_total_ends_an_answer_that_never_pauses() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                exchange.chunk([b'x'; 16 * 1024]).await?;
            }
            #[expect(unreachable_code, reason = "it gives the type of the loop that only an error ends")]
            io::Result::Ok(())
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { total = \"300ms\" }")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    let (_, mut body) = caller.begin().await;
    let ended = within("the end of the answer", async { while matches!(caller.wire.piece(&mut body).await, Ok(Some(_))) {} });
    ended.await;
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn an_answer_that_stands_still_is_ended() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await?;
            exchange.silence().await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { idle = \"200ms\" }")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    let (_, mut body) = caller.begin().await;
    assert!(within("the end of the answer", caller.wire.body(&mut body)).await.is_err());
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn an_answer_that_moves_may_take_longer() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(80)).await;
                exchange.chunk("x").await?;
            }
            exchange.chunk("").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { idle = \"300ms\", first_byte = \"300ms\" }")).await;
    assert_eq!(get(gateway.main(), "/").await.text(), "xxxxxxxx");
}

#[tokio::test]
async fn an_endpoint_is_not_late_while_the_upload_moves() {
    let origin = Origin::echo().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "deadlines = { first_byte = \"300ms\" }")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /", &["content-length: 8"], "")).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        caller.send("x").await;
    }
    assert_eq!(caller.answer().await.text(), "xxxxxxxx");
}

#[tokio::test]
async fn a_route_overrides_what_its_service_says_key_by_key() {
    let origin = silent().await;
    let text = format!(
        "[service.up]\nendpoints = [\"{}\"]\ndeadlines = {{ first_byte = \"10s\", total = \"20s\" }}\n\
         [[route]]\nmatch = \"/**\"\nservice = \"up\"\ndeadlines = {{ first_byte = \"150ms\" }}\n",
        origin.url()
    );
    let gateway = Gateway::start(&text).await;
    get(gateway.main(), "/").await.refuses(504, "E5040");
}

#[tokio::test]
async fn an_address_that_swallows_connections_is_given_up_in_time() {
    // The backlog of a listener that never accepts fills up; the next connection gets no answer at all.
    let listener = {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        socket.listen(1).expect("a listener")
    };
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    loop {
        let connecting = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(150), connecting).await {
            Ok(Ok(stream)) => waiting.push(stream),
            _ => break,
        }
        assert!(waiting.len() < 100, "a backlog of one has an end");
    }
    let gateway = Gateway::start(&in_front_of(&format!("http://{address}"), "deadlines = { connect = \"200ms\" }")).await;
    get(gateway.main(), "/").await.refuses(502, "E5020");
}
