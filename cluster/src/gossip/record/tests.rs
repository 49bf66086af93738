use super::*;
use proptest::prelude::*;

/// Incarnation, version, heartbeat and `a` or `g`, and the state as the one fact that differs.
fn record(text: &str) -> Record {
    let mut words = text.split(' ');
    let mut number = || words.next().expect("a case has five words").parse().expect("the first three are numbers");
    let (incarnation, version, heartbeat) = (number(), number(), number());
    let gone = words.next() == Some("g");
    let facts = Facts {
        region: "eu".into(),
        zone: "z1".into(),
        address: ([10, 0, 0, 1], 7400).into(),
        protocol: (1, 2),
        build: "0.1.0".into(),
        state: state(words.next().expect("the last one is the state")).expect("a letter"),
        configuration: "c0ffee".into(),
        load: 7,
        health: BTreeMap::new(),
    };
    Record { incarnation, version, heartbeat, gone, facts: Arc::new(facts) }
}

fn check(one: &str, other: &str, merged: &str) {
    for (one, other) in [(one, other), (other, one)] {
        let mut both = record(one);
        both.merge(&record(other));
        assert_eq!(both, record(merged), "{one} and {other}");
    }
}

#[test]
fn a_later_incarnation_is_all_that_counts() {
    check("2 1 1 a j", "1 9 9 g l", "2 1 1 a j");
}

#[test]
fn the_higher_version_knows_the_facts_and_the_later_heartbeat_who_is_there() {
    check("1 5 100 a s", "1 6 90 g d", "1 6 100 a d");
    check("1 5 100 a s", "1 5 101 g s", "1 5 101 g s");
}

#[test]
fn of_the_same_heartbeat_who_misses_the_next_one_is_right() {
    check("1 5 100 a s", "1 5 100 g s", "1 5 100 g s");
}

#[test]
fn a_heartbeat_or_a_load_alone_is_not_worth_a_message() {
    let known = record("1 5 100 a s");
    let mut later = record("1 6 200 a s");
    Arc::make_mut(&mut later.facts).load = 90;
    assert!(known.says_as_much_as(&later));
    assert!(!known.says_as_much_as(&record("1 6 200 a d")));
    assert!(!known.says_as_much_as(&record("1 5 200 g s")));
    assert!(known.says_as_much_as(&record("1 5 99 g s")), "what is known is newer");
    assert!(!known.says_as_much_as(&record("2 1 1 a s")));
}

#[test]
fn a_record_is_this_text() {
    let text = "a 5 64 a s 7 10.0.0.1:7400 1-2 eu z1 0.1.0 c0ffee";
    assert_eq!(record("10 5 100 a s").text(), text);
    assert_eq!(Record::read(text), Some(record("10 5 100 a s")));
}

#[test]
fn what_is_empty_or_unfit_is_told_all_the_same() {
    let mut odd = record("1 1 1 a j");
    let facts = Arc::make_mut(&mut odd.facts);
    (facts.zone, facts.build, facts.configuration) = ("".into(), "a b\nc".into(), "".into());
    let read = Record::read(&odd.text()).expect("it is made fit");
    assert_eq!((&*read.facts.zone, &*read.facts.build, &*read.facts.configuration), ("", "a_b_c", ""));
}

#[test]
fn what_no_representative_writes_is_no_record() {
    let good = "a 5 64 a s 7 10.0.0.1:7400 1-2 eu z1 0.1.0 c0ffee";
    assert!(Record::read(good).is_some());
    let long = "x".repeat(65);
    for (word, instead) in [
        ("a 5", "x 5"),
        ("64 a", "64 q"),
        ("s 7", "q 7"),
        ("s 7", "s 101"),
        ("s 7", "s +7"),
        ("10.0.0.1:7400", "10.0.0.1"),
        ("1-2", "12"),
        ("1-2", "1-70000"),
        ("eu", "e_u"),
        ("z1", ""),
        ("0.1.0", &long),
        ("c0ffee", "c0ffee more"),
        (" c0ffee", ""),
    ] {
        let bad = good.replacen(word, instead, 1);
        assert_eq!(Record::read(&bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn merging_does_not_depend_on_the_order(records in proptest::collection::vec((1u64..3, 1u64..4, 1u64..4, any::<bool>()), 1..6)) {
        // Within one incarnation the facts of a version are the same, whoever tells them.
        let of = |(incarnation, version, heartbeat, gone): (u64, u64, u64, bool)| {
            record(&format!("{incarnation} {version} {heartbeat} {} {}", if gone { 'g' } else { 'a' }, ["j", "s", "d"][version as usize - 1]))
        };
        let merge = |records: &mut dyn Iterator<Item = Record>| {
            let first = records.next().expect("there is one");
            records.fold(first, |mut all, next| {
                all.merge(&next);
                all
            })
        };
        let forwards = merge(&mut records.iter().copied().map(of));
        let backwards = merge(&mut records.iter().rev().copied().map(of));
        prop_assert_eq!(forwards, backwards);
    }

    #[test]
    fn reading_never_panics(text in "\\PC{0,120}") {
        let _ = Record::read(&text);
    }
}
