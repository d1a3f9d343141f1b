//! Tracks of an MP4 file. Reads what [`crate::VideoWriter`] writes, and unfragmented files of other programs.

use std::io::{Read, Seek, SeekFrom};

use crate::Mp4Error;

/// Largest `moov` box that is read, in bytes.
const MAX_MOOV: u64 = 64 << 20;

/// A track, whatever its codec.
#[derive(Debug)]
pub(crate) struct Track {
    /// Time units per second.
    pub(crate) timescale: u32,
    /// In units of `timescale`.
    pub(crate) duration: u64,
    /// The sample entries: content of `stsd` after the number of entries.
    pub(crate) entries: Vec<u8>,
    /// Which part of the track is played, if the file says so.
    pub(crate) edit: Option<Edit>,
    /// Offset in the file and size of each sample.
    pub(crate) samples: Vec<(u64, u32)>,
}

/// The part of a track that is played, in seconds (of an edit list with one entry, and perhaps a delay before it).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Edit {
    /// Time of the movie at which the track begins.
    pub(crate) delay: f64,
    /// What is skipped at the beginning of the track.
    pub(crate) skip: f64,
    /// What is played of the rest; `None`: all of it.
    pub(crate) length: Option<f64>,
}

impl Track {
    /// The first track of the kind `handler` (`vide` or `soun`); `None` if there is none.
    pub(crate) fn read(file: &mut (impl Read + Seek), handler: &[u8; 4]) -> Result<Option<Self>, Mp4Error> {
        let length = file.seek(SeekFrom::End(0))?;
        let moov = read_moov(file, length)?;
        for trak in children(&moov).filter(|(kind, _)| kind == b"trak").map(|(_, content)| content) {
            let mdia = child(trak, b"mdia")?;
            if child(mdia, b"hdlr")?.get(8..12) == Some(handler) {
                return Self::parse(&moov, trak, mdia, length).map(Some);
            }
        }
        Ok(None)
    }

    fn parse(moov: &[u8], trak: &[u8], mdia: &[u8], file_length: u64) -> Result<Self, Mp4Error> {
        let (timescale, duration) = times(child(mdia, b"mdhd")?)?;
        if timescale == 0 {
            return Err(invalid("a timescale is 0"));
        }
        let edit = match child(trak, b"edts").and_then(|edts| child(edts, b"elst")) {
            Ok(elst) => edit(elst, times(child(moov, b"mvhd")?)?.0, timescale)?,
            Err(_) => None,
        };
        let stbl = child(child(mdia, b"minf")?, b"stbl")?;
        let entries = child(stbl, b"stsd")?.get(8..).ok_or_else(|| invalid("the stsd box is too short"))?;
        let samples = samples(stbl, file_length)?;
        Ok(Self { timescale, duration, entries: entries.to_vec(), edit, samples })
    }
}

/// Timescale and duration of `mdhd` or `mvhd`.
fn times(header: &[u8]) -> Result<(u32, u64), Mp4Error> {
    match header.first() {
        Some(1) => Ok((u32_at(header, 20)?, u64_at(header, 24)?)),
        _ => Ok((u32_at(header, 12)?, u64::from(u32_at(header, 16)?))),
    }
}

/// The edit list, if it has one entry and perhaps an empty one before it; others are ignored.
fn edit(elst: &[u8], movie_timescale: u32, timescale: u32) -> Result<Option<Edit>, Mp4Error> {
    let is_long = elst.first() == Some(&1);
    let each = if is_long { 20 } else { 12 };
    let count = u32_at(elst, 4)?;
    let entry = |index: usize| -> Result<(u64, i64), Mp4Error> {
        let at = 8 + index * each;
        match is_long {
            true => Ok((u64_at(elst, at)?, u64_at(elst, at + 8)?.cast_signed())),
            false => Ok((u64::from(u32_at(elst, at)?), i64::from(u32_at(elst, at + 4)?.cast_signed()))),
        }
    };
    let movie_seconds = |units: u64| units as f64 / f64::from(movie_timescale.max(1));
    let (delay, (length, skip)) = match count {
        1 => (0, entry(0)?),
        2 if entry(0)?.1 == -1 => (entry(0)?.0, entry(1)?),
        _ => return Ok(None),
    };
    let Ok(skip) = u64::try_from(skip) else { return Ok(None) };
    Ok(Some(Edit {
        delay: movie_seconds(delay),
        skip: skip as f64 / f64::from(timescale),
        length: (length > 0).then(|| movie_seconds(length)),
    }))
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
        size => {
            let count = u32_at(stsz, 8)?;
            if u64::from(size) * u64::from(count) > file_length {
                return Err(invalid("a sample is outside the file"));
            }
            vec![size; count as usize]
        }
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

fn read_moov(file: &mut (impl Read + Seek), length: u64) -> Result<Vec<u8>, Mp4Error> {
    let mut at = 0;
    while at + 8 <= length {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 16];
        let got = (length - at).min(16) as usize;
        file.read_exact(&mut header[..got])?;
        let (mut size, mut head) = (u64::from(u32_at(&header, 0)?), 8);
        if size == 1 {
            size = u64_at(&header, 8)?;
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
pub(crate) fn children(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<8>()?;
        let [a, b, c, d, kind @ ..] = *header;
        let (this, rest) = bytes.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize)?;
        bytes = rest;
        Some((kind, this.get(8..)?))
    })
}

pub(crate) fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Result<&'a [u8], Mp4Error> {
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

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Mp4Error> {
    let word = bytes.get(at..).and_then(|tail| tail.first_chunk::<4>());
    word.map(|word| u32::from_be_bytes(*word)).ok_or_else(|| invalid("a box is too short"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Mp4Error> {
    Ok(u64::from(u32_at(bytes, at)?) << 32 | u64::from(u32_at(bytes, at + 4)?))
}

pub(crate) fn invalid(reason: &str) -> Mp4Error {
    Mp4Error::Invalid(reason.to_owned())
}
