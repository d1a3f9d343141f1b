//! Sequential reader of the header. Every length is checked against the remaining bytes before memory is allocated
//! for it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::GgufError;
use crate::value::{Array, Value};

/// Largest header that is read, in bytes. Headers of models with a vocabulary of 256,000 tokens have about 16 MB.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;
/// Longest string, in bytes. Chat templates, the longest strings in published files, have some kilobytes.
const MAX_STRING_BYTES: u64 = 16 << 20;
/// Deepest nesting of arrays. Published files have one level.
const MAX_NESTING: u32 = 4;
/// Bytes read from the file at a time.
const WINDOW_BYTES: u64 = 1 << 20;

/// A cursor over the first [`MAX_HEADER_BYTES`] of a file.
pub(crate) struct Reader<'a> {
    path: &'a Path,
    file: &'a File,
    /// The bytes read last, and how many of them have been consumed.
    window: Vec<u8>,
    used: usize,
    /// Offset in the file of the first byte after the window.
    next: u64,
    /// Offset at which reading ends: the end of the file or of the largest header.
    end: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(path: &'a Path, file: &'a File, file_bytes: u64) -> Self {
        Self { path, file, window: Vec::new(), used: 0, next: 0, end: file_bytes.min(MAX_HEADER_BYTES) }
    }

    /// A [`GgufError::Invalid`] for this file.
    pub(crate) fn invalid(&self, reason: impl std::fmt::Display) -> GgufError {
        GgufError::invalid(self.path, reason)
    }

    /// Offset of the next byte in the file.
    pub(crate) fn position(&self) -> u64 {
        self.next - (self.window.len() - self.used) as u64
    }

    /// Bytes that remain to be read.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.position()
    }

    /// Reads exactly `bytes.len()` bytes.
    fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), GgufError> {
        if bytes.len() as u64 > self.left() {
            return Err(self.ends_early());
        }
        while !bytes.is_empty() {
            if self.used == self.window.len() {
                let length = usize::try_from(WINDOW_BYTES.min(self.end - self.next)).unwrap_or(0);
                self.window.resize(length, 0);
                let read = self.file.read_exact_at(&mut self.window, self.next);
                read.map_err(|error| GgufError::io(self.path, error))?;
                self.next += length as u64;
                self.used = 0;
            }
            let count = bytes.len().min(self.window.len() - self.used);
            bytes[..count].copy_from_slice(&self.window[self.used..self.used + count]);
            self.used += count;
            bytes = &mut bytes[count..];
        }
        Ok(())
    }

    fn ends_early(&self) -> GgufError {
        self.invalid(format!("the header is truncated or longer than {MAX_HEADER_BYTES} bytes"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads a number of elements, each of which takes at least `bytes_each` of the remaining bytes.
    pub(crate) fn count(&mut self, what: &str, bytes_each: u64) -> Result<usize, GgufError> {
        let count = self.u64()?;
        if count.checked_mul(bytes_each).is_none_or(|bytes| bytes > self.left()) {
            return Err(self.invalid(format!("{count} {what} do not fit into the header")));
        }
        usize::try_from(count).map_err(|_| self.invalid(format!("{count} {what} are too many")))
    }

    pub(crate) fn string(&mut self) -> Result<String, GgufError> {
        let length = self.u64()?;
        if length > MAX_STRING_BYTES {
            return Err(self.invalid(format!("a string of {length} bytes")));
        }
        if length > self.left() {
            return Err(self.ends_early());
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.invalid("a string that is not UTF-8"))
    }

    fn bool(&mut self) -> Result<bool, GgufError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.invalid(format!("a boolean of value {other}"))),
        }
    }

    /// Reads a value: the number of its type, then its content.
    pub(crate) fn value(&mut self) -> Result<Value, GgufError> {
        Ok(match self.u32()? {
            0 => Value::U8(u8::from_le_bytes(self.array()?)),
            1 => Value::I8(i8::from_le_bytes(self.array()?)),
            2 => Value::U16(u16::from_le_bytes(self.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.array()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.bool()?),
            8 => Value::String(self.string()?),
            9 => Value::Array(self.elements(1)?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            other => return Err(self.invalid(format!("a value of unknown type {other}"))),
        })
    }

    /// Reads an array: the type of its elements, their number, then the elements.
    fn elements(&mut self, depth: u32) -> Result<Array, GgufError> {
        if depth > MAX_NESTING {
            return Err(self.invalid(format!("arrays nested deeper than {MAX_NESTING}")));
        }
        Ok(match self.u32()? {
            0 => Array::U8(self.numbers(u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(f32::from_le_bytes)?),
            7 => {
                let count = self.count("booleans", 1)?;
                Array::Bool((0..count).map(|_| self.bool()).collect::<Result<_, _>>()?)
            }
            8 => {
                let count = self.count("strings", 8)?;
                Array::String((0..count).map(|_| self.string()).collect::<Result<_, _>>()?)
            }
            9 => {
                let count = self.count("arrays", 12)?;
                Array::Array((0..count).map(|_| self.elements(depth + 1)).collect::<Result<_, _>>()?)
            }
            10 => Array::U64(self.numbers(u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(f64::from_le_bytes)?),
            other => return Err(self.invalid(format!("an array of unknown type {other}"))),
        })
    }

    fn numbers<T, const N: usize>(&mut self, decode: impl Fn([u8; N]) -> T) -> Result<Vec<T>, GgufError> {
        let count = self.count("numbers", N as u64)?;
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            numbers.push(decode(self.array()?));
        }
        Ok(numbers)
    }
}
