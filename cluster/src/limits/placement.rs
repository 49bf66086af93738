//! Which member of a region owns a key: nothing is elected, everybody computes it from the members that it sees.
//!
//! Keys are placed by the uppermost ten bits of their hash, in 1,024 parts, each by rendezvous hashing (Thaler and Ravishankar, 1998):
//! a member more or less moves only the parts that it gains or had. Two nodes that see different members may name
//! different owners for a while; what that costs is said in [`super`].

use crate::topology::Fnv;

/// Parts of the key space: `0..PARTS`.
pub const PARTS: usize = 1 << PART_BITS;

pub const PART_BITS: u32 = 10;

/// The part of a key's hash.
pub fn part(key: u64) -> usize {
    (key >> (64 - PART_BITS)) as usize
}

/// Of these members of one region, the one that owns the part: its position. `None` if there are none.
pub fn owner<'a>(part: usize, members: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    let scored = members.into_iter().enumerate().map(|(at, name)| (score(part, name), name, at));
    scored.max().map(|(.., at)| at)
}

fn score(part: usize, name: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.add(&(part as u64).to_le_bytes());
    hash.add(name.as_bytes());
    hash.mixed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(members: &[&str]) -> Vec<String> {
        (0..PARTS).map(|part| owner(part, members.iter().copied()).map(|at| members[at].to_owned()).unwrap_or_default()).collect()
    }

    #[test]
    fn the_order_in_which_members_are_known_does_not_matter() {
        assert_eq!(owners(&["a", "b", "c"]), owners(&["c", "a", "b"]));
        assert_eq!(owner(0, []), None);
    }

    #[test]
    fn every_member_owns_about_as_much_as_the_others() {
        let owners = owners(&["west-1", "west-2", "west-3", "west-4"]);
        for name in ["west-1", "west-2", "west-3", "west-4"] {
            let parts = owners.iter().filter(|owner| *owner == name).count();
            assert!((190..=322).contains(&parts), "{name} owns {parts} of {PARTS}");
        }
    }

    #[test]
    fn whoever_goes_leaves_the_parts_of_others_alone() {
        let (before, after) = (owners(&["a", "b", "c", "d"]), owners(&["a", "b", "d"]));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().count() > 0);
        assert!(moved.clone().all(|(before, _)| before == "c"));
    }

    /// Computed by another program: members of different builds have to agree.
    #[test]
    fn who_owns_what_is_part_of_the_protocol() {
        assert_eq!([part(0), part(1 << 54), part(u64::MAX)], [0, 1, PARTS - 1]);
        assert_eq!(owners(&["a", "b", "c", "d"])[..24].concat(), "dbdbabadaddcbdcaadbcccaa");
    }
}
