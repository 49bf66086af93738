use super::*;
use crate::{
    BoxFuture, BoxStream, Disk, Listener,
    dns::{Answer, Question},
    member::Seen,
    views::Matrix,
};
use std::{
    collections::BTreeSet,
    io,
    time::{Instant, SystemTime},
};
use tokio::{task::JoinHandle, time};

/// A world in which there is nothing but time.
struct Still(AtomicU64);

impl World for Still {
    #[expect(clippy::disallowed_methods, reason = "a test turns this clock")]
    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn chance(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        unreachable!("gossip opens nothing")
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        unreachable!("gossip opens nothing")
    }

    fn lookup<'a>(&'a self, _: &'a [SocketAddr], _: &'a Question) -> BoxFuture<'a, Answer> {
        unreachable!("gossip asks for no names")
    }

    fn offload(&self, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        unreachable!("gossip does not block")
    }

    fn disk(&self) -> Arc<dyn Disk> {
        unreachable!("gossip remembers nothing")
    }
}

/// Members that reach each other at once, but where they are cut apart.
#[derive(Default)]
struct Plane {
    members: Mutex<BTreeMap<SocketAddr, (Sender, Arc<Gossip>)>>,
    cut: Mutex<BTreeSet<(Arc<str>, Arc<str>)>>,
}

struct End {
    plane: Arc<Plane>,
    sender: Sender,
}

impl Wire for End {
    fn send(&self, to: To, ring: Ring, bytes: Bytes) {
        let members = lock(&self.plane.members);
        let cut = lock(&self.plane.cut);
        let reaches = |(other, _): &&(Sender, Arc<Gossip>)| !cut.contains(&(Arc::clone(&self.sender.node), Arc::clone(&other.node)));
        let fits = |(other, _): &&(Sender, Arc<Gossip>)| (other.region == self.sender.region) == (ring == Ring::Region);
        let receiver = match to {
            To::Member(address) => members.get(&address).filter(reaches),
            To::Anyone => members.values().filter(|(other, _)| other.node != self.sender.node).filter(fits).find(reaches),
        };
        if members.contains_key(&self.sender.address)
            && let Some((_, gossip)) = receiver
        {
            gossip.receive(&self.sender, ring, bytes);
        }
    }
}

struct Node {
    sender: Sender,
    gossip: Arc<Gossip>,
    run: JoinHandle<Ended>,
    plane: Arc<Plane>,
}

fn sender(name: &str, port: u16) -> Sender {
    let region = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    Sender { node: name.into(), region: region.into(), address: ([10, 0, 0, 1], port).into() }
}

/// Starts a node; the letters of its name are its region.
fn start(plane: &Arc<Plane>, name: &str, generation: u64) -> Node {
    let port = name.bytes().fold(7, |port: u16, byte| port.wrapping_mul(31).wrapping_add(u16::from(byte)));
    start_at(plane, sender(name, port), generation)
}

fn start_at(plane: &Arc<Plane>, sender: Sender, generation: u64) -> Node {
    let facts = Facts {
        region: Arc::clone(&sender.region),
        zone: "z".into(),
        address: sender.address,
        protocol: (1, 1),
        build: "1".into(),
        state: State::Serving,
        configuration: "c".into(),
        load: 0,
        health: BTreeMap::new(),
    };
    let me = Me { cluster: "test".into(), node: Arc::clone(&sender.node), generation };
    let end = End { plane: Arc::clone(plane), sender: sender.clone() };
    let gossip = Arc::new(Gossip::new(Arc::new(Still(AtomicU64::new(0))), Arc::new(end), me, facts));
    lock(&plane.members).insert(sender.address, (sender.clone(), Arc::clone(&gossip)));
    let mut node = Node { sender, run: tokio::spawn(pending()), gossip, plane: Arc::clone(plane) };
    node.run_again();
    node
}

impl Node {
    fn run_again(&mut self) {
        let gossip = Arc::clone(&self.gossip);
        self.run = tokio::spawn(async move { gossip.run().await });
    }

    fn kill(self) {
        lock(&self.plane.members).remove(&self.sender.address);
        self.run.abort();
    }

    /// `name+` for who is alive, `name-` for who is gone, `name!` for who has left.
    fn sees(&self) -> String {
        let view = self.gossip.view();
        let one = |member: &crate::member::Member| match member.seen {
            Seen::Alive => format!("{}+", member.name),
            Seen::Gone { .. } => format!("{}-", member.name),
            Seen::Left => format!("{}!", member.name),
        };
        view.members.values().map(one).collect::<Vec<_>>().join(" ")
    }
}

/// How long it takes until all see this, at most so many seconds.
#[expect(clippy::disallowed_methods, reason = "a test turns this clock")]
async fn until(nodes: &[&Node], expected: &str, seconds: u64) -> Duration {
    let began = time::Instant::now();
    while nodes.iter().any(|node| node.sees() != expected) {
        let all: Vec<String> = nodes.iter().map(|node| format!("{}: {}", node.sender.node, node.sees())).collect();
        assert!(began.elapsed() < Duration::from_secs(seconds), "after {seconds} s not all see {expected}:\n{}", all.join("\n"));
        sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

/// Five nodes in two regions, which see each other.
async fn five(plane: &Arc<Plane>) -> [Node; 5] {
    let nodes = ["eu1", "eu2", "eu3", "us1", "us2"].map(|name| start(plane, name, 1));
    until(&nodes.each_ref(), "eu1+ eu2+ eu3+ us1+ us2+", 10).await;
    nodes
}

#[tokio::test(start_paused = true)]
async fn five_nodes_in_two_regions_see_each_other_within_ten_seconds() {
    let plane = Arc::default();
    let nodes = five(&plane).await;
    sleep(Duration::from_secs(10)).await;
    for node in &nodes {
        let view = node.gossip.view();
        assert!(Matrix::of(&view).agrees());
        assert!(Matrix::of(&view).rows.values().all(Option::is_some), "everybody has told whom it sees");
        let other = if &*view.region == "eu" { "us" } else { "eu" };
        assert!(view.regions[other].sees.contains(&view.region));
        assert_eq!(node.gossip.refused(), Refused { left_out: node.gossip.refused().left_out, ..Refused::default() });
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_is_gone_for_all_well_within_ten_seconds_and_comes_back() {
    let plane = Arc::default();
    let [eu1, eu2, eu3, us1, us2] = five(&plane).await;
    sleep(Duration::from_secs(20)).await;
    eu2.kill();
    let took = until(&[&eu1, &eu3, &us1, &us2], "eu1+ eu2- eu3+ us1+ us2+", 8).await;
    assert!(took > Duration::from_secs(1), "one lost message is not a death: {took:?}");
    us2.kill();
    until(&[&eu1, &eu3, &us1], "eu1+ eu2- eu3+ us1+ us2-", 8).await;
    let [eu2, us2] = ["eu2", "us2"].map(|name| start(&plane, name, 2));
    until(&[&eu1, &eu2, &eu3, &us1, &us2], "eu1+ eu2+ eu3+ us1+ us2+", 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_is_heard_by_all_within_seconds() {
    let plane = Arc::default();
    let [eu1, eu2, eu3, us1, us2] = five(&plane).await;
    eu2.gossip.leave();
    until(&[&eu1, &eu3], "eu1+ eu2! eu3+ us1+ us2+", 2).await;
    until(&[&us1, &us2], "eu1+ eu2! eu3+ us1+ us2+", 3).await;
    eu2.kill();
    sleep(Duration::from_secs(60)).await;
    until(&[&eu1, &eu3, &us1, &us2], "eu1+ eu3+ us1+ us2+", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_over_a_link_is_heard_at_once() {
    let plane = Arc::default();
    let [eu1, ..] = five(&plane).await;
    eu1.gossip.goodbye(&"eu2".into(), 1);
    eu1.gossip.goodbye(&"us1".into(), 1);
    eu1.gossip.goodbye(&"us2".into(), 0);
    until(&[&eu1], "eu1+ eu2! eu3+ us1! us2+", 1).await;
}

#[tokio::test(start_paused = true)]
async fn regions_that_are_cut_apart_are_gone_to_each_other_and_find_back() {
    let plane: Arc<Plane> = Arc::default();
    let [eu1, eu2, eu3, us1, us2] = five(&plane).await;
    for eu in [&eu1, &eu2, &eu3] {
        for us in [&us1, &us2] {
            let pair = (Arc::clone(&eu.sender.node), Arc::clone(&us.sender.node));
            lock(&plane.cut).extend([(Arc::clone(&pair.1), Arc::clone(&pair.0)), pair]);
        }
    }
    until(&[&eu1, &eu2, &eu3], "eu1+ eu2+ eu3+ us1- us2-", 8).await;
    until(&[&us1, &us2], "eu1- eu2- eu3- us1+ us2+", 8).await;
    // Longer than chitchat remembers the dead.
    sleep(Duration::from_secs(6 * 60)).await;
    until(&[&eu1, &eu2, &eu3], "eu1+ eu2+ eu3+ us1- us2-", 1).await;
    lock(&plane.cut).clear();
    until(&[&eu1, &eu2, &eu3, &us1, &us2], "eu1+ eu2+ eu3+ us1+ us2+", 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_between_two_nodes_that_others_bridge_is_no_death() {
    let plane: Arc<Plane> = Arc::default();
    let nodes = five(&plane).await;
    lock(&plane.cut).extend([("eu1".into(), "eu2".into()), ("eu2".into(), "eu1".into()), ("eu3".into(), "us1".into())]);
    nodes[0].gossip.linked([("eu3", "eu"), ("us1", "us"), ("us2", "us")].map(|(name, region)| (name.into(), region.into())).into());
    sleep(Duration::from_secs(60)).await;
    until(&nodes.each_ref(), "eu1+ eu2+ eu3+ us1+ us2+", 1).await;
    // Whoever draws the matrix sees that the one hears of the other and has no link to it.
    let matrix = Matrix::of(&nodes[2].gossip.view());
    let row = matrix.rows["eu1"].as_ref().expect("it has told its row");
    assert_eq!(row[..], [crate::views::Cell::Linked, crate::views::Cell::Heard, crate::views::Cell::Linked]);
}

#[tokio::test(start_paused = true)]
async fn who_is_forgotten_on_one_node_is_forgotten_on_all() {
    let plane = Arc::default();
    let [eu1, eu2, eu3, us1, us2] = five(&plane).await;
    eu2.kill();
    until(&[&eu1, &eu3, &us1, &us2], "eu1+ eu2- eu3+ us1+ us2+", 8).await;
    assert!(us2.gossip.forget(&Forget::Member("eu2".into())));
    until(&[&eu1, &eu3, &us1, &us2], "eu1+ eu3+ us1+ us2+", 5).await;
    sleep(Duration::from_secs(120)).await;
    let eu2 = start(&plane, "eu2", 2);
    until(&[&eu1, &eu2, &eu3, &us1, &us2], "eu1+ eu2+ eu3+ us1+ us2+", 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_region_can_be_forgotten() {
    let plane = Arc::default();
    let [eu1, eu2, eu3, us1, us2] = five(&plane).await;
    us1.kill();
    us2.kill();
    until(&[&eu1, &eu2, &eu3], "eu1+ eu2+ eu3+ us1- us2-", 8).await;
    assert!(eu1.gossip.forget(&Forget::Region("us".into())));
    until(&[&eu1, &eu2, &eu3], "eu1+ eu2+ eu3+", 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_living_node_that_is_forgotten_is_told_and_comes_back_as_a_new_generation() {
    let plane = Arc::default();
    let [eu1, mut eu2, eu3, us1, us2] = five(&plane).await;
    assert!(eu1.gossip.forget(&Forget::Member("eu2".into())));
    let ended = (&mut eu2.run).await.expect("it does not panic");
    assert_eq!(ended, Ended::Forgotten { generation: 1 });
    eu2.gossip.renew(2);
    eu2.run_again();
    until(&[&eu1, &eu2, &eu3, &us1, &us2], "eu1+ eu2+ eu3+ us1+ us2+", 8).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_with_one_name_the_older_is_told() {
    let plane = Arc::default();
    let [eu1, mut eu2, eu3, us1, us2] = five(&plane).await;
    let newer = start_at(&plane, sender("eu2", 1), 5);
    let ended = (&mut eu2.run).await.expect("it does not panic");
    assert_eq!(ended, Ended::Superseded { generation: 5, alive: true });
    until(&[&eu1, &eu3, &us1, &us2, &newer], "eu1+ eu2+ eu3+ us1+ us2+", 8).await;
    assert_eq!(eu1.gossip.view().members["eu2"].generation, 5);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_went_back_is_told_that_it_has_to_be_newer_than_it_was() {
    let plane = Arc::default();
    let [eu1, eu2, ..] = five(&plane).await;
    eu2.kill();
    until(&[&eu1], "eu1+ eu2- eu3+ us1+ us2+", 8).await;
    let mut eu2 = start(&plane, "eu2", 0);
    let ended = (&mut eu2.run).await.expect("it does not panic");
    assert_eq!(ended, Ended::Superseded { generation: 1, alive: false });
    eu2.gossip.renew(2);
    eu2.run_again();
    until(&[&eu1, &eu2], "eu1+ eu2+ eu3+ us1+ us2+", 8).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_lied_about_starts_anew_and_is_believed_again() {
    let plane = Arc::default();
    let [eu1, mut eu2, eu3, us1, us2] = five(&plane).await;
    // A member says that it has heard of a later heartbeat of eu2 than there ever was: nobody would hear the true ones any more.
    let id = Id { name: "eu2".into(), incarnation: 1 << TURN_BITS, address: eu2.sender.address };
    let lie = native::Entry { id, heartbeat: 1 << 40, collected: 0, version: 1 << 40 };
    let message =
        packing::Packed { kind: native::Kind::Syn, mark: packing::mark("test/eu"), full: vec![lie], short: Vec::new(), delta: &[] };
    for node in [&eu1, &eu2, &eu3] {
        node.gossip.receive(&eu3.sender, Ring::Region, message.bytes().into());
    }
    assert_eq!((&mut eu2.run).await.expect("it does not panic"), Ended::Forged);
    eu2.run_again();
    sleep(Duration::from_secs(1)).await;
    until(&[&eu2], "eu1+ eu2+ eu3+ us1+ us2+", 0).await;
    sleep(Duration::from_secs(10)).await;
    until(&[&eu1, &eu2, &eu3, &us1, &us2], "eu1+ eu2+ eu3+ us1+ us2+", 1).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_of_another_region_has_no_part_in_the_ring_of_this_one() {
    let plane = Arc::default();
    let [eu1, _, _, us1, _] = five(&plane).await;
    let before = eu1.gossip.traffic().foreign;
    eu1.gossip.receive(&us1.sender, Ring::Region, Bytes::from_static(b"anything"));
    assert_eq!(eu1.gossip.traffic().foreign, before + 1);
    assert_eq!(eu1.gossip.refused().unreadable, 0, "it has not even been looked at");
}

#[tokio::test(start_paused = true)]
async fn no_bytes_of_a_peer_end_the_gossip() {
    let plane = Arc::default();
    let nodes = five(&plane).await;
    let mut number = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number
    };
    for round in 0..3_000 {
        let length = next() as usize % 90;
        let mut bytes: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        if round % 2 == 0 {
            let head = [&[1, (next() % 3) as u8][..], &packing::mark("test/eu").to_le_bytes(), &[0, 0]].concat();
            bytes.splice(..0, head);
        }
        nodes[0].gossip.receive(&nodes[1].sender, Ring::Region, bytes.into());
        if round % 100 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    sleep(Duration::from_secs(5)).await;
    assert!(!nodes[0].run.is_finished());
    assert!(nodes[0].gossip.refused().unreadable > 0);
    until(&nodes.each_ref(), "eu1+ eu2+ eu3+ us1+ us2+", 1).await;
}

/// A wire that breaks its promise.
struct Broken;

impl Wire for Broken {
    fn send(&self, _: To, _: Ring, _: Bytes) {
        panic!("the wire panics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_the_gossip_ends_it_and_it_can_be_run_again() {
    let facts = five(&Arc::default()).await[0].gossip.view().members["eu1"].facts.as_ref().clone();
    let me = Me { cluster: "test".into(), node: "eu1".into(), generation: 1 };
    let gossip = Gossip::new(Arc::new(Still(AtomicU64::new(0))), Arc::new(Broken), me, facts);
    for _ in 0..2 {
        assert!(matches!(gossip.run().await, Ended::Stopped(why) if why.contains("panicked")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_dropped_and_counted() {
    let plane = Arc::default();
    let [eu1, eu2, ..] = five(&plane).await;
    for _ in 0..1_000 {
        eu1.gossip.receive(&eu2.sender, Ring::Region, Bytes::from_static(b"x"));
    }
    assert!(eu1.gossip.traffic().dropped > 700);
    sleep(Duration::from_secs(10)).await;
    until(&[&eu1], "eu1+ eu2+ eu3+ us1+ us2+", 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_sum_of_a_regions_health_reaches_the_other_region() {
    let plane = Arc::default();
    let nodes = five(&plane).await;
    for (node, usable) in nodes[..3].iter().zip([2, 2, 0]) {
        let facts = node.gossip.view().members[&node.sender.node].facts.as_ref().clone();
        let health = BTreeMap::from([(Arc::from("shop"), crate::health::Summary { usable, total: 2 })]);
        node.gossip.publish(Facts { health, ..facts });
    }
    sleep(Duration::from_secs(10)).await;
    for node in &nodes {
        let view = node.gossip.view();
        assert_eq!(view.regions["eu"].health["shop"].usable, 2, "{}", node.sender.node);
    }
    let view = nodes[3].gossip.view();
    assert_eq!(crate::health::alternatives(&view, "shop").len(), 1);
}
