//! Images as a vision model takes them.

/// An image, preprocessed into the patches that the model's vision tower takes.
#[derive(Clone)]
pub struct ImageInput {
    /// Position in the sequence of its first placeholder token.
    pub position: usize,
    /// Number of its placeholder tokens: `t · h · w / merge²`.
    pub tokens: usize,
    /// Number of patches in time, height and width: `[t, h, w]`.
    pub grid: [usize; 3],
    /// `[t · h · w, channels · temporal patch · patch · patch]`, normalised, in the merge-block order of the tower.
    pub patches: Vec<f32>,
    /// Hash of the content: equal images share cached prefixes and computed features.
    pub digest: [u8; 32],
}

impl std::fmt::Debug for ImageInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageInput")
            .field("position", &self.position)
            .field("tokens", &self.tokens)
            .field("grid", &self.grid)
            .finish_non_exhaustive()
    }
}
