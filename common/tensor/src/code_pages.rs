//! Releases the memory of libtorch's code pages until they are needed again.
//!
//! The dynamic linker touches about 55 MB of libtorch's files when a program starts, long before anything is
//! computed. The pages are unmodified copies of the file: released pages are read again on the next access.

/// Releases the resident pages of shared libraries' code and constants (Linux; no effect elsewhere). Call it once
/// after start and after unloading a model.
pub fn release_code_pages() {
    #[cfg(target_os = "linux")]
    for range in clean_library_ranges(&std::fs::read_to_string("/proc/self/smaps").unwrap_or_default()) {
        // SAFETY: the range is a read-only private mapping of a file without modified pages (the kernel reports
        // `Anonymous: 0`): pages that MADV_DONTNEED drops are read again from the same file, byte for byte. No thread
        // can write to it. For a range that is unmapped by now, madvise returns an error, which is ignored.
        unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.end - range.start, libc::MADV_DONTNEED);
        }
    }
}

/// Address ranges in `smaps` of read-only mappings of shared libraries without modified pages. Mappings that the
/// dynamic linker has written to (relocations) are excluded.
#[cfg(target_os = "linux")]
fn clean_library_ranges(smaps: &str) -> Vec<std::ops::Range<usize>> {
    let mut clean = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(anonymous) = line.strip_prefix("Anonymous:") {
            clean.extend(candidate.take().filter(|_| anonymous.trim() == "0 kB"));
        } else if line.split_whitespace().next().is_some_and(|word| !word.ends_with(':')) {
            candidate = library_range(line);
        }
    }
    clean
}

/// The address range of a mapping's header line, if it is a read-only mapping of a shared library.
#[cfg(target_os = "linux")]
fn library_range(line: &str) -> Option<std::ops::Range<usize>> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let path = fields.nth(3)?;
    let is_code = permissions.starts_with("r-") && permissions.ends_with('p') && path.contains(".so");
    let address = |text| usize::from_str_radix(text, 16).ok();
    is_code.then_some(address(start)?..address(end)?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_clean_read_only_library_mappings_are_released() {
        let mapping = |head: &str, anonymous: &str| {
            format!("{head}\nRss:   8 kB\nAnonymous:   {anonymous}\nVmFlags: rd\n")
        };
        let code = "7f0000001000-7f0000002000 r-xp 00001000 fe:00 123    /opt/lib/libtorch_cpu.so";
        let smaps = [
            mapping("7f0000003000-7f0000004000 rw-p 00001000 fe:00 123    /opt/lib/libtorch_cpu.so", "0 kB"),
            mapping("7f0000005000-7f0000006000 r--p 00001000 fe:00 123    /opt/lib/relocated.so", "4 kB"),
            mapping(code, "0 kB"),
            mapping("7f0000007000-7f0000008000 r--p 00000000 00:00 0", "0 kB"),
            mapping("7f0000009000-7f000000a000 r-xp 00001000 fe:00 123    /usr/bin/program", "0 kB"),
            "nonsense".to_owned(),
        ];
        let clean = clean_library_ranges(&smaps.concat());
        assert_eq!((clean.len(), &clean[0]), (1, &(0x7f00_0000_1000..0x7f00_0000_2000)));
    }

    #[test]
    fn code_still_runs_and_memory_shrinks() {
        let sum = || {
            f64::try_from(
                tch::Tensor::arange(100, (tch::Kind::Float, tch::Device::Cpu)).sum(tch::Kind::Float),
            )
        };
        assert_eq!(sum().unwrap(), 4950.0);
        let before = crate::resident_bytes();
        release_code_pages();
        let after = crate::resident_bytes();
        assert_eq!(sum().unwrap(), 4950.0);
        assert!(after + (10 << 20) < before, "{before} → {after}");
    }
}
