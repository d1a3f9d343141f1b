//! Tables whose rows are looked up, in every weight format.

use tch::{Device, Kind, Tensor};

use crate::Linear;

/// A table `[rows, width]`. When a model's output layer is the same table ([`Embedding::tied_output`]), both share one storage.
pub struct Embedding {
    table: Linear,
    kind: Kind,
    device: Device,
}

impl Embedding {
    pub(crate) fn new(table: Linear, kind: Kind, device: Device) -> Self {
        Self { table, kind, device }
    }

    /// The rows `ids` `[n]` (whole numbers) → `[n, width]` in the compute type.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        self.table.rows_at(ids, self.kind, self.device)
    }

    /// The output layer tied to this table: `[…, width]` → `[…, rows]`, without a copy.
    pub fn tied_output(&self) -> Linear {
        self.table.shared()
    }

    /// Bytes the table takes.
    pub fn resident_bytes(&self) -> u64 {
        self.table.resident_bytes()
    }
}
