//! The box's clocks: uptime through standby, wall clock and whether to trust
//! it, and which boot this is. Decides nothing; the rest of the agent gets
//! what is read here as values.

use std::{
    fs,
    io::Read as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

/// The kernel's random name of the boot.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// When this binary was built, in seconds since 1970.
#[must_use]
pub fn build_unix_s() -> u64 {
    // Set by build.rs; text that is no number would be a bug of it, and the
    // floor of 1970 is then merely weak.
    env!("RETURNPATH_BUILD_UNIX_S").parse().unwrap_or(0)
}

/// Uptime of the box in ms, standby included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let whole_ms = u64::try_from(now.tv_sec).unwrap_or(0) * 1_000;
    whole_ms + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Wall clock in ms since 1970; not to be trusted before it is synchronised.
#[must_use]
pub fn unix_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// Names this boot with a number that is never 0: taken from the kernel's own
/// random boot id, so every process of one boot agrees on it; without procfs a
/// random one, so that times of two boots are never mixed up.
#[must_use]
pub fn boot_id() -> u64 {
    let from_kernel = fs::read_to_string(BOOT_ID_FILE).ok().and_then(|text| {
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u64::from_str_radix(digits.get(..16)?, 16).ok()
    });
    from_kernel.unwrap_or_else(random_u64).max(1)
}

/// A random number from the kernel.
#[must_use]
pub fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_unavailable| {
        // Kernels without getrandom(2) that also lack /dev/urandom do not boot
        // Linux userland; uptime still tells two runs apart.
        let mut bytes = [0; 8];
        let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        match read {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => uptime_ms(),
        }
    })
}

/// How the agent learns that the wall clock is synchronised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncSource {
    /// Ask the kernel (`adjtimex`): a time daemon disciplines the clock.
    Kernel,
    /// This file exists: platforms that set the clock from the broadcast say
    /// so there.
    File(PathBuf),
}

impl SyncSource {
    /// Whether the wall clock is to be trusted at this moment.
    #[must_use]
    pub fn is_synchronised(&self) -> bool {
        match self {
            Self::Kernel => kernel_synchronised(),
            Self::File(path) => path.exists(),
        }
    }
}

/// Reads the kernel's clock state without changing it.
fn kernel_synchronised() -> bool {
    // SAFETY: all-zero is a valid `timex`, and with `modes` 0 the call only
    // fills the struct that it is given.
    #[expect(unsafe_code, reason = "adjtimex has no safe binding in the tree")]
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        (state, timex.status)
    };
    state != -1 && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}

/// The latest moment known to have passed, by which certificates are judged
/// while the clock is not set. Shared with the TLS verifier; cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustedTime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    floor_unix_s: AtomicU64,
    synchronised: AtomicBool,
}

impl TrustedTime {
    /// Starts from the build time, or from `last_unix_s` where that is later.
    #[must_use]
    pub fn new(last_unix_s: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                floor_unix_s: AtomicU64::new(last_unix_s.max(build_unix_s())),
                synchronised: AtomicBool::new(false),
            }),
        }
    }

    /// Enters what the clock says now.
    pub fn observe(&self, unix_ms: i64, synchronised: bool) {
        self.shared
            .synchronised
            .store(synchronised, Ordering::Relaxed);
        if let (true, Ok(unix_ms)) = (synchronised, u64::try_from(unix_ms)) {
            let unix_s = unix_ms / 1_000;
            self.shared
                .floor_unix_s
                .fetch_max(unix_s, Ordering::Relaxed);
        }
    }

    /// The latest moment known to have passed, in seconds since 1970.
    #[must_use]
    pub fn floor_unix_s(&self) -> u64 {
        self.shared.floor_unix_s.load(Ordering::Relaxed)
    }

    /// Whether the clock was synchronised when last observed.
    #[must_use]
    pub fn is_synchronised(&self) -> bool {
        self.shared.synchronised.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_stays_the_same_within_a_boot() {
        assert_eq!(boot_id(), boot_id());
        assert_ne!(boot_id(), 0);
    }

    #[test]
    fn uptime_grows() {
        let before = uptime_ms();
        assert!(before > 0 && uptime_ms() >= before);
    }

    #[test]
    fn trusted_time_only_grows_and_only_by_a_synchronised_clock() {
        let floor = build_unix_s();
        let trusted = TrustedTime::new(0);
        assert_eq!(trusted.floor_unix_s(), floor);
        let later_ms = i64::try_from(floor).unwrap() * 1_000 + 5_000;
        trusted.observe(later_ms, false);
        assert_eq!(trusted.floor_unix_s(), floor);
        trusted.observe(later_ms, true);
        assert_eq!(trusted.floor_unix_s(), floor + 5);
        trusted.observe(-1, true);
        trusted.observe(0, true);
        assert_eq!(trusted.floor_unix_s(), floor + 5);
        assert!(trusted.is_synchronised());
    }

    #[test]
    fn a_file_can_say_that_the_clock_is_set() {
        let missing = SyncSource::File(PathBuf::from("/nonexistent/clock"));
        assert!(!missing.is_synchronised());
        assert!(SyncSource::File(PathBuf::from("/proc")).is_synchronised());
    }
}
