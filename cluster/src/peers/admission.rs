//! How many connections may be there that have not said hello: the only ones that anybody can make.
//!
//! A connection is counted in the stage that it has reached. Each stage has its own room, so that those who never finish a
//! handshake take none from those who have shown a certificate.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rooms {
    /// Connections that have shown nothing yet, and how many of them may come from one address.
    pub securing: usize,
    pub securing_per_address: usize,
    /// Without a certificate: they may enrol. Whoever holds all the places of one address keeps out nobody at another.
    pub anonymous: usize,
    pub anonymous_per_address: usize,
    /// With a certificate and without a link, for one name.
    pub known_per_node: usize,
}

#[derive(Debug)]
pub(super) struct Admission {
    rooms: Rooms,
    securing: BTreeMap<IpAddr, usize>,
    anonymous: BTreeMap<IpAddr, usize>,
    known: BTreeMap<Arc<str>, usize>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Securing(IpAddr),
    Anonymous(IpAddr),
    Known(Arc<str>),
}

impl Admission {
    pub(super) fn new(rooms: Rooms) -> Self {
        Self { rooms, securing: BTreeMap::new(), anonymous: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// Whether there is room. Every true is to be followed by a [`Admission::leave`] of the same stage.
    pub(super) fn enter(&mut self, stage: &Stage) -> bool {
        match stage {
            Stage::Securing(ip) => {
                let room = count(&self.securing) < self.rooms.securing;
                room && enter(&mut self.securing, ip, self.rooms.securing_per_address)
            }
            Stage::Anonymous(ip) => {
                let room = count(&self.anonymous) < self.rooms.anonymous;
                room && enter(&mut self.anonymous, ip, self.rooms.anonymous_per_address)
            }
            Stage::Known(node) => enter(&mut self.known, node, self.rooms.known_per_node),
        }
    }

    pub(super) fn leave(&mut self, stage: &Stage) {
        match stage {
            Stage::Securing(ip) => leave(&mut self.securing, ip),
            Stage::Anonymous(ip) => leave(&mut self.anonymous, ip),
            Stage::Known(node) => leave(&mut self.known, node),
        }
    }
}

fn count<K>(counts: &BTreeMap<K, usize>) -> usize {
    counts.values().sum()
}

fn enter<K: Ord + Clone>(counts: &mut BTreeMap<K, usize>, key: &K, max: usize) -> bool {
    let there = counts.get(key).copied().unwrap_or(0);
    if there >= max {
        return false;
    }
    counts.insert(key.clone(), there + 1);
    true
}

/// What is at zero is not kept: the maps are as large as what is there.
fn leave<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    match counts.get_mut(key) {
        Some(there) if *there > 1 => *there -= 1,
        _ => {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{
        prelude::{any, prop_assert},
        proptest,
    };

    const ROOMS: Rooms = Rooms { securing: 3, securing_per_address: 2, anonymous: 3, anonymous_per_address: 2, known_per_node: 1 };

    fn stage(n: u8) -> Stage {
        match n % 7 {
            0..=2 => Stage::Securing(IpAddr::from([192, 0, 2, n % 7])),
            3 | 4 => Stage::Anonymous(IpAddr::from([192, 0, 2, n % 7])),
            5 => Stage::Known("a".into()),
            _ => Stage::Known("b".into()),
        }
    }

    #[test]
    fn each_stage_has_its_own_room() {
        let mut admission = Admission::new(ROOMS);
        let securing = [(0, true), (0, true), (0, false), (1, true), (2, false)];
        let anonymous = [(3, true), (3, true), (3, false), (4, true), (4, false)];
        let known = [(5, true), (5, false), (6, true)];
        for (n, room) in securing.into_iter().chain(anonymous).chain(known) {
            assert_eq!(admission.enter(&stage(n)), room, "{:?}", stage(n));
        }
        for leaves in [0, 3] {
            admission.leave(&stage(leaves));
        }
        assert!([2, 4].into_iter().all(|comes| admission.enter(&stage(comes))), "who leaves makes room");
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_there(moves in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..200)) {
            let mut admission = Admission::new(ROOMS);
            let mut there: Vec<Stage> = Vec::new();
            for (n, comes) in moves {
                if comes {
                    if admission.enter(&stage(n)) {
                        there.push(stage(n));
                    }
                } else if !there.is_empty() {
                    admission.leave(&there.swap_remove(n as usize % there.len()));
                }
                let securing = there.iter().filter(|stage| matches!(stage, Stage::Securing(_))).count();
                let anonymous = there.iter().filter(|stage| matches!(stage, Stage::Anonymous(_))).count();
                prop_assert!(securing <= 3 && count(&admission.securing) == securing);
                prop_assert!(anonymous <= 3 && count(&admission.anonymous) == anonymous && admission.known.len() <= 2);
            }
            for stage in there.drain(..) {
                admission.leave(&stage);
            }
            prop_assert!(admission.securing.is_empty() && admission.known.is_empty() && admission.anonymous.is_empty());
        }
    }
}
