//! RGB to Y'CbCr of ITU-R BT.709 in limited range, 4:2:0, and back.
//!
//! Chroma samples are located where MPEG-2, H.264 (`chroma_loc` 0) and AV1 (`CSP_VERTICAL`) put them: on the even columns, and
//! half-way between two rows. They are filtered with 1-2-1 horizontally and 1-1 vertically.

/// A picture in planar Y'CbCr 4:2:0.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// Width of `y`, even.
    pub(crate) width: usize,
    /// Height of `y`, even.
    pub(crate) height: usize,
    /// Luma, 16 to 235: `[height, width]`.
    pub(crate) y: Vec<u8>,
    /// Blue difference, 16 to 240: `[height / 2, width / 2]`.
    pub(crate) cb: Vec<u8>,
    /// Red difference, as `cb`.
    pub(crate) cr: Vec<u8>,
}

/// Luma weights of BT.709.
const KR: f64 = 0.2126;
const KB: f64 = 0.0722;
const KG: f64 = 1.0 - KR - KB;

/// Fixed point with 16 fractional bits.
const fn fixed(value: f64) -> i32 {
    let scaled = value * 65536.0;
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

const Y_R: i32 = fixed(KR * 219.0 / 255.0);
const Y_B: i32 = fixed(KB * 219.0 / 255.0);
const Y_G: i32 = fixed(219.0 / 255.0) - Y_R - Y_B;
const CB_R: i32 = fixed(-KR / (2.0 * (1.0 - KB)) * 224.0 / 255.0);
const CB_B: i32 = fixed(0.5 * 224.0 / 255.0);
const CB_G: i32 = -CB_R - CB_B;
const CR_R: i32 = fixed(0.5 * 224.0 / 255.0);
const CR_B: i32 = fixed(-KB / (2.0 * (1.0 - KR)) * 224.0 / 255.0);
const CR_G: i32 = -CR_R - CR_B;
const HALF: i32 = 1 << 15;

impl Picture {
    /// A black picture.
    pub(crate) fn new(width: usize, height: usize) -> Self {
        let chroma = (width / 2) * (height / 2);
        Self { width, height, y: vec![16; width * height], cb: vec![128; chroma], cr: vec![128; chroma] }
    }

    /// Overwrites the picture. `rgb`: `[height, width, 3]`, 0 to 255.
    pub(crate) fn set_rgb(&mut self, rgb: &[u8]) {
        debug_assert_eq!(rgb.len(), self.width * self.height * 3);
        for (y, pixel) in self.y.iter_mut().zip(rgb.chunks_exact(3)) {
            let [r, g, b] = [0, 1, 2].map(|c| i32::from(pixel[c]));
            *y = (16 + ((Y_R * r + Y_G * g + Y_B * b + HALF) >> 16)) as u8;
        }
        let row = self.width * 3;
        // Sums of two rows, `[width, 3]`.
        let mut pair = vec![0i32; row];
        let half = self.width / 2;
        for (rows, (cb, cr)) in
            rgb.chunks_exact(2 * row).zip(self.cb.chunks_exact_mut(half).zip(self.cr.chunks_exact_mut(half)))
        {
            let (upper, lower) = rows.split_at(row);
            for (sum, (a, b)) in pair.iter_mut().zip(upper.iter().zip(lower)) {
                *sum = i32::from(*a) + i32::from(*b);
            }
            for x in 0..half {
                // The left edge is repeated; `2x + 1` always exists as the width is even.
                let (left, here, right) = ((2 * x).saturating_sub(1) * 3, 2 * x * 3, (2 * x + 1) * 3);
                // Eight times the mean.
                let [r, g, b] = [0, 1, 2].map(|c| pair[left + c] + 2 * pair[here + c] + pair[right + c]);
                cb[x] = chroma(CB_R * r + CB_G * g + CB_B * b);
                cr[x] = chroma(CR_R * r + CR_G * g + CR_B * b);
            }
        }
    }

    /// The picture as RGB8 `[height, width, 3]`, every chroma sample repeated over its four pixels.
    pub(crate) fn to_rgb(&self) -> Vec<u8> {
        let mut rgb = vec![0; self.width * self.height * 3];
        for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            let (row, column) = (i / self.width, i % self.width);
            let at = (row / 2) * (self.width / 2) + column / 2;
            let y = (f64::from(self.y[i]) - 16.0) / 219.0;
            let cb = (f64::from(self.cb[at]) - 128.0) / 224.0;
            let cr = (f64::from(self.cr[at]) - 128.0) / 224.0;
            let red = y + 2.0 * (1.0 - KR) * cr;
            let blue = y + 2.0 * (1.0 - KB) * cb;
            let green = (y - KR * red - KB * blue) / KG;
            for (value, light) in pixel.iter_mut().zip([red, green, blue]) {
                *value = (light * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
        rgb
    }
}

/// A chroma sample from eight times its value in fixed point.
fn chroma(times_eight: i32) -> u8 {
    (128 + ((times_eight + (HALF << 3)) >> 19)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of BT.709 in 8 bits: black, white and the primaries.
    #[test]
    fn primaries_have_the_values_of_the_standard() {
        for (rgb, want) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
        ] {
            let mut picture = Picture::new(4, 2);
            picture.set_rgb(&rgb.repeat(8));
            assert_eq!([picture.y[5], picture.cb[1], picture.cr[1]], want, "{rgb:?}");
        }
    }

    #[test]
    fn grays_and_colors_survive_the_round_trip() {
        let mut picture = Picture::new(2, 2);
        for value in 0..=255u8 {
            picture.set_rgb(&[value; 12]);
            assert_eq!((picture.cb[0], picture.cr[0]), (128, 128));
            assert!(picture.to_rgb()[0].abs_diff(value) <= 1);
        }
        for r in (0..=255).step_by(51) {
            for g in (0..=255).step_by(51) {
                for b in (0..=255).step_by(51) {
                    picture.set_rgb(&[r, g, b].repeat(4));
                    let back = picture.to_rgb();
                    for (got, want) in back.iter().zip([r, g, b]) {
                        assert!(got.abs_diff(want) <= 3, "{:?} came back as {:?}", [r, g, b], &back[..3]);
                    }
                }
            }
        }
    }

    #[test]
    fn chroma_is_filtered_around_the_even_column() {
        // One column of pure blue at x = 2: its weight in the sample at x = 2 is a half, at x = 4 nothing.
        let mut row = [0u8; 8 * 3];
        row[2 * 3 + 2] = 255;
        let mut picture = Picture::new(8, 2);
        picture.set_rgb(&row.repeat(2));
        assert_eq!(picture.cb[..4], [128, 184, 128, 128]);
        // At x = 1 it is seen by its two neighbours, a quarter each.
        let mut row = [0u8; 8 * 3];
        row[3 + 2] = 255;
        picture.set_rgb(&row.repeat(2));
        assert_eq!(picture.cb[..4], [156, 156, 128, 128]);
    }
}
