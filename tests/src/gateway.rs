//! A whole node on loopback, started from the text of a configuration.

use config::{Loaded, OsSource};
use node::{Running, StartError, world::RealWorld};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};

/// What a text that is about something else need not say.
const LISTENER: &str = "[listen.main]\nbind = \"127.0.0.1:0\"\n";
const NO_ADMIN: &str = "[admin]\nenabled = false\n";
const NO_LOG: &str = "[telemetry]\naccess_log = { to = \"off\" }\n";

/// What the texts of tests find in their environment as `TOKEN`: a secret has no place in a file.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub struct Gateway {
    running: RwLock<Option<Arc<Running>>>,
}

impl Gateway {
    /// Starts a node. A text without listeners gets one named `main`, on any port of loopback; one that does not mention
    /// `[admin]` or `[telemetry]` gets neither an admin listener nor an access log. Panics with all problems of a bad text.
    pub async fn start(text: &str) -> Self {
        match Self::try_start(text).await {
            Ok(gateway) => gateway,
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn try_start(text: &str) -> Result<Self, StartError> {
        let gateway = read(text).unwrap_or_else(|problems| panic!("{problems}\nin\n{}", whole(text)));
        let running = node::start(Arc::new(RealWorld::new()), gateway).await?;
        Ok(Self::of(running))
    }

    pub fn of(running: Running) -> Self {
        Self { running: RwLock::new(Some(Arc::new(running))) }
    }

    pub fn running(&self) -> Arc<Running> {
        self.running.read().expect("no test panics in here").clone().expect("the node has not been drained")
    }

    /// Where callers of the listener `main` go.
    pub fn main(&self) -> SocketAddr {
        self.listener("main")
    }

    pub fn listener(&self, name: &str) -> SocketAddr {
        let addresses = self.running().addresses();
        let found = addresses.iter().find(|(known, _)| known.as_str() == name);
        found.unwrap_or_else(|| panic!("no listener is called {name}: {addresses:?}")).1
    }

    pub fn admin(&self) -> SocketAddr {
        self.running().admin_address().expect("the text turns [admin] on")
    }

    pub fn admin_token(&self) -> String {
        self.running().admin_token().reveal().to_string()
    }

    pub fn connections(&self) -> usize {
        self.running().connections()
    }

    /// Makes another text live, or says what is wrong with it.
    pub async fn reload(&self, text: &str) -> Result<(), String> {
        let gateway = read(text)?;
        self.running().apply(gateway).await.map(|_diff| ()).map_err(|error| error.to_string())
    }

    /// Leaves as a process does that was told to. Returns how many connections were cut off.
    pub async fn drain(&self, wait: Duration, bound: Duration) -> usize {
        let running = self.running.write().expect("no test panics in here").take();
        let mut running = running.expect("a node is drained once");
        loop {
            match Arc::try_unwrap(running) {
                Ok(alone) => return alone.drain(wait, bound).await,
                // Somebody is just asking for an address.
                Err(shared) => running = shared,
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let running = self.running.write().ok().and_then(|mut running| running.take());
        if let Some(running) = running.and_then(Arc::into_inner)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(running.drain(Duration::ZERO, Duration::ZERO));
        }
    }
}

/// The text with what every text needs.
pub fn whole(text: &str) -> String {
    let mut whole = text.to_string();
    for (mentioned, missing) in [("[listen.", LISTENER), ("[admin]", NO_ADMIN), ("[telemetry]", NO_LOG)] {
        if !text.contains(mentioned) {
            whole.push('\n');
            whole.push_str(missing);
        }
    }
    whole
}

/// All problems in one text, if there is one that counts.
pub fn read(text: &str) -> Result<config::Gateway, String> {
    let source = OsSource::new([("TOKEN".to_string(), TOKEN.to_string())]);
    let Loaded { gateway, problems, .. } = config::load_text(Path::new("test.toml"), &whole(text), &source);
    gateway.ok_or_else(|| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// One service, and one route that takes everything to it and has `keys` of its own.
pub fn in_front_of(endpoint: &str, keys: &str) -> String {
    format!("[service.up]\nendpoints = [\"{endpoint}\"]\n\n[[route]]\nid = \"all\"\nmatch = \"/**\"\nservice = \"up\"\n{keys}\n")
}

/// A listener `main` on any port of loopback, with `keys` of its own.
pub fn listener(keys: &str) -> String {
    format!("[listen.main]\nbind = \"127.0.0.1:0\"\n{keys}\n\n")
}
