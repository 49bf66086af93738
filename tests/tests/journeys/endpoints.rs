//! What an endpoint may do wrong, and that it becomes 502 instead of a caller that waits.

use shoal_tests::{
    Caller, Gateway, Origin, ask, get,
    http2::{self, H2Caller},
    in_front_of, listener,
    origin::nobody,
    request,
    wait::{until, within},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
};

#[tokio::test]
async fn nobody_there_is_502() {
    let gateway = Gateway::start(&in_front_of(&format!("http://{}", nobody().await), "")).await;
    get(gateway.main(), "/").await.refuses(502, "E5020");
    ask(gateway.main(), request("POST /", &["content-length: 5"], "hello")).await.refuses(502, "E5020");
}

#[tokio::test]
async fn a_name_without_an_address_is_502() {
    let gateway = Gateway::start(&in_front_of("http://nowhere.invalid:80", "deadlines = { connect = \"2s\" }")).await;
    get(gateway.main(), "/").await.refuses(502, "E5020");
}

#[tokio::test]
async fn a_name_is_resolved() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&format!("http://localhost:{}", origin.address.port()), "")).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_is_none_is_502() {
    for said in [
        "",
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: b\0c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx a: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0",
        "\x15\x03\x03\0\x02\x02\x46",
    ] {
        let origin = Origin::start(move |exchange| {
            Box::pin(async move {
                exchange.hang_up();
                exchange.say(said).await
            })
        })
        .await;
        let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
        get(gateway.main(), "/").await.refuses(502, "E5021");
        let mut caller = H2Caller::connect(gateway.main()).await;
        let post = http2::request(http::Method::POST, "/").body(http2::full("x")).expect("a request");
        assert_eq!(caller.send(post).await.status, 502, "{said:?}");
    }
}

#[tokio::test]
async fn an_answer_with_two_lengths_is_not_passed_on_with_both() {
    for fields in ["transfer-encoding: chunked\r\ncontent-length: 3", "content-length: 3\r\ntransfer-encoding: chunked"] {
        let origin = Origin::start(move |exchange| {
            Box::pin(async move { exchange.say(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await })
        })
        .await;
        let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
        get(gateway.main(), "/").await.refuses(502, "E5021");
        assert_eq!(H2Caller::connect(gateway.main()).await.get("/").await.status, 502);
    }
}

#[tokio::test]
async fn an_answer_in_an_encoding_that_nobody_knows_is_502() {
    for encoding in ["gzip", "gzip, chunked", "chunked, chunked"] {
        let origin = Origin::start(move |exchange| {
            Box::pin(async move {
                exchange.hang_up();
                exchange.say(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {encoding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await
            })
        })
        .await;
        let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
        get(gateway.main(), "/").await.refuses(502, "E5021");
    }
}

#[tokio::test]
async fn an_answer_whose_head_has_no_end_is_502() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.hang_up();
            exchange.say("HTTP/1.1 200 OK\r\n").await?;
            for _ in 0..1_000 {
                exchange.say(format!("x-a: {}\r\n", "b".repeat(1_000))).await?;
            }
            Ok(())
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    get(gateway.main(), "/").await.refuses(502, "E5021");
}

#[tokio::test]
async fn an_answer_in_bad_chunks_breaks_off() {
    for body in ["5\r\nhelloXX0\r\n\r\n", "g\r\nhello\r\n0\r\n\r\n", "-1\r\n\r\n"] {
        let origin = Origin::start(move |exchange| {
            Box::pin(async move {
                exchange.hang_up();
                exchange.say(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n{body}")).await
            })
        })
        .await;
        let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("GET /", &[], "")).await;
        let head = within("an answer", caller.wire.head()).await;
        // A caller that saw no byte of an answer might ask again.
        let raw = head.expect("the connection still stands").expect("what came before the fault is passed on");
        let head = shoal_tests::h1::Head::parse(&raw).expect("a head");
        let mut decoder = shoal_tests::h1::Decoder::new(shoal_tests::h1::Framing::Chunked);
        let whole = within("the end of the answer", caller.wire.body(&mut decoder)).await;
        assert!(head.start.contains(" 502 ") || whole.is_err(), "{body:?}: {whole:?}");
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_not_taken_for_the_next() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    for _ in 0..5 {
        assert_eq!(caller.get("/").await.text(), "ok");
    }
}

#[tokio::test]
async fn an_endpoint_that_answers_before_it_is_asked_is_not_believed() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
            kept.push(stream);
        }
    });
    let gateway = Gateway::start(&in_front_of(&format!("http://{address}"), "deadlines = { first_byte = \"500ms\" }")).await;
    // It may be too early to tell; what counts is that nothing hangs and nothing is mixed up.
    for _ in 0..3 {
        let answer = get(gateway.main(), "/").await;
        assert!(matches!(answer.status, 200 | 502 | 504), "{}", answer.status);
    }
    serving.abort();
}

#[tokio::test]
async fn informational_answers_are_not_the_answer() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await?;
            exchange.answer("200 OK", "", "ok").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    assert_eq!(caller.get("/").await.text(), "ok");
    assert_eq!(caller.get("/").await.text(), "ok");
}

#[tokio::test]
async fn a_pool_that_is_full_is_503_and_says_when_to_come_back() {
    let origin = Origin::start(|exchange| Box::pin(exchange.silence())).await;
    let text = format!(
        "[service.up]\nendpoints = [\"{}\"]\npool = {{ max_connections = 2, max_idle = 2 }}\ndeadlines = {{ connect = \"200ms\" }}\n\
         [[route]]\nmatch = \"/**\"\nservice = \"up\"\n",
        origin.url()
    );
    let gateway = Gateway::start(&text).await;
    let mut busy = Vec::new();
    for count in 1..=2 {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("GET /", &[], "")).await;
        until("the request", || origin.count() == count).await;
        busy.push(caller);
    }
    let refused = get(gateway.main(), "/").await;
    refused.refuses(503, "E5030");
    assert_eq!(refused.fields.get("retry-after"), Some("1"));
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_request_waits_for_a_connection_that_is_about_to_be_free() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            exchange.answer("200 OK", "", "ok").await
        })
    })
    .await;
    let text = format!(
        "[service.up]\nendpoints = [\"{}\"]\npool = {{ max_connections = 1, max_idle = 1 }}\ndeadlines = {{ connect = \"5s\" }}\n\
         [[route]]\nmatch = \"/**\"\nservice = \"up\"\n",
        origin.url()
    );
    let gateway = Gateway::start(&text).await;
    let address = gateway.main();
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        asking.spawn(async move { get(address, "/").await.status });
    }
    assert!(asking.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_pool_keeps_no_more_idle_connections_than_it_may() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            exchange.answer("200 OK", "", "ok").await
        })
    })
    .await;
    let text = format!(
        "[service.up]\nendpoints = [\"{}\"]\npool = {{ max_idle = 2 }}\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n",
        origin.url()
    );
    let gateway = Gateway::start(&text).await;
    let address = gateway.main();
    let mut asking = JoinSet::new();
    for _ in 0..10 {
        asking.spawn(async move { get(address, "/").await.status });
    }
    assert!(asking.join_all().await.into_iter().all(|status| status == 200));
    until("the others to be closed", || origin.open() <= 2).await;
}

#[tokio::test]
async fn idle_connections_to_an_endpoint_are_closed_in_time() {
    let origin = Origin::ok().await;
    let text = format!(
        "[service.up]\nendpoints = [\"{}\"]\npool = {{ idle = \"1s\" }}\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n",
        origin.url()
    );
    let gateway = Gateway::start(&text).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    assert_eq!(origin.open(), 1);
    until("the connection to be closed", || origin.open() == 0).await;
}

#[tokio::test]
async fn one_endpoint_that_hangs_does_not_slow_the_others() {
    let (hanging, good) = (Origin::start(|exchange| Box::pin(exchange.silence())).await, Origin::ok().await);
    let text = listener("")
        + &format!(
            "[service.hanging]\nendpoints = [\"{}\"]\n[service.good]\nendpoints = [\"{}\"]\n\
             [[route]]\nmatch = \"/hang\"\nservice = \"hanging\"\n[[route]]\nmatch = \"/good\"\nservice = \"good\"\n",
            hanging.url(),
            good.url()
        );
    let gateway = Gateway::start(&text).await;
    let mut stuck = Vec::new();
    for _ in 0..50 {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("GET /hang", &[], "")).await;
        stuck.push(caller);
    }
    for _ in 0..20 {
        assert_eq!(get(gateway.main(), "/good").await.status, 200);
    }
}

#[tokio::test]
async fn a_connection_to_an_endpoint_is_replaced_when_it_is_too_old() {
    let origin = Origin::ok().await;
    let text = format!(
        "[service.up]\nendpoints = [\"{}\"]\npool = {{ age_max = \"1s\" }}\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n",
        origin.url()
    );
    let gateway = Gateway::start(&text).await;
    let mut caller = Caller::connect(gateway.main()).await;
    within("another connection", async {
        while origin.connections() < 2 {
            assert_eq!(caller.get("/").await.status, 200);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_ended_while_idle_is_not_used_for_a_post() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.body().await?;
            exchange.answer("200 OK", "", "ok").await?;
            exchange.hang_up();
            Ok(())
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    for count in 1..=20 {
        let answer = caller.ask(request("POST /", &["content-length: 5"], "hello")).await;
        assert_eq!(answer.status, 200, "post {count}");
        // Its end is on the wire now, before the next request.
        until("the connection to end", || origin.open() == 0).await;
    }
    assert_eq!(origin.count(), 20);
}

/// So many that a task could not look at all of them before tokio tells it that nothing has come.
const MANY: usize = 300;

#[tokio::test]
async fn what_an_endpoint_says_unasked_is_nobodys_answer() {
    let (together, told, said) = (Arc::new(Barrier::new(MANY)), Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = Origin::start({
        let (together, told, said) = (together.clone(), told.clone(), said.clone());
        move |exchange| {
            let (together, told, said) = (together.clone(), told.clone(), said.clone());
            Box::pin(async move {
                if exchange.request.method == "POST" {
                    exchange.body().await?;
                    return exchange.answer("200 OK", "", "yours").await;
                }
                together.wait().await;
                exchange.answer("200 OK", "", "early").await?;
                told.acquire().await.expect("nobody closes it").forget();
                exchange.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL").await?;
                said.fetch_add(1, SeqCst);
                Ok(())
            })
        }
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut callers = JoinSet::new();
    for _ in 0..MANY {
        let address = gateway.main();
        callers.spawn(async move { get(address, "/").await });
    }
    for answer in callers.join_all().await {
        assert_eq!(answer.text(), "early");
    }
    told.add_permits(MANY);
    until("every idle connection to hold an answer", || said.load(SeqCst) == MANY).await;
    for _ in 0..5 {
        let answer = ask(gateway.main(), request("POST /", &["content-length: 5"], "hello")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "yours"));
    }
}
