//! What regions tell each other of services, so that requests can go to another region's endpoints when the own one has none.
//!
//! Each node judges endpoints by its own traffic and its own probes, and nothing that is told here overrides that: a
//! neighbour's view of an endpoint is the neighbour's network. A region's word about a service is what the middle one of its
//! members says, so that a member that is cut off, or that lies, moves it by one place at most.

use crate::member::View;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How many of a service's endpoints are judged usable.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Summary {
    pub usable: u32,
    pub total: u32,
}

impl Summary {
    /// Usable out of a thousand; none of none is none.
    fn permille(self) -> u64 {
        u64::from(self.usable.min(self.total)) * 1_000 / u64::from(self.total.max(1))
    }
}

/// What a region says when its members say this: for each service the lower median by usable share, among those that know
/// the service at all.
pub fn of_region<'a>(members: impl Iterator<Item = &'a BTreeMap<Arc<str>, Summary>>) -> BTreeMap<Arc<str>, Summary> {
    let mut said: BTreeMap<&Arc<str>, Vec<Summary>> = BTreeMap::new();
    for (service, summary) in members.flatten() {
        said.entry(service).or_default().push(*summary);
    }
    let middle = |(service, mut summaries): (&Arc<str>, Vec<Summary>)| {
        summaries.sort_by_key(|summary| (summary.permille(), *summary));
        (Arc::clone(service), summaries[(summaries.len() - 1) / 2])
    };
    said.into_iter().map(middle).collect()
}

/// Where requests for a service may go when this region's endpoints are judged unusable from here: regions that are reachable
/// and have usable endpoints, the best share first. To be asked after the local evidence, never in its place.
pub fn alternatives<'a>(view: &'a View, service: &str) -> Vec<(&'a Arc<str>, Summary)> {
    let others = view.regions.iter().filter(|(name, region)| **name != view.region && region.reachable);
    let mut usable: Vec<_> = others
        .filter_map(|(name, region)| Some((name, *region.health.get(service)?)))
        .filter(|(_, summary)| summary.permille() > 0 || summary.usable > 0)
        .collect();
    usable.sort_by_key(|(name, summary)| (std::cmp::Reverse(summary.permille()), *name));
    usable
}

/// Other regions whose own members say that less than half of a service's endpoints there are usable. One that was doubted
/// `before` is until three quarters are. Of whom nothing is heard, nothing is thought.
pub fn doubted(view: &View, service: &str, before: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
    let others = view.regions.iter().filter(|(name, region)| **name != view.region && region.reachable);
    let said = others.filter_map(|(name, region)| Some((name, *region.health.get(service)?))).filter(|(_, summary)| summary.total > 0);
    said.filter(|(name, summary)| summary.permille() < if before.contains(*name) { 750 } else { 500 })
        .map(|(name, _)| Arc::clone(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Region;

    /// Each word is what one member says: usable/total, or `-` for a member that does not know the service.
    fn check(said: &str, expected: Option<(u32, u32)>) {
        let members: Vec<BTreeMap<Arc<str>, Summary>> = said.split_whitespace().map(one).collect();
        let region = of_region(members.iter());
        assert_eq!(region.get("shop").copied(), expected.map(|(usable, total)| Summary { usable, total }), "{said}");
    }

    fn one(word: &str) -> BTreeMap<Arc<str>, Summary> {
        let Some((usable, total)) = word.split_once('/') else { return BTreeMap::new() };
        let number = |text: &str| text.parse().expect("the case is written in numbers");
        BTreeMap::from([("shop".into(), Summary { usable: number(usable), total: number(total) })])
    }

    #[test]
    fn a_region_says_what_the_middle_member_says() {
        check("", None);
        check("- -", None);
        check("3/4", Some((3, 4)));
        check("- 3/4 -", Some((3, 4)));
        check("0/4 3/4 3/4", Some((3, 4)));
        check("4/4 0/4 0/4", Some((0, 4)));
        // Of an even number it is the more careful one.
        check("0/4 4/4", Some((0, 4)));
        check("0/0 0/0", Some((0, 0)));
    }

    #[test]
    fn a_region_that_says_it_is_unwell_is_doubted_until_it_is_well_again() {
        let doubts = |said: &str, reachable: bool, before: &[&str]| {
            let region = Region { reachable, health: one(said), ..Region::default() };
            let regions = [("here".into(), Region { health: one("0/4"), ..region.clone() }), ("there".into(), region)].into();
            let view = View { version: 1, me: "n".into(), region: "here".into(), members: BTreeMap::new(), regions, rows: BTreeMap::new() };
            let before = before.iter().map(|name| Arc::from(*name)).collect();
            doubted(&view, "shop", &before).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(doubts("1/4", true, &[]), ["there"]);
        assert!(doubts("2/4", true, &[]).is_empty());
        assert_eq!(doubts("2/4", true, &["there"]), ["there"]);
        assert!(doubts("3/4", true, &["there"]).is_empty());
        for nothing_known in [doubts("0/4", false, &["there"]), doubts("0/0", true, &["there"]), doubts("-", true, &["there"])] {
            assert!(nothing_known.is_empty());
        }
    }

    #[test]
    fn only_reachable_regions_with_usable_endpoints_are_alternatives_and_the_best_comes_first() {
        let region = |reachable, said| (reachable, one(said));
        let regions = [
            ("here", region(true, "4/4")),
            ("cut", region(false, "4/4")),
            ("down", region(true, "0/4")),
            ("half", region(true, "2/4")),
            ("other", region(true, "-")),
            ("well", region(true, "3/4")),
        ];
        let regions = regions
            .into_iter()
            .map(|(name, (reachable, health))| (Arc::from(name), Region { reachable, health, ..Region::default() }))
            .collect();
        let view = View { version: 1, me: "n".into(), region: "here".into(), members: BTreeMap::new(), regions, rows: BTreeMap::new() };
        let names: Vec<&str> = alternatives(&view, "shop").into_iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["well", "half"]);
        assert!(alternatives(&view, "unheard").is_empty());
    }
}
