//! What a template may spend: the size of each value and the work of all.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Filters that the rewritten template calls; no template can name them.
pub(super) const BOUNDED: &str = "\0bounded";
pub(super) const CONCAT: &str = "\0concat";
pub(super) const MULTIPLY: &str = "\0multiply";
pub(super) const PLAIN: &str = "\0plain";
pub(super) const SLICED: &str = "\0sliced";
pub(super) const TOUCHED: &str = "\0touched";

/// What an element of a list or a map weighs beside its content, bytes.
const NODE: u64 = 32;
/// Deepest nesting of a value.
const MAX_DEPTH: usize = 100;

/// What a value holds, itself included.
#[derive(Default)]
struct Weight {
    nodes: u64,
    /// Of texts.
    bytes: u64,
}

/// One rendering's allowance, in bytes of values that are made, or walked.
pub(super) struct Budget {
    /// Of one value.
    largest: u64,
    left: AtomicU64,
}

impl Budget {
    /// `input`: the size of the conversation. Templates copy each message a few times.
    pub(super) fn new(input: u64) -> Self {
        let input = input.min(1 << 32);
        Self { largest: (2 << 20) + 8 * input, left: AtomicU64::new((128 << 20) + 64 * input) }
    }

    /// Counts a value that was made. What a list holds is not copied, but it must not hold too much.
    pub(super) fn made(&self, value: &Value) -> Result<(), Error> {
        let weight = self.weigh(value)?;
        self.spend(if value.as_str().is_some() { weight.bytes } else { weight.nodes * NODE })
    }

    /// Counts a value that is walked, sixteen bytes of a text at once.
    pub(super) fn touched(&self, value: &Value) -> Result<(), Error> {
        let weight = self.weigh(value)?;
        self.spend(weight.bytes / 16 + weight.nodes * NODE)
    }

    /// Counts a part of a value, which holds no more than the whole did.
    pub(super) fn sliced(&self, value: Value) -> Result<Value, Error> {
        match value.len() {
            Some(length) if value.kind() != ValueKind::Iterable => {
                self.spend(if value.as_str().is_some() { length as u64 } else { length as u64 * NODE })?;
                Ok(value)
            }
            _ => self.settled(value),
        }
    }

    /// Counts what is about to be made.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), Error> {
        if bytes > self.largest { Err(exceeded("a value is too large")) } else { self.spend(bytes) }
    }

    /// The value, with lazy sequences made whole.
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

    /// The texts of values, one after another.
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
                    let _ = write!(text, "{value}");
                }
            }
            if text.len() as u64 > self.largest {
                return Err(exceeded("a text is too long"));
            }
        }
        self.spend((between.len() * values.len()) as u64)?;
        Ok(text)
    }

    /// How much a value holds; whatever is shared inside of it counts as often as it is met.
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
                return Err(exceeded("a value is nested too deep"));
            }
            if depth > 0 && is_namespace(value) {
                return Err(exceeded("a namespace is inside of another value"));
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
        spent.map(|_| ()).map_err(|_| exceeded("it does too much"))
    }
}

/// What `namespace()` gives: the only value that a template can change.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// The error of a template that goes too far.
pub(super) fn exceeded(reason: &'static str) -> Error {
    Error::new(ErrorKind::OutOfFuel, reason)
}
