use super::*;
use proptest::prelude::*;

fn key(seed: u8) -> Key {
    Key::new([seed; 32])
}

fn keyring() -> Keyring {
    Keyring::new([key(1), key(2), key(3)])
}

fn holding(node: usize, ring: &Keyring, purpose: Purpose) -> Holding {
    Holding { node: format!("n{node}").into(), keys: ring.ids(purpose).collect(), used: ring.used_id(purpose) }
}

#[test]
fn a_keyring_is_read_as_it_was_written() {
    let mut ring = keyring();
    let id = ring.add(Purpose::Hash, key(4)).expect("there is room");
    ring.use_key(Purpose::Hash, id).expect("it is held");
    let read: Keyring = ring.reveal().reveal().parse().expect("its own text");
    assert!(read == ring);
}

#[test]
fn a_keyring_that_lacks_a_key_does_not_include_the_other_whichever_are_used() {
    let (old, mut new) = (keyring(), keyring());
    let id = new.add(Purpose::Pepper, key(9)).expect("there is room");
    assert!(new.includes(&old) && !old.includes(&new));
    let mut used = new.clone();
    used.use_key(Purpose::Pepper, id).expect("it is held");
    assert!(new.includes(&used) && used.includes(&new));
}

#[test]
fn no_key_can_be_printed() {
    let ring = keyring();
    let shown = format!("{ring:?} {:?} {:?}", ring.used(Purpose::Hash), ring.reveal());
    for purpose in Purpose::ALL {
        assert!(!shown.contains(ring.used(purpose).reveal().reveal()), "{shown}");
    }
    assert!(shown.contains(&ring.used_id(Purpose::Hash).to_string()), "{shown}");
}

#[test]
fn what_is_no_keyring_is_refused_without_repeating_it() {
    let ring = |hash: &str| {
        let one = keyring().reveal().reveal().to_string();
        let own = serde_json::from_str::<serde_json::Value>(&one).expect("JSON");
        let mut own = own.as_object().expect("an object").clone();
        own.insert("hash".into(), serde_json::from_str(hash).expect("JSON"));
        serde_json::to_string(&own).expect("JSON")
    };
    let (a, id) = (key(1).reveal().reveal().to_string(), key(1).id());
    for (text, expected) in [
        (String::new(), "it is not the JSON of a keyring"),
        ("{}".into(), "it is not the JSON of a keyring"),
        (keyring().reveal().reveal().replace("\"version\":1", "\"version\":2"), "it is of another version"),
        (ring(&format!(r#"{{"use":"{id}","keys":[]}}"#)), "there are one to three keys for each purpose"),
        (ring(&format!(r#"{{"use":"{id}","keys":["{a}","{a}"]}}"#)), "a key is there twice"),
        (ring(&format!(r#"{{"use":"00000000","keys":["{a}"]}}"#)), "the key in use is not there"),
        (ring(&format!(r#"{{"use":"+1","keys":["{a}"]}}"#)), "the id of a key is eight hexadecimal digits"),
        (ring(&format!(r#"{{"use":"{id}","keys":["c2hvcnQ"]}}"#)), "a key is 32 bytes in base64"),
    ] {
        assert_eq!(text.parse::<Keyring>(), Err(KeyringError::Malformed(expected)), "{text}");
    }
}

#[test]
fn keys_are_held_before_they_are_used_and_unused_before_they_are_removed() {
    let mut ring = keyring();
    let (old, new) = (ring.used_id(Purpose::Token), key(9).id());
    assert_eq!(ring.use_key(Purpose::Token, new), Err(KeyringError::Unknown(new)));
    assert_eq!(ring.add(Purpose::Token, key(9)), Ok(new));
    assert_eq!(ring.add(Purpose::Token, key(9)), Err(KeyringError::Held(new)));
    assert_eq!(ring.remove(Purpose::Token, old), Err(KeyringError::InUse(old)));
    ring.use_key(Purpose::Token, new).expect("it is held");
    ring.remove(Purpose::Token, old).expect("it is not used");
    assert_eq!(ring.remove(Purpose::Token, old), Err(KeyringError::Unknown(old)));
    for seed in [10, 11] {
        ring.add(Purpose::Token, key(seed)).expect("there is room");
    }
    assert_eq!(ring.add(Purpose::Token, key(12)), Err(KeyringError::Full(Purpose::Token)));
}

#[test]
fn other_secrets_have_another_fingerprint_and_are_not_accepted() {
    let ours = keyring();
    for theirs in [[9, 2, 3], [1, 9, 3], [1, 2, 9]] {
        let theirs = Keyring::new(theirs.map(key));
        assert_ne!(ours.fingerprint(), theirs.fingerprint());
        assert!(!ours.accepts(theirs.fingerprint()));
    }
    assert!(ours.accepts(keyring().fingerprint()));
}

proptest! {
    /// Nodes take their steps in any order, as often as they like, always asked for the next one.
    #[test]
    fn a_rotation_never_parts_two_nodes(turns in prop::collection::vec(0usize..3, 1..60)) {
        let purpose = Purpose::Hash;
        let mut rings = vec![keyring(); 3];
        for turn in turns {
            let others: Vec<_> =
                rings.iter().enumerate().filter(|(node, _)| *node != turn).map(|(node, ring)| holding(node, ring, purpose)).collect();
            let ring = &mut rings[turn];
            match ring.next_step(purpose, &others) {
                // Whoever begins makes the key; the others are given it.
                Step::Add if others.iter().all(|other| other.keys.len() == 1) && !ring.ids(purpose).any(|id| id == key(7).id()) => {
                    ring.add(purpose, key(7)).expect("there is room");
                }
                Step::Wait { .. } | Step::Add => {
                    let given = others.iter().any(|other| other.keys.contains(&key(7).id()));
                    if given && ring.ids(purpose).count() == 1 && ring.used_id(purpose) != key(7).id() {
                        ring.add(purpose, key(7)).expect("there is room");
                    }
                }
                Step::Use(id) => ring.use_key(purpose, id).expect("it is held"),
                Step::Remove(id) => ring.remove(purpose, id).expect("it is not used"),
            }
            for a in &rings {
                for b in &rings {
                    prop_assert!(a.accepts(b.fingerprint()), "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = text.parse::<Keyring>();
        let _ = text.parse::<Key>();
        let _ = text.parse::<KeyId>();
    }
}

#[test]
fn a_rotation_comes_to_its_end() {
    let purpose = Purpose::Pepper;
    let mut rings = vec![keyring(); 3];
    let new = key(8);
    rings.iter_mut().for_each(|ring| {
        ring.add(purpose, new.clone()).expect("there is room");
    });
    for _ in 0..2 {
        for node in 0..3 {
            let others: Vec<_> = (0..3).filter(|other| *other != node).map(|other| holding(other, &rings[other], purpose)).collect();
            match rings[node].next_step(purpose, &others) {
                Step::Use(id) => rings[node].use_key(purpose, id).expect("it is held"),
                Step::Remove(id) => rings[node].remove(purpose, id).expect("it is not used"),
                Step::Wait { .. } => assert!(node < 2, "the last one waits for nobody"),
                Step::Add => unreachable!("the key has been added"),
            }
        }
    }
    for node in 0..2 {
        let others: Vec<_> = (0..3).filter(|other| *other != node).map(|other| holding(other, &rings[other], purpose)).collect();
        if let Step::Remove(id) = rings[node].next_step(purpose, &others) {
            rings[node].remove(purpose, id).expect("it is not used");
        }
    }
    assert!(rings.iter().all(|ring| ring.ids(purpose).collect::<Vec<_>>() == [new.id()]));
    assert_eq!(rings[0].next_step(purpose, &[holding(1, &rings[1], purpose)]), Step::Add);
}

#[test]
fn a_node_that_lacks_the_key_is_waited_for_by_name() {
    let mut ring = keyring();
    let behind = holding(1, &ring, Purpose::Hash);
    let new = ring.add(Purpose::Hash, key(7)).expect("there is room");
    let step = ring.next_step(Purpose::Hash, &[behind, holding(2, &ring, Purpose::Hash)]);
    assert_eq!(step, Step::Wait { key: new, nodes: vec!["n1".into()] });
    assert_eq!(ring.next_step(Purpose::Hash, &[]), Step::Use(new));
}
