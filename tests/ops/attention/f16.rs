//! Attention with f16, as the type of storage and as the operands of cooperative matrices, against the oracle.

use rowscan::gpu::{Gpu, Precision};
use rowscan::ops::attention::AttentionMask;

use super::{Problem, coop, each_path, rows, takes_coop, tokens};
use crate::common::{Random, each_tier, some};

/// In every case a query sees several keys. With one key, dq and dk are exactly 0, and the rounding error of delta is
/// all that would be compared.
#[test]
fn attention_in_f16_matches_cpu() {
    let any = |seed, l, below| Random::new(seed).below(l, below);
    each_path(|g, precision| {
        let cases = [
            ([1, 196, 196, 3, 12], AttentionMask::RegionCausal, rows(196, 14)),
            ([2, 65, 65, 3, 4], AttentionMask::Full, vec![]),
            ([1, 200, 200, 1, 16], AttentionMask::SameRegion, any(2, 200, 5)),
            ([2, 64, 64, 1, 36], AttentionMask::RegionCausal, any(3, 64, 9)),
            ([1, 98, 98, 2, 64], AttentionMask::Full, vec![]),
            ([2, 3, 67, 3, 16], AttentionMask::Full, vec![]),
            ([1, 65, 5, 1, 128], AttentionMask::Full, vec![]),
        ];
        for (seed, (shape, mask, regions)) in some(cases.into_iter().enumerate()) {
            Problem::new(40 + seed as u64, shape, mask, regions).in_precision(precision).check_f16_storage(g);
        }
    });
}

/// Every mask at every way to split a head over invocations, at lengths that no tile divides.
#[test]
fn attention_in_f16_matches_cpu_at_every_head() {
    each_path(|g, precision| {
        for (i, dh) in some([4, 8, 32, 64, 128].into_iter().enumerate()) {
            for mask in [AttentionMask::Full, AttentionMask::RegionCausal, AttentionMask::SameRegion] {
                let l = 35 + 6 * i;
                let problem = Problem::new(60 + i as u64, [1 + i % 2, l, l, 1 + i % 3, dh], mask, rows(l, 7));
                problem.in_precision(precision).check_f16_storage(g);
            }
        }
    });
}

/// Every length around tiles of 32 keys and of 32 or 64 queries, every mask, every width of head.
#[test]
fn attention_on_cooperative_matrices_matches_cpu() {
    let Some(g) = &coop() else { return };
    for l in 1..=70 {
        let dh = [12, 64, 33, 128, 1, 16][l % 6];
        let mask = [AttentionMask::Full, AttentionMask::RegionCausal, AttentionMask::SameRegion][l / 6 % 3];
        let regions = if l % 2 == 0 { rows(l, 7) } else { Random::new(l as u64).below(l, 1 << 31) };
        Problem::new(l as u64, [1 + l % 2, l, l, 1 + l % 3, dh], mask, regions).check_mixed(g);
    }
    for (seed, (shape, mask, regions)) in [
        ([1, 196, 196, 16, 12], AttentionMask::RegionCausal, rows(196, 14)),
        ([1, 196, 196, 2, 12], AttentionMask::SameRegion, rows(196, 14)),
        ([1, 196, 196, 1, 12], AttentionMask::RegionCausal, tokens(196)),
        ([1, 208, 208, 3, 64], AttentionMask::Full, vec![]),
        ([1, 150, 150, 1, 128], AttentionMask::RegionCausal, rows(150, 3)),
        ([2, 3, 67, 3, 16], AttentionMask::Full, vec![]),
        ([1, 65, 5, 1, 128], AttentionMask::Full, vec![]),
        ([1, 33, 130, 2, 7], AttentionMask::Full, vec![]),
    ]
    .into_iter()
    .enumerate()
    {
        Problem::new(seed as u64, shape, mask, regions).check_mixed(g);
    }
    let mut random = Random::new(1618);
    for seed in 0..12 {
        let mut upto = |n| 1 + random.below(1, n)[0] as usize;
        let (b, lq, lk, h, dh) = (upto(3), upto(140), upto(140), upto(4), upto(40));
        Problem::new(seed, [b, lq, lk, h, dh], AttentionMask::Full, vec![]).check_mixed(g);
        let mask = [AttentionMask::RegionCausal, AttentionMask::SameRegion][upto(2) - 1];
        let regions = upto(40) as u32;
        Problem::new(seed, [b, lq, lq, h, dh], mask, random.below(lq, regions)).check_mixed(g);
    }
}

/// Mixed precision rounds operands only on cooperative matrices. Without them, and in precision `high`, attention is
/// f32 to the bit.
#[test]
fn attention_stays_f32_without_cooperative_matrices() {
    let run = |g: &Gpu, precision| {
        Problem::new(4, [1, 40, 40, 2, 12], AttentionMask::Full, vec![]).in_precision(precision).run_self(g)
    };
    let bits = |g: &Gpu| {
        let exact = run(g, Precision::F32);
        assert!(run(g, Precision::High) == exact, "{}", g.caps());
        assert_eq!(run(g, Precision::Mixed) == exact, !takes_coop(g), "{}", g.caps());
    };
    each_tier(bits);
    coop().iter().for_each(bits);
}
