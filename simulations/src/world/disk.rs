//! A disk in memory, which a host keeps when it is started anew.

use crate::{
    shim,
    trace::{Fnv, Trace},
};
use cluster::{Disk, DiskFile, Stamp};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Folders exist as soon as something is in them. What is read and written is traced; what is only looked for is not.
pub(crate) struct MemoryDisk {
    host: &'static str,
    trace: Trace,
    files: Arc<Mutex<Files>>,
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
    /// Whether somebody has it for their own.
    open: bool,
}

impl MemoryDisk {
    pub(super) fn new(host: &'static str, trace: Trace) -> Self {
        Self { host, trace, files: Arc::default() }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }

    fn trace(&self, path: &Path, done: &str, content: &[u8]) {
        self.trace.line(self.host, format_args!("{} {done} {} {:016x}", path.display(), content.len(), Fnv::of(content)));
    }
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files {
    fn get(&self, path: &Path) -> io::Result<&File> {
        self.by_path.get(path).ok_or_else(|| absent(path))
    }

    fn put(&mut self, path: &Path, content: &[u8]) {
        self.made += 1;
        let file = File { content: content.to_vec(), modified: shim::wall(), identity: self.made, open: false };
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

    fn replace_secret(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.replace(path, content)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut files = self.files();
        if !files.by_path.contains_key(path) {
            files.put(path, b"");
        }
        let file = files.by_path.get_mut(path).ok_or_else(|| absent(path))?;
        if std::mem::replace(&mut file.open, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.trace(path, "opened at", &file.content);
        let identity = file.identity;
        drop(files);
        let (host, trace, files) = (self.host, self.trace.clone(), Arc::clone(&self.files));
        Ok(Box::new(MemoryFile { host, trace, files, path: path.to_owned(), identity }))
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

/// A file that is open. What is written counts at once: a host of the simulation ends, it does not lose power.
struct MemoryFile {
    host: &'static str,
    trace: Trace,
    files: Arc<Mutex<Files>>,
    path: PathBuf,
    /// Another file may have taken its place.
    identity: u64,
}

impl MemoryFile {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut files = lock(&self.files);
        let file = files.by_path.get_mut(&self.path).filter(|file| file.identity == self.identity);
        act(file.ok_or_else(|| absent(&self.path))?)
    }
}

/// Where a span of bytes lies in memory.
fn span(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let begin = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    Ok(begin..begin.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?)
}

impl DiskFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.content.len() as u64))
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        let length = span(length, 0)?.end;
        self.with(|file| {
            file.content.resize(length, 0);
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let span = span(offset, into.len())?;
        self.with(|file| {
            into.copy_from_slice(file.content.get(span).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, content: &[u8]) -> io::Result<()> {
        let span = span(offset, content.len())?;
        self.with(|file| {
            if file.content.len() < span.end {
                file.content.resize(span.end, 0);
            }
            file.content[span].copy_from_slice(content);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|file| {
            file.modified = shim::wall();
            let (length, hash) = (file.content.len(), Fnv::of(&file.content));
            self.trace.line(self.host, format_args!("{} synced {length} {hash:016x}", self.path.display()));
            Ok(())
        })
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        // Whoever replaced the file meanwhile has the new one for themselves.
        let _ = self.with(|file| {
            file.open = false;
            Ok(())
        });
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

    #[test]
    fn an_open_file_belongs_to_one_and_outlives_them() {
        let disk = MemoryDisk::new("host", Trace::default());
        let path = Path::new("/var/lib/shoal/node.redb");
        let file = disk.open(path).expect("memory takes every file");
        assert_eq!(disk.open(path).err().map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        file.write_at(2, b"abc").expect("memory takes every write");
        file.sync().expect("there is nothing to wait for");
        file.resize(4).expect("memory takes every length");
        drop(file);
        let file = disk.open(path).expect("nobody has it open");
        let mut read = [1; 4];
        file.read_at(0, &mut read).expect("it has four bytes");
        assert_eq!((&read, file.length().expect("it is there")), (b"\0\0ab", 4));
        assert_eq!(file.read_at(1, &mut read).expect_err("it is too short").kind(), io::ErrorKind::UnexpectedEof);
    }
}
