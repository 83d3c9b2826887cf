//! The free blocks of a paged cache: who holds which, and how often. Knows no tensor.

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

    /// Blocks that nobody holds.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes `count` free blocks, each held once.
    ///
    /// # Panics
    /// Where fewer are free.
    pub(super) fn take(&mut self, count: usize) -> Vec<u32> {
        let blocks = self.free.split_off(self.free.len().checked_sub(count).expect("the caller asked how many blocks are free"));
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

#[cfg(test)]
mod tests {
    use super::*;

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
