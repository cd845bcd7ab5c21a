//! Frames that the device has not acknowledged, for resume.

use std::collections::VecDeque;

use bytes::Bytes;

use super::frame::Frame;

/// What may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Frames.
    pub frames: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
}

/// The newest numbered frames, without gaps. Beyond the bound the oldest are dropped, and a resume that
/// needs them is refused.
#[derive(Debug, Default)]
pub struct Retained {
    /// Number of the last frame that is no longer here.
    before: u64,
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Retained {
    /// Number of the last frame given out.
    pub fn last(&self) -> u64 {
        self.before + self.frames.len() as u64
    }

    /// Gives the next frame its number and keeps it.
    pub fn push(&mut self, body: Bytes, bound: Bound) -> Frame {
        self.bytes += body.len();
        self.frames.push_back(body.clone());
        let n = self.last();
        while self.frames.len() > bound.frames || self.bytes > bound.bytes {
            self.pop();
        }
        Frame { n, body }
    }

    fn pop(&mut self) {
        if let Some(body) = self.frames.pop_front() {
            self.bytes -= body.len();
            self.before += 1;
        }
    }

    /// The device has everything up to `n`. False: it cannot have, that was never given out.
    pub fn ack(&mut self, n: u64) -> bool {
        if n > self.last() {
            return false;
        }
        while self.before < n {
            self.pop();
        }
        if self.frames.is_empty() && self.frames.capacity() > 16 {
            self.frames = VecDeque::new();
        }
        true
    }

    /// The frames above `n`, if all of them are still here.
    pub fn above(&self, n: u64) -> Option<impl Iterator<Item = Frame> + '_> {
        if n < self.before || n > self.last() {
            return None;
        }
        let skip = (n - self.before) as usize;
        Some(
            self.frames
                .iter()
                .enumerate()
                .skip(skip)
                .map(|(i, body)| Frame {
                    n: self.before + 1 + i as u64,
                    body: body.clone(),
                }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound {
        frames: 3,
        bytes: 10,
    };

    fn numbers(r: &Retained, n: u64) -> Option<Vec<u64>> {
        r.above(n).map(|f| f.map(|f| f.n).collect())
    }

    #[test]
    fn what_is_not_acknowledged_is_replayed_in_order() {
        let mut r = Retained::default();
        for i in 1..=3 {
            assert_eq!(r.push(Bytes::from_static(b"x"), BOUND).n, i);
        }
        assert!(r.ack(1));
        assert_eq!(numbers(&r, 1), Some(vec![2, 3]));
        assert_eq!(numbers(&r, 3), Some(vec![]));
        assert_eq!(numbers(&r, 0), None, "acknowledged frames are gone");
        assert_eq!(numbers(&r, 4), None, "never given out");
        assert!(!r.ack(4));
    }

    #[test]
    fn beyond_the_bound_the_oldest_go_and_a_resume_that_needs_them_is_refused() {
        let mut r = Retained::default();
        for _ in 0..5 {
            r.push(Bytes::from_static(b"x"), BOUND);
        }
        assert_eq!(numbers(&r, 1), None);
        assert_eq!(numbers(&r, 2), Some(vec![3, 4, 5]));
        r.push(Bytes::from_static(b"ten bytes!"), BOUND);
        assert_eq!(numbers(&r, 5), Some(vec![6]));
        r.push(Bytes::from_static(b"more than ten bytes"), BOUND);
        assert_eq!(numbers(&r, 6), None);
        assert_eq!(numbers(&r, 7), Some(vec![]));
    }
}
