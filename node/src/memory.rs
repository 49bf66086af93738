//! The last good configuration, kept where a node remembers, for the start at which its files are gone or broken.
//!
//! What is kept are the texts themselves. Secrets and certificates are not among them: what a text refers to is read anew,
//! from where the text says that it is.

use cluster::{Disk, store::Memory};
use config::{Gateway, Loaded, Source};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A configuration as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The file that names the others.
    pub(crate) main: PathBuf,
    texts: BTreeMap<PathBuf, Arc<str>>,
}

impl Kept {
    /// `None` for one that was not read from files.
    pub(crate) fn of(gateway: &Gateway) -> Option<Self> {
        let (main, _) = gateway.sources.first()?;
        Some(Self { main: main.clone(), texts: gateway.sources.iter().cloned().collect() })
    }

    /// What was kept last, if anything was and makes sense.
    pub(crate) fn remembered(memory: &Memory) -> Option<Self> {
        serde_json::from_slice(&memory.configuration()?).ok()
    }

    pub(crate) fn written(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("paths and texts that were read as text are JSON")
    }

    /// Checks it again, against the secrets and certificates that there are now.
    pub(crate) fn load(self, disk: Arc<dyn Disk>, environment: Arc<HashMap<String, String>>) -> Loaded {
        let main = self.main.clone();
        config::load(&main, &Shelf { kept: self, disk, environment })
    }
}

/// Reads texts from what was kept, and all else from the disk.
struct Shelf {
    kept: Kept,
    disk: Arc<dyn Disk>,
    environment: Arc<HashMap<String, String>>,
}

impl Source for Shelf {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.kept.texts.get(path) {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => self.disk.read(path),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.kept.texts.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::World;

    #[test]
    fn a_configuration_is_read_again_from_what_was_kept_when_its_files_are_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let world = crate::world::RealWorld::new();
        let write = |name: &str, text: &str| world.disk().replace(&folder.path().join(name), text.as_bytes()).expect("the disk takes it");
        write(
            "shoal.toml",
            "include = [\"routes.d/*.toml\"]\n[listen.main]\nbind = \"127.0.0.1:0\"\n[admin]\ntoken = { file = \"token\" }\n",
        );
        std::fs::create_dir(folder.path().join("routes.d")).expect("a folder");
        write("routes.d/a.toml", "[[route]]\nmatch = \"/a\"\nrespond = { status = 204 }\n");
        write("token", "0123456789abcdef0123456789abcdef");
        let files = crate::reload::Files { path: folder.path().join("shoal.toml"), environment: Arc::default() };
        let gateway = files.load(&world).gateway.expect("it is good");
        let kept = Kept::of(&gateway).expect("it was read from files");
        assert!(!String::from_utf8_lossy(&kept.written()).contains("0123456789abcdef"), "secrets are not kept");

        let kept: Kept = serde_json::from_slice(&kept.written()).expect("it is JSON");
        for name in ["shoal.toml", "routes.d/a.toml"] {
            write(name, "this is no configuration");
        }
        let again = kept.clone().load(world.disk(), Arc::default()).gateway.expect("it was good");
        assert_eq!((again.revision, again.routes.len()), (gateway.revision, 1));

        std::fs::remove_file(folder.path().join("token")).expect("it is there");
        assert!(kept.load(world.disk(), Arc::default()).gateway.is_none(), "what it refers to has to be there");
    }
}
