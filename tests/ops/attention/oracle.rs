//! Attention in f32 against the oracle.

use rowscan::ops::attention::AttentionMask;

use super::{Problem, TOL, coop, rows, tokens};
use crate::common::{Random, each_choice, some};

#[test]
fn attention_matches_cpu() {
    let any = |seed, l, below| Random::new(seed).below(l, below);
    each_choice(|g| {
        let cases = [
            ([1, 1, 1, 1, 1], AttentionMask::Full, vec![]),
            ([3, 5, 5, 3, 1], AttentionMask::RegionCausal, tokens(5)),
            ([2, 65, 65, 3, 4], AttentionMask::Full, vec![]),
            ([1, 200, 200, 1, 4], AttentionMask::RegionCausal, any(1, 200, 1 << 31)),
            ([1, 196, 196, 3, 12], AttentionMask::RegionCausal, rows(196, 14)),
            ([1, 196, 196, 1, 12], AttentionMask::SameRegion, rows(196, 14)),
            ([2, 49, 49, 16, 12], AttentionMask::RegionCausal, tokens(49)),
            ([1, 196, 196, 1, 16], AttentionMask::RegionCausal, tokens(196)),
            ([1, 200, 200, 1, 16], AttentionMask::SameRegion, any(2, 200, 5)),
            ([2, 64, 64, 1, 33], AttentionMask::RegionCausal, any(3, 64, 9)),
            ([1, 65, 65, 3, 33], AttentionMask::SameRegion, rows(65, 8)),
            ([2, 65, 65, 3, 64], AttentionMask::RegionCausal, rows(65, 5)),
            ([1, 98, 98, 1, 64], AttentionMask::Full, vec![]),
            ([1, 1, 1, 3, 128], AttentionMask::SameRegion, vec![7]),
            ([1, 65, 65, 1, 128], AttentionMask::RegionCausal, any(4, 65, 65)),
            ([2, 3, 67, 3, 16], AttentionMask::Full, vec![]),
            ([1, 65, 5, 1, 128], AttentionMask::Full, vec![]),
        ];
        for (seed, (shape, mask, regions)) in some(cases.into_iter().enumerate()) {
            Problem::new(seed as u64, shape, mask, regions).check(g, TOL);
        }
    });
}

#[test]
fn attention_past_one_grid_row() {
    // one workgroup per (b, h): 2049·16 is 16 more than the 32768 workgroups of one grid row
    let problem = Problem::new(1, [2049, 2, 2, 16, 1], AttentionMask::RegionCausal, tokens(2));
    each_choice(|g| problem.check(g, TOL));
    if let Some(g) = coop() {
        problem.check_mixed(&g);
    }
}

#[test]
fn attention_fuzz() {
    each_choice(|g| {
        let mut random = Random::new(2718);
        for seed in some(0..10) {
            let mut upto = |n| 1 + random.below(1, n)[0] as usize;
            let (b, l, h, dh) = (upto(3), upto(90), upto(4), [1, 4, 12, 16, 33][upto(5) - 1]);
            let mask = [AttentionMask::Full, AttentionMask::RegionCausal, AttentionMask::SameRegion][upto(3) - 1];
            let regions = upto(200) as u32;
            Problem::new(seed, [b, l, l, h, dh], mask, random.below(l, regions)).check(g, TOL);
        }
    });
}
