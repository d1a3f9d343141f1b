//! Incremental search for tags.

/// Searches for markers, holding back text that may be the beginning of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Markers {
    held: String,
}

impl Markers {
    /// Processes one character. Returns the index of the marker that it completes; appends text that is not part of a marker to `plain`.
    pub(crate) fn step(&mut self, character: char, markers: &[&str], plain: &mut String) -> Option<usize> {
        self.held.push(character);
        loop {
            if let Some(number) = markers.iter().position(|marker| *marker == self.held) {
                self.held.clear();
                return Some(number);
            }
            if markers.iter().any(|marker| marker.starts_with(&self.held)) {
                return None;
            }
            plain.push(self.held.remove(0));
        }
    }

    /// Returns the text held back, at the end of the input.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}
