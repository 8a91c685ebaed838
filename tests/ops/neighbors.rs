use rowscan::cpu::neighbors::{graph, nearest};
use rowscan::gpu::Gpu;
use rowscan::ops::local_norm_pool::Neighbors;
use rowscan::ops::neighbors::neighbors;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, each_tier, gpu, some, wide};

/// `levels`: coordinates have this many different numbers, so that points are equally near; 0 for no ties.
fn check(g: &Gpu, [b, t, k]: [usize; 3], levels: u32) {
    let mut random = Random::new((b * 7 + t * 31 + k) as u64);
    let points: Vec<f32> = match levels {
        0 => random.normal(b * t * 3),
        _ => random.below(b * t * 3, levels).into_iter().map(|v| v as f32).collect(),
    };
    let tensor = Tensor::from_slice(g, &[b, t, 3], &points).unwrap_or_else(|e| panic!("{e}"));
    let mut r = Recorder::inference(g);
    let near = neighbors(&mut r, &tensor, k).unwrap_or_else(|e| panic!("{e}"));
    r.run().unwrap_or_else(|e| panic!("{e}"));
    let got = near.graph.to_vec(g).unwrap_or_else(|e| panic!("{e}"));
    let got: Vec<u32> = got.into_iter().map(f32::to_bits).collect(); // u32 values keep their bits
    let want: Vec<u32> = wide(&points).chunks(3 * t).flat_map(|cloud| graph(t, &nearest(t, k, cloud))).collect();
    assert_eq!(got, want, "{:?}, {levels} levels", [b, t, k]);
    let index = nearest(t, k, &wide(&points[..3 * t]));
    assert_eq!(Neighbors::table(&index, k).unwrap_or_else(|e| panic!("{e}")), want[..Neighbors::len(t, k)]);
}

/// Every index is that of the oracle, also where points are equally near: coordinates are whole numbers there, whose
/// distances are exact.
#[test]
fn neighbors_match_cpu() {
    each_tier(|g| {
        for levels in [0, 3] {
            check(g, [1, 1, 1], levels);
            check(g, [3, 17, 4], levels);
            check(g, [2, 256, 8], levels);
            check(g, [5, 9, 9], levels);
        }
        let mut random = Random::new(5);
        let mut drawn = || [6, 120, 9].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..6).map(|_| drawn()).collect();
        some(drawn).for_each(|[b, t, k]| check(g, [b, t, k.min(t)], 2));
    });
}

#[test]
fn neighbors_name_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    for (shape, k) in [([1, 300, 3], 4), ([1, 3, 3], 4), ([1, 4, 2], 1), ([1, 4, 3], 0)] {
        let points = Tensor::input("points", &shape);
        let e = neighbors(&mut Recorder::new(g), &points, k).expect_err("sizes").to_string();
        assert!(e.contains("neighbors: points"), "{e}");
    }
}
