//! ggml's element types and the sizes of their blocks.

use std::fmt;

macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $name:literal, $block:literal, $bytes:literal;)*) => {
        /// Element type of a stored tensor. Every type of ggml has a name and a size here; which of them can be
        /// computed with is decided by the reader of the data.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are ggml's own")]
        pub enum GgmlType { $($variant,)* }

        impl GgmlType {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The type with ggml's number `id`; `None` for an unknown number.
            pub fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }

            /// ggml's number for the type.
            pub fn id(self) -> u32 {
                match self { $(Self::$variant => $id,)* }
            }

            /// ggml's name for the type, such as `Q4_K`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Elements in a block; the innermost dimension of a tensor must be a multiple of it.
            pub fn block_elements(self) -> u64 {
                match self { $(Self::$variant => $block,)* }
            }

            /// Bytes in a block.
            pub fn block_bytes(self) -> u64 {
                match self { $(Self::$variant => $bytes,)* }
            }
        }
    };
}

ggml_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 40;
    Q2K = 10, "Q2_K", 256, 84;
    Q3K = 11, "Q3_K", 256, 110;
    Q4K = 12, "Q4_K", 256, 144;
    Q5K = 13, "Q5_K", 256, 176;
    Q6K = 14, "Q6_K", 256, 210;
    Q8K = 15, "Q8_K", 256, 292;
    Iq2Xxs = 16, "IQ2_XXS", 256, 66;
    Iq2Xs = 17, "IQ2_XS", 256, 74;
    Iq3Xxs = 18, "IQ3_XXS", 256, 98;
    Iq1S = 19, "IQ1_S", 256, 50;
    Iq4Nl = 20, "IQ4_NL", 32, 18;
    Iq3S = 21, "IQ3_S", 256, 110;
    Iq2S = 22, "IQ2_S", 256, 82;
    Iq4Xs = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    Iq1M = 29, "IQ1_M", 256, 56;
    Bf16 = 30, "BF16", 1, 2;
    Tq1_0 = 34, "TQ1_0", 256, 54;
    Tq2_0 = 35, "TQ2_0", 256, 66;
    Mxfp4 = 39, "MXFP4", 32, 17;
}

impl GgmlType {
    /// Bytes of a tensor of dimensions `shape`, innermost last. `None` when the innermost dimension is not a multiple
    /// of the block or the size overflows.
    pub fn bytes(self, shape: &[u64]) -> Option<u64> {
        let (inner, outer) = match shape.split_last() {
            Some((inner, outer)) => (*inner, outer),
            None => (1, shape),
        };
        if !inner.is_multiple_of(self.block_elements()) {
            return None;
        }
        let row = (inner / self.block_elements()).checked_mul(self.block_bytes())?;
        outer.iter().try_fold(row, |product, &size| product.checked_mul(size))
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways_and_blocks_have_bytes() {
        for &kind in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(kind.id()), Some(kind));
            assert!(kind.block_elements() > 0 && kind.block_bytes() > 0);
        }
        for unknown in [4, 5, 31, 32, 33, 36, 1000, u32::MAX] {
            assert_eq!(GgmlType::from_id(unknown), None);
        }
    }

    #[test]
    fn bytes_of_a_tensor_are_whole_blocks_and_never_overflow() {
        assert_eq!(GgmlType::Q4_1.bytes(&[3, 64]), Some(3 * 2 * 20));
        assert_eq!(GgmlType::F32.bytes(&[]), Some(4));
        assert_eq!(GgmlType::Q4_1.bytes(&[64, 3]), None);
        assert_eq!(GgmlType::Q4_1.bytes(&[]), None);
        assert_eq!(GgmlType::F16.bytes(&[u64::MAX, 2]), None);
        assert_eq!(GgmlType::F32.bytes(&[1 << 32, 1 << 32]), None);
    }
}
