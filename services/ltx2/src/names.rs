//! Lists of the tensors that a configuration requires.

/// Names and shapes of tensors, below a prefix.
pub(crate) struct TensorList {
    prefix: String,
    tensors: Vec<(String, Vec<i64>)>,
}

impl TensorList {
    pub(crate) fn new() -> Self {
        Self { prefix: String::new(), tensors: Vec::new() }
    }

    /// Adds what `fill` adds, below `name`.
    pub(crate) fn within(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        let length = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        fill(self);
        self.prefix.truncate(length);
    }

    pub(crate) fn tensor(&mut self, name: &str, shape: &[i64]) {
        self.tensors.push((format!("{}{name}", self.prefix), shape.to_vec()));
    }

    pub(crate) fn linear(&mut self, name: &str, inputs: i64, outputs: i64, bias: bool) {
        self.tensor(&format!("{name}.weight"), &[outputs, inputs]);
        if bias {
            self.tensor(&format!("{name}.bias"), &[outputs]);
        }
    }

    pub(crate) fn finish(self) -> Vec<(String, Vec<i64>)> {
        self.tensors
    }
}
