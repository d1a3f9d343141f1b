//! The size to which an image is resized.

/// Maximum ratio of the longer to the shorter side.
pub(super) const MAX_RATIO: usize = 200;

/// Height and width as multiples of `factor`, close to the image's aspect ratio, with at least `least` and at most `most` pixels
/// where `factor²` permits: `smart_resize` of transformers.
///
/// `None` when a side is zero, or more than [`MAX_RATIO`] times the other.
pub(super) fn smart_size(
    [height, width]: [usize; 2],
    factor: usize,
    least: usize,
    most: usize,
) -> Option<[usize; 2]> {
    if height == 0 || width == 0 || height.max(width) > MAX_RATIO * height.min(width) {
        return None;
    }
    let (rows, columns, step) = (height as f64, width as f64, factor as f64);
    let nearest = |side: f64| (side / step).round_ties_even() * step;
    let sides = [nearest(rows), nearest(columns)];
    let area = sides[0] * sides[1];
    let sides = if area > most as f64 {
        let shrink = (rows * columns / most as f64).sqrt();
        [rows, columns].map(|side| ((side / shrink / step).floor() * step).max(step))
    } else if area < least as f64 {
        let grow = (least as f64 / (rows * columns)).sqrt();
        [rows, columns].map(|side| (side * grow / step).ceil() * step)
    } else {
        sides
    };
    Some(sides.map(|side| side as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Results of the function in transformers (factor 32).
    #[rstest]
    #[case([480, 640], 65_536, 16_777_216, Some([480, 640]))]
    #[case([10, 10], 65_536, 16_777_216, Some([256, 256]))]
    #[case([16, 48], 1, 16_777_216, Some([32, 32]))]
    #[case([1080, 1920], 65_536, 1 << 20, Some([768, 1344]))]
    #[case([4, 800], 65_536, 1 << 20, Some([32, 3648]))]
    #[case([4, 801], 65_536, 1 << 20, None)]
    #[case([0, 8], 65_536, 1 << 20, None)]
    fn sizes(
        #[case] size: [usize; 2],
        #[case] least: usize,
        #[case] most: usize,
        #[case] expected: Option<[usize; 2]>,
    ) {
        assert_eq!(smart_size(size, 32, least, most), expected);
    }
}
