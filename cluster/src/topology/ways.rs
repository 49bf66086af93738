//! By way of whom a member is reached that there may be no link to.

use super::representatives;
use crate::member::View;
use std::{collections::BTreeSet, sync::Arc};

/// Peers to give a question about `to` to, the likeliest first: the member itself; who is linked to everybody in its region; and
/// whoever in this region may be linked to one of those. A link that is missing inside the region is gone around by way of
/// anybody else in it.
pub fn ways(view: &View, linked: &BTreeSet<Arc<str>>, to: &str) -> Vec<Arc<str>> {
    let Some(member) = view.members.get(to) else { return Vec::new() };
    let mut ways: Vec<Arc<str>> = Vec::new();
    let mut add = |name: &Arc<str>| {
        if linked.contains(name) && *name != view.me && !ways.contains(name) && ways.len() < WAYS_MAX {
            ways.push(Arc::clone(name));
        }
    };
    add(&member.name);
    let region = &member.facts.region;
    if *region != view.region {
        representatives(view, region).iter().for_each(&mut add);
        view.of_region(region).for_each(|other| add(&other.name));
        representatives(view, &view.region).iter().for_each(&mut add);
    }
    view.of_region(&view.region).filter(|other| other.is_alive()).for_each(|other| add(&other.name));
    ways
}

/// Who does not answer costs a second or more.
const WAYS_MAX: usize = 4;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;
    use crate::member::{By, Facts, Member, Region, Seen, State};
    use std::{collections::BTreeMap, time::Instant};

    /// Members are `region/name`, with a `-` in front of those that are gone.
    fn view(me: &str, members: &str) -> View {
        let mut view = View {
            version: 1,
            me: me.into(),
            region: "".into(),
            members: BTreeMap::new(),
            regions: BTreeMap::new(),
            rows: BTreeMap::new(),
        };
        for word in members.split(' ') {
            let (seen, word) = match word.strip_prefix('-') {
                Some(word) => (Seen::Gone { since: Instant::now() }, word),
                None => (Seen::Alive, word),
            };
            let (region, name) = word.split_once('/').expect("a region and a name");
            if name == me {
                view.region = region.into();
            }
            let facts = Facts {
                region: region.into(),
                zone: name.into(),
                address: ([127, 0, 0, 1], 1).into(),
                protocol: (1, 1),
                build: "1".into(),
                state: State::Serving,
                configuration: "c".into(),
                load: 0,
                health: BTreeMap::new(),
            };
            let member = Member { name: name.into(), generation: 1, facts: Arc::new(facts), seen, by: By::Itself };
            view.regions.insert(region.into(), Region::default());
            view.members.insert(name.into(), member);
        }
        view
    }

    #[track_caller]
    fn check(linked: &str, to: &str, expected: &str) {
        let view = view("e1", "eu/e1 eu/e2 eu/e3 eu/e4 eu/e5 us/u1 us/u2 us/u3 us/u4 -us/u5");
        let linked: BTreeSet<Arc<str>> = linked.split_whitespace().map(Arc::from).collect();
        let ways = ways(&view, &linked, to);
        assert_eq!(ways.join(" "), expected);
    }

    #[test]
    fn a_question_goes_straight_to_whom_it_is_about() {
        check("e2 e3 e4 e5", "e2", "e2 e3 e4 e5");
        check("e2 u4", "u4", "u4 e2");
    }

    #[test]
    fn around_a_missing_link_it_goes_by_way_of_others() {
        check("e3 e4", "e2", "e3 e4");
        check("u2", "u4", "u2");
        check("u2", "u5", "u2");
    }

    #[test]
    fn into_another_region_it_goes_by_way_of_representatives() {
        let view = view("e1", "eu/e1 eu/e2 eu/e3 eu/e4 eu/e5 us/u1");
        let linked: BTreeSet<Arc<str>> = ["e2", "e3", "e4", "e5"].map(Arc::from).into();
        let speakers: Vec<Arc<str>> = representatives(&view, "eu").into_iter().filter(|name| &**name != "e1").collect();
        assert_eq!(ways(&view, &linked, "u1")[..speakers.len()], speakers);
    }

    #[test]
    fn nobody_is_asked_about_a_stranger() {
        check("e2 e3", "x9", "");
        check("", "e2", "");
    }
}
