use super::*;
use crate::member::{Facts, State};

fn record(version: u64, heartbeat: u64, gone: bool) -> Record {
    let facts = Facts {
        region: "eu".into(),
        zone: "z".into(),
        address: ([10, 0, 0, 1], 7400).into(),
        protocol: (1, 1),
        build: "1".into(),
        state: if version > 1 { State::Serving } else { State::Joining },
        configuration: "c".into(),
        load: 0,
        health: BTreeMap::new(),
    };
    Record { incarnation: 1, version, heartbeat, gone, facts: Arc::new(facts) }
}

fn all(records: &[(&str, Record)]) -> BTreeMap<Arc<str>, Record> {
    records.iter().map(|(name, record)| (Arc::from(*name), record.clone())).collect()
}

fn written(relay: &Relay) -> String {
    relay
        .written()
        .map(|(name, record)| format!("{name}{}{}", record.version, if record.gone { "g" } else { "" }))
        .collect::<Vec<_>>()
        .join(" ")
}

#[expect(clippy::disallowed_methods, reason = "any instant does")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn the_first_writes_at_once_and_the_next_waits_whether_that_was_enough() {
    let (now, known) = (start(), all(&[("a", record(1, 5, false))]));
    let (mut first, mut second) = (Relay::default(), Relay::default());
    first.step(&known, &BTreeMap::new(), &BTreeMap::new(), 0, now);
    assert_eq!(written(&first), "a1");
    second.step(&known, &BTreeMap::new(), &BTreeMap::new(), 1, now);
    assert_eq!(written(&second), "");
    assert!(second.waits());
    second.step(&known, &all(&[("a", record(1, 3, false))]), &BTreeMap::new(), 1, now + TURN);
    assert_eq!(written(&second), "", "it has been said");
    assert!(!second.waits());
}

#[test]
fn what_is_not_said_in_time_is_written_by_the_next() {
    let (now, known) = (start(), all(&[("a", record(1, 5, false)), ("b", record(2, 5, false))]));
    let mut third = Relay::default();
    let others = all(&[("a", record(1, 5, false)), ("b", record(1, 5, false))]);
    third.step(&known, &others, &BTreeMap::new(), 2, now);
    third.step(&known, &others, &BTreeMap::new(), 2, now + 2 * TURN - Duration::from_millis(1));
    assert_eq!(written(&third), "");
    third.step(&known, &others, &BTreeMap::new(), 2, now + 2 * TURN);
    assert_eq!(written(&third), "b2");
}

#[test]
fn when_who_has_said_it_is_gone_the_next_says_it() {
    let (now, known) = (start(), all(&[("a", record(1, 5, false))]));
    let mut second = Relay::default();
    second.step(&known, &known, &BTreeMap::new(), 1, now);
    second.step(&known, &BTreeMap::new(), &BTreeMap::new(), 0, now + TURN);
    assert_eq!(written(&second), "a1");
}

#[test]
fn a_heartbeat_is_not_worth_a_message_but_to_contradict_one() {
    let now = start();
    let mut relay = Relay::default();
    relay.step(&all(&[("a", record(1, 5, false))]), &BTreeMap::new(), &BTreeMap::new(), 0, now);
    relay.step(&all(&[("a", record(1, 50, false))]), &BTreeMap::new(), &BTreeMap::new(), 0, now);
    assert!(relay.written().all(|(_, record)| record.heartbeat == 5));
    relay.step(&all(&[("a", record(1, 60, false))]), &all(&[("a", record(1, 55, true))]), &BTreeMap::new(), 0, now);
    assert!(relay.written().all(|(_, record)| record.heartbeat == 60), "somebody misses what is heard here");
}

#[test]
fn who_is_not_known_any_more_is_not_written_any_more() {
    let now = start();
    let mut relay = Relay::default();
    relay.step(&all(&[("a", record(1, 5, false)), ("b", record(1, 5, false))]), &BTreeMap::new(), &BTreeMap::new(), 0, now);
    relay.step(&all(&[("b", record(1, 5, false))]), &BTreeMap::new(), &BTreeMap::new(), 0, now);
    assert_eq!(written(&relay), "b1");
}

#[test]
fn whoever_has_written_what_is_not_so_any_more_mends_it_whatever_its_turn() {
    // A member that nobody could hear for a while has said nothing newer of itself.
    let (now, nobody) = (start(), BTreeMap::new());
    let (gone, back) = (all(&[("a", record(1, 5, true))]), all(&[("a", record(1, 5, false))]));
    for (others, expected) in [(&nobody, "a1"), (&back, "")] {
        let mut second = Relay::default();
        second.step(&gone, &nobody, &BTreeMap::new(), 1, now);
        second.step(&gone, &nobody, &BTreeMap::new(), 1, now + TURN);
        assert_eq!(written(&second), "a1g");
        second.step(&back, others, &BTreeMap::new(), 1, now + 2 * TURN);
        assert_eq!(written(&second), expected);
        assert!(!second.waits());
    }
}

#[test]
fn whoever_speaks_for_another_part_is_contradicted_and_not_relied_upon() {
    let (now, nobody) = (start(), BTreeMap::new());
    let known = all(&[("a", record(1, 50, false))]);
    let mut relay = Relay::default();
    relay.step(&known, &nobody, &known, 0, now);
    assert_eq!(written(&relay), "a1", "they may be out of reach for whoever listens to this part");
    let later = all(&[("a", record(1, 60, false))]);
    relay.step(&later, &nobody, &all(&[("a", record(1, 49, true))]), 0, now);
    assert!(relay.written().all(|(_, record)| record.heartbeat == 50), "whoever reads both knows");
    relay.step(&later, &nobody, &all(&[("a", record(1, 55, true))]), 0, now);
    assert!(relay.written().all(|(_, record)| record.heartbeat == 60), "they miss what is heard here");
}
