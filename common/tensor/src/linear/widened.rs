//! Products with a weight that is widened block by block, so that only a small part of it is in memory in full
//! precision.

use tch::{Kind, Tensor};

/// Largest size of a widened block, in bytes. glibc serves blocks of this size from its heap, so that consecutive
/// calls reuse the same pages.
const BLOCK_BYTES: i64 = 16 << 20;

/// `[…, in]` times a weight of `rows` rows → `[…, rows]`. `widen(first, count)` returns rows of the weight as
/// `[count, in]` in the input's type.
pub(super) fn linear(
    input: &Tensor,
    rows: i64,
    bias: Option<&Tensor>,
    widen: impl Fn(i64, i64) -> Tensor,
) -> Tensor {
    let width = input.size().last().copied().unwrap_or(1);
    let kind: Kind = input.kind();
    let block = block_rows(rows, width * kind.elt_size_in_bytes() as i64);
    if block >= rows {
        return input.linear(&widen(0, rows), bias);
    }
    let flat = input.reshape([-1, width]);
    let output = Tensor::empty([flat.size()[0], rows], (kind, input.device()));
    let mut first = 0;
    while first < rows {
        let count = block.min(rows - first);
        let weight = widen(first, count);
        let part = output.narrow(1, first, count);
        let _written = match bias {
            Some(bias) => bias.narrow(0, first, count).addmm_out(&part, &flat, &weight.tr()),
            None => flat.mm_out(&part, &weight.tr()),
        };
        first += count;
    }
    let mut shape = input.size();
    if let Some(last) = shape.last_mut() {
        *last = rows;
    }
    output.view(shape.as_slice())
}

/// Rows in a block: as many as fit, evenly distributed, in multiples of 32.
fn block_rows(rows: i64, row_bytes: i64) -> i64 {
    let blocks = (rows * row_bytes / BLOCK_BYTES) + 1;
    (rows / blocks + 32) / 32 * 32
}
