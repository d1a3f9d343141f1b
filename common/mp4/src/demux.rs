//! Sample tables of an H.264 file. Reads what [`crate::VideoWriter`] writes, and unfragmented files of other programs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::Mp4Error;

/// Largest `moov` box that is read, in bytes.
const MAX_MOOV: u64 = 64 << 20;

/// The video track of a file.
#[derive(Debug)]
pub(crate) struct VideoTrack {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Time units per second.
    pub(crate) timescale: u32,
    /// In units of `timescale`.
    pub(crate) duration: u64,
    /// Content of `avcC`.
    pub(crate) avc: Vec<u8>,
    /// Offset in the file and size of each sample.
    pub(crate) samples: Vec<(u64, u32)>,
}

impl VideoTrack {
    pub(crate) fn read(file: &mut File) -> Result<Self, Mp4Error> {
        let moov = read_moov(file)?;
        for trak in children(&moov).filter(|(kind, _)| kind == b"trak").map(|(_, content)| content) {
            let mdia = child(trak, b"mdia")?;
            if child(mdia, b"hdlr")?.get(8..12) == Some(b"vide") {
                return Self::parse(mdia, file.metadata()?.len());
            }
        }
        Err(invalid("it has no video track"))
    }

    fn parse(mdia: &[u8], file_length: u64) -> Result<Self, Mp4Error> {
        let mdhd = child(mdia, b"mdhd")?;
        let (timescale, duration) = match mdhd.first() {
            Some(1) => (u32_at(mdhd, 20)?, u64::from(u32_at(mdhd, 24)?) << 32 | u64::from(u32_at(mdhd, 28)?)),
            _ => (u32_at(mdhd, 12)?, u64::from(u32_at(mdhd, 16)?)),
        };
        let stbl = child(child(mdia, b"minf")?, b"stbl")?;
        let entries = child(stbl, b"stsd")?.get(8..).ok_or_else(|| invalid("the stsd box is too short"))?;
        let entry = child(entries, b"avc1").map_err(|_| invalid("only H.264 can be decoded"))?;
        let (width, height) = (u32_at(entry, 22)? & 0xffff, u32_at(entry, 24)? & 0xffff);
        let avc =
            child(entry.get(78..).ok_or_else(|| invalid("the avc1 box is too short"))?, b"avcC")?.to_vec();
        Ok(Self { width, height, timescale, duration, avc, samples: samples(stbl, file_length)? })
    }
}

/// Joins `stsc`, `stsz` and `stco` or `co64`.
fn samples(stbl: &[u8], file_length: u64) -> Result<Vec<(u64, u32)>, Mp4Error> {
    let offsets: Vec<u64> = match child(stbl, b"stco") {
        Ok(table) => words(table, 4, 1)?.map(u64::from).collect(),
        Err(_) => {
            let halves: Vec<u32> = words(child(stbl, b"co64")?, 4, 2)?.collect();
            halves.chunks_exact(2).map(|pair| u64::from(pair[0]) << 32 | u64::from(pair[1])).collect()
        }
    };
    let runs: Vec<u32> = words(child(stbl, b"stsc")?, 4, 3)?.collect();
    let stsz = child(stbl, b"stsz")?;
    let sizes: Vec<u32> = match u32_at(stsz, 4)? {
        0 => words(stsz, 8, 1)?.collect(),
        _ => return Err(invalid("samples of constant size are not supported")),
    };
    let mut sizes = sizes.into_iter();
    let mut samples = Vec::with_capacity(sizes.len());
    for (index, offset) in offsets.into_iter().enumerate() {
        let run = runs.chunks_exact(3).rfind(|run| run[0] as usize <= index + 1);
        let mut at = offset;
        for size in sizes.by_ref().take(run.map_or(0, |run| run[1] as usize)) {
            samples.push((at, size));
            at = at.saturating_add(u64::from(size));
        }
        if at > file_length {
            return Err(invalid("a sample is outside the file"));
        }
    }
    Ok(samples)
}

fn read_moov(file: &mut File) -> Result<Vec<u8>, Mp4Error> {
    let length = file.metadata()?.len();
    let mut at = 0;
    while at + 8 <= length {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 16];
        let got = (length - at).min(16) as usize;
        file.read_exact(&mut header[..got])?;
        let (mut size, mut head) = (u64::from(u32_at(&header, 0)?), 8);
        if size == 1 {
            size = u64::from(u32_at(&header, 8)?) << 32 | u64::from(u32_at(&header, 12)?);
            head = 16;
        } else if size == 0 {
            size = length - at;
        }
        if size < head || size > length - at {
            return Err(invalid("a box is longer than the file"));
        }
        if &header[4..8] == b"moov" {
            if size > MAX_MOOV {
                return Err(invalid("moov is too large"));
            }
            let mut content = vec![0; (size - head) as usize];
            file.seek(SeekFrom::Start(at + head))?;
            file.read_exact(&mut content)?;
            return Ok(content);
        }
        at += size;
    }
    Err(invalid("it has no moov box"))
}

/// The consecutive boxes in `bytes`, up to the first that does not fit.
fn children(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<8>()?;
        let [a, b, c, d, kind @ ..] = *header;
        let (this, rest) = bytes.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize)?;
        bytes = rest;
        Some((kind, this.get(8..)?))
    })
}

fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Result<&'a [u8], Mp4Error> {
    let found = children(bytes).find(|(found, _)| found == kind);
    found
        .map(|(_, content)| content)
        .ok_or_else(|| invalid(&format!("it has no {} box", String::from_utf8_lossy(kind))))
}

/// The 32-bit words of a table whose number of entries is at `count_at`, with `each` words per entry.
fn words(table: &[u8], count_at: usize, each: usize) -> Result<impl Iterator<Item = u32>, Mp4Error> {
    let count = u32_at(table, count_at)? as usize;
    let end = count.checked_mul(each * 4).and_then(|bytes| bytes.checked_add(count_at + 4));
    let content =
        end.and_then(|end| table.get(count_at + 4..end)).ok_or_else(|| invalid("a table is too short"))?;
    Ok(content.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Mp4Error> {
    let word = bytes.get(at..).and_then(|tail| tail.first_chunk::<4>());
    word.map(|word| u32::from_be_bytes(*word)).ok_or_else(|| invalid("a box is too short"))
}

fn invalid(reason: &str) -> Mp4Error {
    Mp4Error::Invalid(reason.to_owned())
}
