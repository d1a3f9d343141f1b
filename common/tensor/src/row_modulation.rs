//! The modulation of activations by the noise level (Peebles & Xie 2022).

use tch::Tensor;

use crate::host;

/// Scale and shift of each position of a sequence.
///
/// Few positions have a noise level of their own (those of a given picture, for example), so the vectors are a table
/// of the distinct ones, and each position says which it takes.
#[derive(Clone, Copy)]
pub struct RowModulation<'a> {
    one_plus_scale: &'a Tensor,
    shift: &'a Tensor,
    rows: Option<&'a Tensor>,
}

/// [`RowModulation`] as slices.
pub(crate) struct HostModulation<'a> {
    one_plus_scale: &'a [f32],
    shift: &'a [f32],
    rows: HostRows<'a>,
}

/// Which vector of a table `[choices, width]` each row of activations `[…, length, width]` takes.
pub(crate) struct HostRows<'a> {
    rows: Option<&'a [i64]>,
    width: usize,
}

impl<'a> RowModulation<'a> {
    /// `one_plus_scale` and `shift`: `[width]` f32, or `[choices, width]` f32 with `rows` Int64 `[length]`: which of
    /// them each position takes. Without `rows` all positions take the first.
    pub fn new(one_plus_scale: &'a Tensor, shift: &'a Tensor, rows: Option<&'a Tensor>) -> Self {
        Self { one_plus_scale, shift, rows }
    }

    /// Scale and shift, `[width]` without rows, `[choices, width]` with; and the rows.
    pub(crate) fn vectors(&self) -> (Tensor, Tensor, Option<&'a Tensor>) {
        let [scale, shift] = [self.one_plus_scale, self.shift].map(|table| match (self.rows, table.dim()) {
            (None, 2..) => table.select(0, 0),
            _ => table.shallow_clone(),
        });
        (scale, shift, self.rows)
    }

    pub(crate) fn is_contiguous(&self) -> bool {
        [Some(self.one_plus_scale), Some(self.shift), self.rows]
            .into_iter()
            .flatten()
            .all(Tensor::is_contiguous)
    }

    /// For activations of shape `size`.
    pub(crate) fn on_host(&self, size: &[i64]) -> HostModulation<'a> {
        let (one_plus_scale, shift) =
            (host::slice::<f32>(self.one_plus_scale), host::slice::<f32>(self.shift));
        assert!(one_plus_scale.len() == shift.len(), "a shift for each scale");
        HostModulation { one_plus_scale, shift, rows: HostRows::new(self.rows, size, one_plus_scale.len()) }
    }
}

impl HostModulation<'_> {
    /// 1 + scale and shift of row `row` of the activations.
    #[inline]
    pub(crate) fn of(&self, row: usize) -> (&[f32], &[f32]) {
        let at = self.rows.of(row);
        (&self.one_plus_scale[at.clone()], &self.shift[at])
    }
}

impl<'a> HostRows<'a> {
    /// For activations of shape `size` and a table of `elements` numbers.
    pub(crate) fn new(rows: Option<&'a Tensor>, size: &[i64], elements: usize) -> Self {
        let length = |from_end: usize| {
            let at = size.len().checked_sub(from_end).and_then(|at| size.get(at));
            at.map_or(1, |&size| usize::try_from(size).unwrap_or(0))
        };
        let width = length(1);
        let rows = rows.map(host::slice::<i64>);
        assert!(elements >= width, "a table of {elements} numbers for rows of {width}");
        if let Some(rows) = rows {
            assert!(rows.len() == length(2), "{} choices for {} positions", rows.len(), length(2));
        }
        Self { rows, width }
    }

    /// The elements of the table for row `row` of the activations.
    #[inline]
    pub(crate) fn of(&self, row: usize) -> std::ops::Range<usize> {
        let choice =
            self.rows.map_or(0, |rows| usize::try_from(rows[row % rows.len()]).unwrap_or(usize::MAX / 2));
        choice * self.width..(choice + 1) * self.width
    }
}
