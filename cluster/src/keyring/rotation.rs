//! What the next step of replacing a key is.
//!
//! No node may use a key before all hold it, and no node may forget one before all have stopped using it. A node that is
//! away counts as one that has taken no step: waiting for it is right, and an operator who knows that it will not come back
//! has it forgotten first.

use super::{KeyId, Keyring, Purpose};
use std::sync::Arc;

/// What another node says about its keys of one purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    pub node: Arc<str>,
    pub keys: Vec<KeyId>,
    pub used: KeyId,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// One key is held and used everywhere: a rotation begins by adding another.
    Add,
    /// These have not taken the step before.
    Wait {
        key: KeyId,
        nodes: Vec<Arc<str>>,
    },
    Use(KeyId),
    Remove(KeyId),
}

impl Keyring {
    /// The step that this node may take next, given what the others say.
    pub fn next_step(&self, purpose: Purpose, others: &[Holding]) -> Step {
        let newest = self.ids(purpose).last().expect("a keyring holds a key for each purpose");
        let used = self.used_id(purpose);
        if newest != used {
            return wait_for(newest, others, |other| other.keys.contains(&newest)).unwrap_or(Step::Use(newest));
        }
        let Some(old) = self.ids(purpose).find(|id| *id != used) else {
            // Whoever is behind still has to come along: a third key would leave it two steps back.
            return wait_for(used, others, |other| other.keys == [used]).unwrap_or(Step::Add);
        };
        wait_for(used, others, |other| other.used == used).unwrap_or(Step::Remove(old))
    }
}

fn wait_for(key: KeyId, others: &[Holding], is_there: impl Fn(&Holding) -> bool) -> Option<Step> {
    let nodes: Vec<_> = others.iter().filter(|other| !is_there(other)).map(|other| other.node.clone()).collect();
    (!nodes.is_empty()).then_some(Step::Wait { key, nodes })
}
