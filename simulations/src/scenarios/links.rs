//! Peers that link over the simulated network: what a cluster is made of, before there is one.
//!
//! Three nodes dial each other at once. Each pair ends up with one link, gossip goes both ways, and a seed decides all of it.

use crate::{
    chance::Chance,
    shim,
    trace::Trace,
    world::{Names, SimWorld},
};
use bytes::Bytes;
use cluster::{
    BoxFuture, World,
    peers::{Ask, EnrolReply, EnrolRequest, Frame, Inbox, Lost, Me, Options, Peer, Peers, Reason, Refusal, Refused, Reply, Ring, Target},
    trust::{Claimed, Identity},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::sleep;

const NODES: [&str; 3] = ["a", "b", "c"];
const PORT: u16 = 7946;
const LATENCY_MAX: Duration = Duration::from_millis(40);

/// What a node heard, in its order.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn note(&self, event: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Inbox for Heard {
    fn frame(&self, from: &Peer, frame: Frame) {
        let Frame::Gossip { ring, bytes } = frame else { return };
        self.note(format!("{} says {} to the {ring:?}", from.node, String::from_utf8_lossy(&bytes)));
    }

    fn linked(&self, peer: &Peer) {
        self.note(format!("{} linked", peer.node));
    }

    fn members_of(&self, _: &str) -> Vec<SocketAddr> {
        Vec::new()
    }

    fn lost(&self, peer: &Peer, why: &Lost) {
        self.note(format!("{} lost: {why}", peer.node));
    }

    fn refused(&self, refused: &Refused) {
        self.note(refused.to_string());
    }

    fn ask(&self, from: &Identity, ask: Ask) -> BoxFuture<'_, Reply> {
        let body = format!("{} asked for {}", from.node, ask.path);
        Box::pin(async move { Reply { status: 200, content_type: "text/plain".into(), body: body.into() } })
    }

    fn enrol(&self, _: Option<&Identity>, _: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refusal>> {
        Box::pin(async { Err(Refusal { reason: Reason::Unable.into(), message: "nobody signs here".into() }) })
    }
}

/// Who dialed whom.
type Dialed = BTreeSet<(String, String)>;

struct Played {
    trace: String,
    heard: Vec<Vec<String>>,
    /// The links as each node sees them, and how far their other ends are.
    links: Vec<(Dialed, Vec<Duration>)>,
    answers: Vec<String>,
}

fn play(seed: u64, until: Duration) -> Played {
    let trace = Trace::default();
    let mut chance = Chance::of(seed, "links");
    let mut builder = turmoil::Builder::new();
    builder
        .epoch(std::time::SystemTime::UNIX_EPOCH + shim::EPOCH)
        .simulation_duration(2 * until)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY_MAX)
        .tcp_capacity(1_024)
        .rng_seed(chance.draw());
    let mut sim = builder.build();
    let addresses: Vec<SocketAddr> = NODES.iter().map(|name| SocketAddr::new(sim.lookup(*name), PORT)).collect();
    let targets: Vec<Target> =
        NODES.iter().zip(&addresses).map(|(name, address)| Target { name: (*name).into(), address: *address }).collect();

    let mut nodes = Vec::new();
    for (name, address) in NODES.into_iter().zip(addresses) {
        let world = SimWorld::new(name, seed, usize::MAX, Names::new(), trace.clone());
        let heard = Arc::new(Heard::default());
        let me = Me {
            cluster: "shop".into(),
            node: name.into(),
            generation: 1,
            region: "eu".into(),
            zone: "".into(),
            address,
            secrets: [7; 8],
            also: Vec::new(),
            build: "0".into(),
        };
        let trust = Arc::new(Claimed::new(name, Some("eu".into())));
        let peers = Peers::new(Arc::new(world.clone()), trust, me, Arc::clone(&heard) as Arc<dyn Inbox>, Options::default());
        peers.aim(targets.clone());
        let answers = Arc::new(Mutex::new(Vec::new()));
        nodes.push((peers.clone(), heard, Arc::clone(&answers)));
        let everybody = targets.clone();
        sim.host(name, move || {
            let (peers, world, everybody, answers) = (peers.clone(), world.clone(), everybody.clone(), Arc::clone(&answers));
            async move {
                let listener = world.listen(SocketAddr::from(([0, 0, 0, 0], PORT))).await?;
                let talk = async {
                    sleep(Duration::from_secs(2)).await;
                    for target in everybody.iter().filter(|target| *target.name != *peers.me().node) {
                        let bytes = Bytes::from(format!("hello {}", target.name));
                        assert!(peers.send(target.address, Frame::Gossip { ring: Ring::Region, bytes }), "there is a link");
                        let ask = Ask { to: target.name.to_string(), path: "/v1/members".into(), query: String::new(), hops_left: 1 };
                        let reply = peers.ask(&target.name, ask).await.expect("it answers");
                        answers.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&reply.body).into_owned());
                    }
                    std::future::pending().await
                };
                tokio::select! {
                    biased;
                    () = peers.serve(listener) => {}
                    () = peers.run() => {}
                    () = talk => {}
                }
                Ok(())
            }
        });
    }
    while sim.elapsed() < until {
        sim.step().expect("nothing ends early");
        shim::advance_to(sim.elapsed());
    }
    let (mut heard, mut links, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for (node, (peers, inbox, asked)) in NODES.into_iter().zip(nodes) {
        heard.push(inbox.0.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let views = peers.links();
        let dialed = views.iter().map(|link| {
            let pair = (node.to_owned(), link.peer.node.to_string());
            if link.dialed_by_us { pair } else { (pair.1, pair.0) }
        });
        let ways = views.iter().filter_map(|link| link.round_trip).collect();
        links.push((dialed.collect(), ways));
        answers.extend(asked.lock().unwrap_or_else(PoisonError::into_inner).clone());
    }
    drop(sim);
    Played { trace: trace.take(), heard, links, answers }
}

#[test]
fn nodes_that_dial_each_other_end_up_with_one_link_for_each_pair_and_talk() {
    let played = crate::on_a_fresh_thread(7, || play(7, Duration::from_secs(5)));
    for ((node, heard), (dialed, ways)) in NODES.into_iter().zip(&played.heard).zip(&played.links) {
        let others: Vec<&str> = NODES.into_iter().filter(|other| *other != node).collect();
        for other in &others {
            assert!(heard.contains(&format!("{other} says hello {node} to the Region")), "{node}: {heard:?}");
            assert_eq!(heard.iter().filter(|event| **event == format!("{other} linked")).count(), 1, "{node}: {heard:?}");
        }
        assert!(!heard.iter().any(|event| event.contains("lost") || event.contains("refused")), "{node}: {heard:?}");
        // The head start of the smaller name makes it the one that dials.
        let pairs = others
            .iter()
            .map(|other| if *other < node { (other.to_string(), node.to_owned()) } else { (node.to_owned(), other.to_string()) });
        assert_eq!(*dialed, pairs.collect::<BTreeSet<_>>());
        assert!(ways.len() == 2 && ways.iter().all(|way| *way >= Duration::from_millis(2) && *way <= 2 * LATENCY_MAX), "{ways:?}");
    }
    assert_eq!(played.answers.len(), 6);
    assert_eq!(played.answers[0], "a asked for /v1/members");
}

#[test]
fn the_seed_decides_every_byte_that_peers_exchange() {
    let trace = |seed| {
        let whole = crate::on_a_fresh_thread(seed, move || play(seed, Duration::from_secs(3))).trace;
        // In which order a host that ends lets go of its connections is not the peers' doing.
        whole.split("   3000.000").next().unwrap_or_default().to_owned()
    };
    let (one, again, other) = (trace(1), trace(1), trace(2));
    assert!(one.contains("accepted from"));
    assert_eq!(one, again);
    assert_ne!(one, other);
}
