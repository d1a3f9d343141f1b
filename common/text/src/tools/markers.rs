//! Finding tags in text that comes in pieces.

/// Holds back what may be the beginning of a marker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Markers {
    held: String,
}

impl Markers {
    /// Takes one character. Gives the number of the marker that it completes; what turned out to be no marker goes to `plain`.
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

    /// What is held back, at the end.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}
