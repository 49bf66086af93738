//! Nothing is collected on the way: what one side sends, the other gets, at the pace of the slower.

use shoal_tests::{
    Caller, Exchange, Gateway, Origin, get,
    h1::{Decoder, Head},
    in_front_of, request,
    wait::{until, within},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::Notify;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn an_event_arrives_before_the_next_one_is_sent() {
    let next = Arc::new(Notify::new());
    let origin = Origin::start({
        let next = next.clone();
        move |exchange| {
            let next = next.clone();
            Box::pin(async move {
                exchange.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                for event in 0..5 {
                    next.notified().await;
                    exchange.chunk(format!("data: {event}\n\n")).await?;
                }
                exchange.chunk("").await
            })
        }
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("GET /events", &[], "")).await;
    let (head, mut body) = caller.begin().await;
    assert_eq!(head.fields.get("content-type"), Some("text/event-stream"));
    for event in 0..5 {
        next.notify_one();
        let piece = caller.piece(&mut body).await.expect("an event").expect("an event");
        assert_eq!(String::from_utf8_lossy(&piece), format!("data: {event}\n\n"));
    }
    assert_eq!(caller.piece(&mut body).await.expect("an end"), None);
}

#[tokio::test]
async fn an_upload_reaches_the_endpoint_while_it_is_sent() {
    for (field, piece) in [("content-length: 15", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n")] {
        let origin = Origin::ok().await;
        let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("POST /", &[field], "")).await;
        for count in 1..=3 {
            caller.send(piece).await;
            origin.until("a piece of the upload", |request| request.body_size == count * 5).await;
        }
        if field.contains("chunked") {
            caller.send("0\r\n\r\n").await;
        }
        assert_eq!(caller.answer().await.status, 200);
        assert_eq!(origin.request().text(), "hellohellohello");
    }
}

#[tokio::test]
async fn both_ways_flow_at_once() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            while let Some(piece) = exchange.piece().await? {
                exchange.chunk(piece).await?;
            }
            exchange.chunk("").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /", &["transfer-encoding: chunked"], "")).await;
    let (_, mut body) = caller.begin().await;
    for word in ["one", "two", "six"] {
        caller.send(format!("3\r\n{word}\r\n")).await;
        let piece = caller.piece(&mut body).await.expect("an echo").expect("an echo");
        assert_eq!(String::from_utf8_lossy(&piece), word);
    }
    caller.send("0\r\n\r\n").await;
    assert_eq!(caller.piece(&mut body).await.expect("an end"), None);
}

/// An endpoint that sends without end and counts what it got rid of.
async fn gushing(sent: Arc<AtomicU64>) -> Origin {
    Origin::start(move |exchange: &mut Exchange| {
        let sent = sent.clone();
        Box::pin(async move {
            exchange.say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2)).await?;
            let piece = vec![b'x'; 64 * 1024];
            loop {
                exchange.say(&piece).await?;
                sent.fetch_add(piece.len() as u64, SeqCst);
            }
        })
    })
    .await
}

/// Waits until a number has stopped growing.
async fn standstill(what: &str, number: impl Fn() -> u64) -> u64 {
    let (mut seen, mut looks) = (0, 0);
    within(what, async {
        while looks < 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            looks = if number() == seen && seen > 0 { looks + 1 } else { 0 };
            seen = number();
        }
        seen
    })
    .await
}

#[tokio::test]
async fn a_caller_that_does_not_read_holds_its_endpoint_back() {
    let sent = Arc::new(AtomicU64::new(0));
    let origin = gushing(sent.clone()).await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect_narrow(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    let taken = standstill("the endpoint to be held back", || sent.load(SeqCst)).await;
    // What the kernel keeps on two connections, and a little of the gateway's.
    assert!(taken < 24 * MIB as u64, "{taken} bytes were taken from the endpoint for a caller that reads nothing");
    drop(caller);
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_read_holds_its_caller_back() {
    let origin = Origin::start(|_| Box::pin(std::future::pending::<io::Result<()>>())).await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "max_body = \"unlimited\"")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /", &["content-length: 9000000000"], "")).await;
    let sent = AtomicU64::new(0);
    let sending = async {
        let piece = vec![b'x'; 64 * 1024];
        loop {
            caller.wire.send(&piece).await.expect("the gateway holds on");
            sent.fetch_add(piece.len() as u64, SeqCst);
        }
    };
    tokio::select! {
        taken = standstill("the caller to be held back", || sent.load(SeqCst)) => {
            assert!(taken < 24 * MIB as u64, "{taken} bytes were taken from the caller for an endpoint that reads nothing");
        }
        () = sending => {}
    }
}

fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[tokio::test]
async fn large_bodies_arrive_as_they_were_sent() {
    let size = 8 * MIB;
    let origin = Origin::start(move |exchange| {
        Box::pin(async move {
            let received = exchange.body().await?;
            let same = received == noise(size);
            exchange.answer(if same { "200 OK" } else { "500 Different" }, "", received).await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "max_body = \"unlimited\"")).await;
    for (field, chunked) in [(format!("content-length: {size}"), false), ("transfer-encoding: chunked".to_string(), true)] {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("PUT /big", &[&field], "")).await;
        for piece in noise(size).chunks(100_000) {
            match chunked {
                true => caller.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await,
                false => caller.send(piece).await,
            }
        }
        if chunked {
            caller.send("0\r\n\r\n").await;
        }
        let answer = caller.answer().await;
        assert!(answer.status == 200 && answer.body == noise(size), "{field}: {}", answer.status);
    }
}

#[tokio::test]
async fn trailers_of_an_answer_reach_a_caller_that_takes_them() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange
                .say("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n")
                .await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let answer = caller.ask(request("GET /", &["te: trailers"], "")).await;
    assert_eq!((answer.text().as_str(), answer.trailers.get("x-sum")), ("hello", Some("42")));
    assert_eq!(answer.fields.get("trailer"), Some("x-sum"));
    // One that did not ask for them gets a whole answer all the same.
    assert_eq!(caller.get("/").await.text(), "hello");
}

#[tokio::test]
async fn trailers_of_a_request_do_no_harm() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let body = "5\r\nhello\r\n0\r\ncontent-length: 3\r\nhost: evil.test\r\nx-forwarded-for: 6.6.6.6\r\n\r\n";
    let answer = caller.ask(request("POST /", &["transfer-encoding: chunked", "trailer: x-sum"], body)).await;
    assert_eq!(answer.status, 200);
    let seen = origin.request();
    assert_eq!(seen.text(), "hello");
    assert!(seen.trailers.0.is_empty(), "{:?}", seen.trailers);
    assert_eq!(caller.get("/next").await.status, 200);
}

#[tokio::test]
async fn a_caller_is_told_to_continue_only_once_its_body_is_wanted() {
    let origin = Origin::echo().await;
    let text = in_front_of(&origin.url(), "max_body = \"10B\"\nlimit = \"2/h burst 2 per route\"").replace("/**", "/here");
    let gateway = Gateway::start(&text).await;
    let expecting =
        |path: &str, length: u64| request(&format!("POST {path}"), &["expect: 100-continue", &format!("content-length: {length}")], "");

    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(expecting("/here", 5)).await;
    let (go_on, _) = caller.begin().await;
    assert!(go_on.start.starts_with("HTTP/1.1 100 "), "{}", go_on.start);
    caller.send("hello").await;
    assert_eq!(caller.answer().await.text(), "hello");

    for (path, length, status) in [("/elsewhere", 5, 404), ("/here", 11, 413), ("/here", 5, 429)] {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(expecting(path, length)).await;
        let answer = caller.answer().await;
        assert_eq!(answer.status, status, "{path} {length}: the first thing said is the refusal");
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_whole() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.hang_up();
            exchange.answer("403 Forbidden", "connection: close\r\n", "no").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /", &["content-length: 100"], "some")).await;
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
}

#[tokio::test]
async fn what_a_refused_caller_still_sends_is_not_taken_for_a_request() {
    let origin = Origin::ok().await;
    let text = in_front_of(&origin.url(), "").replace("/**", "/here");
    let gateway = Gateway::start(&text).await;
    let smuggled = request("GET /here", &[], "");
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /nowhere", &[&format!("content-length: {}", smuggled.len())], &smuggled)).await;
    assert_eq!(caller.answer().await.status, 404);
    // Whether the connection goes on or not, the body is not answered.
    let _ = caller.try_send(request("GET /nowhere", &[], "")).await;
    let rest = String::from_utf8_lossy(&caller_end(caller).await).into_owned();
    assert!(!rest.contains(" 200 "), "{rest}");
    assert_eq!(origin.count(), 0);
}

/// Everything that is still said, until nothing is for a while or the connection ends.
async fn caller_end(mut caller: Caller) -> Vec<u8> {
    let _ = caller.wire.finish().await;
    caller.end().await
}

#[tokio::test]
async fn a_caller_that_is_still_sending_can_read_why_it_was_refused() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "max_body = \"1KiB\"")).await;
    for _ in 0..10 {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("POST /", &["content-length: 400000"], "")).await;
        // The refusal is on its way before the body is sent; all of that must not destroy it.
        let _ = caller.try_send(vec![b'x'; 400_000]).await;
        caller.answer().await.refuses(413, "E4130");
    }
}

#[tokio::test]
async fn a_refused_caller_is_heard_out_for_a_moment() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "max_body = \"1KiB\"")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /", &["content-length: 300000"], "")).await;
    caller.answer().await.refuses(413, "E4130");
    // Were the connection closed with these unread, it would be reset, and the next would not be taken.
    for _ in 0..20 {
        caller.try_send([b'x'; 10_000]).await.expect("what was on its way is taken");
    }
    assert_eq!(caller.end().await, b"");
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_refusal_says_whether_its_connection_goes_on() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "").replace("/**", "/here")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /nowhere", &["content-length: 6"], "")).await;
    caller.send("little").await;
    let little = caller.answer().await;
    assert_eq!((little.status, little.fields.get("connection")), (404, None));
    assert_eq!(caller.get("/here").await.status, 200);

    let much = caller.ask(request("POST /nowhere", &["content-length: 100000"], "")).await;
    assert_eq!((much.status, much.fields.get("connection")), (404, Some("close")));
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.hang_up();
            exchange.say("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    assert_eq!(caller.get("/").await.text(), "until the end");
    assert_eq!(caller.get("/").await.text(), "until the end");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for framing in ["content-length: 100", "transfer-encoding: chunked"] {
        let origin = Origin::start(move |exchange| {
            Box::pin(async move {
                exchange.hang_up();
                exchange.say(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n")).await
            })
        })
        .await;
        let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("GET /", &[], "")).await;
        let raw = within("the head of an answer", caller.wire.head()).await.expect("the connection still stands");
        let head = Head::parse(&raw.expect("what came before the fault is passed on")).expect("a head");
        let mut body = Decoder::new(head.framing().expect("a framing").expect("a framing"));
        let read = within("the end of the answer", caller.wire.body(&mut body)).await;
        assert!(read.is_err(), "{framing}: {read:?}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_request_with_it() {
    let origin = Origin::start(|exchange| Box::pin(exchange.silence())).await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    origin.until("the request", |_| true).await;
    drop(caller);
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn an_endpoint_that_keeps_its_connection_is_asked_on_it_after_a_stream() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            exchange.chunk("a").await?;
            exchange.chunk("b").await?;
            exchange.chunk("").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for _ in 0..5 {
        assert_eq!(get(gateway.main(), "/").await.text(), "ab");
    }
    assert_eq!(origin.connections(), 1);
}
