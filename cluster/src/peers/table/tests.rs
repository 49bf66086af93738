use super::*;
use proptest::{
    prelude::{Just, Strategy, any, prop_assert_eq},
    proptest,
};

fn peer(node: &str, generation: u64, port: u16) -> Arc<Peer> {
    Arc::new(Peer {
        node: node.into(),
        generation,
        region: "eu".into(),
        zone: "".into(),
        address: SocketAddr::from(([192, 0, 2, 1], port)),
        build: "0".into(),
        protocol: 1,
    })
}

fn claim(node: &str, generation: u64, dialed_by_us: bool, dial: u64) -> Claim {
    Claim { peer: peer(node, generation, 1), dialed_by_us, dial }
}

#[test]
fn of_two_links_to_a_peer_one_is_kept() {
    // We are `m`: of the two of us, `a` has the smaller name and `z` the larger.
    for (known, new, known_is_silent, outcome) in [
        (("a", 1, true, 1), ("a", 1, false, 1), false, Ok(())),
        (("a", 1, false, 1), ("a", 1, true, 1), false, Err(Reason::Duplicate)),
        (("z", 1, true, 1), ("z", 1, false, 1), false, Err(Reason::Duplicate)),
        (("z", 1, false, 1), ("z", 1, true, 1), false, Ok(())),
        // The same side has dialed twice: the later attempt is what it believes in.
        (("z", 1, true, 1), ("z", 1, true, 2), false, Ok(())),
        (("z", 1, false, 5), ("z", 1, false, 4), false, Err(Reason::Duplicate)),
        // The same attempt again is a replay or a fault.
        (("z", 1, false, 5), ("z", 1, false, 5), false, Err(Reason::Duplicate)),
        // A peer that has started again has forgotten what was.
        (("z", 1, true, 1), ("z", 2, false, 1), false, Ok(())),
        (("z", 2, true, 1), ("z", 1, true, 2), false, Err(Reason::Generation)),
        // What is silent is not worth keeping.
        (("z", 2, true, 1), ("z", 1, false, 1), true, Ok(())),
        (("a", 1, false, 1), ("a", 1, true, 1), true, Ok(())),
    ] {
        let mut table = Table::new("m".into(), 8);
        let of = |(node, generation, ours, dial)| claim(node, generation, ours, dial);
        assert_eq!(table.insert(of(known), "known", |_| false), Ok(None));
        let came = table.insert(of(new), "new", |_| known_is_silent);
        assert_eq!(came.as_ref().map(|_| ()).map_err(Refusal::reason), outcome, "{known:?} {new:?}");
        assert_eq!(table.get(known.0), Some(if outcome.is_ok() { &"new" } else { &"known" }));
        assert_eq!(table.len(), 1);
    }
}

#[test]
fn two_peers_are_not_at_one_address_unless_one_of_them_has_gone() {
    let mut table = Table::new("m".into(), 8);
    let at = |node, port| Claim { peer: peer(node, 1, port), dialed_by_us: false, dial: 1 };
    assert_eq!(table.insert(at("a", 1), "a", |_| false), Ok(None));
    let refusal = table.insert(at("b", 1), "b", |_| false).expect_err("a is there");
    assert_eq!(refusal.message, "b says that it is reached at 192.0.2.1:1, and so does a");
    assert_eq!(table.insert(at("b", 1), "b", |_| true), Ok(None));
    assert_eq!(table.at(SocketAddr::from(([192, 0, 2, 1], 1)), |link| *link == "a"), Some(&"b"), "the one that is heard");
    assert_eq!(table.at(SocketAddr::from(([192, 0, 2, 1], 2)), |_| false), None);
}

#[test]
fn there_are_never_more_links_than_the_bound() {
    let mut table = Table::new("m".into(), 2);
    for (n, node) in ["a", "b", "c"].into_iter().enumerate() {
        let came = table.insert(Claim { peer: peer(node, 1, n as u16), dialed_by_us: false, dial: 1 }, node, |_| false);
        assert_eq!(came.is_ok(), n < 2, "{came:?}");
    }
    assert_eq!(
        table.insert(Claim { peer: peer("a", 2, 0), dialed_by_us: false, dial: 1 }, "a", |_| false),
        Ok(Some("a")),
        "replacing is free"
    );
}

#[test]
fn a_link_that_was_replaced_takes_out_nothing_when_it_ends() {
    let mut table = Table::new("m".into(), 2);
    assert_eq!(table.insert(claim("a", 1, false, 1), 1, |_| false), Ok(None));
    assert_eq!(table.insert(claim("a", 1, false, 2), 2, |_| false), Ok(Some(1)));
    assert!(!table.remove("a", |link| *link == 1));
    assert!(table.remove("a", |link| *link == 2));
    assert!(!table.remove("a", |link| *link == 2));
}

proptest! {
    #[test]
    fn both_ends_keep_the_same_link_whatever_the_order_they_meet_them_in(
        (dials, order, other) in proptest::collection::btree_set((any::<bool>(), 1..6_u64), 1..6)
            .prop_map(|dials| dials.into_iter().collect::<Vec<_>>())
            .prop_flat_map(|dials| {
                let order = Just((0..dials.len()).collect::<Vec<_>>());
                (Just(dials), order.clone().prop_shuffle(), order.prop_shuffle())
            })
    ) {
        let (mut at_a, mut at_b) = (Table::new("a".into(), 8), Table::new("b".into(), 8));
        for n in order {
            let (by_a, dial) = dials[n];
            let _ = at_a.insert(claim("b", 3, by_a, dial), n, |_| false);
        }
        for n in other {
            let (by_a, dial) = dials[n];
            let _ = at_b.insert(claim("a", 9, !by_a, dial), n, |_| false);
        }
        prop_assert_eq!(at_a.get("b"), at_b.get("a"));
    }
}
