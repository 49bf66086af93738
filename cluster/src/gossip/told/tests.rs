use super::*;
use proptest::prelude::*;

/// What a member has told after these keys, one `key=value` each; `key!` for one that is gone.
fn told(words: &[&str]) -> Told {
    let mut told = Told::default();
    for word in words {
        match (word.split_once('='), word.strip_suffix('!')) {
            (Some((key, value)), _) => told.take(key, Some(value)),
            (None, Some(key)) => told.take(key, None),
            (None, None) => panic!("a case is written as key=value or key!"),
        }
    }
    told
}

fn here() -> SocketAddr {
    ([10, 0, 0, 1], 7400).into()
}

#[test]
fn a_member_is_there_once_it_has_told_region_and_state() {
    for (words, there) in [
        (&["f=eu z1 1-2 0.1.0"][..], false),
        (&["s=s"], false),
        (&["f=eu z1 1-2 0.1.0", "s=s"], true),
        (&["f=eu - 1-2 -", "s=j"], true),
        (&["f=e_u z1 1-2 0.1.0", "s=s"], false),
        (&["f=eu z1 1 0.1.0", "s=s"], false),
        (&["f=eu z1 1-2 0.1.0 more", "s=s"], false),
        (&["f=eu z1 1-2 0.1.0", "s=serving"], false),
    ] {
        assert_eq!(told(words).facts(here()).is_some(), there, "{words:?}");
    }
}

#[test]
fn what_is_told_is_what_is_read() {
    let facts = Facts {
        region: "eu".into(),
        zone: "z1".into(),
        address: here(),
        protocol: (1, 2),
        build: "0.1.0".into(),
        state: State::Draining,
        configuration: "c0ffee".into(),
        load: 42,
        health: BTreeMap::from([("shop".into(), Summary { usable: 2, total: 3 })]),
    };
    let base = format!("f={}", Base::text(&facts));
    let words = [&base[..], "s=d", "c=c0ffee", "l=42", "h/shop=2/3"];
    assert_eq!(told(&words).facts(here()), Some(facts));
    let note = Note { speakers: ["a".into(), "b".into()].into(), hears: BTreeSet::new() };
    assert_eq!(Note::read(&note.text()), Some(note));
}

#[test]
fn a_key_that_cannot_be_read_takes_nothing_else_with_it() {
    let told = told(&["f=eu z1 1-2 0.1.0", "s=s", "l=101", "h/shop=3/2", "h/cart=1/2", "m/x=nonsense", "v=nonsense", "q/us=1/2", "x/a=-1"]);
    assert!(told.facts(here()).is_some());
    assert_eq!(told.health.len(), 1);
    assert_eq!(told.unreadable, 6);
}

#[test]
fn keys_of_a_newer_release_are_passed_over() {
    let told = told(&["f=eu z1 1-2 0.1.0", "s=s", "Z=1", "zz/a=1"]);
    assert_eq!(told.unreadable, 0);
}

#[test]
fn what_is_gone_is_not_told_any_more() {
    let told = told(&["h/shop=1/2", "h/shop!", "w=1", "w!", "x/a=5", "x/a!", "h/cart=1/2", "h/cart=nonsense"]);
    assert_eq!((told.health.len(), told.forgotten.len(), told.speaks), (0, 0, false));
}

#[test]
fn no_list_grows_without_bound() {
    let mut told = Told::default();
    for number in 0..3_000 {
        told.take(&format!("h/s{number}"), Some("1/1"));
        told.take(&format!("x/n{number}"), Some("1"));
        told.take(&format!("X/n{number}"), Some("1"));
        told.take(&format!("r/n{number}"), Some("- -"));
        told.take(&format!("q/n{number}/s"), Some("1/1"));
        told.take(&format!("m/n{number}"), Some("a 5 64 a s 7 10.0.0.1:7400 1-2 eu z1 0.1.0 c0ffee"));
    }
    assert_eq!(told.health.len(), SERVICES_MAX);
    assert_eq!((told.forgotten.len(), told.forgotten_regions.len()), (FORGOTTEN_MAX, FORGOTTEN_MAX));
    assert_eq!((told.notes.len(), told.regional.len()), (REGIONS_MAX, REGIONS_MAX));
    assert_eq!(told.records.len(), RECORDS_MAX);
    told.take("n", Some(&["a"; 10].join(",")));
    assert_eq!(told.hears.len(), 1);
    told.take("n", Some(&(0..100).map(|number| format!("r{number}")).collect::<Vec<_>>().join(",")));
    assert_eq!(told.hears.len(), 1, "a list that is too long is not read");
}

proptest! {
    #[test]
    fn whatever_is_told_is_taken_without_a_panic(key in "[fsclvwne]|[hxXmrq]/[ -~]{0,20}", value in proptest::option::of("[ -~]{0,60}")) {
        Told::default().take(&key, value.as_deref());
    }
}
