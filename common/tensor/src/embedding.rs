//! Embedding tables, in every weight format.

use tch::{Device, Kind, Tensor};

use crate::Linear;

/// A table `[rows, width]`. When the model's output layer is the same table ([`Embedding::tied_output`]), both share
/// one storage.
pub struct Embedding {
    table: Linear,
    kind: Kind,
    device: Device,
}

impl Embedding {
    pub(crate) fn new(table: Linear, kind: Kind, device: Device) -> Self {
        Self { table, kind, device }
    }

    /// Looks up rows `ids` `[n]` (integers) → `[n, width]` in the compute type.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        self.table.rows_at(ids, self.kind, self.device)
    }

    /// The output layer tied to this table: `[…, width]` → `[…, rows]`. Shares the table's storage.
    pub fn tied_output(&self) -> Linear {
        self.table.shared()
    }

    /// Bytes of the table in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.table.resident_bytes()
    }
}
