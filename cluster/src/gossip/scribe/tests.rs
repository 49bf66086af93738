use super::*;
use proptest::prelude::*;

const RING: &str = "shoal/eu";

fn id(name: &str, incarnation: u64) -> Id {
    Id { name: name.into(), incarnation, address: ([10, 0, 0, name.as_bytes()[0]], 7400).into() }
}

fn entry(name: &str, incarnation: u64, heartbeat: u64, version: u64) -> Entry {
    Entry { id: id(name, incarnation), heartbeat, collected: 0, version }
}

#[expect(clippy::disallowed_methods, reason = "any instant does")]
fn start() -> Instant {
    Instant::now()
}

/// A scribe of `a`, which knows these since long ago.
fn scribe(others: &[Entry], now: Instant) -> Scribe {
    let mut scribe = Scribe::new(RING.to_owned(), id("a", 1), now - 2 * NEW_FOR);
    let digest = [&[entry("a", 1, 10, 3)], others].concat();
    let message = native::write(Kind::Syn, RING, &digest, &[]);
    scribe.pack(&message, Recipient::Anyone, now - 2 * NEW_FOR).expect("it is sent");
    scribe
}

/// The digest that reaches chitchat, as `name incarnation heartbeat version`.
fn digest(judged: &Judged) -> Vec<String> {
    let native = native::read(&judged.native).expect("chitchat reads it");
    let one = |entry: &Entry| {
        let version = if entry.version == NOTHING_NEWER { "all".to_owned() } else { entry.version.to_string() };
        format!("{} {} {} {version}", entry.id.name, entry.id.incarnation, entry.heartbeat)
    };
    let mut digest: Vec<String> = native.digest.iter().map(one).collect();
    digest.sort();
    digest
}

fn packed(kind: Kind, full: Vec<Entry>, short: Vec<Short>) -> Vec<u8> {
    let delta = if kind == Kind::Syn { &[][..] } else { delta::NOTHING };
    Packed { kind, mark: packing::mark(RING), full, short, delta }.bytes()
}

fn in_short(entry: &Entry) -> Short {
    Short { hash: short(&entry.id), heartbeat: entry.heartbeat, collected: entry.collected, version: entry.version }
}

#[test]
fn what_one_says_the_other_hears() {
    let now = start();
    let (b, c) = (entry("b", 1, 20, 4), entry("c", 1, 30, 5));
    let mut one = scribe(&[b.clone(), c.clone()], now);
    let mut other = Scribe::new(RING.to_owned(), id("b", 1), now);
    let message = native::write(Kind::Syn, RING, &[entry("a", 1, 11, 3), b, c.clone()], &[]);
    let wire = one.pack(&message, Recipient::Member(id("b", 1).address), now).expect("it is sent");
    // `c` is long known to who sends and not to who receives, and so goes in short and is passed over.
    let heard = other.judge(&wire, now).expect("it is read");
    assert_eq!(digest(&heard), ["a 1 11 3", "b 1 20 4"]);
    // The answer shows that it is lacking, and the next one has it in full.
    let answer = native::write(Kind::SynAck, RING, &[entry("a", 1, 11, 3), entry("b", 1, 21, 4)], delta::NOTHING);
    let wire = other.pack(&answer, Recipient::Asker(&heard.heard.expect("it was a question")), now).expect("it is sent");
    assert_eq!(digest(&one.judge(&wire, now).expect("it is read")), ["a 1 0 all", "b 1 21 4", "c 1 0 all"]);
    let question = native::write(Kind::Syn, RING, &[entry("b", 1, 22, 4)], &[]);
    let wire = other.pack(&question, Recipient::Member(id("a", 1).address), now).expect("it is sent");
    let asked = one.judge(&wire, now).expect("it is read").heard.expect("it is a question");
    let answer = native::write(Kind::SynAck, RING, &[entry("a", 1, 12, 3), entry("b", 1, 20, 4), c], delta::NOTHING);
    let wire = one.pack(&answer, Recipient::Asker(&asked), now).expect("it is sent");
    assert_eq!(digest(&other.judge(&wire, now).expect("it is read")), ["a 1 12 3", "b 1 0 all", "c 1 30 5"]);
}

#[test]
fn a_digest_of_known_members_is_short() {
    let now = start();
    let member = |number: u64| Entry {
        id: Id {
            name: format!("shoal-7f9c-{number}").into(),
            incarnation: 1_767_225_600_000 << 20,
            address: ([10, 1, 2, number as u8], 7400).into(),
        },
        heartbeat: 1_000_000 + number,
        collected: 0,
        version: 12,
    };
    let members: Vec<Entry> = (0..160).map(member).collect();
    let mut scribe = scribe(&members, now);
    let message = native::write(Kind::Syn, RING, &members, &[]);
    let wire = scribe.pack(&message, Recipient::Anyone, now).expect("it is sent");
    assert!(wire.len() < 160 * 10, "{} instead of {} bytes", wire.len(), message.len());
}

#[test]
fn messages_of_another_ring_or_another_format_are_not_read() {
    let now = start();
    let mut scribe = scribe(&[], now);
    let other = Packed { kind: Kind::Syn, mark: packing::mark("shoal/us"), full: vec![], short: vec![], delta: &[] };
    for bytes in [&other.bytes()[..], b"", b"\x02\x00\x00\x00\x00\x00\x00\x00", b"\x01\x03\x00\x00\x00\x00\x00\x00"] {
        assert_eq!(scribe.judge(bytes, now), None);
    }
    assert_eq!(scribe.counts().unreadable, 4);
}

#[test]
fn a_message_names_at_most_four_times_the_known_members_and_some() {
    let now = start();
    let mut scribe = scribe(&[], now);
    let entries = |count: usize| (0..count).map(|number| Short { hash: number as u32, heartbeat: 1, collected: 0, version: 1 }).collect();
    assert!(scribe.judge(&packed(Kind::Syn, vec![], entries(ENTRIES_FACTOR + ENTRIES_SPARE)), now).is_some());
    assert_eq!(scribe.judge(&packed(Kind::Syn, vec![], entries(ENTRIES_FACTOR + ENTRIES_SPARE + 1)), now), None);
    assert_eq!(scribe.counts().oversized, 1);
}

#[test]
fn invented_members_never_make_a_digest_that_chitchat_cannot_send() {
    let now = start();
    let mut scribe = scribe(&[], now);
    for round in 0..40u64 {
        let name = |number| format!("{}-{round}-{number}", "x".repeat(40));
        let invented = (0..200).map(|number| Entry { id: Id { name: name(number).into(), ..id("x", 1) }, ..entry("x", 1, 1, 1) });
        scribe.judge(&packed(Kind::Syn, invented.collect(), vec![]), now);
    }
    let length: usize = scribe.roster().ids().map(Id::entry_len).sum();
    assert!(length <= 56_000, "{length}");
    assert!(scribe.counts().crowded_out > 0);
    assert!(scribe.judge(&packed(Kind::Syn, vec![entry("b", 1, 1, 1)], vec![]), now).is_some(), "it goes on all the same");
}

#[test]
fn an_older_incarnation_does_not_come_back() {
    let now = start();
    let mut scribe = scribe(&[entry("b", 5, 1, 1)], now);
    let judged = scribe.judge(&packed(Kind::Syn, vec![entry("b", 4, 1_000, 9), entry("b", 6, 1, 1)], vec![]), now).expect("it is read");
    assert_eq!(digest(&judged), ["b 6 1 1"]);
}

#[test]
fn of_the_muted_nothing_is_said_and_nothing_heard() {
    let now = start();
    let b = entry("b", 1, 20, 4);
    let mut scribe = scribe(std::slice::from_ref(&b), now);
    scribe.roster().mute(BTreeSet::from([b.id.clone()]));
    let message = native::write(Kind::SynAck, RING, &[entry("a", 1, 11, 3), b.clone()], delta::NOTHING);
    let wire = scribe.pack(&message, Recipient::Asker(&Heard::default()), now).expect("it is sent");
    let sent = packing::unpack(&wire, 10).expect("it is sound");
    assert_eq!((sent.full.len(), sent.short.len()), (1, 0));
    // chitchat is told that the other side knows all of it, so that it sends nothing.
    for (full, shorts) in [(vec![b.clone()], vec![]), (vec![], vec![in_short(&b)]), (vec![], vec![])] {
        let judged = scribe.judge(&packed(Kind::Syn, full, shorts), now).expect("it is read");
        assert_eq!(digest(&judged), ["b 1 0 all"]);
    }
    let question = native::write(Kind::Syn, RING, &[entry("a", 1, 12, 3), b.clone()], &[]);
    assert_eq!(scribe.pack(&question, Recipient::Member(b.id.address), now), None, "nobody is asked where only it is");
}

#[test]
fn a_claim_about_this_node_that_it_never_made_is_noticed() {
    let now = start();
    for (claimed, forged) in
        [(entry("a", 1, 10, 3), false), (entry("a", 1, 9, 2), false), (entry("a", 1, 11, 3), true), (entry("a", 1, 10, 4), true)]
    {
        for full in [true, false] {
            let mut scribe = scribe(&[], now);
            let (full, shorts) = if full { (vec![claimed.clone()], vec![]) } else { (vec![], vec![in_short(&claimed)]) };
            scribe.judge(&packed(Kind::Syn, full, shorts), now).expect("it is read");
            assert_eq!(scribe.is_forged(), forged, "{claimed:?}");
        }
    }
}

#[test]
fn what_this_node_writes_may_be_known_before_a_digest_tells_it() {
    let now = start();
    let mut scribe = scribe(&[], now);
    scribe.writes(7);
    scribe.judge(&packed(Kind::Syn, vec![entry("a", 1, 10, 7)], vec![]), now).expect("it is read");
    assert!(!scribe.is_forged());
}

#[test]
fn in_a_large_ring_fewer_are_asked_in_each_round() {
    let now = start();
    let member = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Entry {
            id: Id { name: format!("n{number}").into(), incarnation: 1, address: ([10, 1, high, low], 7400).into() },
            ..entry("n", 1, 1, 1)
        }
    };
    let asked = |count: u16| {
        let members: Vec<Entry> = (0..count).map(member).collect();
        let mut scribe = scribe(&members, now);
        let message = native::write(Kind::Syn, RING, &members, &[]);
        (0..100).filter(|_| scribe.pack(&message, Recipient::Member(members[0].id.address), now).is_some()).count()
    };
    assert_eq!(asked(100), 100);
    assert!((45..=55).contains(&asked(360)), "{}", asked(360));
}

proptest! {
    #[test]
    fn judging_never_panics_and_chitchat_reads_what_passes(
        kind in 0u8..4,
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        names in proptest::collection::vec(("[a-d]", 0u64..3, 0u64..30, 0u64..6), 0..6),
    ) {
        let now = start();
        let mut scribe = scribe(&[entry("b", 1, 20, 4), entry("c", 2, 1, 1)], now);
        let mut raw = vec![1, kind];
        raw.extend(packing::mark(RING).to_le_bytes());
        raw.extend(&bytes);
        let full: Vec<Entry> = names.iter().map(|(name, incarnation, heartbeat, version)| entry(name, *incarnation, *heartbeat, *version)).collect();
        let kind = Kind::from_code(kind).unwrap_or(Kind::Ack);
        let mut sound = Packed { kind, mark: packing::mark(RING), full: full.clone(), short: full.iter().map(in_short).collect(), delta: &[] }.bytes();
        if kind == Kind::Syn { sound.extend(&bytes) } else { sound.extend(delta::NOTHING) }
        for message in [raw, sound] {
            if let Some(judged) = scribe.judge(&message, now) {
                prop_assert!(native::read(&judged.native).is_some());
            }
        }
    }
}
