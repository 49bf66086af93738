//! Promises of links between whole peers, on a network in memory.

mod hostile;
mod net;

use super::*;
use crate::{BoxStream, trust::Claimed};
use bytes::Bytes;
use net::{Host, Net};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinHandle,
    time::sleep,
};

/// What a node was told, in its order.
#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

#[derive(Clone, PartialEq, Debug)]
enum Event {
    Linked(String),
    Lost(String, Lost),
    Frame(String, Frame),
    Refused(Refused),
}

impl Heard {
    fn note(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refusals(&self) -> Vec<Refused> {
        let refused = |event| if let Event::Refused(refused) = event { Some(refused) } else { None };
        self.events().into_iter().filter_map(refused).collect()
    }

    fn losses(&self) -> Vec<Lost> {
        self.events().into_iter().filter_map(|event| if let Event::Lost(_, why) = event { Some(why) } else { None }).collect()
    }
}

impl Inbox for Heard {
    fn frame(&self, from: &Peer, frame: Frame) {
        self.note(Event::Frame(from.node.to_string(), frame));
    }

    fn linked(&self, peer: &Peer) {
        self.note(Event::Linked(peer.node.to_string()));
    }

    fn members_of(&self, _: &str) -> Vec<SocketAddr> {
        Vec::new()
    }

    fn lost(&self, peer: &Peer, why: &Lost) {
        self.note(Event::Lost(peer.node.to_string(), why.clone()));
    }

    fn refused(&self, refused: &Refused) {
        self.note(Event::Refused(refused.clone()));
    }

    fn ask(&self, from: &Identity, ask: Ask) -> BoxFuture<'_, Reply> {
        let body = format!("{} asked {} for {}", from.node, ask.to, ask.path);
        Box::pin(async move {
            if ask.path == "/never" {
                std::future::pending::<()>().await;
            }
            Reply { status: 200, content_type: "text/plain".into(), body: body.into() }
        })
    }

    fn enrol(&self, from: Option<&Identity>, request: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refusal>> {
        let from = from.map(|identity| identity.node.to_string());
        Box::pin(async move {
            if request.token == "stale" {
                return Err(refusal(Reason::Token, "the token has expired"));
            }
            let chain = format!("{} through {from:?}", request.node);
            Ok(EnrolReply { chain, ..EnrolReply::default() })
        })
    }
}

/// One life of a node.
struct Node {
    peers: Peers,
    heard: Arc<Heard>,
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn me(node: &str, address: SocketAddr) -> Me {
    Me {
        cluster: "shop".into(),
        node: node.into(),
        generation: 1,
        region: "eu".into(),
        zone: "eu-1".into(),
        address,
        secrets: [7; 8],
        also: Vec::new(),
        build: "0.1.0".into(),
    }
}

impl Node {
    async fn start(host: &Arc<Host>, name: &str) -> Self {
        Self::start_as(host, me(name, host.address()), Claimed::new(name, None), Options::default()).await
    }

    async fn start_as(host: &Arc<Host>, me: Me, trust: impl Trust, options: Options) -> Self {
        let (heard, address) = (Arc::new(Heard::default()), host.address());
        let world = Arc::clone(host) as Arc<dyn World>;
        let peers = Peers::new(world, Arc::new(trust), me, Arc::clone(&heard) as Arc<dyn Inbox>, options);
        let listener = host.listen(address).await.expect("the address is free");
        let (serving, running) = (peers.clone(), peers.clone());
        let tasks = vec![tokio::spawn(async move { serving.serve(listener).await }), tokio::spawn(async move { running.run().await })];
        Self { peers, heard, address, tasks }
    }

    fn target(&self) -> Target {
        Target { name: Arc::clone(&self.peers.me().node), address: self.address }
    }

    fn aim(&self, at: &[&Self]) {
        self.peers.aim(at.iter().map(|node| node.target()).collect());
    }

    fn linked(&self) -> Vec<String> {
        self.peers.links().iter().map(|link| link.peer.node.to_string()).collect()
    }

    fn is_linked(&self, to: &Self) -> bool {
        self.linked().contains(&to.peers.me().node.to_string())
    }
}

/// The clock is tokio's and paused: waiting takes no time, and a minute of it is enough for everything here.
async fn until(what: &str, done: impl Fn() -> bool) -> Duration {
    for n in 0..6_000_u32 {
        if done() {
            return n * Duration::from_millis(10);
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("after a minute still not: {what}");
}

fn gossip(text: &str) -> Frame {
    Frame::Gossip { ring: Ring::World, bytes: Bytes::from(text.to_owned()) }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_want_each_other_have_one_link_and_hear_each_other() {
    let net = Net::default();
    let (a, b) = (Node::start(&net.host(1), "a").await, Node::start(&net.host_ahead(2, Duration::from_millis(300)), "b").await);
    a.aim(&[&a, &b]);
    b.aim(&[&a, &b]);
    until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
    assert!(a.peers.send(b.address, gossip("to b")) && b.peers.tell("a", gossip("to a")));
    assert!(!a.peers.send(a.address, gossip("nobody")) && !a.peers.tell("c", gossip("nobody")));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(a.heard.events(), [Event::Linked("b".into()), Event::Frame("b".into(), gossip("to a"))]);
    assert_eq!(b.heard.events(), [Event::Linked("a".into()), Event::Frame("a".into(), gossip("to b"))]);

    let [link] = &a.peers.links()[..] else { panic!("one link") };
    assert_eq!((&*link.peer.node, &*link.peer.zone, link.peer.address, link.dialed_by_us), ("b", "eu-1", b.address, true));
    assert_eq!((link.sign, link.round_trip, link.offset_micros), (Sign::Alive, Some(Duration::ZERO), Some(300_000)));
    assert!(link.age >= Duration::from_secs(3) && link.silence <= Duration::from_millis(250), "{link:?}");
    // A hello, a gossip, and a beat every 250 ms.
    assert!(link.frames_in >= 14 && link.bytes_in > 36 * 12, "{link:?}");
    let counts = b.peers.counts();
    assert_eq!(counts.received.frames(Kind::Gossip), 1);
    assert_eq!(counts.received.bytes(Kind::Gossip), gossip("to b").size() as u64);
    assert_eq!((counts.linked.load(Relaxed), counts.lost.load(Relaxed), counts.unfinished.load(Relaxed)), (1, 0, 0));
    assert!(a.peers.hears("b") && a.peers.unlinked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_dial_at_the_same_moment_agree_on_one_link() {
    let net = Net::default();
    let (a, b) = (Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await);
    // Seeds have no head start.
    a.peers.seeds(vec![b.address]);
    b.peers.seeds(vec![a.address]);
    until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
    sleep(Duration::from_secs(20)).await;
    let (at_a, at_b) = (a.peers.links(), b.peers.links());
    assert_eq!((at_a.len(), at_b.len()), (1, 1));
    assert!(at_a[0].dialed_by_us != at_b[0].dialed_by_us, "both see the same link");
    assert_eq!(a.heard.events(), [Event::Linked("b".into())], "nobody notices");
    assert_eq!(b.heard.events(), [Event::Linked("a".into())]);
}

#[tokio::test(start_paused = true)]
async fn who_dials_into_another_region_is_introduced_to_its_own() {
    let net = Net::default();
    let eu = Node::start(&net.host(1), "eu").await;
    let mut us = Vec::new();
    for number in 2..=6 {
        let (host, name) = (net.host(number), format!("us-{number}"));
        let me = Me { region: "us".into(), ..me(&name, host.address()) };
        let node = Node::start_as(&host, me, Claimed::new(name.as_str(), None), Options::default()).await;
        node.peers.seeds(vec![eu.address]);
        let known = us.len().min(INTRODUCED_MAX);
        until("introduced", || node.linked().len() == 1 + known).await;
        us.push(node);
    }
    let neighbour = Node::start(&net.host(7), "eu-7").await;
    neighbour.peers.seeds(vec![eu.address]);
    until("linked", || neighbour.is_linked(&eu)).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(neighbour.linked(), ["eu"], "gossip tells who is of the own region");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_silent_is_silent_after_a_second_lost_after_five_and_comes_back() {
    let net = Net::default();
    let (a, b) = (Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await);
    a.aim(&[&b]);
    b.aim(&[&a]);
    until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
    sleep(Duration::from_secs(12)).await;
    net.cut(1, 2);
    net.cut(2, 1);
    let silent = until("silent", || !a.peers.hears("b")).await;
    assert!(silent >= Duration::from_millis(700) && silent <= Duration::from_millis(1_050), "{silent:?}");
    assert!(a.is_linked(&b), "silent is not lost");
    assert!(!a.peers.send(b.address, gossip("unheard")) && a.peers.tell("b", Frame::Leave), "only gossip waits until it is heard again");
    let lost = silent + until("lost", || !a.is_linked(&b) && !b.is_linked(&a)).await;
    assert!(lost >= Duration::from_millis(4_700) && lost <= Duration::from_millis(5_600), "{lost:?}");
    assert_eq!(a.heard.losses(), [Lost::Silent]);
    sleep(Duration::from_secs(30)).await;
    let [unlinked] = &a.peers.unlinked()[..] else { panic!("one is missing") };
    assert_eq!((unlinked.node.as_deref(), unlinked.address, unlinked.why.as_str()), (Some("b"), b.address, "it does not answer in time"));
    assert!(unlinked.attempts > 2 && unlinked.since > Duration::from_secs(20), "{unlinked:?}");
    net.heal();
    // An attempt that was lost takes its five seconds, and the longest wait is ten.
    let back = until("linked again", || a.is_linked(&b) && b.is_linked(&a)).await;
    assert!(back <= Duration::from_secs(15), "{back:?}");
    assert!(a.peers.unlinked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_link_on_which_only_one_side_hears_the_other_ends_on_both() {
    let net = Net::default();
    let (a, b) = (Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await);
    a.aim(&[&b]);
    until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
    net.cut(2, 1);
    let lost = until("lost by both", || !a.is_linked(&b) && !b.is_linked(&a)).await;
    assert!(lost <= Duration::from_secs(6), "{lost:?}");
    assert_eq!(a.heard.losses(), [Lost::Silent]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_starts_again_is_linked_again_at_once() {
    let net = Net::default();
    let (host, a) = (net.host(2), Node::start(&net.host(1), "a").await);
    let b = Node::start(&host, "b").await;
    a.aim(&[&b]);
    b.aim(&[&a]);
    until("linked", || a.is_linked(&b)).await;
    drop(b);
    until("lost", || a.linked().is_empty()).await;
    assert!(matches!(a.heard.losses()[..], [Lost::Closed | Lost::Broken(_)]), "{:?}", a.heard.losses());
    let b = Node::start_as(&host, Me { generation: 2, ..me("b", host.address()) }, Claimed::new("b", None), Options::default()).await;
    b.aim(&[&a]);
    let back = until("linked again", || a.is_linked(&b)).await;
    assert!(back < Duration::from_secs(1), "{back:?}");
    assert_eq!(a.peers.links()[0].peer.generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_life_takes_the_place_of_the_old_one_before_that_is_silent() {
    let net = Net::default();
    let (host, a) = (net.host(2), Node::start(&net.host(1), "a").await);
    let b = Node::start(&host, "b").await;
    a.aim(&[&b]);
    until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
    // The old life vanishes without a word.
    net.cut(2, 1);
    drop(b);
    sleep(Duration::from_millis(100)).await;
    net.heal();
    let b = Node::start_as(&host, Me { generation: 2, ..me("b", host.address()) }, Claimed::new("b", None), Options::default()).await;
    b.aim(&[&a]);
    let back = until("the new life", || a.peers.links().iter().any(|link| link.peer.generation == 2)).await;
    assert!(back <= Duration::from_secs(1), "{back:?}");
    sleep(Duration::from_secs(10)).await;
    assert!(a.is_linked(&b));
    let comings: Vec<_> = a.heard.events().into_iter().filter(|event| matches!(event, Event::Linked(_) | Event::Lost(..))).collect();
    assert_eq!(comings.len(), 3, "it was linked, lost, and linked: {comings:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_reads_the_same_reason_as_who_refuses() {
    type Change = fn(&mut Me);
    let changes: [(Reason, Change); 3] = [
        (Reason::Cluster, |me| me.cluster = "store".into()),
        (Reason::Secrets, |me| me.secrets = [9; 8]),
        (Reason::Address, |me| me.address = "0.0.0.0:7946".parse().expect("an address")),
    ];
    for (reason, change) in changes {
        let net = Net::default();
        let (host, a) = (net.host(2), Node::start(&net.host(1), "a").await);
        let mut other = me("b", host.address());
        change(&mut other);
        let b = Node::start_as(&host, other, Claimed::new("b", None), Options::default()).await;
        b.aim(&[&a]);
        until("both have heard", || !a.heard.refusals().is_empty() && !b.heard.refusals().is_empty()).await;
        let (at_a, at_b) = (&a.heard.refusals()[0], &b.heard.refusals()[0]);
        assert_eq!((at_a.by_us, at_b.by_us), (true, false));
        assert_eq!((at_a.reason, &at_a.message), (reason, &at_b.message));
        assert_eq!((at_a.node.as_deref(), at_b.node.as_deref()), (Some("b"), Some("a")));
        assert!(a.linked().is_empty() && b.linked().is_empty());
        // Not again and again: what is wrong stays wrong until somebody changes it.
        sleep(Duration::from_secs(60)).await;
        let (again, counted) = (a.heard.refusals().len(), a.peers.counts().refused.of(reason));
        assert!((6..=14).contains(&again) && counted == again as u64, "{again} times in a minute");
        assert_eq!(b.peers.unlinked().len(), 1);
    }
}

/// Both sides of a trust that finds the other's certificate bad: one at once, the other when it reads, as TLS 1.3 does it.
struct Distrust;

impl Trust for Distrust {
    fn accept(&self, _: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Option<Identity>)>> {
        Box::pin(async { Err(io::Error::new(io::ErrorKind::InvalidData, "the certificate of b has expired")) })
    }

    fn connect(&self, _: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Identity)>> {
        Box::pin(async { Ok((Box::new(Alert) as BoxStream, Identity { node: "a".into(), region: None })) })
    }
}

struct Alert;

impl AsyncRead for Alert {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "received an alert: certificate expired")))
    }
}

impl AsyncWrite for Alert {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_taken_is_told_on_both_sides() {
    let net = Net::default();
    let (a_host, b_host) = (net.host(1), net.host(2));
    let a = Node::start_as(&a_host, me("a", a_host.address()), Distrust, Options::default()).await;
    let b = Node::start_as(&b_host, me("b", b_host.address()), Distrust, Options::default()).await;
    b.aim(&[&a]);
    until("refused", || !b.heard.refusals().is_empty()).await;
    let refused = &b.heard.refusals()[0];
    assert_eq!((refused.by_us, refused.reason), (false, Reason::Untrusted));
    assert_eq!(refused.to_string(), "refused by a at 192.0.2.1:7946: received an alert: certificate expired");
    b_host.connect(a.address).await.expect("it listens");
    until("refused", || !a.heard.refusals().is_empty()).await;
    assert_eq!((a.heard.refusals()[0].by_us, a.heard.refusals()[0].reason), (true, Reason::Untrusted));
    let asked = b.peers.ask("a", Ask::default()).await.expect_err("it may not");
    assert!(matches!(&asked, Unreachable::Refused(refusal) if refusal.reason() == Reason::Untrusted), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_in_the_place_of_another_is_not_taken_for_it() {
    let net = Net::default();
    let (a, c) = (Node::start(&net.host(1), "a").await, Node::start(&net.host(3), "c").await);
    a.peers.aim(vec![Target { name: "b".into(), address: c.address }]);
    until("refused", || !a.heard.refusals().is_empty()).await;
    assert_eq!(a.heard.refusals()[0].to_string(), "refused c at 192.0.2.3:7946: b was to be there and c is");
    assert!(a.linked().is_empty() && c.linked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn secrets_may_differ_while_they_change_if_the_other_is_held() {
    let net = Net::default();
    let (a_host, b_host) = (net.host(1), net.host(2));
    let with = |name, host: &Arc<Host>, uses: u8, holds: u8| Me { secrets: [uses; 8], also: vec![[holds; 8]], ..me(name, host.address()) };
    let a = Node::start_as(&a_host, with("a", &a_host, 1, 2), Claimed::new("a", None), Options::default()).await;
    let b = Node::start_as(&b_host, with("b", &b_host, 2, 1), Claimed::new("b", None), Options::default()).await;
    a.aim(&[&b]);
    until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
}

#[tokio::test(start_paused = true)]
async fn seeds_are_dialed_until_linked_and_again_when_nobody_is_left() {
    let net = Net::default();
    let (b_host, a) = (net.host(2), Node::start(&net.host(1), "a").await);
    let nobody = net.host(9).address();
    a.peers.seeds(vec![a.address, b_host.address(), nobody]);
    sleep(Duration::from_secs(3)).await;
    let unlinked: Vec<SocketAddr> = a.peers.unlinked().iter().map(|unlinked| unlinked.address).collect();
    assert_eq!(unlinked, [b_host.address(), nobody], "a node does not miss itself");
    let b = Node::start(&b_host, "b").await;
    let linked = until("linked", || a.is_linked(&b)).await;
    assert!(linked <= Duration::from_secs(10), "{linked:?}");
    drop(b);
    until("lost", || a.linked().is_empty()).await;
    let b = Node::start(&b_host, "b").await;
    until("linked again", || a.is_linked(&b)).await;
    assert!(a.heard.refusals().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reaches_itself_under_another_address_stops_trying() {
    let net = Net::default();
    let (host, behind) = (net.host(1), net.host(7));
    let a = Node::start(&host, "a").await;
    let peers = a.peers.clone();
    let listener = host.listen(behind.address()).await.expect("the address is free");
    let serving = tokio::spawn(async move { peers.serve(listener).await });
    a.peers.seeds(vec![behind.address()]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(a.peers.counts().refused.of(Reason::Itself), 1);
    assert!(a.heard.events().is_empty() && a.peers.unlinked().is_empty(), "nobody has to do anything");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_link_that_nobody_wants_any_more_is_closed_by_who_dialed_it() {
    let net = Net::default();
    let (a, b, c) = (Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await, Node::start(&net.host(3), "c").await);
    a.aim(&[&b, &c]);
    until("linked", || a.is_linked(&b) && a.is_linked(&c)).await;
    a.aim(&[&c]);
    let closed = until("closed", || !a.is_linked(&b) && !b.is_linked(&a)).await;
    assert!(closed >= Duration::from_secs(30) && closed <= Duration::from_secs(33), "{closed:?}");
    assert_eq!(a.heard.losses(), [Lost::Unwanted]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((a.linked(), b.linked()), (vec!["c".to_owned()], vec![]));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_says_so() {
    let net = Net::default();
    let (a, b) = (Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await);
    a.aim(&[&b]);
    until("linked", || b.is_linked(&a)).await;
    a.peers.leave();
    sleep(Duration::from_millis(100)).await;
    drop(a);
    until("lost", || b.linked().is_empty()).await;
    assert_eq!(b.heard.events()[1..], [Event::Frame("a".into(), Frame::Leave), Event::Lost("a".into(), Lost::Left)]);
}

#[tokio::test(start_paused = true)]
async fn a_question_goes_to_whoever_dialed() {
    let net = Net::default();
    let (a, b) = (Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await);
    a.aim(&[&b]);
    until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
    let ask = |to: &str, path: &str| Ask { to: to.into(), path: path.into(), query: String::new(), hops_left: 1 };
    let there = a.peers.ask("b", ask("c", "/v1/actors")).await.expect("b answers");
    let back = b.peers.ask("a", ask("a", "/v1/actors")).await.expect("a answers");
    assert_eq!((&there.body[..], &back.body[..]), (&b"a asked c for /v1/actors"[..], &b"b asked a for /v1/actors"[..]));
    assert_eq!(a.peers.ask("z", ask("z", "/")).await, Err(Unreachable::Unknown));
    let late = a.peers.ask("b", ask("b", "/never")).await.expect_err("it never answers");
    assert!(matches!(late, Unreachable::Late | Unreachable::Failed(_)), "{late:?}");
    assert_eq!(a.linked(), ["b"], "the link has not suffered");
    let passed = b.peers.enrol("a", EnrolRequest { node: "n".into(), ..EnrolRequest::default() }).await.expect("a signs");
    assert_eq!(passed.chain, "n through Some(\"b\")");
}

#[tokio::test(start_paused = true)]
async fn who_has_no_certificate_may_enrol_and_nothing_else() {
    let net = Net::default();
    let a = Node::start(&net.host(1), "a").await;
    let (host, stranger) = (net.host(5), Claimed::anonymous());
    let request = |token: &str| EnrolRequest { token: token.into(), node: "n".into(), ..EnrolRequest::default() };
    let reply = enrol(&*host, &stranger, a.address, request("good")).await.expect("it is signed");
    assert_eq!(reply.chain, "n through None");
    let refused = enrol(&*host, &stranger, a.address, request("stale")).await.err().expect("it is stale");
    assert_eq!(refused, Unreachable::Refused(refusal(Reason::Token, "the token has expired")));

    let b = Node::start_as(&net.host(2), me("b", net.host(2).address()), Claimed::anonymous(), Options::default()).await;
    b.aim(&[&a]);
    until("both have heard", || !a.heard.refusals().is_empty() && !b.heard.refusals().is_empty()).await;
    assert_eq!((a.heard.refusals()[0].reason, b.heard.refusals()[0].reason), (Reason::Anonymous, Reason::Anonymous));
    let asked = b.peers.ask("a", Ask::default()).await.expect_err("it may not");
    assert!(matches!(&asked, Unreachable::Refused(refusal) if refusal.reason() == Reason::Anonymous), "{asked:?}");
    assert!(a.linked().is_empty() && b.linked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_what_runs_the_links_leaves_nothing_behind() {
    let net = Net::default();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (a, b) = (Node::start(&net.host(1), "a").await, Node::start(&net.host(2), "b").await);
    a.aim(&[&b]);
    b.aim(&[&a]);
    until("linked", || a.is_linked(&b) && b.is_linked(&a)).await;
    let peers = a.peers.clone();
    drop((a, b));
    until("nothing runs", || tokio::runtime::Handle::current().metrics().num_alive_tasks() == before).await;
    assert!(peers.links().is_empty());
}
