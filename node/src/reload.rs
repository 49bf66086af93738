//! Reading the configuration again, on a signal or when a file of it has changed.
//!
//! Files are looked at once a second by their stamp. That works where notifications do not (network file systems,
//! Kubernetes' symbolic links), and a second is less than anyone waits for a deployment.

use crate::startup::Running;
use cluster::{Stamp, World, offload};
use config::{Loaded, Source};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

const LOOK: Duration = Duration::from_secs(1);

/// How often files are read anew because one of them changed meanwhile. Whoever never stops writing is read as it comes.
const READ_AGAIN: usize = 3;

type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// What became of one reading of the files.
pub enum Reloaded {
    /// A new revision serves.
    Applied { revision: config::Revision, diff: Box<config::Diff> },
    /// The revision before goes on.
    Rejected { problems: Vec<config::Problem>, error: Option<String> },
}

/// The files of a configuration, and how to read them.
#[derive(Clone)]
pub struct Files {
    pub path: PathBuf,
    /// The environment as the process was started with.
    pub environment: Arc<std::collections::HashMap<String, String>>,
}

impl Files {
    /// Reads everything from the world's disk. Blocks: to be used where blocking is allowed.
    pub fn load(&self, world: &dyn World) -> Loaded {
        config::load(&self.path, &WorldSource { disk: world.disk(), environment: self.environment.clone() })
    }

    /// As [`Files::load`], from a thread that serves requests.
    pub async fn load_offloaded(&self, world: &Arc<dyn World>) -> Loaded {
        let (files, inner) = (self.clone(), world.clone());
        offload(&**world, move || files.load(&*inner)).await
    }

    /// As [`Files::load_offloaded`], but not with some files from before a deployment and some from after it. With what
    /// comes the stamps that `watched` had when it was read.
    async fn load_whole(&self, world: &Arc<dyn World>, watched: &[PathBuf]) -> (Loaded, Stamps) {
        let mut before = stamps(world, watched).await;
        let mut loaded = self.load_offloaded(world).await;
        for _ in 0..READ_AGAIN {
            let after = stamps(world, watched).await;
            if after == before {
                break;
            }
            before = after;
            loaded = self.load_offloaded(world).await;
        }
        (loaded, before)
    }

    /// Makes what was read live if it is good and new. With the outcome comes what to watch from now on.
    async fn apply(running: &Running, loaded: Loaded) -> (Reloaded, Vec<PathBuf>) {
        // A file that is added to a folder that is included from is a change, too.
        let files = [&loaded.files[..], &loaded.folders].concat();
        let Some(gateway) = loaded.gateway else {
            running.rejected_revision();
            return (Reloaded::Rejected { problems: loaded.problems, error: None }, watched(running, files));
        };
        let revision = gateway.revision.clone();
        let outcome = match running.apply(gateway).await {
            Ok(diff) => Reloaded::Applied { revision, diff: Box::new(diff) },
            Err(error) => Reloaded::Rejected { problems: loaded.problems, error: Some(error.to_string()) },
        };
        (outcome, watched(running, files))
    }

    /// Reloads whenever `ask` says so or a file has changed, for as long as the node runs, and tells of each.
    pub async fn watch(&self, running: &Running, mut ask: mpsc::Receiver<()>, mut tell: impl FnMut(Reloaded)) {
        let world = running.world().clone();
        // Read once more, because a file may have changed since the start: from here on nothing is missed.
        let served = running.gateway().revision.clone();
        let (loaded, _) = self.load_whole(&world, &watched(running, Vec::new())).await;
        let (outcome, mut watched) = Self::apply(running, loaded).await;
        let mut seen = stamps(&world, &watched).await;
        match &outcome {
            Reloaded::Applied { revision, .. } if *revision == served => {}
            _ => tell(outcome),
        }
        loop {
            let asked = tokio::select! {
                // Once nobody can ask any more, files still change.
                Some(()) = ask.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            if !asked && stamps(&world, &watched).await == seen {
                continue;
            }
            let (loaded, before) = self.load_whole(&world, &watched).await;
            let outcome;
            (outcome, watched) = Self::apply(running, loaded).await;
            // What changed while it was read is a change for the next look.
            seen = stamps(&world, &watched).await;
            seen.extend(before);
            seen.retain(|file, _| watched.binary_search(file).is_ok());
            tell(outcome);
        }
    }
}

/// What a broken revision refers to is watched beside what is served, so that mending it is noticed.
fn watched(running: &Running, files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut watched = files;
    watched.extend(running.gateway().files.iter().cloned());
    watched.sort();
    watched.dedup();
    watched
}

async fn stamps(world: &Arc<dyn World>, files: &[PathBuf]) -> Stamps {
    let (disk, files) = (world.disk(), files.to_vec());
    offload(&**world, move || {
        files
            .into_iter()
            .map(|file| {
                // A file that is gone for the moment is a change like any other.
                let stamp = disk.stamp(&file).ok();
                (file, stamp)
            })
            .collect()
    })
    .await
}

/// The files of a world, for the one reader of configurations.
struct WorldSource {
    disk: Arc<dyn cluster::Disk>,
    environment: Arc<std::collections::HashMap<String, String>>,
}

impl Source for WorldSource {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(folder)
    }

    fn env(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::RealWorld;
    use cluster::{
        BoxFuture, BoxStream, Disk, Listener,
        dns::{Answer, Question},
    };
    use std::{
        net::SocketAddr,
        sync::Mutex,
        time::{Instant, SystemTime},
    };

    const MAIN: &str = "include = [\"a.toml\", \"b.toml\"]\n[admin]\nenabled = false\n[telemetry]\naccess_log = { to = \"off\" }\n";

    /// A world with two files beside the main one that are replaced, both, as soon as the first has been read often enough.
    struct Deploying {
        real: RealWorld,
        disk: Arc<Shelf>,
    }

    struct Shelf {
        /// How often the first file was read.
        reads: Mutex<u64>,
        /// After which of these readings a new revision comes.
        deploys: fn(u64) -> bool,
        revision: Mutex<u64>,
    }

    impl World for Deploying {
        fn now(&self) -> Instant {
            self.real.now()
        }

        fn wall(&self) -> SystemTime {
            self.real.wall()
        }

        fn chance(&self) -> u64 {
            self.real.chance()
        }

        fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
            self.real.listen(address)
        }

        fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
            self.real.connect(address)
        }

        fn lookup<'a>(&'a self, servers: &'a [SocketAddr], question: &'a Question) -> BoxFuture<'a, Answer> {
            self.real.lookup(servers, question)
        }

        fn offload(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
            work();
            Box::pin(std::future::ready(()))
        }

        fn disk(&self) -> Arc<dyn Disk> {
            self.disk.clone()
        }
    }

    impl Disk for Shelf {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let mut revision = self.revision.lock().expect("no test panics in here");
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if name == "main" {
                return Ok(MAIN.into());
            }
            let route = format!("[[route]]\nid = \"{name}\"\nmatch = \"/{name}\"\nrespond = {{ body = \"{revision}\" }}\n");
            if name == "a" {
                let mut reads = self.reads.lock().expect("no test panics in here");
                *reads += 1;
                *revision += u64::from((self.deploys)(*reads));
            }
            Ok(route.into())
        }

        fn replace(&self, _: &Path, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn replace_secret(&self, _: &Path, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn open(&self, _: &Path) -> io::Result<Box<dyn cluster::DiskFile>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn append(&self, _: &Path, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn stamp(&self, _: &Path) -> io::Result<Stamp> {
            let revision = *self.revision.lock().expect("no test panics in here");
            Ok(Stamp { modified: Duration::ZERO, length: 0, identity: revision })
        }
    }

    /// The revisions that the two routes are of, after one reading while others were deployed.
    async fn check(deploys: fn(u64) -> bool, expected: [&str; 2]) {
        let disk = Arc::new(Shelf { reads: Mutex::default(), deploys, revision: Mutex::new(1) });
        let world: Arc<dyn World> = Arc::new(Deploying { real: RealWorld::new(), disk });
        let files = Files { path: "main.toml".into(), environment: Arc::default() };
        let watched = ["main.toml", "a.toml", "b.toml"].map(PathBuf::from);
        let (loaded, _) = files.load_whole(&world, &watched).await;
        let gateway = loaded.gateway.unwrap_or_else(|| panic!("{:?}", loaded.problems));
        let said: Vec<String> = gateway
            .routes
            .iter()
            .map(|route| match &route.action {
                config::Action::Respond(respond) => respond.body.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn half_of_a_deployment_is_not_taken_for_a_revision() {
        check(|_| false, ["1", "1"]).await;
        check(|reads| reads == 1, ["2", "2"]).await;
        check(|reads| reads <= 2, ["3", "3"]).await;
        check(|_| true, ["4", "5"]).await;
    }
}
