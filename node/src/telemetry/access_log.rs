//! One line of JSON for a request, written without a request ever waiting for it.
//!
//! A line is encoded on the request's own thread and left in a buffer in memory, of which there are a few, so that
//! threads seldom meet at one. [`AccessLog::run`] carries the buffers to where they are to go. If that is too slow, the
//! buffers fill, and what does not fit is dropped and counted.
//!
//! Lines of one thread keep their order; those of two threads are written as the buffers come.

mod line;

pub use line::*;

use super::metrics::Counter;
use cluster::{Disk, World, offload};
use config::AccessLogTo;
use std::{
    cell::RefCell,
    io::{self, Write},
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// How long a line may wait before it is written.
pub const WAIT_MAX: Duration = Duration::from_millis(100);

/// So many bytes are written without waiting any longer.
const ENOUGH: usize = 64 * 1024;

/// What one buffer holds.
const BUFFER_MAX: usize = 1024 * 1024;

/// A thread's scratch does not stay larger than this after a long line.
const SCRATCH_MAX: usize = 16 * 1024;

/// Where lines wait, and where they are to go. One for a node, over all its revisions.
#[derive(Debug)]
pub struct AccessLog {
    buffers: Box<[Buffer]>,
    /// The next thread begins at this buffer.
    next: AtomicUsize,
    /// Bytes in all buffers; changed only under the lock of the buffer that changes.
    waiting: AtomicUsize,
    /// There is something to write.
    some: Notify,
    /// There is [`ENOUGH`] to write.
    enough: Notify,
    target: Mutex<Target>,
    dropped: Counter,
}

/// Aligned so that two threads do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Buffer(Mutex<Vec<u8>>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    Nowhere,
    Stdout,
    File(std::path::PathBuf),
}

struct Scratch {
    text: Vec<u8>,
    /// The buffer that this thread leaves its lines in.
    home: Option<usize>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { text: Vec::new(), home: None }) };
}

impl AccessLog {
    /// `threads` is how many write at the same time; `dropped` counts lines.
    pub fn new(threads: usize, dropped: Counter) -> Self {
        Self {
            buffers: (0..threads.clamp(1, 8)).map(|_| Buffer::default()).collect(),
            next: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            some: Notify::new(),
            enough: Notify::new(),
            target: Mutex::new(Target::Nowhere),
            dropped,
        }
    }

    /// Where lines go from now on, those that wait included. Turned off, those that wait still go where they would
    /// have gone.
    pub fn send_to(&self, to: &AccessLogTo) {
        let target = match to {
            AccessLogTo::Off => return,
            AccessLogTo::Stdout => Target::Stdout,
            AccessLogTo::File(path) => Target::File(path.clone()),
        };
        *lock(&self.target) = target;
    }

    /// Leaves a line to be written. Whether it is wanted was asked before.
    pub fn write(&self, policy: &Policy, line: &Line<'_>) {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.text.clear();
            policy.encode(line, &mut scratch.text);
            let home = *scratch.home.get_or_insert_with(|| self.next.fetch_add(1, Relaxed));
            if !self.keep(home, &scratch.text) {
                self.dropped.add(1);
            }
            scratch.text.shrink_to(SCRATCH_MAX);
        });
    }

    /// A buffer that is locked right now is passed over: its owner writes a line of its own, or takes them away. One
    /// that is full is not, since the others fill just as fast.
    fn keep(&self, home: usize, text: &[u8]) -> bool {
        for offset in 0..self.buffers.len() {
            let mut buffer = match self.buffers[(home + offset) % self.buffers.len()].0.try_lock() {
                Ok(buffer) => buffer,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if buffer.len() + text.len() > BUFFER_MAX {
                return false;
            }
            buffer.extend_from_slice(text);
            let before = self.waiting.fetch_add(text.len(), Relaxed);
            drop(buffer);
            if before == 0 {
                self.some.notify_one();
            }
            if before < ENOUGH && before + text.len() >= ENOUGH {
                self.enough.notify_one();
            }
            return true;
        }
        false
    }

    /// Writes what waits, over and over, until it is dropped. `complain` hears of the first failure of a row.
    pub async fn run(&self, world: &dyn World, complain: impl Fn(&io::Error)) {
        let mut failing = false;
        loop {
            self.some.notified().await;
            // Either the time is up or there is enough.
            let _ = tokio::time::timeout(WAIT_MAX, self.enough.notified()).await;
            match self.flush(world).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    complain(&error);
                    failing = true;
                }
                Err(_) => {}
            }
            // A buffer may have been written to after it was emptied and before the last one was: nobody has told.
            if self.waiting.load(Relaxed) > 0 {
                self.some.notify_one();
            }
        }
    }

    /// Writes what waits now: the last act of a node, whose patience the caller bounds. What cannot be written is
    /// dropped and counted.
    pub async fn flush(&self, world: &dyn World) -> io::Result<()> {
        let taken: Vec<Vec<u8>> = self.buffers.iter().map(|buffer| self.take(buffer)).filter(|lines| !lines.is_empty()).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let (disk, target, dropped) = (world.disk(), lock(&self.target).clone(), self.dropped.clone());
        offload(world, move || {
            let mut outcome = Ok(());
            for lines in taken {
                if let Err(error) = target.append(&*disk, &lines) {
                    dropped.add(lines.iter().filter(|byte| **byte == b'\n').count() as u64);
                    outcome = Err(error);
                }
            }
            outcome
        })
        .await
    }

    fn take(&self, buffer: &Buffer) -> Vec<u8> {
        let mut lines = lock(&buffer.0);
        self.waiting.fetch_sub(lines.len(), Relaxed);
        // The next lines will be about as many.
        let next = Vec::with_capacity(lines.len());
        std::mem::replace(&mut lines, next)
    }
}

impl Target {
    fn append(&self, disk: &dyn Disk, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Err(io::Error::new(io::ErrorKind::NotFound, "the access log has no place to go to")),
            Self::File(path) => disk.append(path, lines),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
        }
    }
}

/// Nothing that is done under these locks can leave half of it behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
