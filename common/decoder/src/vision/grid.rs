//! Positions of patches: rows and columns in merge-block order, and indices in the table of learned positions.

/// Row and column of each patch of one frame of `rows × columns` patches, in the order of [`crate::vision`]: merge blocks
/// of `merge × merge` by row and column, and patches in a block by row and column.
pub(super) fn places(rows: usize, columns: usize, merge: usize) -> impl Iterator<Item = [usize; 2]> {
    let (block_columns, cells) = (columns / merge, merge * merge);
    (0..rows * columns).map(move |index| {
        let (block, cell) = (index / cells, index % cells);
        let (block_row, block_column) = (block / block_columns, block % block_columns);
        [block_row * merge + cell / merge, block_column * merge + cell % merge]
    })
}

/// For each patch of a frame, four entries of a table of `side × side` and their weights: bilinear interpolation with
/// the corners of grid and table aligned.
pub(super) struct Interpolation {
    /// `[patches · 4]`, rows of the table.
    pub(super) indices: Vec<i64>,
    /// `[patches · 4]`
    pub(super) weights: Vec<f32>,
}

impl Interpolation {
    /// Appends a frame of `rows × columns` patches.
    pub(super) fn push(&mut self, rows: usize, columns: usize, merge: usize, side: usize) {
        let taps =
            [rows, columns].map(|size| (0..size).map(|index| taps(index, size, side)).collect::<Vec<_>>());
        for [row, column] in places(rows, columns, merge) {
            for (down, down_weight) in taps[0][row] {
                for (across, across_weight) in taps[1][column] {
                    self.indices.push((down * side + across) as i64);
                    self.weights.push(down_weight * across_weight);
                }
            }
        }
    }
}

/// The two entries of an axis of the table for position `index` of `size`, and their weights.
fn taps(index: usize, size: usize, side: usize) -> [(usize, f32); 2] {
    let last = side.saturating_sub(1);
    let place = index as f32 * last as f32 / size.saturating_sub(1).max(1) as f32;
    let part = place - place.floor();
    let first = (place.floor() as usize).min(last);
    [(first, 1.0 - part), ((first + 1).min(last), part)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_come_in_merge_blocks() {
        let places: Vec<_> = places(2, 4, 2).collect();
        assert_eq!(places, [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]);
    }

    #[test]
    fn corners_of_grid_and_table_are_the_same() {
        let mut interpolation = Interpolation { indices: Vec::new(), weights: Vec::new() };
        interpolation.push(4, 6, 2, 48);
        let chosen: Vec<_> = interpolation
            .indices
            .iter()
            .zip(&interpolation.weights)
            .filter(|(_, weight)| **weight == 1.0)
            .map(|(index, _)| *index)
            .collect();
        assert_eq!(chosen, [0, 47, 48 * 47, 48 * 48 - 1]);
        assert!(
            interpolation.weights.chunks(4).all(|weights| (weights.iter().sum::<f32>() - 1.0).abs() < 1e-6)
        );
    }
}
