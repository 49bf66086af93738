//! A little traffic, so that there is something to see: one caller, one request after the other.

use bytes::Bytes;
use cluster::World;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::MissedTickBehavior;

/// How long the caller waits before it connects again.
const REST: Duration = Duration::from_millis(200);

/// What the traffic has met, by the first digit of the status.
#[derive(Default)]
pub(super) struct Tally([AtomicU64; 6]);

impl Tally {
    pub(super) fn of(&self, class: u16) -> u64 {
        self.0[usize::from(class)].load(Relaxed)
    }
}

/// Asks `gateway` about `rate` times a second, for as long as it is polled. A gateway that is slower gets fewer requests.
pub(super) async fn flow(world: Arc<dyn World>, gateway: SocketAddr, rate: u32, tally: Arc<Tally>) {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let host = HeaderValue::try_from(gateway.to_string()).expect("an address is a header value");
    let mut caller = None;
    loop {
        interval.tick().await;
        let sender = match &mut caller {
            Some(sender) => sender,
            None => match connect(&*world, gateway).await {
                Some(sender) => caller.insert(sender),
                None => {
                    tokio::time::sleep(REST).await;
                    continue;
                }
            },
        };
        match exchange(sender, request(world.chance(), &host)).await {
            Some(status) => {
                tally.0[usize::from(status / 100).min(5)].fetch_add(1, Relaxed);
            }
            None => caller = None,
        }
    }
}

async fn connect(world: &dyn World, gateway: SocketAddr) -> Option<SendRequest<Empty<Bytes>>> {
    let stream = world.connect(gateway).await.ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends with the sender, and its failure is the exchange's.
    tokio::spawn(connection);
    Some(sender)
}

/// The status of the answer, once all of it has come.
async fn exchange(sender: &mut SendRequest<Empty<Bytes>>, request: Request<Empty<Bytes>>) -> Option<u16> {
    sender.ready().await.ok()?;
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    body.collect().await.ok()?;
    Some(head.status.as_u16())
}

/// Mostly the catalogue, some orders, and now and then what leads nowhere.
fn request(chance: u64, host: &HeaderValue) -> Request<Empty<Bytes>> {
    let (draw, number) = (chance % 20, chance >> 32 & 7);
    let path = match draw {
        0..=9 => format!("/v1/catalog/{number}"),
        10..=14 => "/v1/orders".to_string(),
        15..=16 => format!("/api/users/{number}"),
        17 => format!("/old/{number}"),
        18 => "/v1/search".to_string(),
        _ => "/nowhere".to_string(),
    };
    let request = Request::get(path).header(header::HOST, host).header("x-user", format!("user-{number}"));
    request.body(Empty::new()).expect("every path of the demo is one")
}
