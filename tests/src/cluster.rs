//! Several whole nodes on loopback that are one cluster, with certificates as `shoal cluster init` and `token` make them.
//!
//! Each node has a runtime of its own, so that it can end as a process does that is killed: at once, and without a word.

use crate::{
    caller::{Answer, ask},
    gateway,
    wait::{PATIENCE, within},
};
use cluster::{
    keyring::{Key, Keyring},
    store::{Memory, Signer, StoreError},
    token::Role,
};
use node::{
    Given, Running, StartError,
    cluster::{
        authority::{Authority, Root},
        enrol::Desk,
    },
    world::RealWorld,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::runtime::{Builder, Runtime};

/// How long the certificates of nodes are good for where a test is not about that.
const LIFE: Duration = Duration::from_secs(60 * 60);

/// Between two looks: each is a request to a node that may have other things to do.
const LOOK: Duration = Duration::from_millis(20);

/// The authorities and secrets of a cluster, and the folders of its nodes.
pub struct Cluster {
    folder: tempfile::TempDir,
    name: Arc<str>,
    root: Root,
    life: Duration,
    keyring: Keyring,
}

/// A place for a node: what it is started with, whether or not it runs.
pub struct Seat {
    pub name: String,
    pub region: String,
    /// What its `[cluster]` says beside the name and the address.
    pub keys: String,
    /// The rest of its configuration.
    pub rest: String,
    pub given: Given,
    cluster: Arc<str>,
    state_dir: Option<PathBuf>,
}

/// A node that runs.
pub struct Node {
    pub name: String,
    running: Option<Arc<Running>>,
    runtime: Option<Runtime>,
}

impl Cluster {
    #[expect(clippy::new_without_default, reason = "every cluster is another one")]
    pub fn new() -> Self {
        Self::called("shop", LIFE, 1)
    }

    /// With certificates that are good for `life`, and secrets that follow from `secret`.
    pub fn called(name: &str, life: Duration, secret: u8) -> Self {
        let root = Root::make(name, now()).expect("a root");
        let keyring = keyring(secret);
        Self { folder: tempfile::tempdir().expect("a folder"), name: name.into(), root, life, keyring }
    }

    /// The same authority, with other secrets.
    pub fn with_secrets(self, secret: u8) -> Self {
        Self { keyring: keyring(secret), ..self }
    }

    /// The same authority, whose certificates are good for `life` from now on.
    pub fn lasting(self, life: Duration) -> Self {
        Self { life, ..self }
    }

    /// A second node of a name, with a certificate of its own and another folder.
    pub fn reissued(&self, name: &str, region: &str, folder: &Path) -> Seat {
        let seat = self.seat(name, region).remembers_in(Some(folder.to_path_buf()));
        self.enrol(&seat, &self.signer(region));
        seat
    }

    /// A node that nothing is known of yet.
    pub fn seat(&self, name: &str, region: &str) -> Seat {
        let state_dir = self.folder.path().join(name);
        std::fs::create_dir_all(&state_dir).expect("a folder");
        Seat {
            name: name.into(),
            region: region.into(),
            keys: String::new(),
            rest: String::new(),
            given: Given::default(),
            cluster: self.name.clone(),
            state_dir: Some(state_dir),
        }
    }

    /// A node that has its certificate and the keyring.
    pub fn enrolled(&self, name: &str, region: &str) -> Seat {
        let seat = self.seat(name, region);
        self.enrol(&seat, &self.signer(region));
        seat
    }

    /// A node that has both, and lets others into its region.
    pub fn founder(&self, name: &str, region: &str) -> Seat {
        let (seat, signer) = (self.seat(name, region), self.signer(region));
        self.enrol(&seat, &signer);
        memory(seat.state_dir()).keep_signer(&signer).expect("it can be written");
        seat
    }

    /// Nodes `a`, `b` and `c`: the first two in one region, the third in another.
    pub fn three(&self) -> [Seat; 3] {
        [("a", "eu"), ("b", "eu"), ("c", "us")].map(|(name, region)| self.enrolled(name, region))
    }

    pub fn signer(&self, region: &str) -> Signer {
        self.root.authority(&self.name, region, self.life, now()).expect("an authority")
    }

    fn enrol(&self, seat: &Seat, signer: &Signer) {
        let authority = Authority::open(&self.name, signer).expect("its own authority");
        let memory = memory(seat.state_dir());
        memory.keep_credentials(&authority.first(&seat.name, now()).expect("a certificate")).expect("it can be written");
        memory.keep_keyring(&self.keyring).expect("it can be written");
    }

    /// What `shoal cluster token` prints where this seat is.
    pub fn token(&self, by: &Seat, region: &str, expires: Duration) -> config::Secret {
        let desk = Desk::new(self.name.clone(), Arc::new(memory(by.state_dir())));
        let token = desk.token(region, Role::Member, now() + expires, rand(region, expires));
        token.expect("whoever can sign can make tokens").reveal()
    }
}

/// Tells tokens of one test apart.
fn rand(region: &str, expires: Duration) -> u64 {
    region.len() as u64 + expires.as_nanos() as u64
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn keyring(secret: u8) -> Keyring {
    Keyring::new([1, 2, 3].map(|purpose| Key::new([secret * 8 + purpose; 32])))
}

fn memory(folder: &Path) -> Memory {
    use ::cluster::World;
    for _ in 0..250 {
        match Memory::beside(RealWorld::new().disk(), Some(folder)) {
            // A node that runs writes at this moment.
            Err(StoreError::InUse { .. }) => std::thread::sleep(LOOK),
            opened => return opened.expect("the folder can be written"),
        }
    }
    panic!("{} is in use for too long", folder.display())
}

impl Seat {
    pub fn state_dir(&self) -> &Path {
        self.state_dir.as_deref().expect("the node remembers")
    }

    pub fn remembers_in(self, folder: Option<PathBuf>) -> Self {
        Self { state_dir: folder, ..self }
    }

    /// Knows where this node is.
    pub fn joins(self, node: &Node) -> Self {
        self.joins_at(node.peers())
    }

    pub fn joins_at(self, address: SocketAddr) -> Self {
        self.with_keys(&format!("join = [\"{address}\"]"))
    }

    pub fn with_keys(mut self, keys: &str) -> Self {
        self.keys += keys;
        self.keys.push('\n');
        self
    }

    /// Serves this besides.
    pub fn with(mut self, rest: &str) -> Self {
        self.rest += rest;
        self.rest.push('\n');
        self
    }

    pub fn with_token(mut self, token: config::Secret) -> Self {
        self.given.token = Some(token);
        self
    }

    pub fn insecure(mut self) -> Self {
        self.given.insecure_dev = true;
        self
    }

    pub fn text(&self) -> String {
        let Self { name, region, keys, rest, cluster, .. } = self;
        let state_dir = self.state_dir.as_ref().map(|folder| format!("state_dir = {folder:?}\n")).unwrap_or_default();
        let bind = if keys.contains("bind = ") { "" } else { "bind = \"127.0.0.1:0\"\n" };
        format!(
            "[node]\nname = \"{name}\"\nregion = \"{region}\"\nzone = \"{region}-1\"\nworkers = 1\n{state_dir}\
             [cluster]\nname = \"{cluster}\"\n{bind}{keys}\
             [admin]\nbind = \"127.0.0.1:0\"\ntoken = {{ env = \"TOKEN\" }}\n[drills]\nallow = true\n{rest}"
        )
    }

    pub async fn start(&self) -> Node {
        match self.try_start().await {
            Ok(node) => node,
            Err(error) => panic!("{error}\n{}", self.text()),
        }
    }

    pub async fn try_start(&self) -> Result<Node, StartError> {
        let gateway = gateway::read(&self.text()).unwrap_or_else(|problems| panic!("{problems}\nin\n{}", self.text()));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let started = runtime.spawn(node::startup::start_given(Arc::new(RealWorld::new()), gateway, self.given.clone()));
        let started = within("the start of a node", started).await.expect("a start does not panic");
        match started {
            Ok(running) => Ok(Node { name: self.name.clone(), running: Some(Arc::new(running)), runtime: Some(runtime) }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }
}

impl Node {
    pub fn running(&self) -> &Arc<Running> {
        self.running.as_ref().expect("the node has not ended")
    }

    /// Where other nodes reach it.
    pub fn peers(&self) -> SocketAddr {
        self.running().cluster().expect("it is in a cluster").2
    }

    /// Where callers reach it.
    pub fn main(&self) -> SocketAddr {
        self.running().addresses().first().expect("it has a listener").1
    }

    pub async fn call(&self, line: &str, body: &str) -> Answer {
        let address = self.running().admin_address().expect("the text turns [admin] on");
        let token = self.running().admin_token().reveal();
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n");
        ask(address, format!("{head}content-type: application/json\r\n\r\n{body}")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(&format!("GET {path}"), "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(&format!("POST {path}"), &body.to_string()).await
    }

    /// Whom it knows, by name.
    pub async fn members(&self) -> BTreeMap<String, Value> {
        let page = self.get("/v1/members").await.json();
        let items = page["items"].as_array().expect("a list");
        items.iter().map(|member| (member["name"].as_str().expect("a name").to_string(), member.clone())).collect()
    }

    /// How it sees those whom it knows: `alive`, `gone` or `left`.
    pub async fn sees(&self) -> BTreeMap<String, String> {
        let members = self.members().await;
        members.into_iter().map(|(name, member)| (name, member["seen"].as_str().expect("a word").to_string())).collect()
    }

    /// The value of a series, written as in the exposition; 0 where there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let metrics = self.get("/metrics").await.text();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }

    /// Waits until it sees exactly these, each as this word says.
    pub async fn until_sees(&self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> = expected.iter().map(|(name, seen)| (name.to_string(), seen.to_string())).collect();
        let mut seen = BTreeMap::new();
        let looked = tokio::time::timeout(PATIENCE, async {
            loop {
                seen = self.sees().await;
                if seen == expected {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        if looked.await.is_err() {
            panic!("{} sees {seen:?}, not {expected:?}", self.name);
        }
    }

    /// Waits until a series has a value that will do.
    pub async fn until_metric(&self, series: &str, will_do: impl Fn(f64) -> bool) -> f64 {
        within(&format!("{series} of {}", self.name), async {
            loop {
                let value = self.metric(series).await;
                if will_do(value) {
                    return value;
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
    }

    /// Waits until a page says what will do.
    pub async fn until_page(&self, path: &str, will_do: impl Fn(&Value) -> bool) -> Value {
        let mut page = Value::Null;
        let looked = tokio::time::timeout(PATIENCE, async {
            loop {
                page = self.get(path).await.json();
                if will_do(&page) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        match looked.await {
            Ok(()) => page,
            Err(_) => panic!("{path} of {} says to the end: {page:#}", self.name),
        }
    }

    /// Does what the process does: waits until it is told to leave, and drains.
    pub async fn drained(mut self, wait: Duration, bound: Duration) {
        let (running, runtime) = (self.running.take().expect("it runs"), self.runtime.take().expect("it runs"));
        let running = Arc::into_inner(running).expect("nobody else holds it");
        let left = runtime.spawn(async move {
            running.told_to_leave().await;
            running.drain(wait, bound).await
        });
        within("the end of a node", left).await.expect("a drain does not panic");
        end(runtime).await;
    }

    /// Ends as a process that is killed. What it remembers is free for another one when this returns.
    pub async fn kill(mut self) {
        drop(self.running.take());
        end(self.runtime.take().expect("it runs")).await;
    }

    /// Lets nothing of the node run for as long as what is returned is kept, as a machine that stands still.
    pub fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (thaw, frozen) = std::sync::mpsc::channel::<()>();
        let runtime = self.runtime.as_ref().expect("it runs");
        // The runtime has one thread, and this keeps it.
        runtime.spawn(async move { frozen.recv().is_ok() });
        thaw
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn end(runtime: Runtime) {
    let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await;
    ended.expect("a runtime ends");
}

/// Waits until all of them see all of them.
pub async fn all_see_all(nodes: &[&Node]) {
    let expected: Vec<(&str, &str)> = nodes.iter().map(|node| (node.name.as_str(), "alive")).collect();
    for node in nodes {
        node.until_sees(&expected).await;
    }
}

/// Starts them one after the other, each but the first knowing where the first is, and waits until all see all.
pub async fn together<const COUNT: usize>(seats: [Seat; COUNT]) -> ([Seat; COUNT], [Node; COUNT]) {
    let mut nodes: Vec<Node> = Vec::new();
    let mut placed = Vec::new();
    for seat in seats {
        let seat = match nodes.first() {
            Some(first) => seat.joins(first),
            None => seat,
        };
        nodes.push(seat.start().await);
        placed.push(seat);
    }
    all_see_all(&nodes.iter().collect::<Vec<_>>()).await;
    (
        placed.try_into().unwrap_or_else(|_| unreachable!("as many as were given")),
        nodes.try_into().unwrap_or_else(|_| unreachable!("as many as were given")),
    )
}
