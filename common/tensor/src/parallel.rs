//! Splits the rows of a buffer among as many threads as libtorch uses.

use crate::cpu::pool::{self, SharedMut};

/// Smallest number of elements for which a piece of work is handed to another thread.
const WORTH_A_PIECE: usize = 1 << 16;

/// Calls `work(first_row, rows_of_output)` on pieces of `output`, a matrix with rows of `width` elements, on the
/// threads of the pool if there is enough work.
pub(crate) fn rows<T: Send>(output: &mut [T], width: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let mut nothing = vec![(); output.len().checked_div(width).unwrap_or(0)];
    rows_with(output, width, &mut nothing, |first, output, _| work(first, output));
}

/// As [`rows`], with one element of `side` for each row.
pub(crate) fn rows_with<T: Send, U: Send>(
    output: &mut [T],
    width: usize,
    side: &mut [U],
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let rows = side.len();
    let pieces = (output.len() / WORTH_A_PIECE).min(4 * pool::threads());
    if pieces <= 1 || rows < pieces {
        return work(0, output, side);
    }
    let piece = rows.div_ceil(pieces);
    let (width, outputs) = (width.min(output.len() / rows), SharedMut::new(output));
    let sides = SharedMut::new(side);
    pool::run(rows.div_ceil(piece), |index| {
        let first = index * piece;
        let count = piece.min(rows - first);
        // SAFETY: `output` has at least `rows` rows of `width` elements, `side` one element for each; pieces do not
        // overlap.
        let (output, side) =
            unsafe { (outputs.slice(first * width, count * width), sides.slice(first, count)) };
        work(first, output, side);
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_is_visited_once_with_its_number() {
        for rows in [0, 1, 2, 3, 1001] {
            let mut output = vec![0usize; rows * 1024];
            let mut side = vec![0usize; rows];
            super::rows_with(&mut output, 1024, &mut side, |first, output, side| {
                for ((row, values), side) in output.chunks_mut(1024).enumerate().zip(side) {
                    values.iter_mut().for_each(|value| *value += first + row + 1);
                    *side += first + row + 1;
                }
            });
            assert!(output.iter().enumerate().all(|(index, &value)| value == index / 1024 + 1));
            assert!(side.iter().enumerate().all(|(index, &value)| value == index + 1));
        }
    }
}
