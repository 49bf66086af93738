//! A disk in memory, which a host keeps when it is started anew.

use crate::{
    shim,
    trace::{Fnv, Trace},
};
use cluster::{Disk, Stamp};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Folders exist as soon as something is in them. What is read and written is traced; what is only looked for is not.
pub(crate) struct MemoryDisk {
    host: &'static str,
    trace: Trace,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    by_path: BTreeMap<PathBuf, File>,
    /// How many files there have ever been: the next one's identity.
    made: u64,
}

struct File {
    content: Vec<u8>,
    modified: Duration,
    identity: u64,
}

impl MemoryDisk {
    pub(super) fn new(host: &'static str, trace: Trace) -> Self {
        Self { host, trace, files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trace(&self, path: &Path, done: &str, content: &[u8]) {
        self.trace.line(self.host, format_args!("{} {done} {} {:016x}", path.display(), content.len(), Fnv::of(content)));
    }
}

impl Files {
    fn get(&self, path: &Path) -> io::Result<&File> {
        self.by_path.get(path).ok_or_else(|| absent(path))
    }

    fn put(&mut self, path: &Path, content: &[u8]) {
        self.made += 1;
        let file = File { content: content.to_vec(), modified: shim::wall(), identity: self.made };
        self.by_path.insert(path.to_owned(), file);
    }
}

fn absent(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

impl Disk for MemoryDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = self.files().get(path)?.content.clone();
        self.trace(path, "read", &content);
        Ok(content)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.files().put(path, content);
        self.trace(path, "replaced by", content);
        Ok(())
    }

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        match files.by_path.get_mut(path) {
            Some(file) => {
                file.content.extend_from_slice(content);
                file.modified = shim::wall();
            }
            None => files.put(path, content),
        }
        self.trace(path, "longer by", content);
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let files = self.files();
        if !files.by_path.keys().any(|path| path.starts_with(folder)) {
            return Err(absent(folder));
        }
        Ok(files.by_path.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.files().get(path).map(|file| Stamp { modified: file.modified, length: file.content.len() as u64, identity: file.identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_another_identity_and_an_appended_one_does_not() {
        let disk = MemoryDisk::new("host", Trace::default());
        let path = Path::new("/etc/shoal.toml");
        disk.replace(path, b"one").expect("memory takes every write");
        let first = disk.stamp(path).expect("the file was written");
        disk.append(path, b" two").expect("memory takes every write");
        let appended = disk.stamp(path).expect("the file was written");
        disk.replace(path, b"one two").expect("memory takes every write");
        let replaced = disk.stamp(path).expect("the file was written");

        assert_eq!(disk.read(path).expect("the file was written"), b"one two");
        assert_eq!(first.identity, appended.identity);
        assert_eq!((appended.length, replaced.length), (7, 7));
        assert_ne!(appended, replaced);
    }

    #[test]
    fn a_folder_lists_its_own_files_by_name() {
        let disk = MemoryDisk::new("host", Trace::default());
        for path in ["/a/z", "/a/b", "/a/deeper/c", "/d"] {
            disk.replace(Path::new(path), b"").expect("memory takes every write");
        }
        assert_eq!(disk.list(Path::new("/a")).expect("the folder has files"), [Path::new("/a/b"), Path::new("/a/z")]);
        assert_eq!(disk.list(Path::new("/e")).expect_err("there is no such folder").kind(), io::ErrorKind::NotFound);
    }
}
