//! Resource limits of template rendering: the size of each value and the total work.

use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::python;

// Filters that only the rewritten template can call: templates cannot use these names.
pub(super) const BOUNDED: &str = "\0bounded";
pub(super) const CONCAT: &str = "\0concat";
pub(super) const MULTIPLY: &str = "\0multiply";
pub(super) const PLAIN: &str = "\0plain";
pub(super) const REMAINDER: &str = "\0remainder";
pub(super) const SLICED: &str = "\0sliced";
pub(super) const TOUCHED: &str = "\0touched";

/// Cost of an element of a list or map in addition to its content, bytes.
const NODE: u64 = 32;
/// Maximum nesting depth of a value.
const MAX_DEPTH: usize = 100;

/// Size of a value, including itself.
#[derive(Default)]
struct Weight {
    nodes: u64,
    /// Total length of strings.
    bytes: u64,
}

/// Budget of one rendering, in bytes of values that are created or traversed.
pub(super) struct Budget {
    /// Maximum size of one value.
    largest: u64,
    left: AtomicU64,
}

impl Budget {
    /// Budget for a conversation of `input` bytes; templates copy each message a few times.
    pub(super) fn new(input: u64) -> Self {
        let input = input.min(1 << 32);
        Self { largest: (2 << 20) + 8 * input, left: AtomicU64::new((128 << 20) + 64 * input) }
    }

    /// Counts a created value. The content of a list is not copied and so not counted, but its size is checked.
    pub(super) fn made(&self, value: &Value) -> Result<(), Error> {
        let weight = self.weigh(value)?;
        self.spend(if value.as_str().is_some() { weight.bytes } else { weight.nodes * NODE })
    }

    /// Counts a traversed value, with sixteen bytes of a string as one.
    pub(super) fn touched(&self, value: &Value) -> Result<(), Error> {
        let weight = self.weigh(value)?;
        self.spend(weight.bytes / 16 + weight.nodes * NODE)
    }

    /// Counts a slice of a value, which is not larger than the value.
    pub(super) fn sliced(&self, value: Value) -> Result<Value, Error> {
        match value.len() {
            Some(length) if value.kind() != ValueKind::Iterable => {
                self.spend(if value.as_str().is_some() { length as u64 } else { length as u64 * NODE })?;
                Ok(value)
            }
            _ => self.settled(value),
        }
    }

    /// Counts bytes that are about to be created.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), Error> {
        if bytes > self.largest { Err(exceeded("a value is too large")) } else { self.spend(bytes) }
    }

    /// Counts a value, after collecting it if it is a lazy sequence.
    pub(super) fn settled(&self, value: Value) -> Result<Value, Error> {
        if value.kind() != ValueKind::Iterable {
            self.made(&value)?;
            return Ok(value);
        }
        let mut items = Vec::new();
        for item in value.try_iter()?.checked() {
            let item = item?;
            self.spend(NODE)?;
            items.push(item);
        }
        let value = Value::from(items);
        self.made(&value)?;
        Ok(value)
    }

    /// Concatenates the texts of values.
    pub(super) fn concat(&self, values: &[&Value], between: &str) -> Result<String, Error> {
        let mut text = String::new();
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                text.push_str(between);
            }
            match value.as_str() {
                Some(piece) => {
                    self.spend(piece.len() as u64 + 1)?;
                    text.push_str(piece);
                }
                None => {
                    self.made(value)?;
                    python::write_str(&mut text, value)?;
                }
            }
            if text.len() as u64 > self.largest {
                return Err(exceeded("a text is too long"));
            }
        }
        self.spend((between.len() * values.len()) as u64)?;
        Ok(text)
    }

    /// The size of a value; shared parts count once per occurrence.
    fn weigh(&self, value: &Value) -> Result<Weight, Error> {
        let mut weight = Weight::default();
        self.add(value, 0, &mut weight)?;
        Ok(weight)
    }

    fn add(&self, value: &Value, depth: usize, weight: &mut Weight) -> Result<(), Error> {
        weight.nodes += 1;
        if let Some(text) = value.as_str() {
            weight.bytes += text.len() as u64;
        } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
            if depth > MAX_DEPTH {
                return Err(exceeded("a value is nested too deeply"));
            }
            if depth > 0 && is_namespace(value) {
                return Err(exceeded("a namespace is inside another value"));
            }
            let map = value.kind() == ValueKind::Map;
            for item in value.try_iter()?.checked() {
                let item = item?;
                self.add(&item, depth + 1, weight)?;
                if map {
                    self.add(&value.get_item(&item)?, depth + 1, weight)?;
                }
            }
        }
        if weight.bytes + weight.nodes * NODE > self.largest {
            return Err(exceeded("a value is too large"));
        }
        Ok(())
    }

    fn spend(&self, amount: u64) -> Result<(), Error> {
        let spent =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount));
        spent.map(|_| ()).map_err(|_| exceeded("it needs too much work"))
    }
}

/// Whether a value is the result of `namespace()`, the only value that a template can modify.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// The error for a template that exceeds a limit.
pub(super) fn exceeded(reason: &'static str) -> Error {
    Error::new(ErrorKind::OutOfFuel, reason)
}
