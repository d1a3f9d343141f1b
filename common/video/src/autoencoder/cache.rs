//! What layers over time keep of the frames before the next piece of a video.

use tch::Tensor;

use super::conv::size4;

/// Last frames of the pieces so far that the layers need: one slot per layer.
#[derive(Debug)]
pub(crate) struct FeatureCache {
    slots: Vec<Option<Tensor>>,
}

impl FeatureCache {
    pub(crate) fn new(slots: &Slots) -> Self {
        Self { slots: (0..slots.0).map(|_| None).collect() }
    }

    /// The last frames `[depth, h, w, c]` before the next piece; `None` before the first one. [`remember`]
    /// overwrites them in place, which avoids fragmenting memory.
    pub(crate) fn past(&self, slot: usize) -> Option<Tensor> {
        self.slots[slot].as_ref().map(Tensor::shallow_clone)
    }

    /// Replaces the frames of a slot.
    pub(crate) fn set(&mut self, slot: usize, frames: Tensor) {
        self.slots[slot] = Some(frames);
    }

    /// Initialises a layer's slot with `depth` zero frames of the size of `x`'s.
    pub(crate) fn begin(&mut self, slot: usize, depth: i64, x: &Tensor) -> Tensor {
        let (_, height, width, channels) = size4(x);
        let zeros = Tensor::zeros([depth, height, width, channels], (x.kind(), x.device()));
        self.slots[slot] = Some(zeros.shallow_clone());
        zeros
    }

    /// Whether this is the first call for `slot`, which serves only for this.
    pub(crate) fn first(&mut self, slot: usize) -> bool {
        let first = self.slots[slot].is_none();
        self.slots[slot].get_or_insert_with(Tensor::new);
        first
    }

    /// Delays a stream of frames: calls `each(start, frames)` for the oldest `count` frames of those kept in `slot`
    /// followed by `x`, in one or two runs that begin at `start` of these, then keeps the others.
    pub(crate) fn delay(&mut self, slot: usize, x: &Tensor, count: i64, mut each: impl FnMut(i64, &Tensor)) {
        let known = self.past(slot);
        let kept = known.as_ref().map_or(0, |known| known.size()[0]);
        let from_known = kept.min(count);
        let from_x = count - from_known;
        if let Some(known) = known.as_ref().filter(|_| from_known > 0) {
            each(0, &known.narrow(0, 0, from_known));
        }
        if from_x > 0 {
            each(from_known, &x.narrow(0, 0, from_x));
        }
        match known {
            Some(known) if count == x.size()[0] => remember(&known, x),
            None if count == x.size()[0] => {}
            known => {
                let mut rest =
                    Vec::from_iter(known.map(|known| known.narrow(0, from_known, kept - from_known)));
                rest.push(x.narrow(0, from_x, x.size()[0] - from_x));
                self.set(slot, Tensor::cat(&rest, 0));
            }
        }
    }
}

/// Assigns cache slots to layers while they are loaded.
#[derive(Debug, Default)]
pub(crate) struct Slots(usize);

impl Slots {
    pub(crate) fn next(&mut self) -> usize {
        self.0 += 1;
        self.0 - 1
    }
}

/// Overwrites `past` `[depth, …]` with the last `depth` frames of `past` followed by `x`.
pub(crate) fn remember(past: &Tensor, x: &Tensor) {
    let (depth, frames) = (past.size()[0], x.size()[0]);
    let new = depth.min(frames);
    for frame in 0..depth - new {
        past.get(frame).copy_(&past.get(frame + new));
    }
    past.narrow(0, depth - new, new).copy_(&x.narrow(0, frames - new, new));
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn numbers(from: i64, to: i64) -> Tensor {
        Tensor::arange_start(from, to, (Kind::Float, Device::Cpu)).view([-1, 1, 1, 1])
    }

    #[test]
    fn the_last_frames_are_remembered() {
        for (frames, want) in [(1, [1.0, 2.0, 10.0]), (2, [2.0, 10.0, 11.0]), (5, [12.0, 13.0, 14.0])] {
            let past = numbers(0, 3);
            remember(&past, &numbers(10, 10 + frames));
            assert_eq!(Vec::<f32>::try_from(past.view([-1])).unwrap(), want);
        }
    }

    #[test]
    fn a_delayed_stream_comes_complete_and_in_order() {
        // Pieces of 1, 1, 3, 1 and 2 frames, of which 0, 0, 2, 2 and 4 are taken.
        let mut slots = Slots::default();
        let slot = slots.next();
        let mut cache = FeatureCache::new(&slots);
        let (mut from, mut taken) = (0, Vec::new());
        for (frames, count) in [(1, 0), (1, 0), (3, 2), (1, 2), (2, 4)] {
            let before = taken.len() as i64;
            cache.delay(slot, &numbers(from, from + frames), count, |start, run| {
                assert_eq!(before + start, taken.len() as i64);
                taken.extend(Vec::<f32>::try_from(run.reshape([-1])).unwrap());
            });
            assert_eq!(taken.len() as i64, before + count);
            from += frames;
        }
        assert_eq!(taken, Vec::from_iter((0..8).map(|frame| frame as f32)));
    }
}
