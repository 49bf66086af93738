//! All actors of one node, by id. It belongs to the node: a process may hold several.

use super::{Id, Slot, View};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Actors that are remembered after they left the tree.
const GONE_MAX: usize = 256;

#[derive(Default)]
pub struct Tree {
    slots: Mutex<Slots>,
    /// By kind and by how the life before ended.
    restarts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

#[derive(Default)]
struct Slots {
    here: BTreeMap<Id, Arc<Slot>>,
    /// The newest last. At most one of an id, and none of an id that is here.
    gone: VecDeque<Arc<Slot>>,
}

/// What is known of an id.
#[derive(Clone)]
pub enum Found {
    Here(Arc<Slot>),
    /// It was taken out of the tree, by a reload for example; this is its story.
    Gone(Arc<Slot>),
}

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    /// Every actor without asking any: a parent before its children, siblings by name.
    pub fn views(&self) -> Vec<View> {
        self.slots().iter().map(|slot| slot.view()).collect()
    }

    /// In the order of [`Tree::views`].
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.locked().here.values().map(Arc::clone).collect()
    }

    pub fn find(&self, id: &Id) -> Option<Found> {
        let slots = self.locked();
        let here = slots.here.get(id).map(|slot| Found::Here(Arc::clone(slot)));
        here.or_else(|| slots.gone.iter().find(|slot| slot.id() == id).map(|slot| Found::Gone(Arc::clone(slot))))
    }

    /// Restarts so far, of those who have left too, by kind of actor and by how the life before ended.
    pub fn restarts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        restarts.iter().map(|((kind, reason), count)| (*kind, *reason, *count)).collect()
    }

    pub(crate) fn restarted(&self, kind: &'static str, reason: &'static str) {
        *self.restarts.lock().unwrap_or_else(PoisonError::into_inner).entry((kind, reason)).or_default() += 1;
    }

    /// Shows an actor from now on. It takes over the story of who had its id before.
    pub(crate) fn enter(&self, slot: &Arc<Slot>) {
        let mut slots = self.locked();
        let before = match slots.here.insert(slot.id().clone(), Arc::clone(slot)) {
            Some(before) => Some(before),
            None => {
                let at = slots.gone.iter().position(|gone| gone.id() == slot.id());
                at.and_then(|at| slots.gone.remove(at))
            }
        };
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(before, slot)) {
            slot.succeed(&before);
        }
    }

    /// Takes an actor out, with all below it. If somebody else has its id by now, nothing happens.
    pub(crate) fn leave(&self, slot: &Arc<Slot>) {
        let mut slots = self.locked();
        let Slots { here, gone } = &mut *slots;
        if !here.get(slot.id()).is_some_and(|here| Arc::ptr_eq(here, slot)) {
            return;
        }
        let mut subtree = here.split_off(slot.id());
        let mut after = BTreeMap::new();
        if let Some(next) = subtree.keys().find(|id| !slot.id().covers(id)).cloned() {
            after = subtree.split_off(&next);
        }
        here.append(&mut after);
        gone.extend(subtree.into_values());
        while gone.len() > GONE_MAX {
            gone.pop_front();
        }
    }

    fn locked(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;
    use crate::inspect::Exit;
    use std::time::Instant;

    fn ids(tree: &Tree) -> Vec<String> {
        tree.views().into_iter().map(|view| view.id.to_string()).collect()
    }

    #[test]
    fn who_leaves_takes_along_what_is_below_and_nothing_beside() {
        let tree = Tree::new();
        let root = Id::root();
        let shop = Arc::new(Slot::new(root.child("shop"), "supervisor"));
        for id in [root.clone(), shop.id().child("pool:a"), shop.id().child("pool:b"), root.child("shop-2"), root.child("a")] {
            tree.enter(&Arc::new(Slot::new(id, "pool")));
        }
        tree.enter(&shop);
        tree.leave(&shop);
        assert_eq!(ids(&tree), ["root", "root/a", "root/shop-2"]);
        assert!(matches!(tree.find(&shop.id().child("pool:b")), Some(Found::Gone(_))));
        assert!(tree.find(&root.child("nobody")).is_none());
    }

    #[test]
    fn who_comes_back_has_its_story() {
        let now = Instant::now();
        let tree = Tree::new();
        let id = Id::root().child("shop");
        let first = Arc::new(Slot::new(id.clone(), "service"));
        tree.enter(&first);
        let (life, _) = first.begin(now).expect("nobody lives here");
        first.end(life, Exit::panicked("out of cheese", "reload"), now);
        tree.leave(&first);

        let second = Arc::new(Slot::new(id.clone(), "service"));
        tree.enter(&second);
        assert_eq!(second.lives(), first.lives());
        assert_eq!(second.begin(now).map(|(life, _)| life), Ok(2));
        assert!(matches!(tree.find(&id), Some(Found::Here(slot)) if Arc::ptr_eq(&slot, &second)));

        tree.leave(&first);
        assert_eq!(ids(&tree), ["root/shop"]);
    }

    #[test]
    fn those_who_left_are_forgotten_in_turn() {
        let tree = Tree::new();
        for number in 0..GONE_MAX + 10 {
            let slot = Arc::new(Slot::new(Id::root().child(&format!("{number}")), "pool"));
            tree.enter(&slot);
            tree.leave(&slot);
        }
        assert!(tree.find(&Id::root().child("9")).is_none());
        assert!(tree.find(&Id::root().child("10")).is_some());
    }
}
