//! Counter-based random numbers: a draw is a pure function of (seed, stream, row, step), the same
//! on every back end, for any batch composition, thread count or resume. Independent of the use of
//! the numbers.
//!
//! The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
//! 3", section 3.3).

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox4x32 on one counter.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A family of draws: a seed and a named purpose. Two streams of one seed share no draw.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The stream called `purpose` of `seed`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        let hash = hasher.finalize();
        let word = |at: usize| {
            u32::from_le_bytes(hash.as_bytes()[at..at + 4].try_into().expect("a hash has 32 bytes"))
        };
        Stream { key: [word(0), word(4)] }
    }

    /// 64 random bits for (row, step).
    pub fn bits(&self, row: u64, step: u64) -> u64 {
        let out =
            philox([row as u32, (row >> 32) as u32, step as u32, (step >> 32) as u32], self.key);
        u64::from(out[0]) << 32 | u64::from(out[1])
    }

    /// A uniform draw in [0, 1) with 53 random bits for (row, step).
    pub fn uniform(&self, row: u64, step: u64) -> f64 {
        (self.bits(row, step) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The draws (row, 0), (row, 1), … one after the other.
    pub fn sequence(&self, row: u64) -> Sequence {
        Sequence { stream: *self, row, step: 0 }
    }
}

/// The draws of one row of a [`Stream`], in order.
#[derive(Clone, Debug)]
pub struct Sequence {
    stream: Stream,
    row: u64,
    step: u64,
}

impl Sequence {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.step += 1;
        self.stream.bits(self.row, self.step - 1)
    }

    /// A uniform draw in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// A uniform integer below `n`; `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "a draw below 0 does not exist");
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// One of the items, each as likely.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// A random permutation in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// A standard normal draw (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors published with Random123 for philox4x32-10.
    #[test]
    fn philox_gives_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_rows_and_steps_differ() {
        let stream = Stream::new(1, "a");
        let draws = [
            stream.bits(0, 0),
            stream.bits(0, 1),
            stream.bits(1, 0),
            Stream::new(1, "b").bits(0, 0),
            Stream::new(2, "a").bits(0, 0),
        ];
        for (i, a) in draws.iter().enumerate() {
            assert!(draws[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut sequence = Stream::new(3, "moments").sequence(0);
        let n = 100_000;
        let uniform: f64 = (0..n).map(|_| sequence.uniform()).sum::<f64>() / n as f64;
        let normals: Vec<f64> = (0..n).map(|_| sequence.normal()).collect();
        let mean = normals.iter().sum::<f64>() / n as f64;
        let variance = normals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(
            (uniform - 0.5).abs() < 0.005 && mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02
        );
    }
}
