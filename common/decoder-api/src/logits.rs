//! The output of a step.

/// Rows of logits on the host: one row per requested position.
///
/// ```
/// use videosdgx_decoder_api::Logits;
///
/// let mut logits = Logits::new(3, vec![0.1, 0.7, 0.2, 0.5, 0.3, 0.2]);
/// assert_eq!(logits.rows(), 2);
/// logits.row_mut(1)[0] = f32::NEG_INFINITY;
/// assert_eq!(logits.row(0), [0.1, 0.7, 0.2]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Logits {
    vocab: usize,
    values: Vec<f32>,
}

impl Logits {
    /// Wraps `values`, the rows one after another, each of length `vocab`.
    #[must_use]
    pub fn new(vocab: usize, values: Vec<f32>) -> Self {
        debug_assert!(vocab > 0 && values.len().is_multiple_of(vocab));
        Self { vocab, values }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.vocab).unwrap_or(0)
    }

    /// Row `index`, for the sampler to modify in place.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.vocab..(index + 1) * self.vocab]
    }

    /// Row `index`.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.vocab..(index + 1) * self.vocab]
    }
}
