//! Keeps the C library's allocator within the box's budget. musl, of which
//! firmware is built, gives memory back by itself and has nothing to set.

/// Free memory beyond this goes back to the system. A burst of events would
/// otherwise leave the process twice as large for good.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: i32 = 64 * 1024;

/// One arena for both threads, and little kept of what is free. To be called
/// before the first thread starts.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "mallopt has no safe binding")]
    // SAFETY: only sets parameters of the allocator, while there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES);
    }
}
