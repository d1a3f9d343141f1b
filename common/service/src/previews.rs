//! Small pictures of a video, made while its frames pass: a thumbnail and a sheet of sprites.

use std::{fs::File, io, io::Write as _, path::Path};

use videosdgx_picture::{Filter, Picture, PictureFormat};

use crate::GenerateContext;

/// Longest side of the thumbnail in pixels.
const THUMBNAIL_SIDE: usize = 512;
/// Longest side of a sprite in pixels.
const SPRITE_SIDE: usize = 160;
/// Most sprites of a row, and most rows.
const GRID: u32 = 5;
const JPEG_QUALITY: u8 = 85;

/// Makes the pictures of one video: the thumbnail is its middle frame, the sprites are up to 25 frames at equal distances from the
/// first to the last, in rows of five. Memory does not grow with the video.
///
/// ```
/// use videosdgx_service::Previews;
///
/// let mut previews = Previews::new(64, 48, 17);
/// for _ in 0..17 {
///     previews.push(&[128; 64 * 48 * 3]);
/// }
/// ```
#[derive(Debug)]
pub struct Previews {
    width: usize,
    height: usize,
    frames: u32,
    next_frame: u32,
    next_sprite: u32,
    thumbnail: Option<Picture>,
    sheet: Option<Picture>,
}

impl Previews {
    /// For a video of `frames` frames of `width × height` pixels.
    #[must_use]
    pub fn new(width: u32, height: u32, frames: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self { width, height, frames, next_frame: 0, next_sprite: 0, thumbnail: None, sheet: None }
    }

    /// Looks at the next frame, `width · height · 3` bytes of RGB; one of another size is ignored.
    pub fn push(&mut self, rgb: &[u8]) {
        let frame = self.next_frame;
        self.next_frame += 1;
        let is_middle = frame == self.frames / 2;
        let is_sprite = self.next_sprite < self.sprites() && frame == self.frame_of(self.next_sprite);
        if !is_middle && !is_sprite {
            return;
        }
        let Some(picture) = Picture::new(self.width, self.height, rgb.to_vec()) else { return };
        if is_middle {
            self.thumbnail = Some(fitted(&picture, THUMBNAIL_SIDE));
        }
        if is_sprite {
            self.add_sprite(&fitted(&picture, SPRITE_SIDE));
        }
    }

    fn add_sprite(&mut self, sprite: &Picture) {
        let (row, column) = (self.next_sprite / GRID, self.next_sprite % GRID);
        let sprites = self.sprites();
        self.next_sprite += 1;
        let (width, height) = (sprite.width(), sprite.height());
        if self.sheet.is_none() {
            let columns = sprites.min(GRID) as usize * width;
            let rows = sprites.div_ceil(GRID) as usize * height;
            self.sheet = Picture::new(columns, rows, vec![0; columns * rows * 3]);
        }
        if let Some(sheet) = &mut self.sheet {
            sheet.paste(sprite, column as usize * width, row as usize * height);
        }
    }

    fn sprites(&self) -> u32 {
        self.frames.min(GRID * GRID)
    }

    /// Which frame the sprite shows.
    fn frame_of(&self, sprite: u32) -> u32 {
        let steps = u64::from(self.sprites().saturating_sub(1).max(1));
        let distance = u64::from(sprite) * u64::from(self.frames.saturating_sub(1));
        u32::try_from((distance + steps / 2) / steps).unwrap_or(u32::MAX)
    }

    /// Writes both files where the skeleton expects them, beside the job's own.
    ///
    /// # Errors
    /// When a file cannot be encoded or written.
    pub fn write(&self, context: &GenerateContext) -> io::Result<()> {
        for (picture, format, path) in [
            (&self.thumbnail, PictureFormat::WebP, context.thumbnail_path()),
            (&self.sheet, PictureFormat::Jpeg(JPEG_QUALITY), context.spritesheet_path()),
        ] {
            if let Some(picture) = picture {
                write_picture(picture, format, &path)?;
            }
        }
        Ok(())
    }
}

/// Writes a picture file, replacing an existing one.
///
/// # Errors
/// When it cannot be encoded in this format or written.
pub fn write_picture(picture: &Picture, format: PictureFormat, path: &Path) -> io::Result<()> {
    let encoded = picture.encoded(format).map_err(io::Error::other)?;
    File::create(path)?.write_all(&encoded)
}

/// Scaled down, if needed, so that no side is longer than `side`.
fn fitted(picture: &Picture, side: usize) -> Picture {
    let longest = picture.width().max(picture.height());
    if longest <= side {
        return picture.clone();
    }
    let scaled = |ours: usize| (ours * side).div_ceil(longest);
    picture.resized(scaled(picture.width()), scaled(picture.height()), Filter::Lanczos)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A video whose frames have a brightness of their own.
    fn previews(width: u32, height: u32, frames: u32) -> Previews {
        let mut previews = Previews::new(width, height, frames);
        for frame in 0..frames {
            previews.push(&vec![frame as u8; (width * height * 3) as usize]);
        }
        previews
    }

    #[test]
    fn the_sprites_are_the_first_the_last_and_frames_between_them() {
        for (frames, columns, rows) in [(1, 1, 1), (3, 3, 1), (5, 5, 1), (17, 5, 4), (25, 5, 5), (121, 5, 5)]
        {
            let previews = previews(32, 16, frames);
            let sheet = previews.sheet.unwrap();
            assert_eq!((sheet.width(), sheet.height()), (columns * 32, rows * 16), "{frames} frames");
            let sprites = frames.min(25) as usize;
            let shown: Vec<u8> = (0..sprites)
                .map(|sprite| {
                    let (left, top) = (sprite % 5 * 32, sprite / 5 * 16);
                    sheet.pixels()[(top * sheet.width() + left) * 3]
                })
                .collect();
            assert_eq!((shown[0], shown[sprites - 1]), (0, (frames - 1) as u8), "{frames} frames");
            assert!(shown.windows(2).all(|pair| pair[0] < pair[1]), "{shown:?}");
            let thumbnail = previews.thumbnail.unwrap();
            assert_eq!(thumbnail.pixels()[0], (frames / 2) as u8);
        }
    }

    #[test]
    fn large_frames_are_scaled_down() {
        let previews = previews(1280, 720, 2);
        let thumbnail = previews.thumbnail.unwrap();
        assert_eq!((thumbnail.width(), thumbnail.height()), (512, 288));
        let sheet = previews.sheet.unwrap();
        assert_eq!((sheet.width(), sheet.height()), (320, 90));
    }
}
