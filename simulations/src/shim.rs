//! Time and entropy as a seed decides them, for code that asks the C library and not the `World`.
//!
//! The standard library keys its hash tables from `getrandom` and reads both clocks through `clock_gettime`; hyper, h2
//! and tokio do both. This file defines those symbols anew for the whole executable. Each thread decides for itself:
//! until [`switch_on`] is called on it, it sees the kernel's time and entropy. [`prove`] says whether the linker has
//! really put these definitions in the place of the C library's.
//!
//! Not covered is what does not ask the C library: `rdrand`, raw system calls, and the key material of aws-lc, which
//! seeds itself.

#![expect(unsafe_code, reason = "taking the place of symbols of the C library cannot be said in safe Rust")]

use crate::chance::Chance;
use std::{cell::Cell, time::Duration};
use tokio::runtime::Handle;

/// 2026-01-01T00:00:00Z: when every simulation begins, so that certificates and tokens can be valid in it.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// What the monotonic clock shows when a simulation begins: a machine that has been up for some days, so that
/// going back a few hours from the first instant does not leave the clock's range.
const BOOT: Duration = Duration::from_secs(1_000_000);

/// A runtime of turmoil spends this long on its own clock before its host's first instant, to start on a whole tick.
const ROUNDING: Duration = Duration::from_millis(1);

struct State {
    on: Cell<bool>,
    /// Set while a clock is read: reading it inside the simulation may read it again.
    busy: Cell<bool>,
    /// Where the stream of entropy stands.
    entropy: Cell<u64>,
    /// What the clocks show where no host is running.
    between_hosts: Cell<Duration>,
}

thread_local! {
    // Const and without a destructor: it can be read before, during and after everything else on the thread.
    static STATE: State = const {
        State { on: Cell::new(false), busy: Cell::new(false), entropy: Cell::new(0), between_hosts: Cell::new(Duration::ZERO) }
    };
}

/// From here on this thread's entropy is the seed's and its clocks are the simulation's.
///
/// To be called before anything on the thread has built a hash table: the standard library draws their keys once.
pub(crate) fn switch_on(seed: u64) {
    STATE.with(|state| {
        state.entropy.set(Chance::of(seed, "entropy").draw());
        state.between_hosts.set(Duration::ZERO);
        state.on.set(true);
    });
}

/// Tells the clocks how far the simulation has come, for what happens where no host is running.
pub(crate) fn advance_to(elapsed: Duration) {
    STATE.with(|state| state.between_hosts.set(elapsed));
}

/// Virtual time since the simulation began: the running host's, where there is one. Zero on a thread without the shim.
pub(crate) fn elapsed() -> Duration {
    virtual_time().map_or(Duration::ZERO, |time| time.elapsed)
}

/// The date in the simulation.
pub(crate) fn wall() -> Duration {
    EPOCH + elapsed()
}

struct VirtualTime {
    elapsed: Duration,
    monotonic: Duration,
}

fn virtual_time() -> Option<VirtualTime> {
    STATE
        .try_with(|state| {
            if !state.on.get() {
                return None;
            }
            let between_hosts = state.between_hosts.get();
            let outside = VirtualTime { elapsed: between_hosts, monotonic: BOOT + between_hosts };
            if state.busy.replace(true) {
                return Some(outside);
            }
            // Without a runtime turmoil would fall back on the standard library's clock, which is this one.
            let host = if Handle::try_current().is_ok() { turmoil::sim_elapsed() } else { None };
            state.busy.set(false);
            Some(host.map_or(outside, |elapsed| VirtualTime { elapsed, monotonic: BOOT + elapsed + ROUNDING }))
        })
        .ok()
        .flatten()
}

/// Fills from the seed's stream, or says that this thread has none.
fn fill(buffer: &mut [u8]) -> bool {
    STATE
        .try_with(|state| {
            if !state.on.get() {
                return false;
            }
            let mut stream = Chance::resume(state.entropy.get());
            for piece in buffer.chunks_mut(8) {
                piece.copy_from_slice(&stream.draw().to_le_bytes()[..piece.len()]);
            }
            state.entropy.set(stream.position());
            true
        })
        .unwrap_or(false)
}

#[cfg(target_os = "linux")]
mod symbols {
    use super::{EPOCH, fill, virtual_time};
    use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, time_t, timespec, timeval};
    use std::{slice, time::Duration};

    /// getrandom(2).
    ///
    /// # Safety
    /// `buffer` is valid for writes of `length` bytes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
        // SAFETY: the caller promises the buffer; a length of zero comes with any pointer and is not touched.
        let filled = length == 0 || fill(unsafe { slice::from_raw_parts_mut(buffer.cast(), length) });
        if filled && length != 0 {
            return length.cast_signed();
        }
        // SAFETY: the arguments are those of the system call.
        unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as ssize_t }
    }

    /// getentropy(3).
    ///
    /// # Safety
    /// `buffer` is valid for writes of `length` bytes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getentropy(buffer: *mut c_void, length: size_t) -> c_int {
        // SAFETY: the caller promises the buffer.
        if unsafe { getrandom(buffer, length, 0) } == length.cast_signed() { 0 } else { -1 }
    }

    fn clock(id: clockid_t) -> Option<Duration> {
        let time = virtual_time()?;
        Some(match id {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI => EPOCH + time.elapsed,
            _ => time.monotonic,
        })
    }

    /// clock_gettime(2).
    ///
    /// # Safety
    /// `time` is valid for a write.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(id: clockid_t, time: *mut timespec) -> c_int {
        match clock(id) {
            Some(now) => {
                // SAFETY: the caller promises the pointer.
                unsafe { time.write(timespec { tv_sec: now.as_secs().cast_signed(), tv_nsec: now.subsec_nanos().into() }) };
                0
            }
            // SAFETY: the arguments are those of the system call.
            None => unsafe { libc::syscall(libc::SYS_clock_gettime, id, time) as c_int },
        }
    }

    /// gettimeofday(2), for the C code among the dependencies.
    ///
    /// # Safety
    /// `time` is valid for a write, `zone` is null or obsolete.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int {
        match clock(libc::CLOCK_REALTIME) {
            Some(now) => {
                // SAFETY: the caller promises the pointer.
                unsafe { time.write(timeval { tv_sec: now.as_secs().cast_signed(), tv_usec: now.subsec_micros().into() }) };
                0
            }
            // SAFETY: the arguments are those of the system call.
            None => unsafe { libc::syscall(libc::SYS_gettimeofday, time, zone) as c_int },
        }
    }

    /// time(2), for the C code among the dependencies.
    ///
    /// # Safety
    /// `seconds` is null or valid for a write.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn time(seconds: *mut time_t) -> time_t {
        let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is that of a local.
        unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
        if !seconds.is_null() {
            // SAFETY: the caller promises the pointer.
            unsafe { seconds.write(now.tv_sec) };
        }
        now.tv_sec
    }

    /// The symbols that code finds when it looks them up while running, as the getrandom crate does.
    pub(super) fn are_found_by_name() -> bool {
        let found = |name: &std::ffi::CStr| {
            // SAFETY: the name is a string that ends with a zero byte.
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.addr()
        };
        found(c"getrandom") == (getrandom as *const ()).addr() && found(c"clock_gettime") == (clock_gettime as *const ()).addr()
    }
}

/// Whether the symbols of this file are the ones that everything in this process calls.
///
/// Looks at bytes straight from the C library's name, at the keys of hash tables, and at both clocks: the same seed has to
/// give the same, another seed something else.
#[cfg(target_os = "linux")]
pub(crate) fn prove() -> Result<(), &'static str> {
    let (first, second, other) = (Sample::with(1), Sample::with(1), Sample::with(2));
    if !symbols::are_found_by_name() {
        return Err("getrandom and clock_gettime are not the simulator's own when looked up by name");
    }
    if first.bytes != second.bytes || first.bytes == other.bytes {
        return Err("getrandom does not follow the seed");
    }
    if first.table != second.table || first.table == other.table {
        return Err("the keys of hash tables do not follow the seed");
    }
    if first.wall != EPOCH || first.monotonic != second.monotonic || first.monotonic != other.monotonic {
        return Err("the clocks are not the simulation's");
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn prove() -> Result<(), &'static str> {
    Err("the simulator takes the place of the C library's clock and entropy, which it can do on Linux only")
}

/// The processor's time that this thread has used, by the kernel's clock.
#[cfg(target_os = "linux")]
pub(crate) fn spent() -> Duration {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is that of a local.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_THREAD_CPUTIME_ID, &raw mut spent) };
    let nanos = spent.tv_nsec.cast_unsigned().min(999_999_999);
    Duration::new(spent.tv_sec.cast_unsigned(), nanos as u32)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn spent() -> Duration {
    Duration::ZERO
}

/// What a fresh thread sees of entropy and time.
#[cfg(target_os = "linux")]
struct Sample {
    bytes: [u8; 32],
    table: u64,
    wall: Duration,
    monotonic: std::time::Instant,
}

#[cfg(target_os = "linux")]
impl Sample {
    #[expect(clippy::disallowed_methods, reason = "whether the clocks are overridden can only be seen by reading them")]
    fn with(seed: u64) -> Self {
        use std::{
            hash::{BuildHasher, RandomState},
            time::{Instant, SystemTime},
        };
        crate::on_a_fresh_thread(seed, || {
            let mut bytes = [0; 32];
            // SAFETY: the pointer and the length are those of the array.
            unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
            Self {
                bytes,
                table: RandomState::new().hash_one("shoal"),
                wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
                monotonic: Instant::now(),
            }
        })
    }
}
