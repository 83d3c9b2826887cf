//! The free blocks of a paged cache: who holds which, and how often. Knows no tensor.

use crate::backend::BLOCK;

/// Block indices `0..capacity`, each free or held any number of times.
pub(super) struct Pages {
    free: Vec<u32>,
    holders: Vec<u32>,
}

impl Pages {
    /// All blocks free.
    pub(super) fn new(capacity: usize) -> Self {
        Pages { free: (0..capacity as u32).rev().collect(), holders: vec![0; capacity] }
    }

    /// Blocks that no sequence holds.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes `count` free blocks, each held once.
    ///
    /// # Panics
    /// Where fewer are free.
    pub(super) fn take(&mut self, count: usize) -> Vec<u32> {
        let blocks = self.free.split_off(
            self.free.len().checked_sub(count).expect("the caller asked how many blocks are free"),
        );
        blocks.iter().for_each(|&block| self.holders[block as usize] = 1);
        blocks
    }

    /// One more holder of each block.
    pub(super) fn share(&mut self, blocks: &[u32]) {
        for &block in blocks {
            assert!(self.holders[block as usize] > 0, "a free block cannot be shared");
            self.holders[block as usize] += 1;
        }
    }

    /// Blocks for one of several continuations of a prompt of `length` positions in the blocks
    /// `prompt`, to `positions` in all: full blocks are shared, the others are its own
    /// ([`own_blocks`]). The copy that a partly filled block asks for joins `copies`, as (own,
    /// original).
    pub(super) fn fork(
        &mut self,
        prompt: &[u32],
        length: usize,
        positions: usize,
        copies: &mut Vec<(u32, u32)>,
    ) -> Vec<u32> {
        let (shared, partial) = prompt.split_at(length / BLOCK);
        let own = self.take(own_blocks(length, positions));
        copies.extend(own.iter().copied().zip(partial.iter().copied()));
        self.share(shared);
        [shared, &own].concat()
    }

    /// One holder less of each block; those without any are free.
    pub(super) fn release(&mut self, blocks: &[u32]) {
        for &block in blocks {
            let holders = &mut self.holders[block as usize];
            *holders = holders.checked_sub(1).expect("only who holds a block releases it");
            if *holders == 0 {
                self.free.push(block);
            }
        }
    }
}

/// Blocks that a continuation to `positions` in all cannot share with a prompt of `length`
/// positions.
pub(super) fn own_blocks(length: usize, positions: usize) -> usize {
    positions.div_ceil(BLOCK) - length / BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_shares_full_blocks_and_copies_the_partly_filled_one() {
        for (length, positions, own, copied) in
            [(2 * BLOCK, 3 * BLOCK, 1, 0), (BLOCK + 1, 2 * BLOCK + 1, 2, 1), (1, 1, 1, 1)]
        {
            let (mut pages, mut copies) = (Pages::new(8), Vec::new());
            let prompt = pages.take(length.div_ceil(BLOCK));
            let before = pages.free();
            let blocks = pages.fork(&prompt, length, positions, &mut copies);
            let full = length / BLOCK;
            assert_eq!(
                (blocks.len(), &blocks[..full]),
                (positions.div_ceil(BLOCK), &prompt[..full])
            );
            assert!(blocks[full..].iter().all(|block| !prompt.contains(block)));
            assert_eq!((before - pages.free(), own_blocks(length, positions)), (own, own));
            assert_eq!(
                copies,
                prompt[full..].iter().map(|&original| (blocks[full], original)).collect::<Vec<_>>()
            );
            assert_eq!(copies.len(), copied);
            pages.release(&prompt);
            pages.release(&blocks);
            assert_eq!(pages.free(), 8);
        }
    }

    #[test]
    fn a_shared_block_is_free_when_its_last_holder_leaves() {
        let mut pages = Pages::new(4);
        let shared = pages.take(2);
        let own = pages.take(1);
        pages.share(&shared);
        assert_eq!(pages.free(), 1);
        assert!(own.iter().all(|block| !shared.contains(block)));
        pages.release(&shared);
        assert_eq!(pages.free(), 1);
        pages.release(&shared);
        pages.release(&own);
        assert_eq!(pages.free(), 4);
        let mut all = pages.take(4);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
}
