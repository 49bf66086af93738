//! Frames, the messages of calls, and what is said before them.

use super::{super::meter::metered, Bench, Structure, Target, Verdict, hold, is_one_line, now_or_never};
use bytes::Bytes;
use cluster::{
    World,
    peers::{
        Me, Refused,
        fuzzing::{Beats, greeting, introduced, introducing, judge},
        is_name, refusal,
    },
    trust::{Claimed, Identity, Trust},
};
use prost::Message;
use proto::{
    AskReply, AskRequest, EnrolReply, EnrolRequest, Hello, PROTOCOLS, Reason, Signer,
    codec::Crosses,
    frame::{self, Beat, Frame, FrameError, Kind, Ring},
};
use std::{net::SocketAddr, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) const FRAME: Target = Target {
    name: "frame",
    reads: "one frame of a link",
    structure: Structure::Framed,
    words: &[&[1, 0, 1, 0], &[1, 0, 2, 0], &[1, 0, 3, 0], &[1, 0, 4, 0], &[1, 0, 5, 0], &[1, 0, 9, 9]],
    // Beyond the longest frame, so that this is refused too.
    longest: frame::BYTES_MAX + 16,
    beside: 0,
    begin: || Bench { seeds: frames(), read: Box::new(read_frame) },
};

fn me() -> Me {
    Me {
        cluster: "shop".into(),
        node: "a1".into(),
        generation: 7,
        region: "eu".into(),
        zone: "z1".into(),
        address: ADDRESS,
        secrets: *b"secrets1",
        also: vec![*b"secrets0"],
        build: "0.1.0".into(),
    }
}

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7_900);

fn they() -> Hello {
    let greeting = greeting(&Me { node: "b1".into(), region: "us".into(), address: ([192, 0, 2, 2], 7_900).into(), ..me() }, 3);
    introducing(greeting, &[([192, 0, 2, 3], 7_900).into(), ([192, 0, 2, 4], 7_900).into()])
}

fn frames() -> Vec<Vec<u8>> {
    let gossip = |ring, length| Frame::Gossip { ring, bytes: vec![7; length].into() };
    let frames = [
        Frame::Hello(they()),
        Frame::Refusal(refusal(Reason::Cluster, "b1 is of the cluster stock, a1 of the cluster shop")),
        gossip(Ring::Region, 0),
        gossip(Ring::Region, 9),
        gossip(Ring::World, 300),
        Frame::Beat(Beat { sent: 2_000_000, echo: 1_000_000, held: 3, wall: 1_767_225_600_000_000 }),
        Frame::Leave,
        Frame::Unknown { kind: 99, size: 5 },
    ];
    frames.iter().map(|frame| frame.encode().expect("it is short").to_vec()).collect()
}

fn read_frame(input: &[u8]) -> Verdict {
    let frame = match metered(|| frame::decode(input).map_err(|error| error.to_string())) {
        Ok(frame) => frame,
        Err(why) => return hold(why.len() < 1_024, "why a frame is none is short").map(|()| false),
    };
    hold(input.len() <= frame::BYTES_MAX, "what is too long is no frame")?;
    match &frame {
        Frame::Refusal(refusal) => {
            let line = metered(|| Refused::new(false, None, ADDRESS, refusal).to_string());
            hold(is_one_line(&line), "a refusal is one line")?;
        }
        Frame::Unknown { size, .. } => hold(size + 4 == input.len(), "the rest of an unknown frame is its body")?,
        _ => {}
    }
    match frame.encode() {
        Ok(again) => {
            hold(again.len() == frame.size(), "a frame knows its size")?;
            hold(frame::decode(&again) == Ok(frame), "a frame that is written again reads the same")?;
        }
        // A reason that is none takes more room as we would write it.
        Err(FrameError::TooLong { .. }) if frame.kind() == Kind::Refusal => {}
        Err(error) => return Err(format!("broken: what was a frame can be one again: {error}")),
    }
    Ok(true)
}

pub(super) const ASK_REQUEST: Target =
    message("ask-request", "a question about a member", 16 << 10, || bench::<AskRequest>(&[ask("/v1/actors", "depth=1"), ask("", "")]));

pub(super) const ASK_REPLY: Target = message("ask-reply", "the answer to a question about a member", 64 << 10, || {
    bench(&[
        AskReply { status: 200, content_type: "application/json".into(), body: Bytes::from_static(b"{\"items\":[]}") },
        AskReply::default(),
    ])
});

pub(super) const ENROL_REQUEST: Target = message("enrol-request", "a petition as it travels", 64 << 10, || {
    bench(&[
        EnrolRequest {
            token: "shoaljoin_AQ".into(),
            node: "b1".into(),
            region: "us".into(),
            signing_request: Bytes::from_static(&[0x30, 3, 2, 1, 0]),
            hops_left: 2,
            ..EnrolRequest::default()
        },
        EnrolRequest { node: "b1".into(), chain: "-----BEGIN".into(), signature: vec![1; 70].into(), ..EnrolRequest::default() },
    ])
});

pub(super) const ENROL_REPLY: Target = message("enrol-reply", "an admission as it travels", 256 << 10, || {
    let admitted = EnrolReply {
        cluster: "shop".into(),
        chain: "-----BEGIN CERTIFICATE-----".into(),
        keyring: "{\"version\":1}".into(),
        peers: (1..=9).map(|peer| format!("192.0.2.{peer}:7900")).collect(),
        signer: Some(Signer { chain: "-----BEGIN".into(), key: "-----BEGIN".into(), life_seconds: 86_400 }),
        refusal: None,
    };
    let refused = EnrolReply { refusal: Some(refusal(Reason::Token, "the join token expired 9 s ago")), ..EnrolReply::default() };
    bench(&[admitted, refused])
});

fn ask(path: &str, query: &str) -> AskRequest {
    AskRequest { to: "b1".into(), path: path.into(), query: query.into(), hops_left: 3 }
}

const fn message(name: &'static str, reads: &'static str, longest: usize, begin: fn() -> Bench) -> Target {
    Target { name, reads, structure: Structure::Fields, words: &[], longest, beside: 0, begin }
}

fn bench<M: Message + Crosses + Default + Clone + PartialEq>(seeds: &[M]) -> Bench {
    let read = |input: &[u8]| {
        let input = Bytes::copy_from_slice(input);
        let Ok(message) = metered(|| M::take(input)) else { return Ok(false) };
        hold(M::decode(&message.encode_to_vec()[..]) == Ok(message), "a message that is written again reads the same")?;
        Ok(true)
    };
    Bench { seeds: seeds.iter().map(Message::encode_to_vec).collect(), read: Box::new(read) }
}

pub(super) const HELLO: Target = Target {
    name: "hello",
    reads: "a hello, beside a certificate",
    structure: Structure::Tagged,
    words: &[b"a1", b"b1", b"eu", b"us", b"shop", b"192.0.2.2:7900", b"[::1]:1", b"0.0.0.0:0"],
    longest: 1 << 10,
    beside: 0,
    begin: || Bench {
        seeds: [0u8, 1].map(|certificate| [&[certificate][..], &they().encode_to_vec()].concat()).into(),
        read: Box::new(read_hello),
    },
};

/// The first byte says what stands in the certificate: what the hello says, or always the same, with a region or without.
fn read_hello(input: &[u8]) -> Verdict {
    let Some((certificate, hello)) = input.split_first() else { return Ok(false) };
    let Ok(hello) = Hello::decode(hello) else { return Ok(false) };
    let node = if certificate & 2 == 0 { hello.node.as_str() } else { "b1" };
    let identity = Identity { node: node.into(), region: (certificate & 1 == 1).then(|| "us".into()) };
    let me = me();
    let introduced = metered(|| introduced(&hello));
    hold(introduced.len() <= 3 && introduced.iter().all(|member| member.port() != 0), "a few are introduced, who can be dialed")?;
    match metered(|| judge(&me, &identity, &hello)) {
        Ok(peer) => {
            let named = is_name(&peer.node) && is_name(&peer.region) && (peer.zone.is_empty() || is_name(&peer.zone));
            hold(named && peer.node == identity.node && peer.node != me.node, "a peer has the name of its certificate")?;
            hold(identity.region.is_none_or(|region| region == peer.region), "a peer has the region of its certificate")?;
            hold(PROTOCOLS.contains(&peer.protocol) && peer.generation > 0, "a protocol is spoken that both know")?;
            hold(is_one_line(&peer.build), "the name of a build is one line")?;
            Ok(true)
        }
        Err(refusal) => {
            hold(is_one_line(&refusal.message), "a refusal is one line")?;
            hold(Frame::Refusal(refusal).encode().is_ok(), "a refusal can be sent")?;
            Ok(false)
        }
    }
}

pub(super) const BEATS: Target = Target {
    name: "beats",
    reads: "the beats of a link, one after the other",
    structure: Structure::Pieces,
    words: &[],
    longest: 4 << 10,
    beside: 0,
    begin: || {
        let beat = |pause: u8, beat: Beat| [&[pause][..], &Frame::Beat(beat).encode().expect("it is short")[4..]].concat();
        let wall = 1_767_225_600_000_000;
        let first = beat(1, Beat { sent: 5, echo: 0, held: 0, wall });
        let second = beat(50, Beat { sent: 500_005, echo: 1, held: 20, wall: wall + 500_000 });
        Bench { seeds: vec![super::super::structure::pieced([first, second])], read: Box::new(read_beats) }
    },
};

/// Each is a byte, for how many hundredths of a second it comes after the one before, and the body of a beat.
fn read_beats(input: &[u8]) -> Verdict {
    let world = super::membership::world();
    let (began, wall) = (world.now(), world.wall());
    let mut clock = Beats::new(began);
    let (mut since, mut read) = (Duration::ZERO, true);
    for piece in super::super::structure::pieces(input) {
        let Some((pause, body)) = piece.split_first() else { continue };
        since += Duration::from_millis(10 * u64::from(*pause));
        let (now, wall) = (began + since, wall + since);
        let Ok(Frame::Beat(beat)) = frame::decode(&[&[1, 0, 4, 0], body].concat()) else {
            read = false;
            continue;
        };
        metered(|| clock.learn(&beat, now, wall));
        let _ = clock.offset_micros();
        hold(clock.round_trip().is_none_or(|there| there <= since), "no way takes longer than there has been a link")?;
        let answer = clock.answer(now, wall);
        hold(answer.echo == beat.sent && answer.sent != 0, "a beat echoes the last one")?;
    }
    Ok(read)
}

pub(super) const CLAIM: Target = Target {
    name: "claim",
    reads: "the line by which somebody says a name that is believed",
    structure: Structure::Split(b' '),
    words: &[b"shoal", b"shoal b1\n", b"\n", b" "],
    longest: 1 << 10,
    // Two buffers that stand for a connection.
    beside: 4 << 10,
    begin: || Bench {
        seeds: [&b"shoal\n"[..], b"shoal b1\n", b"shoal b1 us\nand what follows"].map(<[u8]>::to_vec).into(),
        read: Box::new(read_claim),
    },
};

fn read_claim(input: &[u8]) -> Verdict {
    let said = metered(|| now_or_never(hear(input))).ok_or("broken: a line that is there is read without waiting")?;
    let Ok(identity) = said else { return Ok(false) };
    if let Some(identity) = identity {
        let again = now_or_never(async {
            let (near, mut far) = tokio::io::duplex(1_024);
            let claimed = Claimed::new(identity.node.clone(), identity.region.clone());
            let _ = now_or_never(claimed.connect(Box::new(near)));
            let mut line = Vec::new();
            far.read_to_end(&mut line).await.map(|_| line)
        });
        let Some(Ok(line)) = again else { return Err("broken: a claim can be made again".to_owned()) };
        hold(matches!(now_or_never(hear(&line)), Some(Ok(Some(same))) if same == identity), "a claim that is made again is the same")?;
    }
    Ok(true)
}

async fn hear(input: &[u8]) -> std::io::Result<Option<Identity>> {
    let (mut near, far) = tokio::io::duplex(2_048);
    near.write_all(input).await?;
    near.shutdown().await?;
    let (_, identity) = Claimed::anonymous().accept(Box::new(far)).await?;
    Ok(identity)
}
