use super::*;
use crate::{Stamp, keyring::Key};
use config::Secret;
use proptest::prelude::*;
use std::{net::SocketAddr, time::Duration};

/// A disk in memory that can fail in the ways that disks do.
#[derive(Default)]
struct Faulty(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    content: Option<Vec<u8>>,
    /// Bytes that all files together may have.
    room: Option<usize>,
    read_only: bool,
    /// Writes until the power fails.
    writes_left: Option<usize>,
    open: BTreeSet<PathBuf>,
}

struct FaultyFile {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl Faulty {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the disk")
    }

    fn content(&self) -> Vec<u8> {
        self.state().content.clone().expect("something was written")
    }
}

impl Disk for Faulty {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        if state.read_only && state.content.is_none() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if !state.open.insert(path.into()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if path.ends_with(FILE) {
            state.content.get_or_insert_default();
        }
        Ok(Box::new(FaultyFile { state: self.0.clone(), path: path.into() }))
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        unreachable!("a memory is an open file")
    }

    fn replace(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        unreachable!("a memory is an open file")
    }

    fn replace_secret(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        assert_eq!(path, file(), "nothing else is secret");
        // All of it or nothing.
        FaultyFile { state: self.0.clone(), path: beside() }.change(|before| *before = content.to_vec())
    }

    fn append(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        unreachable!("a memory is an open file")
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        unreachable!("a memory is an open file")
    }

    fn stamp(&self, _: &Path) -> io::Result<Stamp> {
        unreachable!("a memory is an open file")
    }
}

impl FaultyFile {
    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.state.lock().expect("no test panics with the disk");
        if state.read_only {
            return Err(io::Error::from_raw_os_error(EBADF));
        }
        match &mut state.writes_left {
            Some(0) => return Err(io::ErrorKind::Other.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        let mut content = state.content.clone().unwrap_or_default();
        change(&mut content);
        if state.room.is_some_and(|room| content.len() > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.content = Some(content);
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.state.lock().expect("no test panics with the disk").content.as_ref().map_or(0, Vec::len) as u64)
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.change(|content| content.resize(length as usize, 0))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().expect("no test panics with the disk");
        let content = state.content.as_deref().unwrap_or_default();
        let span = (offset as usize).checked_add(into.len()).and_then(|end| content.get(offset as usize..end));
        into.copy_from_slice(span.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|content| {
            let end = offset as usize + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[offset as usize..end].copy_from_slice(bytes);
        })
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.open.remove(&self.path);
        }
    }
}

fn folder() -> Option<&'static Path> {
    Some(Path::new("/var/lib/shoal"))
}

fn file() -> PathBuf {
    Path::new("/var/lib/shoal").join(FILE)
}

fn beside() -> PathBuf {
    file().with_extension("new")
}

fn open(disk: &Arc<Faulty>) -> Memory {
    Memory::open(disk.clone(), folder()).expect("nobody else has it open")
}

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

fn peer(name: &str, zone: &str, seen: u64) -> Remembered {
    let address = SocketAddr::from(([192, 0, 2, 1], 7900));
    Remembered { name: name.into(), address, region: "west".into(), zone: zone.into(), seen }
}

fn credentials() -> Credentials {
    Credentials { chain: "chain".into(), key: Secret::new("key"), roots: "roots".into() }
}

fn signer(region: &str) -> Signer {
    Signer { region: region.into(), chain: "chain".into(), key: Secret::new("key"), life: Duration::from_secs(60) }
}

fn keyring() -> Keyring {
    Keyring::new([1, 2, 3].map(|seed| Key::new([seed; 32])))
}

fn fill(memory: &Memory) {
    memory.keep_credentials(&credentials()).expect("a disk that can be written");
    memory.keep_keyring(&keyring()).expect("a disk that can be written");
    memory.keep_signer(&signer("west")).expect("a disk that can be written");
    memory.keep_signer(&signer("east")).expect("a disk that can be written");
    memory.keep_configuration(b"[node]").expect("a disk that can be written");
    memory.remember(vec![peer("a", "1", 5)]).expect("a disk that can be written");
}

#[test]
fn what_is_kept_is_there_after_a_restart() {
    let disk = Arc::new(Faulty::default());
    fill(&open(&disk));
    let memory = open(&disk);
    assert_eq!(memory.trouble(), None);
    assert_eq!(memory.credentials(), Some(credentials()));
    assert!(memory.keyring() == Some(keyring()));
    assert_eq!(memory.signers(), [signer("east"), signer("west")]);
    assert_eq!((memory.signer("west"), memory.signer("north")), (Some(signer("west")), None));
    assert_eq!(memory.configuration().as_deref(), Some(&b"[node]"[..]));
    assert_eq!(memory.peers(), [peer("a", "1", 5)]);
    memory.forget(|peer| &*peer.name == "a").expect("a disk that can be written");
    assert_eq!(memory.peers(), []);
}

#[test]
fn every_life_has_a_larger_number_whatever_the_clock_does() {
    let disk = Arc::new(Faulty::default());
    let lives: Vec<u64> = [1000, 5000, 4000, 0].iter().map(|wall| open(&disk).begin(at(*wall))).collect();
    assert_eq!(lives, [1000, 5000, 5001, 5002]);
    for (stored, wall, expected) in [(None, 7, 7), (Some(9), 7, 10), (Some(u64::MAX), 7, u64::MAX)] {
        assert_eq!(generation(stored, at(wall)), expected);
    }
}

#[test]
fn a_second_node_in_the_same_folder_is_refused_and_a_look_beside_it_is_not() {
    let disk = Arc::new(Faulty::default());
    let node = open(&disk);
    fill(&node);
    let lock = Path::new("/var/lib/shoal").join(LOCK);
    assert_eq!(Memory::open(disk.clone(), folder()).err(), Some(StoreError::InUse { file: lock }));

    let beside = Memory::beside(disk.clone(), folder()).expect("the file is only open while something is written");
    let mut ring = beside.keyring().expect("it was kept");
    ring.add(crate::keyring::Purpose::Hash, Key::new([9; 32])).expect("there is room");
    beside.keep_keyring(&ring).expect("the node writes nothing right now");
    assert!(node.keyring() == Some(keyring()));
    node.look_again().expect("nobody has it open");
    assert!(node.keyring() == Some(ring));

    drop(node);
    assert!(Memory::open(disk, folder()).is_ok());
}

#[test]
fn a_full_disk_is_told_and_filled_in_once_there_is_room() {
    let disk = Arc::new(Faulty::default());
    disk.state().room = Some(100);
    let memory = open(&disk);
    let full = StoreError::Full { file: file() };
    assert_eq!(memory.keep_credentials(&credentials()), Err(full.clone()));
    assert_eq!((memory.credentials(), memory.trouble()), (Some(credentials()), Some(full.clone())));
    assert_eq!((memory.begin(at(3)), memory.flush()), (3, Err(full)));
    disk.state().room = None;
    memory.flush().expect("there is room");
    assert_eq!(memory.trouble(), None);
    drop(memory);
    let memory = open(&disk);
    assert_eq!((memory.credentials(), memory.begin(at(0))), (Some(credentials()), 4));
}

#[test]
fn a_disk_that_turns_read_only_is_still_read() {
    let disk = Arc::new(Faulty::default());
    fill(&open(&disk));
    disk.state().read_only = true;
    let memory = open(&disk);
    assert_eq!((memory.credentials(), memory.trouble()), (Some(credentials()), None));
    assert_eq!(memory.begin(at(3)), 3);
    assert_eq!(memory.trouble(), Some(StoreError::NotWritable { file: file() }));
}

#[test]
fn a_node_starts_on_a_disk_that_takes_nothing() {
    let disk = Arc::new(Faulty::default());
    disk.state().read_only = true;
    let memory = open(&disk);
    assert_eq!(memory.trouble(), Some(StoreError::NotWritable { file: file() }));
    assert_eq!(memory.begin(at(3)), 3);
    let nowhere = Memory::open(disk, None).expect("nowhere is in nobody's use");
    assert_eq!((nowhere.begin(at(3)), nowhere.trouble()), (3, Some(StoreError::Nowhere)));
    assert_eq!(nowhere.keep_credentials(&credentials()), Err(StoreError::Nowhere));
    assert_eq!(nowhere.credentials(), Some(credentials()));
}

#[test]
fn a_file_that_is_none_of_ours_is_left_as_it_is() {
    for content in [b"hello".to_vec(), vec![0; 4096], vec![7; 1 << 20]] {
        let disk = Arc::new(Faulty::default());
        disk.state().content = Some(content.clone());
        let memory = open(&disk);
        assert_eq!(memory.trouble(), Some(StoreError::Damaged { file: file() }));
        assert_eq!(memory.begin(at(3)), 3);
        assert_eq!(memory.keep_credentials(&credentials()), Err(StoreError::Damaged { file: file() }));
        assert_eq!(memory.credentials(), Some(credentials()));
        assert_eq!(disk.content(), content);
        assert_eq!(Memory::beside(disk, folder()).err(), Some(StoreError::Damaged { file: file() }));
    }
}

#[test]
fn reading_changes_nothing_on_the_disk() {
    let disk = Arc::new(Faulty::default());
    fill(&open(&disk));
    let before = disk.content();
    let memory = open(&disk);
    assert_eq!(memory.credentials(), Some(credentials()));
    memory.look_again().expect("a sound file");
    assert!(disk.content() == before);
}

#[test]
fn a_damaged_record_is_lost_alone() {
    struct Shelf;
    impl Store for Shelf {
        fn read(&self) -> Result<Records, StoreError> {
            let sound = seal(CONFIGURATION, b"[node]");
            let nonsense = seal(CREDENTIALS, b"{}");
            Ok([(CONFIGURATION, sound.clone()), (KEYRING, sound), (PEERS, vec![1, 2]), (CREDENTIALS, nonsense)]
                .map(|(name, bytes)| (name.to_string(), bytes))
                .into())
        }

        fn write(&self, _: &[(&str, Option<&[u8]>)]) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let memory = Memory::over(Box::new(Shelf));
    assert_eq!(memory.configuration().as_deref(), Some(&b"[node]"[..]));
    assert!(memory.keyring().is_none() && memory.peers().is_empty() && memory.credentials().is_none());
    assert_eq!((memory.damaged(), memory.trouble()), ([KEYRING, PEERS, CREDENTIALS].map(String::from).to_vec(), None));
}

#[test]
fn when_the_power_fails_within_a_write_the_old_state_or_the_new_one_is_there() {
    let before = Arc::new(Faulty::default());
    fill(&open(&before));
    let mut ended = false;
    for writes in 0.. {
        let disk = Arc::new(Faulty::default());
        disk.state().content = Some(before.content());
        let memory = open(&disk);
        disk.state().writes_left = Some(writes);
        ended = memory.keep_configuration(b"[new]").is_ok();
        drop(memory);
        disk.state().writes_left = None;
        let memory = open(&disk);
        assert_eq!(memory.trouble(), None, "{writes}");
        let found = memory.configuration().expect("one of both");
        assert!(found == b"[node]" || found == b"[new]", "{writes}");
        assert_eq!(memory.credentials(), Some(credentials()));
        if ended {
            assert_eq!(found, b"[new]");
            break;
        }
    }
    assert!(ended);
}

#[test]
fn a_first_write_that_fails_leaves_nothing_that_counts_as_damaged() {
    let first = |writes: usize| {
        let disk = Arc::new(Faulty::default());
        let memory = open(&disk);
        disk.state().writes_left = Some(writes);
        let written = memory.keep_credentials(&credentials()).is_ok();
        drop(memory);
        disk.state().writes_left = None;
        (disk, written)
    };
    let enough = (0..1_000).find(|writes| first(*writes).1).expect("a file is made with fewer writes");
    for writes in 0..=enough {
        let (disk, written) = first(writes);
        let memory = open(&disk);
        assert_eq!((memory.trouble(), memory.credentials()), (None, written.then(credentials)), "{writes} of {enough}");
        fill(&memory);
        assert_eq!(open_again(memory, &disk).credentials(), Some(credentials()));
    }
}

fn open_again(memory: Memory, disk: &Arc<Faulty>) -> Memory {
    drop(memory);
    open(disk)
}

#[test]
fn those_seen_last_are_kept_but_not_all_from_one_zone() {
    let crowd = (0..100).map(|index| peer(&format!("a{index}"), "1", 1000 + index)).collect();
    let few = vec![peer("b", "2", 1), peer("c", "3", 2), peer("a99", "1", 3)];
    let kept = keep(few, crowd);
    let names: Vec<&str> = kept.iter().map(|peer| &*peer.name).collect();
    assert_eq!(names.len(), PEERS_MAX);
    assert_eq!((names[0], &names[62..]), ("a99", &["c", "b"][..]));
    assert_eq!(kept[0].seen, 1099, "the last that was heard of a peer counts");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A torn or rotten file is read as it was, in part, or not at all: never wrongly, never with a panic.
    #[test]
    fn no_damage_to_the_file_stops_a_node(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let disk = Arc::new(Faulty::default());
        fill(&open(&disk));
        let mut content = disk.content();
        // Most of the file is empty pages, to which nothing can happen.
        let written: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 0).collect();
        for (at, bits) in flips {
            content[written[at.index(written.len())]] ^= bits;
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        disk.state().content = Some(content);
        let memory = open(&disk);
        for found in [memory.credentials()].into_iter().flatten() {
            prop_assert_eq!(found, credentials());
        }
        prop_assert!(memory.keyring().is_none_or(|found| found == keyring()));
        prop_assert!(memory.configuration().is_none_or(|found| found == b"[node]"));
        let generation = memory.begin(at(3));
        prop_assert!(generation >= 3);
        let _ = memory.keep_credentials(&credentials());
        prop_assert_eq!(memory.credentials(), Some(credentials()));
    }
}
