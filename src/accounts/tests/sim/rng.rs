/// SplitMix64: one number of a seed decides everything that follows.
#[derive(Debug, Clone)]
pub(in super::super) struct Rng(u64);

impl Rng {
    /// A stream of its own for one part of a run, so that one part does not disturb another.
    pub(in super::super) fn part(seed: u64, part: u64, number: u64) -> Self {
        let mut rng = Self(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        rng.0 ^= rng.next().wrapping_add(number).wrapping_mul(0xa076_1d64_78bd_642f);
        rng.next();
        rng
    }

    pub(in super::super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub(in super::super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Between both, both included.
    pub(in super::super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub(in super::super) fn money(&mut self, from: u64, to: u64) -> i64 {
        i64::try_from(self.between(from, to)).unwrap()
    }

    /// True in so many of a hundred cases.
    pub(in super::super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(in super::super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(u64::try_from(all.len()).unwrap())).unwrap()]
    }
}
