//! A connection that only makes work is ended within seconds, and those beside it do not notice.

use shoal_tests::{
    Caller, Gateway, Origin,
    h2::{self, ENHANCE_YOUR_CALM, Frame, Framed},
    in_front_of, listener,
    wait::within,
};

/// Sends `frames` again and again until the gateway ends the connection, while an honest caller asks.
///
/// Returns why the connection was ended.
async fn flood(gateway: &Gateway, mut frames: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let mut honest = Caller::connect(gateway.main()).await;
    let mut flooding = Framed::connect(gateway.main()).await;
    let flood = async {
        for round in 0..1_000_000 {
            if flooding.send_bytes(frames(round)).await.is_err() {
                break;
            }
            if round % 8 == 0 && honest.get("/").await.status != 200 {
                panic!("the honest caller is not served");
            }
            tokio::task::yield_now().await;
        }
        flooding.end().await
    };
    let reason = within("the flood to be ended", flood).await;
    assert_eq!(honest.get("/").await.status, 200);
    reason
}

async fn gateway() -> (Gateway, Origin) {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(listener("bounds = { h2_control_frames = 200 }") + &in_front_of(&origin.url(), ""))).await;
    (gateway, origin)
}

/// A flood whose end is the guard's: a GOAWAY, unless the socket broke before it could be read.
async fn is_calmed(name: &str, frames: impl Fn(u32) -> Vec<u8>) {
    let (gateway, _origin) = gateway().await;
    let reason = flood(&gateway, frames).await;
    assert!(matches!(reason, Some(ENHANCE_YOUR_CALM) | None), "{name}: {reason:?}");
    shoal_tests::wait::until("the flood to be forgotten", || gateway.connections() <= 1).await;
}

#[tokio::test]
async fn pings_without_end_are_ended() {
    is_calmed("ping", |round| Frame::new(h2::PING, 0, 0, u64::from(round).to_be_bytes()).bytes().repeat(16)).await;
}

#[tokio::test]
async fn settings_without_end_are_ended() {
    is_calmed("settings", |_| Frame::new(h2::SETTINGS, 0, 0, [0, 4, 0, 1, 0, 0]).bytes().repeat(16)).await;
}

#[tokio::test]
async fn a_table_that_flaps_is_ended() {
    is_calmed("table", |round| Frame::new(h2::SETTINGS, 0, 0, [0, 1, 0, 0, if round % 2 == 0 { 16 } else { 0 }, 0]).bytes().repeat(4))
        .await;
}

#[tokio::test]
async fn priorities_without_end_are_ended() {
    is_calmed("priority", |round| Frame::new(h2::PRIORITY, 0, round * 2 + 1, [0, 0, 0, 0, 1]).bytes().repeat(16)).await;
}

#[tokio::test]
async fn window_updates_without_end_are_ended() {
    is_calmed("window", |_| Frame::new(h2::WINDOW_UPDATE, 0, 0, [0, 0, 0, 1]).bytes().repeat(16)).await;
}

#[tokio::test]
async fn frames_that_nobody_knows_are_ended() {
    is_calmed("unknown", |_| Frame::new(0x77, 0, 0, [0; 8]).bytes().repeat(16)).await;
}

#[tokio::test]
async fn empty_data_without_end_is_ended() {
    is_calmed("empty data", |round| {
        if round == 0 { Frame::request(1, "POST", "/", true).bytes() } else { Frame::new(h2::DATA, 0, 1, []).bytes().repeat(16) }
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_opened_only_to_be_reset_are_ended() {
    let (gateway, origin) = gateway().await;
    let reason = flood(&gateway, |round| {
        (0..10)
            .flat_map(|number| {
                let stream = (round * 10 + number) * 2 + 1;
                [Frame::request(stream, "GET", "/", false).bytes(), Frame::new(h2::RST_STREAM, 0, stream, 8_u32.to_be_bytes()).bytes()]
                    .concat()
            })
            .collect()
    })
    .await;
    assert!(matches!(reason, Some(ENHANCE_YOUR_CALM) | None), "{reason:?}");
    let asked = origin.count();
    assert!(asked < 3_000, "{asked} requests were forwarded for nobody");
}

#[tokio::test]
async fn streams_that_the_gateway_is_made_to_reset_are_ended() {
    let (gateway, _origin) = gateway().await;
    // Each stream is opened well and then broken by a window update of nothing, which is an error of the stream.
    let reason = flood(&gateway, |round| {
        (0..10)
            .flat_map(|number| {
                let stream = (round * 10 + number) * 2 + 1;
                [Frame::request(stream, "POST", "/", true).bytes(), Frame::new(h2::WINDOW_UPDATE, 0, stream, [0; 4]).bytes()].concat()
            })
            .collect()
    })
    .await;
    assert!(matches!(reason, Some(ENHANCE_YOUR_CALM | 1) | None), "{reason:?}");
}

#[tokio::test]
async fn a_header_block_without_end_is_ended() {
    let (gateway, _origin) = gateway().await;
    let reason = flood(&gateway, |round| match round {
        0 => Frame { flags: h2::END_STREAM, ..Frame::request(1, "GET", "/", false) }.bytes(),
        _ => Frame::new(h2::CONTINUATION, 0, 1, h2::block(&[("x-a", &"b".repeat(1_000))])).bytes(),
    })
    .await;
    assert!(matches!(reason, Some(_) | None));
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    let (gateway, origin) = gateway().await;
    for (name, frame) in [
        ("data on stream 0", Frame::new(h2::DATA, 0, 0, *b"x")),
        ("headers on stream 0", Frame::request(0, "GET", "/", false)),
        ("headers on an even stream", Frame::request(2, "GET", "/", false)),
        ("a ping of four bytes", Frame::new(h2::PING, 0, 0, [0; 4])),
        ("settings of five bytes", Frame::new(h2::SETTINGS, 0, 0, [0; 5])),
        ("a window beyond its size", Frame::new(h2::WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff])),
        ("a frame beyond its size", Frame::new(h2::DATA, 0, 1, vec![0; 20_000])),
        ("a push", Frame::new(5, h2::END_HEADERS, 1, [0, 0, 0, 2])),
        ("a continuation of nothing", Frame::new(h2::CONTINUATION, h2::END_HEADERS, 1, [])),
        ("a header block that is none", Frame::new(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, [0xff; 20])),
    ] {
        let mut caller = Framed::connect(gateway.main()).await;
        let _ = caller.send(&frame).await;
        within(name, caller.end()).await;
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn an_honest_caller_may_ping_between_its_requests() {
    let (gateway, _origin) = gateway().await;
    let mut caller = Framed::connect(gateway.main()).await;
    for round in 0..50_u32 {
        let stream = round * 2 + 1;
        let mut bytes = Frame::new(h2::PING, 0, 0, u64::from(round).to_be_bytes()).bytes().repeat(20);
        bytes.extend(Frame::request(stream, "GET", "/", false).bytes());
        caller.send_bytes(bytes).await.expect("the gateway reads");
        loop {
            let frame = caller.next().await.expect("an honest caller is not ended");
            if frame.kind == h2::DATA && frame.stream == stream && frame.flags & h2::END_STREAM != 0 {
                break;
            }
            assert_ne!(frame.kind, h2::GOAWAY, "round {round}");
        }
    }
}
