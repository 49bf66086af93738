//! The paths of one host as a tree of segments, walked so that the most specific route is met first.
//!
//! At every node a literal is tried before a capture, and what a literal leads to in vain is forgotten: the walk steps
//! back and tries the next best. Routes with the same path lie at one node in the order of their rank.

use super::{rank, split};
use crate::{Route, Segment};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    ops::ControlFlow::{self, Continue},
    sync::Arc,
};

pub(super) struct Trie {
    /// The first is the root.
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    literals: HashMap<Arc<str>, u32, Quick>,
    capture: Option<u32>,
    /// Routes whose path ends here.
    ends: Vec<Arc<Route>>,
    /// Routes that take whatever follows.
    rests: Vec<Arc<Route>>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Trie {
    pub(super) fn insert(&mut self, route: &Arc<Route>) {
        let mut at = 0;
        for segment in &route.matcher.path.segments {
            let next = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let child = match segment {
                Segment::Literal(literal) => *node.literals.entry(Arc::clone(literal)).or_insert(next),
                Segment::Capture(_) => *node.capture.get_or_insert(next),
            };
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child as usize;
        }
        let node = &mut self.nodes[at];
        if route.matcher.path.rest.is_some() { &mut node.rests } else { &mut node.ends }.push(Arc::clone(route));
    }

    /// Brings the routes of each node into their order. Sorting is stable: what is equal stays in the order of the file.
    pub(super) fn arrange(&mut self) {
        for node in &mut self.nodes {
            for routes in [&mut node.ends, &mut node.rests] {
                routes.sort_by_key(|route| rank::predicates(&route.matcher));
                routes.shrink_to_fit();
            }
        }
        self.nodes.shrink_to_fit();
    }

    pub(super) fn walk<'a>(&'a self, path: &str, visit: &mut impl FnMut(&'a Arc<Route>) -> ControlFlow<()>) -> ControlFlow<()> {
        self.descend(0, path.strip_prefix('/'), visit)
    }

    /// `path` is what follows the next slash, or `None` behind the last segment. The depth is that of the deepest
    /// pattern, whatever a caller sends.
    fn descend<'a>(&'a self, at: u32, path: Option<&str>, visit: &mut impl FnMut(&'a Arc<Route>) -> ControlFlow<()>) -> ControlFlow<()> {
        let node = &self.nodes[at as usize];
        match path.map(split) {
            None => node.ends.iter().try_for_each(&mut *visit)?,
            Some((segment, tail)) => {
                if let Some(child) = node.literals.get(segment) {
                    self.descend(*child, tail, visit)?;
                }
                if let Some(child) = node.capture
                    && !segment.is_empty()
                {
                    self.descend(child, tail, visit)?;
                }
            }
        }
        node.rests.iter().try_for_each(visit)?;
        Continue(())
    }
}

/// Hashes the short strings of hosts and segments. Only operators put keys into these maps, so that callers cannot make
/// them collide.
pub(super) type Quick = BuildHasherDefault<Multiply>;

#[derive(Default)]
pub(super) struct Multiply(u64);

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.mix(u64::from_le_bytes(chunk.try_into().expect("a chunk has eight bytes")));
        }
        let mut last = [0; 8];
        let rest = chunks.remainder();
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits and its tag from the high ones: both should depend on every byte.
        self.0 ^ (self.0 >> 32)
    }
}

impl Multiply {
    fn mix(&mut self, word: u64) {
        // Odd and with irregular bits, as Fibonacci hashing wants it (2^64 divided by the golden ratio).
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
