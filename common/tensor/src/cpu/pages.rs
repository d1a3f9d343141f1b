//! Zeroed memory directly from the operating system: committed on first access, resizable in place, released at once.

use std::ptr::NonNull;

use crate::TensorError;

/// Smallest size that requests huge pages: sequential reads of weights then miss the TLB 512 times less often.
const HUGE: usize = 2 << 20;

/// A page-aligned memory mapping.
pub(crate) struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is owned by this value alone, like that of a `Vec<u8>`.
unsafe impl Send for Pages {}
// SAFETY: shared access only reads, except for `Pages::shared_mut`, whose callers ensure disjoint access.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates `bytes` zeroed bytes.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the system cannot allocate.
    pub(crate) fn zeroed(bytes: usize) -> Result<Self, TensorError> {
        if bytes == 0 {
            return Ok(Self { start: NonNull::dangling(), bytes });
        }
        // SAFETY: a new private mapping does not touch existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED);
        let pages = Self { start: start.ok_or_else(|| refused(bytes))?, bytes };
        pages.advise();
        Ok(pages)
    }

    fn advise(&self) {
        #[cfg(target_os = "linux")]
        if self.bytes >= HUGE {
            // SAFETY: advice about this value's mapping; a kernel without huge pages returns an error and changes
            // nothing.
            unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, libc::MADV_HUGEPAGE) };
        }
    }

    /// Changes the length to `bytes`: the common part keeps its content, new bytes are zero, and removed ones are
    /// released.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the system cannot allocate; the value is then unchanged.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), TensorError> {
        if bytes == self.bytes {
            return Ok(());
        }
        if self.bytes == 0 || bytes == 0 {
            *self = Self::zeroed(bytes)?;
            return Ok(());
        }
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the mapping is owned exclusively (`&mut self`), so it may move and shrink.
            let start =
                unsafe { libc::mremap(self.start.as_ptr().cast(), self.bytes, bytes, libc::MREMAP_MAYMOVE) };
            let moved = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED);
            self.start = moved.ok_or_else(|| refused(bytes))?;
            self.bytes = bytes;
            self.advise();
        }
        #[cfg(not(target_os = "linux"))]
        {
            let mut other = Self::zeroed(bytes)?;
            let kept = bytes.min(self.bytes);
            other.bytes_mut()[..kept].copy_from_slice(&self.bytes()[..kept]);
            *self = other;
        }
        Ok(())
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Pointer to the first byte; valid for `len` bytes until `self` is resized or dropped.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// As [`Pages::as_ptr`], mutable.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The whole memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `bytes` bytes and is initialised (zeroed, or written since).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// The whole memory, mutable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: this value's mapping, not used after this.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}

fn refused(bytes: usize) -> TensorError {
    TensorError::OutOfMemory(format!("the system cannot allocate {bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_growing_and_shrinking_and_new_memory_is_zero() {
        let mut pages = Pages::zeroed(10_000).expect("small");
        pages.bytes_mut().iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8);
        for bytes in [5_000_000, 9_000, 70_000, 9_000] {
            pages.resize(bytes).expect("small");
            assert_eq!(pages.len(), bytes);
            assert!(pages.bytes()[..9_000].iter().enumerate().all(|(index, &byte)| byte == index as u8));
            assert!(pages.bytes()[bytes.min(10_000)..].iter().all(|&byte| byte == 0));
        }
        pages.resize(0).expect("nothing");
        pages.resize(100).expect("small");
        assert!(pages.bytes().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn an_impossible_size_is_an_error_and_changes_nothing() {
        let mut pages = Pages::zeroed(4096).expect("small");
        pages.bytes_mut()[7] = 9;
        assert!(matches!(pages.resize(1 << 60), Err(TensorError::OutOfMemory(_))));
        assert_eq!((pages.len(), pages.bytes()[7]), (4096, 9));
        assert!(matches!(Pages::zeroed(1 << 60), Err(TensorError::OutOfMemory(_))));
    }
}
