//! Rotary positions: the index of a token in its sequence, or for pictures time, row and column (Bai et al. 2025,
//! "Qwen3-VL"; `get_rope_index` of transformers).

use std::ops::Range;
use std::sync::Arc;

use videosdgx_decoder_api::ImageInput;

/// Time, height and width; all the same for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position(pub(crate) [usize; 3]);

impl Position {
    /// The position of a text token.
    pub(crate) fn text(position: usize) -> Self {
        Self([position; 3])
    }
}

/// Rejects pictures that are out of order or whose number of tokens differs from their grid, and all pictures if
/// `merge` is 0.
pub(crate) fn check(images: &[Arc<ImageInput>], merge: usize) -> Result<(), String> {
    if merge == 0 && !images.is_empty() {
        return Err("has pictures, which this model does not accept".into());
    }
    let mut end = 0;
    for (index, image) in images.iter().enumerate() {
        let [time, height, width] = grid(image, merge);
        if time.checked_mul(height).and_then(|area| area.checked_mul(width)) != Some(image.tokens) {
            return Err(format!(
                "picture {index} has {} tokens and a grid of {:?}",
                image.tokens, image.grid
            ));
        }
        if image.tokens == 0 || image.position < end {
            return Err(format!("picture {index} begins at {}, before another's end", image.position));
        }
        end = image.position.saturating_add(image.tokens);
    }
    Ok(())
}

/// Positions of the tokens `range` of a sequence with these pictures. A picture begins at the position after the
/// preceding text, and the following text continues above the picture's largest position.
pub(crate) fn of(range: Range<usize>, images: &[Arc<ImageInput>], merge: usize) -> Vec<Position> {
    let mut positions = Vec::with_capacity(range.len());
    // Text tokens before `token` of the sequence are at position `token - token_base + base`.
    let (mut token_base, mut base) = (0, 0);
    let mut images = images.iter().peekable();
    let mut token = range.start;
    while token < range.end {
        match images.peek() {
            Some(image) if token >= image.position => {
                let first = image.position - token_base + base;
                let [time, height, width] = grid(image, merge);
                let end = image.position + image.tokens;
                while token < end.min(range.end) {
                    let at = token - image.position;
                    let (frame, row, column) = (at / (height * width), at / width % height, at % width);
                    positions.push(Position([first + frame, first + row, first + column]));
                    token += 1;
                }
                (token_base, base) = (end, first + time.max(height).max(width));
                images.next();
                if token < end {
                    break;
                }
            }
            _ => {
                positions.push(Position::text(token - token_base + base));
                token += 1;
            }
        }
    }
    positions
}

/// Tokens along time, height and width.
fn grid(image: &ImageInput, merge: usize) -> [usize; 3] {
    let [time, height, width] = image.grid;
    [time, height / merge.max(1), width / merge.max(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(position: usize, grid: [usize; 3]) -> Arc<ImageInput> {
        let tokens = grid[0] * grid[1] * grid[2] / 4;
        Arc::new(ImageInput { position, tokens, grid, patches: Vec::new(), digest: [0; 32] })
    }

    #[test]
    fn pictures_use_rows_and_columns_and_text_continues_above_them() {
        // Two text tokens, a picture of 2 × 3, one text token, a picture of 1 × 1, one text token.
        let images = [image(2, [1, 4, 6]), image(9, [1, 2, 2])];
        let expected = [
            [0, 0, 0],
            [1, 1, 1],
            [2, 2, 2],
            [2, 2, 3],
            [2, 2, 4],
            [2, 3, 2],
            [2, 3, 3],
            [2, 3, 4],
            [5, 5, 5],
            [6, 6, 6],
            [7, 7, 7],
        ]
        .map(Position);
        assert_eq!(of(0..11, &images, 2), expected);
        for start in 0..11 {
            for end in start..=11 {
                assert_eq!(of(start..end, &images, 2), expected[start..end], "{start}..{end}");
            }
        }
        assert_eq!(check(&images, 2), Ok(()));
    }

    #[test]
    fn inconsistent_pictures_are_rejected() {
        let mut wrong = image(2, [1, 4, 4]);
        Arc::get_mut(&mut wrong).expect("alone").tokens = 5;
        assert!(check(&[wrong], 2).is_err());
        assert!(check(&[image(2, [1, 4, 4]), image(5, [1, 2, 2])], 2).is_err(), "overlap");
        assert!(check(&[image(2, [1, 1, 1])], 2).is_err(), "nothing is left of it");
    }
}
