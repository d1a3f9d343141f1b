//! Functions that the unit tests of this crate share.

use tch::{Kind, Tensor};

/// ‖left − right‖ / ‖right‖, computed in f64.
pub(crate) fn relative_error(left: &Tensor, right: &Tensor) -> f64 {
    let (left, right) = (left.to_kind(Kind::Double), right.to_kind(Kind::Double));
    f64::try_from((left - &right).norm() / right.norm()).expect("a number")
}
