//! Peers that mean harm, or are broken: each can only harm its own link, and each costs a bounded amount.

use super::*;
use proto::{
    PeerClient,
    codec::Sealed,
    frame::{self, Beat, Kind},
};
use tokio::{io::AsyncWriteExt, sync::mpsc};
use tonic::{Streaming, transport::Channel};

/// A node with a certificate that keeps to no rule.
struct Hostile {
    say: mpsc::Sender<Sealed>,
    hear: Streaming<Sealed>,
    _client: PeerClient<Channel>,
    _hold: leash::Hold,
}

impl Hostile {
    async fn link(host: &Arc<Host>, name: &str, to: SocketAddr) -> Self {
        let (client, hold) = connect(host, &Claimed::new(name, None), to).await;
        let (say, said) = mpsc::channel(4);
        let said = futures_util::stream::unfold(said, |mut said| async { said.recv().await.map(|sealed| (sealed, said)) });
        let hear = client.clone().link(said).await.expect("the door is open").into_inner();
        Self { say, hear, _client: client, _hold: hold }
    }

    /// False once the other side has had enough.
    async fn bytes(&self, bytes: impl Into<Bytes>) -> bool {
        self.say.send(Sealed(bytes.into())).await.is_ok()
    }

    async fn frame(&self, frame: &Frame) -> bool {
        self.bytes(frame.encode().expect("it fits")).await
    }

    /// What comes back until the stream ends.
    async fn last_words(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Ok(Some(Sealed(bytes))) = self.hear.message().await {
            frames.push(frame::decode(&bytes).expect("a node speaks well"));
        }
        frames
    }

    /// A link that stands, of a peer that nothing is wrong with yet.
    async fn befriend(host: &Arc<Host>, name: &str, to: &Node) -> Self {
        let mut hostile = Self::link(host, name, to.address).await;
        hostile.frame(&greeting(host, name)).await;
        hostile.hear.message().await.expect("it says hello").expect("it says hello");
        hostile.frame(&Frame::Beat(Beat { sent: 1, ..Beat::default() })).await;
        until("linked", || to.linked().contains(&name.to_owned())).await;
        hostile
    }
}

async fn connect(host: &Arc<Host>, trust: &Claimed, to: SocketAddr) -> (PeerClient<Channel>, leash::Hold) {
    let (stream, _) = trust.connect(host.connect(to).await.expect("it listens")).await.expect("it answers");
    let (leash, hold) = leash::Leash::new(stream);
    let endpoint = tonic::transport::Endpoint::from_static("http://peer");
    let channel = endpoint.connect_with_connector(leash::Once::new(leash)).await.expect("it speaks HTTP/2");
    (PeerClient::new(channel), hold)
}

fn greeting(host: &Arc<Host>, name: &str) -> Frame {
    Frame::Hello(hello::greeting(&me(name, host.address()), 1))
}

fn reason(frames: &[Frame]) -> Option<Reason> {
    frames.iter().find_map(|frame| if let Frame::Refusal(refusal) = frame { Some(refusal.reason()) } else { None })
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_say_hello_first_is_told_so() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    for frame in [gossip("first"), Frame::Leave, Frame::Beat(Beat::default())] {
        let mut hostile = Hostile::link(&host, "h", a.address).await;
        hostile.frame(&frame).await;
        assert_eq!(reason(&hostile.last_words().await), Some(Reason::Malformed), "{frame:?}");
    }
    assert_eq!(a.heard.refusals().len(), 3);
    assert!(a.heard.events().iter().all(|event| matches!(event, Event::Refused(_))), "nothing of it was let through");
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_link_it_came_on_and_is_counted() {
    let oversized = vec![0; frame::BYTES_MAX + 1];
    let beat = Frame::Beat(Beat::default()).encode().expect("it fits");
    for (what, bytes) in [
        ("no envelope", Bytes::from_static(b"GET")),
        ("another layout", Bytes::from_static(&[9, 0, 4, 0])),
        ("empty", Bytes::new()),
        ("half a beat", beat.slice(..20)),
        ("a ring that is none", Bytes::from_static(&[1, 0, 3, 0, 7, 7])),
        ("larger than a frame", Bytes::from(oversized)),
    ] {
        let net = Net::default();
        let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
        let b = Node::start(&net.host(2), "b").await;
        a.aim(&[&b]);
        until("linked", || a.is_linked(&b)).await;
        let mut hostile = Hostile::befriend(&host, "h", &a).await;
        hostile.bytes(bytes.clone()).await;
        let last = hostile.last_words().await;
        // tonic ends a stream by itself when a message is announced too long.
        assert!(what == "larger than a frame" || reason(&last) == Some(Reason::Malformed), "{what}: {last:?}");
        until("lost", || !a.linked().contains(&"h".to_owned())).await;
        assert!(matches!(a.heard.losses()[..], [Lost::Malformed(_)]), "{what}: {:?}", a.heard.losses());
        assert_eq!(a.peers.counts().malformed.load(Relaxed), 1, "{what}");
        assert!(a.peers.hears("b"), "nobody else notices");

        // Before the hello it is no better.
        let mut hostile = Hostile::link(&host, "h", a.address).await;
        hostile.bytes(bytes).await;
        hostile.last_words().await;
        assert_eq!(a.peers.counts().malformed.load(Relaxed), 2, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_hello_ends_the_link() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    let mut hostile = Hostile::befriend(&host, "h", &a).await;
    let Frame::Hello(first) = greeting(&host, "h") else { unreachable!("it is one") };
    hostile.frame(&Frame::Hello(proto::Hello { generation: 99, ..first })).await;
    assert_eq!(reason(&hostile.last_words().await), Some(Reason::Malformed));
    assert_eq!(a.heard.losses(), [Lost::OutOfTurn(Kind::Hello)]);
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_is_replayed_takes_nobodys_place() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    let _hostile = Hostile::befriend(&host, "h", &a).await;
    // On a connection of its own name it is a duplicate, as long as the first is heard.
    let mut replayed = Hostile::link(&host, "h", a.address).await;
    replayed.frame(&greeting(&host, "h")).await;
    assert_eq!(reason(&replayed.last_words().await), Some(Reason::Duplicate));
    // On that of another, it is a name that is not in the certificate.
    let mut stolen = Hostile::link(&host, "other", a.address).await;
    stolen.frame(&greeting(&host, "h")).await;
    assert_eq!(reason(&stolen.last_words().await), Some(Reason::Name));
    // And one of an earlier life is over.
    let mut stale = Hostile::link(&host, "h", a.address).await;
    let Frame::Hello(first) = greeting(&host, "h") else { unreachable!("it is one") };
    stale.frame(&Frame::Hello(proto::Hello { generation: 0, dial: 9, ..first.clone() })).await;
    assert_eq!(reason(&stale.last_words().await), Some(Reason::Generation));
    // Nor may two be at one address.
    let mut squatter = Hostile::link(&host, "squatter", a.address).await;
    squatter.frame(&Frame::Hello(proto::Hello { node: "squatter".into(), ..first })).await;
    assert_eq!(reason(&squatter.last_words().await), Some(Reason::Address));
    assert!(a.heard.losses().is_empty(), "{:?}", a.heard.losses());
    assert_eq!(a.linked(), ["h"]);
}

#[tokio::test(start_paused = true)]
async fn kinds_of_a_later_release_are_skipped_and_counted() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    let hostile = Hostile::befriend(&host, "h", &a).await;
    for kind in [6, 700, u16::MAX] {
        hostile.frame(&Frame::Unknown { kind, size: 40 }).await;
    }
    hostile.frame(&gossip("after")).await;
    until("heard", || a.heard.events().contains(&Event::Frame("h".into(), gossip("after")))).await;
    assert_eq!(a.peers.counts().skipped.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn beats_that_are_made_up_change_nothing() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    let hostile = Hostile::befriend(&host, "h", &a).await;
    for (echo, held) in [(u64::MAX, 0), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        hostile.frame(&Frame::Beat(Beat { sent: u64::MAX, echo, held, wall: u64::MAX })).await;
    }
    until("counted", || a.peers.counts().implausible.load(Relaxed) == 3).await;
    let link = &a.peers.links()[0];
    assert_eq!((link.round_trip, link.offset_micros), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_read_at_the_rate_of_one_peer_and_nobody_else_waits() {
    // HTTP/2 by itself ends a connection on which too many tiny pieces wait to be read.
    for (size, stays) in [(1_000, true), (10, false)] {
        let net = Net::default();
        let (host, a, b) = (net.host(6), Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await);
        a.aim(&[&b]);
        until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
        let hostile = Hostile::befriend(&host, "h", &a).await;
        let frame = Frame::Gossip { ring: Ring::World, bytes: vec![b'x'; size].into() };
        let flood = tokio::spawn(async move { while hostile.frame(&frame).await {} });
        sleep(Duration::from_secs(10)).await;
        let heard = a.heard.events().iter().filter(|event| matches!(event, Event::Frame(from, _) if from == "h")).count();
        assert!((5_000..=22_001).contains(&heard), "{heard} frames in ten seconds, where 2,000 a second and a burst are let through");
        assert!(a.peers.counts().throttled.load(Relaxed) > 0);
        assert_eq!(a.linked().contains(&"h".to_owned()), stays, "{:?}", a.heard.losses());
        assert!(a.peers.hears("b") && b.peers.hears("a"));
        assert!(b.peers.send(a.address, gossip("still here")));
        until("heard", || a.heard.events().contains(&Event::Frame("b".into(), gossip("still here")))).await;
        flood.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_costs_an_outbox_and_is_lost() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    let hostile = Hostile::befriend(&host, "h", &a).await;
    let large = Frame::Gossip { ring: Ring::Region, bytes: vec![7; 200_000].into() };
    let beats = tokio::spawn(async move {
        while hostile.frame(&Frame::Beat(Beat { sent: 1, ..Beat::default() })).await {
            sleep(Duration::from_millis(200)).await;
        }
    });
    for _ in 0..40 {
        a.peers.tell("h", large.clone());
        sleep(Duration::from_millis(100)).await;
    }
    assert!(a.peers.counts().dropped.load(Relaxed) > 20, "what is newer has overtaken it");
    until("lost", || a.linked().is_empty()).await;
    assert_eq!(a.heard.losses(), [Lost::Stuck]);
    beats.abort();
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_go_on_is_closed_in_its_time() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    let named = || b"shoal h\n".to_vec();
    for (what, bytes, slowest) in [
        ("says nothing", vec![], 5),
        ("says half of its name", b"shoa".to_vec(), 5),
        ("says its name and nothing more", named(), 20),
        ("says its name and half of what HTTP/2 begins with", [named(), b"PRI * HTT".to_vec()].concat(), 20),
        ("says its name and garbage", [named(), vec![0xff; 300]].concat(), 20),
        ("has no name and asks for nothing", b"shoal\n".to_vec(), 20),
    ] {
        let mut stream = host.connect(a.address).await.expect("it listens");
        stream.write_all(&bytes).await.expect("the pipe is open");
        let closed = tokio::time::timeout(Duration::from_secs(slowest + 1), async {
            let mut sink = tokio::io::sink();
            let _ = tokio::io::copy(&mut stream, &mut sink).await;
        });
        closed.await.unwrap_or_else(|_| panic!("who {what} is there after {slowest} s"));
    }
    let mut quiet = Hostile::link(&host, "h", a.address).await;
    assert!(quiet.last_words().await.is_empty(), "who opens a link and says no hello has five seconds");
    // Nothing of it is counted as being there any more.
    let admitted = || format!("{:?}", a.peers.0.admission());
    until("nobody is in a handshake", || admitted() == format!("{:?}", Admission::new(Options::default().rooms))).await;
}

#[tokio::test(start_paused = true)]
async fn strangers_have_a_room_of_their_own_and_peers_come_in_all_the_same() {
    let net = Net::default();
    let (host, a, b) = (net.host(6), Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await);
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(host.connect(a.address).await.expect("it listens"));
    }
    until("turned away", || a.peers.counts().turned_away.load(Relaxed) == 136).await;
    b.aim(&[&a]);
    let linked = until("linked", || b.is_linked(&a)).await;
    assert!(linked < Duration::from_secs(1), "{linked:?}");
    // The same from a node with a certificate: it has room for a few connections, and others have theirs.
    let mut known = Vec::new();
    for _ in 0..20 {
        let stream = net.host(8).connect(a.address).await.expect("it listens");
        let connected = Claimed::new("h", None).connect(stream).await;
        known.extend(connected.ok());
    }
    until("turned away", || a.peers.counts().turned_away.load(Relaxed) == 136 + 12).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_one_link() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    let hostile = Hostile::befriend(&host, "h", &a).await;
    let second = hostile._client.clone().link(futures_util::stream::pending()).await;
    assert!(second.is_err());
    assert_eq!(a.linked(), ["h"]);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_cut_off_is_a_link_that_broke() {
    let net = Net::default();
    let (host, a) = (net.host(6), Node::start(&net.host(1), "a").await);
    let hostile = Hostile::befriend(&host, "h", &a).await;
    hostile.frame(&Frame::Gossip { ring: Ring::World, bytes: vec![1; 200_000].into() }).await;
    drop(hostile);
    until("lost", || a.linked().is_empty()).await;
    assert!(matches!(a.heard.losses()[..], [Lost::Closed | Lost::Broken(_)]), "{:?}", a.heard.losses());
    assert_eq!(a.heard.events().iter().filter(|event| matches!(event, Event::Frame(..))).count(), 0, "half a frame is none");
}
