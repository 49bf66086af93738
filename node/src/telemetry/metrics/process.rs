//! What the process takes from its machine, as the kernel counts it.
//!
//! Read from `/proc` when a scraper asks. Where there is none, as in a simulation, these numbers stay at zero.

use super::{Counter, Gauge, Metrics, PROCESS_CPU, PROCESS_OPEN_FDS, PROCESS_RESIDENT_MEMORY, PROCESS_START_TIME};
use cluster::Disk;
use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(Debug)]
pub struct ProcessMetrics {
    resident_memory: Gauge,
    open_fds: Gauge,
    cpu: Counter,
}

impl ProcessMetrics {
    pub fn new(metrics: &Metrics, started: SystemTime) -> Self {
        let seconds = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        metrics.gauge(&PROCESS_START_TIME, &[]).set(seconds);
        Self {
            resident_memory: metrics.gauge(&PROCESS_RESIDENT_MEMORY, &[]),
            open_fds: metrics.gauge(&PROCESS_OPEN_FDS, &[]),
            cpu: metrics.counter(&PROCESS_CPU, &[]),
        }
    }

    /// Reads files: to be called where blocking is allowed.
    pub fn observe(&self, disk: &dyn Disk) {
        if let Some(bytes) = disk.read(Path::new("/proc/self/status")).ok().and_then(|status| resident(&status)) {
            self.resident_memory.set(bytes as f64);
        }
        if let Some(nanos) = disk.read(Path::new("/proc/self/stat")).ok().and_then(|stat| cpu(&stat)) {
            self.cpu.reach(nanos);
        }
        if let Ok(fds) = disk.list(Path::new("/proc/self/fd")) {
            // One of them was opened to list the others.
            self.open_fds.set(fds.len().saturating_sub(1) as f64);
        }
    }
}

/// Bytes, from the line `VmRSS:    12345 kB`. In `statm` the number would be of pages, whose size differs.
fn resident(status: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(status).ok()?.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Nanoseconds of user and system time. The kernel tells hundredths of a second on every architecture that Rust's
/// standard library runs on under Linux. The name of the program, in brackets, may itself hold spaces and brackets.
fn cpu(stat: &[u8]) -> Option<u64> {
    const TICK: u64 = 10_000_000;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = b"42 (a) b) (c) S 1 42 42 0 -1 4194560 1234 0 0 0 250 50 0 0 20 0 5 0 900 1000 77 18446744073709551615";
        assert_eq!(cpu(stat), Some(3_000_000_000));
        assert_eq!(resident(b"Name:\tshoal\nVmHWM:\t   99 kB\nVmRSS:\t   2048 kB\n"), Some(2_097_152));
        for nonsense in [&b""[..], b"42 (shoal", b"42 (shoal) S 1", b"VmRSS: many kB", b"\xff)\xff"] {
            assert_eq!((cpu(nonsense), resident(nonsense)), (None, None));
        }
    }
}
