//! Where an actor stands in the tree: a path such as `root/services/shop/pool:10.0.0.1:80`.
//!
//! It is made of what the actor is for, so it is the same after a restart, on every node and in every run of a simulation.

use std::{cmp::Ordering, fmt, sync::Arc};

/// Compares as its segments do one by one, so that whatever lies below an actor follows it directly.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(Arc<str>);

impl Id {
    pub fn root() -> Self {
        Self("root".into())
    }

    /// What stands directly below. A segment cannot be made to look like two: what would be a separator, a blank or
    /// a control character is written as `%` and its bytes in hexadecimal, and so is `%`; an empty one is `%` alone.
    #[must_use]
    pub fn child(&self, segment: &str) -> Self {
        let mut path = format!("{}/", self.0);
        if segment.is_empty() {
            path.push('%');
        }
        for c in segment.chars() {
            if c == '/' || c == '%' || c.is_whitespace() || c.is_control() {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    path.push_str(&format!("%{byte:02X}"));
                }
            } else {
                path.push(c);
            }
        }
        Self(path.into())
    }

    /// An id as it was read somewhere. It need not belong to anybody.
    pub fn written(path: &str) -> Self {
        Self(path.into())
    }

    /// An id as an operator may have written it: the root that all have in common may be left out.
    pub fn meant(path: &str) -> Self {
        if path == "root" || path.starts_with("root/") { Self::written(path) } else { Self(format!("root/{path}").into()) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Steps below the root, which is at 0.
    pub fn depth(&self) -> usize {
        self.segments().count() - 1
    }

    /// Whether `other` is this actor or lies below it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        self.segments().cmp(other.segments())
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_lies_below_an_actor_follows_it_directly() {
        let root = Id::root();
        let shop = root.child("shop");
        let mut ids = [root.child("shop-2"), shop.child("pool:[::1]:80"), root.child("shop"), root.clone()];
        ids.sort();
        assert_eq!(ids.map(|id| id.to_string()), ["root", "root/shop", "root/shop/pool:[::1]:80", "root/shop-2"]);
        assert!(shop.covers(&shop.child("x")) && shop.covers(&shop));
        assert!(!shop.covers(&root.child("shop-2")) && !shop.covers(&root));
    }

    #[test]
    fn the_root_may_be_left_out() {
        for (written, meant) in [("root", "root"), ("root/limits", "root/limits"), ("limits", "root/limits"), ("rooted", "root/rooted")] {
            assert_eq!(Id::meant(written).as_str(), meant);
        }
    }

    proptest! {
        #[test]
        fn two_names_are_two_ids_and_one_segment(a in "[a%/ :\\n]{0,4}", b in "[a%/ :\\n]{0,4}") {
            let root = Id::root();
            prop_assert_eq!(a == b, root.child(&a) == root.child(&b));
            prop_assert_eq!(root.child(&a).depth(), 1);
        }
    }
}
