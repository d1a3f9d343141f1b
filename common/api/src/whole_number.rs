//! Whole numbers of a request: programs whose only numbers are floats write 16 as `16.0`.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use crate::{OutputFormat, Resolution, SchedulerName};

/// Beyond 2⁵³ a float does not say which whole number was meant.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A value of a request. Whole numbers may be written with a decimal point (`16.0`) where that is exact.
pub(crate) trait RequestValue: Sized {
    /// The value, or `None` for `null`.
    fn deserialize_optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error>;
}

macro_rules! as_usual {
    ($($type:ty)*) => {$(
        impl RequestValue for $type {
            fn deserialize_optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
                Option::deserialize(deserializer)
            }
        }
    )*};
}

as_usual!(bool String f64 Resolution OutputFormat SchedulerName);

macro_rules! whole_numbers {
    ($($type:ty)*) => {$(
        impl RequestValue for $type {
            fn deserialize_optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
                Ok(Option::<Whole<$type>>::deserialize(deserializer)?.map(|whole| whole.0))
            }
        }
    )*};
}

whole_numbers!(u32 u64);

/// A whole number of type `T`, possibly written as a float.
pub(crate) struct Whole<T>(pub(crate) T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor(PhantomData))
    }
}

struct WholeVisitor<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for WholeVisitor<T> {
    type Value = Whole<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Whole<T>, E> {
        T::try_from(value).map(Whole).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Whole<T>, E> {
        let unsigned = u64::try_from(value);
        unsigned
            .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            .and_then(|value| self.visit_u64(value))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within the range")]
    fn visit_f64<E: Error>(self, value: f64) -> Result<Whole<T>, E> {
        if value.fract() == 0.0 && (0.0..=MOST_EXACT).contains(&value) {
            return self.visit_u64(value as u64);
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }
}
