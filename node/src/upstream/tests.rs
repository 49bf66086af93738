//! A pool on loopback whose seconds the test counts.

use super::*;
use crate::world::RealWorld;
use actors::pool::Reap;
use cluster::{BoxStream, Listener, World};
use std::{future::poll_fn, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An upstream, and the listener that it connects to.
struct Loopback {
    world: RealWorld,
    endpoint: Box<dyn Listener>,
    upstreams: Upstreams,
    upstream: Arc<Upstream>,
}

impl Loopback {
    async fn new() -> Self {
        let world = RealWorld::new();
        let endpoint = world.listen(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let text = format!("[service.up]\nendpoints = [\"http://{}\"]\npool = {{ idle = \"10s\" }}\n", endpoint.address());
        let source = config::OsSource::new([]);
        let loaded = config::load_text(std::path::Path::new("test.toml"), &text, &source);
        let service = loaded.gateway.expect("a good text").services[0].clone();
        let upstreams = Upstreams::default();
        let breaker = Arc::new(Breaker::new(&service.breaker, service.outlier.as_ref()));
        let located = Located::written(service.endpoints[0].clone());
        let upstream = upstreams.adopt(&service, &located, None, &breaker, world.now());
        Self { world, endpoint, upstreams, upstream }
    }

    /// Opens a connection ahead of demand, and returns the endpoint's side of it.
    async fn warm(&mut self) -> BoxStream {
        let (opened, accepted) =
            tokio::join!(self.upstream.warm(&self.world, Duration::from_secs(5)), poll_fn(|cx| self.endpoint.poll_accept(cx)));
        assert!(opened);
        accepted.expect("a connection").0
    }

    fn pass(&self, seconds: u32) {
        self.upstreams.tick.fetch_add(seconds, Relaxed);
    }

    fn idle(&self) -> (usize, usize, u64) {
        let seen = self.upstream.seen();
        (seen.open, seen.idle, seen.lost)
    }
}

/// Waits until the other side has closed.
async fn ended(mut stream: BoxStream) {
    let read = tokio::time::timeout(Duration::from_secs(15), stream.read(&mut [0; 1])).await.expect("it ends in time");
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_connection_that_nobody_has_closed_in_time_is_not_used() {
    let mut loopback = Loopback::new().await;
    let other_side = loopback.warm().await;
    loopback.pass(10);
    assert!(loopback.upstream.lease_open().is_some_and(|lease| lease.is_reused()));
    let _again = (loopback.warm().await, loopback.pass(11));
    assert!(loopback.upstream.lease_open().is_none());
    assert_eq!(loopback.idle(), (0, 0, 0));
    ended(other_side).await;
}

#[tokio::test]
async fn a_dead_connection_is_counted_as_lost_by_whoever_takes_it() {
    let mut loopback = Loopback::new().await;
    let mut other_side = loopback.warm().await;
    other_side.shutdown().await.expect("an open connection");
    tokio::time::timeout(Duration::from_secs(15), async {
        // What the other side has sent takes a moment, even on loopback.
        while loopback.upstream.lease_open().is_some_and(|lease| {
            let Lease::H1(connection) = lease else { unreachable!("the endpoint speaks HTTP/1.1") };
            loopback.upstream.give_back(connection);
            true
        }) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the end arrives");
    assert_eq!(loopback.idle(), (0, 0, 1));
}

#[tokio::test]
async fn an_endpoint_that_has_left_gets_nothing_back_and_can_be_cut_off() {
    let mut loopback = Loopback::new().await;
    let (busy, idle) = (loopback.warm().await, loopback.warm().await);
    let Some(Lease::H1(mut held)) = loopback.upstream.lease_open() else { panic!("two are idle") };
    loopback.upstream.leave(loopback.world.now());
    loopback.upstream.reap(Reap::ALL);
    assert_eq!(loopback.idle(), (1, 0, 0));
    ended(busy).await;

    let waiting = poll_fn(|cx| held.poll_head(cx));
    let cut = async { loopback.upstream.close_all() };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(15), async { tokio::join!(waiting, cut) }).await.expect("it is told");
    assert!(matches!(answer, Err(ExchangeError::Broken(_))));
    loopback.upstream.give_back(held);
    assert_eq!(loopback.idle(), (0, 0, 0));
    ended(idle).await;

    loopback.upstream.stay();
    let _other_side = loopback.warm().await;
    assert_eq!(loopback.idle(), (1, 1, 0));
}
