//! Splitting the rows of a buffer over as many threads as libtorch uses.

/// Below this many elements a second thread costs more than it gives.
const WORTH_A_THREAD: usize = 1 << 18;

/// Calls `work(first_row, rows_of_output)` on pieces of `output`, a matrix with rows of `width` elements, each piece
/// on its own thread when there is enough to do.
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
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(output.len() / WORTH_A_THREAD);
    if threads <= 1 || rows < threads {
        return work(0, output, side);
    }
    let piece = rows.div_ceil(threads);
    std::thread::scope(|scope| {
        let mut pieces = output.chunks_mut(piece * width).zip(side.chunks_mut(piece)).enumerate();
        let own = pieces.next();
        for (index, (output, side)) in pieces {
            let work = &work;
            scope.spawn(move || work(index * piece, output, side));
        }
        if let Some((_, (output, side))) = own {
            work(0, output, side);
        }
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
