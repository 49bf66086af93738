//! Gossip: how it travels, what is let through to chitchat, chitchat itself, and the words of members.

use super::{
    super::{
        meter::metered,
        structure::{pieced, pieces},
    },
    Bench, Structure, Target, Verdict, hold,
};
use crate::{
    trace::Trace,
    world::{Names, SimWorld},
};
use bytes::Bytes;
use cluster::{
    World,
    gossip::{
        Ended, Gossip, Me, Membership, Refused, Ring, Sender, To, Wire,
        fuzzing::{Judge, Message, Record, Told, apart, blocks, is_native, judge_delta, message_of, operations_of},
    },
    member::{Facts, State},
    views::{ROW_MAX, Row},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What a delta unpacks to is read up to 256 KiB and a block beyond, held as it grows, judged into as much, and packed again.
const UNPACKED: usize = 2 << 20;

const WORDS: &[&[u8]] = &[b"n1", b"n2", b"w1", b"eu", b"us", &[0, 4], &[1, 6], &[45_139u16.to_le_bytes()[0], 45_139u16.to_le_bytes()[1]]];

pub(super) fn world() -> Arc<SimWorld> {
    Arc::new(SimWorld::new("fuzzed", 1, usize::MAX, Names::new(), Trace::default()))
}

pub(super) const PACKING: Target = Target {
    name: "packing",
    reads: "a message of gossip, as it travels",
    structure: Structure::Message,
    words: WORDS,
    // Beyond the longest message, so that this is refused too.
    longest: (64 << 10) + 16,
    beside: 0,
    begin: || Bench { seeds: recorded().into_iter().map(|heard| heard.bytes).collect(), read: Box::new(read_packing) },
};

fn read_packing(input: &[u8]) -> Verdict {
    let Some(message) = metered(|| Message::read(input, 1_024)) else { return Ok(false) };
    hold(message.written() == input, "a message that is written again is the same to the byte")?;
    Ok(true)
}

pub(super) const DELTA: Target = Target {
    name: "delta",
    reads: "what is passed on of members' states",
    structure: Structure::Delta,
    words: WORDS,
    longest: 64 << 10,
    beside: UNPACKED,
    begin: || {
        let mut seeds = vec![vec![0], blocks(&operations_of("n2", 9, ([10, 0, 0, 2], 7_400).into(), &KEYS)), blocks(&[])];
        let packed = recorded().into_iter().filter_map(|heard| {
            let (head, _) = apart(&heard.bytes)?;
            Some(heard.bytes[head.len()..].to_vec())
        });
        seeds.extend(packed.filter(|delta| !delta.is_empty()));
        Bench { seeds, read: Box::new(read_delta) }
    },
};

fn read_delta(input: &[u8]) -> Verdict {
    let Some(judged) = metered(|| judge_delta(input)) else { return Ok(false) };
    hold(judge_delta(&judged) == Some(judged), "nothing is left out of what was judged")?;
    Ok(true)
}

const KEYS: [(&str, &str); 12] = [
    ("f", "eu z1 1-2 0.1.0"),
    ("s", "s"),
    ("c", "5d41402abc4b2a76"),
    ("l", "20"),
    ("h/shop", "2/3"),
    ("v", "3 a53f:g :AAAA :"),
    ("x/n9", "7"),
    ("w", "1"),
    ("m/w1", "9000000 3 1f a s 20 10.1.0.1:7400 1-2 us z1 0.1.0 5d41402abc4b2a76"),
    ("n", "us,asia"),
    ("r/us", "w1 eu"),
    ("q/us/shop", "1/2"),
];

pub(super) const JUDGE: Target = Target {
    name: "judge",
    reads: "messages of gossip, before chitchat sees them",
    structure: Structure::Messages,
    words: WORDS,
    longest: 64 << 10,
    // And a roster of as many members as a digest has room for.
    beside: UNPACKED + (1 << 20),
    begin: || Bench { seeds: conversations(Ring::Region), read: Box::new(read_judged) },
};

/// Each is a byte without a meaning, and a message.
fn read_judged(input: &[u8]) -> Verdict {
    let now = world().now();
    let mut judge = Judge::new("shop/eu", "n1", incarnation(), address(0), now);
    let mut taken = true;
    for message in pieces(input) {
        let message = message.get(1..).unwrap_or_default();
        match metered(|| judge.judge(message, now)) {
            Some(native) => hold(is_native(&native), "chitchat reads what has been judged")?,
            None => taken = false,
        }
        hold(judge.known() <= 1_600, "who is known fits a digest")?;
    }
    Ok(taken)
}

pub(super) const GOSSIP: Target = Target {
    name: "gossip",
    reads: "messages of gossip, with chitchat and all that is made of it",
    structure: Structure::Messages,
    words: WORDS,
    longest: 32 << 10,
    // What 32 KiB unpack to, in chitchat and in what is made of it; and the runtime that it all runs on.
    beside: 32 << 20,
    begin: || Bench {
        seeds: conversations(Ring::Region).into_iter().chain(conversations(Ring::World)).chain(made_up()).collect(),
        read: Box::new(|input| metered(|| read_gossip(input))),
    },
};

/// Time passes with each message, and all that a node does in it.
const MESSAGES_MAX: usize = 64;

/// Each is a byte, for the ring and for who sends it, and a message.
fn read_gossip(input: &[u8]) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without sockets needs nothing of the machine");
    runtime.block_on(async {
        let gossip = Arc::new(Gossip::new(world(), Arc::new(Deaf), me(0), facts(0)));
        let (runs, endings) = (Arc::clone(&gossip), Arc::new(Mutex::new(None)));
        let task = tokio::spawn({
            let endings = Arc::clone(&endings);
            async move {
                loop {
                    match runs.run().await {
                        Ended::Stopped(why) => _ = endings.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why),
                        Ended::Superseded { generation, .. } | Ended::Forgotten { generation } => runs.renew(generation.saturating_add(1)),
                        Ended::Forged => {}
                    }
                }
            }
        });
        // By then it is alone, and speaks for its region in the ring of the world.
        tokio::time::sleep(Duration::from_millis(1_600)).await;
        for message in pieces(input).into_iter().take(MESSAGES_MAX) {
            let Some((kind, bytes)) = message.split_first() else { continue };
            let ring = if kind & 0x10 == 0 { Ring::Region } else { Ring::World };
            gossip.receive(&sender(usize::from(kind % 4)), ring, Bytes::copy_from_slice(bytes));
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        hold(!task.is_finished(), "gossip runs on")?;
        task.abort();
        if let Some(why) = &*endings.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(format!("broken: chitchat does not end: {why}"));
        }
        let view = gossip.view();
        let me = view.members.get("n1");
        hold(me.is_some_and(|me| me.is_alive() && *me.facts.region == *"eu"), "a node is in its own view, alive and as it is")?;
        // Messages from the middle of a conversation speak of lives and members that are news here, which is no fault of theirs.
        let Refused { unreadable, oversized, .. } = gossip.refused();
        Ok(unreadable + oversized == 0)
    })
}

struct Deaf;

impl Wire for Deaf {
    fn send(&self, _: To, _: Ring, _: Bytes) {}
}

/// The fuzzed node is the first; the second is of its region, the others are of another one.
const NODES: [(&str, &str); 4] = [("n1", "eu"), ("n2", "eu"), ("w1", "us"), ("w2", "us")];

const GENERATION: u64 = 1_767_225_600_000;

/// Of a node's first entry into a ring.
fn incarnation() -> u64 {
    GENERATION << 20
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, u8::from(node > 1), 0, node as u8 + 1], 7_400))
}

fn sender(node: usize) -> Sender {
    let (name, region) = NODES[node];
    Sender { node: name.into(), region: region.into(), address: address(node) }
}

fn me(node: usize) -> Me {
    Me { cluster: "shop".into(), node: NODES[node].0.into(), generation: GENERATION }
}

fn facts(node: usize) -> Facts {
    Facts {
        region: NODES[node].1.into(),
        zone: "z1".into(),
        address: address(node),
        protocol: (1, 2),
        build: "0.1.0".into(),
        state: State::Serving,
        configuration: "5d41402abc4b2a76".into(),
        load: 20,
        health: BTreeMap::from([("shop".into(), cluster::health::Summary { usable: 2, total: 3 })]),
    }
}

/// What the first node was sent.
#[derive(Clone)]
struct Heard {
    from: usize,
    ring: Ring,
    bytes: Vec<u8>,
}

impl Heard {
    fn piece(&self) -> Vec<u8> {
        let ring = if self.ring == Ring::World { 0x10 } else { 0 };
        [&[ring | self.from as u8][..], &self.bytes].concat()
    }
}

/// Real nodes that talk to each other without loss.
#[derive(Clone, Default)]
struct Circle(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    members: Vec<Arc<Gossip>>,
    heard: Vec<Heard>,
}

struct Seat(Circle, usize);

impl Wire for Seat {
    fn send(&self, to: To, ring: Ring, bytes: Bytes) {
        let Self(Circle(circle), from) = self;
        let gossip = {
            let mut circle = circle.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |node: &usize| (NODES[*node].1 == NODES[*from].1) == (ring == Ring::Region) && node != from;
            let to = match to {
                To::Member(to) => (0..NODES.len()).find(|node| address(*node) == to),
                To::Anyone => (0..NODES.len()).find(same),
            };
            let Some(to) = to else { return };
            if to == 0 {
                circle.heard.push(Heard { from: *from, ring, bytes: bytes.to_vec() });
            }
            circle.members.get(to).cloned()
        };
        if let Some(gossip) = gossip {
            gossip.receive(&sender(*from), ring, bytes);
        }
    }
}

/// What the first of four nodes hears in its first seconds.
fn recorded() -> Vec<Heard> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without sockets needs nothing of the machine");
    let circle = Circle::default();
    runtime.block_on(async {
        let members: Vec<Arc<Gossip>> = (0..NODES.len())
            .map(|node| Arc::new(Gossip::new(world(), Arc::new(Seat(circle.clone(), node)), me(node), facts(node))))
            .collect();
        circle.0.lock().unwrap_or_else(PoisonError::into_inner).members.clone_from(&members);
        for member in members {
            tokio::spawn(async move { member.run().await });
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    let mut circle = circle.0.lock().unwrap_or_else(PoisonError::into_inner);
    circle.members.clear();
    std::mem::take(&mut circle.heard)
}

/// What was heard in one ring, in pieces that are not too long, packed as it was and with what is in it laid open.
fn conversations(ring: Ring) -> Vec<Vec<u8>> {
    let heard: Vec<Heard> = recorded().into_iter().filter(|heard| heard.ring == ring).collect();
    let opened = heard.iter().filter_map(|heard| {
        let (head, operations) = apart(&heard.bytes)?;
        Some(Heard { bytes: [head, blocks(&operations)].concat(), ..heard.clone() })
    });
    let opened: Vec<Heard> = opened.collect();
    let pieced = |heard: &[Heard]| pieced(heard.iter().map(Heard::piece));
    let whole = heard.chunks(12).take(4).map(pieced);
    whole.chain(opened.chunks(3).take(8).map(pieced)).collect()
}

/// Members that say every key that there is.
fn made_up() -> Vec<Vec<u8>> {
    let say = |ring: Ring, name: &str, from: usize, keys: &[(&str, &str)]| {
        let (id, place) = (incarnation(), address(from));
        let named = if ring == Ring::World { "shop//world" } else { "shop/eu" };
        let delta = blocks(&operations_of(name, id, place, keys));
        Heard { from, ring, bytes: message_of(named, name, id, place, &delta) }.piece()
    };
    let theirs = [("f", "us z1 1-2 0.1.0"), ("s", "s"), ("w", "1"), ("n", "eu"), ("h/shop", "1/2"), KEYS[8]];
    vec![pieced([say(Ring::Region, "n2", 1, &KEYS)]), pieced([say(Ring::World, "w1", 2, &theirs), say(Ring::World, "w1", 2, &theirs[..3])])]
}

pub(super) const TOLD: Target = Target {
    name: "told",
    reads: "what a member says, key by key",
    structure: Structure::Split(b'\n'),
    words: &[b"f=", b"h/", b"m/", b"q/us/", b"r/", b"x/", b"X/", b"n=", b" ", b",", b"-", b"/", b"="],
    longest: 64 << 10,
    // Each list has a bound, and may be full.
    beside: 2 << 20,
    begin: || {
        let lines: Vec<String> = KEYS.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Bench { seeds: vec![lines.join("\n").into_bytes(), b"f=eu - 1-1 -\ns=l\ne=1\nX/us=3\nf".to_vec()], read: Box::new(read_told) }
    },
};

/// A line for each key: `key=value`, or the key alone for one that is gone.
fn read_told(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    let told = metered(|| {
        let mut told = Told::default();
        for line in text.split('\n') {
            match line.split_once('=') {
                Some((key, value)) => told.take(key, Some(value)),
                None => told.take(line, None),
            }
        }
        told
    });
    hold(told.entries() <= 64 * 512 + 8_192, "every list has a bound")?;
    hold(told.reads_itself(address(1)), "what a member says of itself reads the same when it is said again")?;
    Ok(true)
}

pub(super) const RECORD: Target = Target {
    name: "record",
    reads: "what is passed on of members",
    structure: Structure::Split(b' '),
    words: &[b"a", b"g", b"s", b"j", b"-", b"1-2", b"10.0.0.2:7400", b"[::1]:7400", b"ffffffffffffffff", b"\n"],
    longest: 4 << 10,
    beside: 0,
    begin: || {
        let record = KEYS[8].1;
        let later = record.replace(" 3 1f a ", " 4 1f g ");
        Bench { seeds: vec![record.into(), format!("{record}\n{later}").into_bytes()], read: Box::new(read_record) }
    },
};

/// A line for each.
fn read_record(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    let mut records: Vec<Record> = Vec::new();
    for line in text.split('\n').take(16) {
        let Some(record) = metered(|| Record::read(line)) else { return Ok(false) };
        hold(Record::read(&record.text()).is_some_and(|again| again == record), "a record that is written again reads the same")?;
        hold(records.iter().all(|other| record.merges(other)), "it does not matter in which order records are read")?;
        records.push(record);
    }
    Ok(true)
}

pub(super) const ROW: Target = Target {
    name: "row",
    reads: "whom a member sees",
    structure: Structure::Split(b' '),
    words: &[b"g", b"a", b"g+", b":", b":AAAA", b"4294967295", b"ffffffffffffffff"],
    longest: 4 << 10,
    beside: 0,
    begin: || Bench {
        seeds: vec![b"3 a53f g :AAAAAA :".to_vec(), b"1 0 a+ : :AAAAAAAAAAA".to_vec()],
        read: Box::new(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
            let names: Vec<Arc<str>> = (0..8).map(|node| format!("n{node}").into()).collect();
            let Some(row) = metered(|| Row::read(text)) else { return Ok(false) };
            let again = row.text();
            hold(again.len() <= ROW_MAX, "a row that was read is not longer when it is written")?;
            hold(Row::read(&again).is_some_and(|again| again == row), "a row that is written again reads the same")?;
            hold(metered(|| row.cells("n1", &names)).len() == names.len(), "a row has a cell for everybody")?;
            Ok(true)
        }),
    },
};
