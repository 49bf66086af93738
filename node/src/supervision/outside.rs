//! What the actor of a service may do to the node: ask for names, and publish the endpoints that it finds.

use super::complain;
use crate::node::Node;
use actors::service::{
    Outside,
    discovery::{Answer, Question},
    names::Located,
};
use cluster::{BoxFuture, offload};
use config::Service;
use std::{
    io::Write as _,
    sync::{Arc, Weak},
};

pub(super) struct Outward {
    /// Weak, because the node holds the actor.
    node: Weak<Node>,
}

impl Outward {
    pub(super) fn new(node: &Arc<Node>) -> Arc<Self> {
        Arc::new(Self { node: Arc::downgrade(node) })
    }
}

impl Outside for Outward {
    fn lookup(&self, question: Question) -> BoxFuture<'static, Answer> {
        let asked = self.node.upgrade().map(|node| (node.world.clone(), node.upstreams.name_servers.get()));
        Box::pin(async move {
            match asked {
                Some((world, servers)) => world.lookup(&servers, &question).await,
                None => Answer::Failed("the node has ended".into()),
            }
        })
    }

    fn publish(&self, service: Arc<Service>, endpoints: Arc<[Located]>) -> BoxFuture<'static, ()> {
        let node = self.node.upgrade();
        Box::pin(async move {
            let Some(node) = node else { return };
            let world = node.world.clone();
            // It waits for a reload that is being applied, and a ring of hashes takes its time: not on a thread that serves.
            offload(&*world, move || complain(&node.supervision.publish(&node, &service, endpoints))).await;
        })
    }

    fn too_many(&self, name: &str, found: usize, used: usize) {
        // Where standard error is gone there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "discovery: {name} has {found} addresses or targets, of which {used} are used");
    }
}
