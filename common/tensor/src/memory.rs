//! Memory of this process as reported by the operating system.

/// Resident bytes of this process (`/proc/self/statm`); 0 where the system does not report them.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    // SAFETY: queries a constant of the system; no memory is involved.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(4096)
}

/// Returns freed memory to the operating system and, when a model uses a GPU, to its driver. glibc and libtorch keep it
/// otherwise, and unloading a model would free nothing.
pub fn release_memory() {
    crate::cuda::empty_device_cache();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: trims glibc's own heap; live allocations are not touched.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_large_allocation_shows() {
        let before = super::resident_bytes();
        let block = std::hint::black_box(vec![1u8; 512 << 20]);
        let after = super::resident_bytes();
        // Other tests free memory meanwhile.
        assert!(after >= before + (256 << 20), "{before} → {after}");
        drop(block);
    }
}
