//! Which components are in memory at the same time.

/// Which stages' weights are in memory at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    /// All stages, from load to unload.
    Whole,
    /// One stage at a time: the others are freed, and loaded again for the next generation that needs them.
    Staged,
}

/// A component that is loaded when it is first used and can be freed.
///
/// ```
/// use videosdgx_diffusion::Component;
///
/// let mut encoder = Component::empty();
/// assert_eq!(encoder.get_or_load(|| Ok::<_, std::io::Error>(7))?, &7);
/// assert!(encoder.free() && !encoder.is_loaded());
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Component<T>(Option<T>);

impl<T> Component<T> {
    /// A component that is not loaded.
    #[must_use]
    pub const fn empty() -> Self {
        Self(None)
    }

    /// Whether it is in memory.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.0.is_some()
    }

    /// The component, if it is in memory.
    #[must_use]
    pub fn loaded(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// The component; `load` is called when it is not in memory.
    ///
    /// # Errors
    /// What `load` returns; the component then stays empty.
    pub fn get_or_load<E>(&mut self, load: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match &mut self.0 {
            Some(loaded) => Ok(loaded),
            empty => Ok(empty.insert(load()?)),
        }
    }

    /// Drops the component; whether there was one. Call [`videosdgx_tensor::release_memory`] afterwards.
    pub fn free(&mut self) -> bool {
        self.0.take().is_some()
    }
}
