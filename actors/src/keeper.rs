//! Keeps the root of a node's actors alive. It is not an actor: nothing in the tree can end it, and no drill reaches it.

mod actor;

pub use self::actor::Keeper;
