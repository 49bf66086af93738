//! The cells of one shard, in segments that are allocated as they are needed and never move.
//!
//! The first sixteen segments hold sixteen cells each; from there on every eight segments double what there is. At
//! most an eighth of the cells is therefore allocated ahead, and a thousand times as many cells need only ten times
//! as many segments.

use crate::limiter::cell::Cell;
use std::sync::OnceLock;

/// Cells in each of the first segments, as a power of two.
const FIRST_BITS: u32 = 4;
/// Segments in each doubling, as a power of two.
const STEPS_BITS: u32 = 3;

pub(super) struct Slab {
    segments: Box<[OnceLock<Box<[Cell]>>]>,
}

/// The segment that a cell is in, its place there, and how many the segment holds.
fn locate(id: u32) -> (usize, usize, usize) {
    let first = 1 << (FIRST_BITS + STEPS_BITS);
    let bits = if id < first { FIRST_BITS } else { id.ilog2() - STEPS_BITS };
    let doublings = bits - FIRST_BITS;
    let segment = (doublings << STEPS_BITS) + (id >> bits);
    (segment as usize, (id & ((1 << bits) - 1)) as usize, 1 << bits)
}

impl Slab {
    pub(super) fn new(cells_max: u32) -> Self {
        let (last, ..) = locate(cells_max.max(1) - 1);
        Self { segments: (0..=last).map(|_| OnceLock::new()).collect() }
    }

    /// A cell that `grow_to` has been called for.
    pub(super) fn cell(&self, id: u32) -> &Cell {
        let (segment, offset, _) = locate(id);
        let cells = self.segments[segment].get().expect("an id is handed out after its segment is allocated");
        &cells[offset]
    }

    pub(super) fn grow_to(&self, id: u32) {
        let (segment, _, len) = locate(id);
        self.segments[segment].get_or_init(|| (0..len).map(|_| Cell::default()).collect());
    }

    pub(super) fn cells(&self) -> usize {
        self.segments.iter().filter_map(OnceLock::get).map(|segment| segment.len()).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.segments) + self.cells() * size_of::<Cell>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_each_other_without_a_gap() {
        let mut next = (0, 0);
        for id in 0..200_000 {
            let (segment, offset, len) = locate(id);
            assert_eq!((segment, offset), next, "cell {id}");
            assert!(len <= 16 || len as u32 <= id / 8 + 1, "cell {id} is in a segment of {len}");
            next = if offset + 1 == len { (segment + 1, 0) } else { (segment, offset + 1) };
        }
    }
}
