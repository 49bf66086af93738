//! Records in a redb file, on whatever disk the world has.
//!
//! Reading copies the whole file and opens the copy, so that not even the repair after a crash writes to it. redb is careful
//! with files that were torn; a file that was changed behind its back may make it panic, which is caught and is damage
//! like any other. The first write makes the whole file beside and puts it into its place, so that a disk that is full then
//! leaves no half of one.

use super::{Records, Store, StoreError};
use crate::{Disk, DiskFile};
use redb::{
    Builder, Database, DatabaseError, Error, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, backends::InMemoryBackend,
};
use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("records");

/// What is read and written is a few records: more than redb's least would be wasted.
const CACHE: usize = 1 << 20;

/// A memory that large is none of ours.
const FILE_MAX: u64 = 256 << 20;

pub(super) struct RedbFile {
    disk: Arc<dyn Disk>,
    file: PathBuf,
}

impl RedbFile {
    pub(super) fn new(disk: Arc<dyn Disk>, file: PathBuf) -> Self {
        Self { disk, file }
    }

    fn open(&self) -> Result<Box<dyn DiskFile>, StoreError> {
        self.disk.open(&self.file).map_err(|error| StoreError::io(&self.file, &error))
    }

    /// Runs what uses redb, and makes of its errors and panics what they mean here.
    fn guarded<T>(&self, act: impl FnOnce() -> Result<T, Error>) -> Result<T, StoreError> {
        match catch_unwind(AssertUnwindSafe(act)) {
            Ok(done) => done.map_err(|error| self.meaning(error)),
            Err(_) => Err(StoreError::Damaged { file: self.file.clone() }),
        }
    }

    fn meaning(&self, error: Error) -> StoreError {
        let file = self.file.clone();
        match error {
            // Nothing but a file of ours ever had our name and not our form.
            Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => StoreError::Damaged { file },
            Error::Io(error) => StoreError::io(&file, &error),
            Error::UpgradeRequired(_) => StoreError::OtherVersion { file },
            Error::DatabaseAlreadyOpen => StoreError::InUse { file },
            Error::Corrupted(_) | Error::RepairAborted | Error::TableTypeMismatch { .. } | Error::TypeDefinitionChanged { .. } => {
                StoreError::Damaged { file }
            }
            error => StoreError::Disk { file, error: error.to_string().into() },
        }
    }
}

impl Store for RedbFile {
    fn read(&self) -> Result<Records, StoreError> {
        let file = self.open()?;
        let (damaged, failed) = (|| StoreError::Damaged { file: self.file.clone() }, |error| StoreError::io(&self.file, &error));
        let length = file.length().map_err(failed)?;
        if length == 0 {
            return Ok(Records::new());
        }
        let mut content = vec![0; usize::try_from(length).ok().filter(|_| length <= FILE_MAX).ok_or_else(damaged)?];
        file.read_at(0, &mut content).map_err(failed)?;
        drop(file);
        self.guarded(|| {
            let copy = InMemoryBackend::new();
            copy.set_len(length)?;
            copy.write(0, &content)?;
            let database = database(copy)?;
            let table = match database.begin_read()?.open_table(TABLE) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Records::new()),
                Err(error) => return Err(error.into()),
            };
            table.iter()?.map(|record| record.map(|(name, content)| (name.value().to_string(), content.value().to_vec()))).try_fold(
                Records::new(),
                |mut records, record| {
                    records.extend([record?]);
                    Ok(records)
                },
            )
        })
    }

    fn write(&self, changes: &[(&str, Option<&[u8]>)]) -> Result<(), StoreError> {
        // It is held until the end, also where another file takes its place: nobody else writes meanwhile.
        let file = self.open()?;
        let failed = |error| StoreError::io(&self.file, &error);
        if file.length().map_err(failed)? > 0 {
            return self.guarded(move || apply(OpenFile(file), changes));
        }
        let draft = Draft::default();
        let made = self.guarded(|| {
            apply(draft.clone(), changes)?;
            let mut made = vec![0; usize::try_from(draft.len()?).map_err(io::Error::other)?];
            draft.read(0, &mut made)?;
            Ok(made)
        })?;
        self.disk.replace_secret(&self.file, &made).map_err(failed)
    }
}

fn apply(backend: impl StorageBackend, changes: &[(&str, Option<&[u8]>)]) -> Result<(), Error> {
    let database = database(backend)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (name, content) in changes {
            match content {
                Some(content) => drop(table.insert(*name, *content)?),
                None => drop(table.remove(*name)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn database(backend: impl StorageBackend) -> Result<Database, DatabaseError> {
    Builder::new().set_cache_size(CACHE).create_with_backend(backend)
}

/// A file that is made in memory, and can be read once the database in it is closed.
#[derive(Clone, Default, Debug)]
struct Draft(Arc<InMemoryBackend>);

impl StorageBackend for Draft {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// A file of the world, as redb wants it.
struct OpenFile(Box<dyn DiskFile>);

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenFile")
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.resize(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
