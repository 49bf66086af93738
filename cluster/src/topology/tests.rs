use super::*;
use crate::member::{By, Facts, Region};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// One word for each member: name, zone, and what it is: `+` serving, `j` joining, `d` draining, `l` left, `-` gone.
fn members(region: &str, words: &str, now: Instant) -> Vec<Member> {
    let one = |(number, word): (usize, &str)| {
        let mut parts = word.split('/');
        let mut part = || parts.next().expect("a case names a member, its zone and what it is");
        let (name, zone, what) = (part(), part(), part());
        let state = match what {
            "j" => State::Joining,
            "d" => State::Draining,
            "l" => State::Left,
            _ => State::Serving,
        };
        let seen = match what {
            "l" => Seen::Left,
            "-" => Seen::Gone { since: now },
            _ => Seen::Alive,
        };
        let facts = Facts {
            region: region.into(),
            zone: zone.into(),
            address: ([10, 0, 0, 1], u16::try_from(number).expect("few members")).into(),
            protocol: (1, 1),
            build: "1".into(),
            state,
            configuration: "c".into(),
            load: 0,
            health: BTreeMap::new(),
        };
        Member { name: name.into(), generation: 1, facts: Arc::new(facts), seen, by: By::Itself }
    };
    words.split_whitespace().enumerate().map(one).collect()
}

fn view(me: &str, regions: &[(&str, &str)]) -> View {
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let now = Instant::now() + Duration::from_secs(1);
    let all: Vec<Member> = regions.iter().flat_map(|(region, words)| members(region, words, now)).collect();
    let region = all.iter().find(|member| &*member.name == me).expect("the case names who looks").facts.region.clone();
    View {
        version: 1,
        me: me.into(),
        region,
        members: all.into_iter().map(|member| (Arc::clone(&member.name), member)).collect(),
        regions: regions.iter().map(|(name, _)| (Arc::from(*name), Region::default())).collect(),
        rows: BTreeMap::new(),
    }
}

fn names(targets: &[Target]) -> Vec<&str> {
    targets.iter().map(|target| &*target.name).collect()
}

#[test]
fn a_region_is_a_full_mesh_of_all_who_have_not_left() {
    let view = view("a", &[("eu", "a/z1/+ b/z1/+ c/z2/j d/z2/d e/z3/- f/z3/l")]);
    assert_eq!(names(&links(&view)), ["b", "c", "d", "e"]);
}

#[test]
fn of_many_who_are_gone_each_node_dials_some_others() {
    let gone: Vec<String> = (0..200).map(|number| format!("g{number}/z/-")).collect();
    let of = |me: &str| links(&view(me, &[("eu", &format!("a/z/+ b/z/+ {}", gone.join(" ")))]));
    assert_eq!((of("a").len(), of("b").len()), (GONE_DIALED + 1, GONE_DIALED + 1));
    assert_ne!(of("a")[1..], of("b")[1..]);
}

#[test]
fn a_node_alone_keeps_no_links() {
    assert!(links(&view("a", &[("eu", "a/z1/+")])).is_empty());
}

#[test]
fn representatives_keep_links_to_those_of_other_regions_and_nobody_else_does() {
    let us = "u1/a/+ u2/a/+ u3/a/+ u4/a/+ u5/a/+";
    let eu = "e1/a/+ e2/b/+ e3/c/+ e4/a/+";
    let speakers = representatives(&view("e1", &[("eu", eu), ("us", us)]), "eu");
    assert_eq!(speakers.len(), REPRESENTATIVES);
    for me in ["e1", "e2", "e3", "e4"] {
        let view = view(me, &[("eu", eu), ("us", us)]);
        let across = links(&view).iter().filter(|target| target.name.starts_with('u')).count();
        assert_eq!(across, if speakers.iter().any(|name| &**name == me) { REPRESENTATIVES } else { 0 }, "{me}");
    }
}

#[test]
fn a_region_that_is_gone_is_dialed_all_the_same() {
    let view = view("e1", &[("eu", "e1/a/+"), ("us", "u1/a/- u2/a/-")]);
    assert_eq!(names(&links(&view)), ["u1", "u2"]);
}

/// Who is chosen of these, sorted.
fn check(words: &str, expected: &str) {
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let members = members("eu", words, Instant::now());
    let mut chosen = choose("eu", members.iter());
    chosen.sort();
    assert_eq!(chosen.join(" "), expected, "{words}");
}

#[test]
fn up_to_three_members_all_are_representatives() {
    check("a/z/+", "a");
    check("a/z/j b/z/d", "a b");
    check("a/z/+ b/z/j c/z/d", "a b c");
}

#[test]
fn each_zone_has_one_as_long_as_there_are_zones() {
    check("a/x/+ b/x/+ c/x/+ d/x/+ e/y/+ f/z/+", &{
        let one = ["a", "b", "c", "d"].into_iter().max_by_key(|name| score("eu", name)).expect("there are four");
        format!("{one} e f")
    });
}

#[test]
fn who_is_about_to_go_is_chosen_only_where_others_are_missing() {
    check("a/x/d b/x/d c/x/d d/x/+ e/x/+ f/x/+", "d e f");
    check("a/x/+ b/x/j c/x/j d/y/d", "a b c");
    check("a/x/l b/x/l", "");
}

proptest! {
    #[test]
    fn one_member_less_changes_at_most_one_representative(count in 4usize..60, gone in 0usize..60) {
        let word = |number| format!("n{number}/z/+");
        let all: Vec<String> = (0..count).map(word).collect();
        let gone = gone % count;
        let rest: Vec<String> = (0..count).filter(|number| *number != gone).map(word).collect();
        #[expect(clippy::disallowed_methods, reason = "any instant does")]
        let now = Instant::now();
        let before = choose("eu", members("eu", &all.join(" "), now).iter());
        let after = choose("eu", members("eu", &rest.join(" "), now).iter());
        prop_assert_eq!(after.len(), REPRESENTATIVES);
        let kept = before.iter().filter(|name| after.contains(name)).count();
        prop_assert!(kept >= REPRESENTATIVES - 1, "{before:?} {after:?}");
    }
}

#[test]
fn the_score_is_the_same_on_every_node_and_in_every_release() {
    assert_eq!(score("eu", "n1"), 5_347_598_589_835_480_264);
}
