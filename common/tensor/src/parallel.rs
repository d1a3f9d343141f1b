//! Splitting the rows of a buffer over as many threads as libtorch uses.

/// Below this many elements a second thread costs more than it gives.
const WORTH_A_THREAD: usize = 1 << 18;

/// Calls `work(first_row, rows_of_output)` on pieces of `output`, a matrix with rows of `width` elements, each piece
/// on its own thread when there is enough to do.
pub(crate) fn rows<T: Send>(output: &mut [T], width: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let rows = output.len().checked_div(width).unwrap_or(0);
    let threads =
        usize::try_from(tch::get_num_threads()).unwrap_or(1).min(output.len() / WORTH_A_THREAD).max(1);
    if threads == 1 || rows < threads {
        return work(0, output);
    }
    let piece = rows.div_ceil(threads);
    std::thread::scope(|scope| {
        let mut pieces = output.chunks_mut(piece * width).enumerate();
        let own = pieces.next();
        for (index, chunk) in pieces {
            let work = &work;
            scope.spawn(move || work(index * piece, chunk));
        }
        if let Some((_, chunk)) = own {
            work(0, chunk);
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_is_visited_once_with_its_number() {
        for rows in [0, 1, 2, 3, 1001] {
            let mut output = vec![0usize; rows * 1024];
            super::rows(&mut output, 1024, |first, chunk| {
                for (row, values) in chunk.chunks_mut(1024).enumerate() {
                    values.iter_mut().for_each(|value| *value += first + row + 1);
                }
            });
            assert!(output.iter().enumerate().all(|(index, &value)| value == index / 1024 + 1));
        }
    }
}
