use rowscan::cpu::local_norm_pool::{Dims, backward, forward};
use rowscan::gpu::Gpu;
use rowscan::ops::local_norm_pool::{Neighbors, local_norm_pool};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

fn neighbors(g: &Gpu, dim: Dims, index: &[u32]) -> Neighbors {
    let of = |index| Neighbors::table(index, dim.k).unwrap_or_else(|e| panic!("{e}"));
    let tables: Vec<u32> = index.chunks(dim.t * dim.k).flat_map(of).collect();
    let graph = Tensor::from_indices(g, &[dim.b, Neighbors::len(dim.t, dim.k)], &tables);
    Neighbors { graph: graph.unwrap_or_else(|e| panic!("{e}")), k: dim.k }
}

/// `same`: all points lie in one place, so that the deviation is 0.
fn check(g: &Gpu, dim: Dims, same: bool) {
    let Dims { b, t, k, c, per_cloud } = dim;
    let mut random = Random::new((b * 7 + t * 31 + k * 3 + c) as u64);
    let index = random.below(b * t * k, t as u32);
    // a mean far from 0 leaves the differences as they are
    let x: Vec<f32> = match same {
        true => vec![3.0; b * t * c],
        false => random.normal(b * t * c).into_iter().map(|v| v + 8.0).collect(),
    };
    let (alpha, beta) = (random.normal(2 * c), random.normal(2 * c));
    let dy = random.normal(2 * b * t * c);
    let leaves = [leaf(g, &[b, t, c], &x), leaf(g, &[2 * c], &alpha), leaf(g, &[2 * c], &beta)];
    let near = neighbors(g, dim, &index);
    let op = |r: &mut Recorder, v: &[Var]| local_norm_pool(r, &v[0], &v[1], &v[2], &near, per_cloud);
    let (y, grads) = run(g, &leaves, &dy, op);
    let (x, alpha, beta, dy) = (wide(&x), wide(&alpha), wide(&beta), wide(&dy));
    let want = forward(dim, &x, &index, &alpha, &beta);
    let back = backward(dim, &x, &index, &alpha, &beta, &dy);
    let at = format!("{dim:?}, in one place: {same}");
    // differences of numbers near 8 lose three bits; a quotient by a root of their squares, and exponentials of it
    close(&format!("{at} y"), &y, &want, Tol::of(&want, 4e-6));
    close(&format!("{at} dx"), &grads[0], &back.dx, Tol::of(&back.dx, 2e-5));
    close(&format!("{at} dalpha"), &grads[1], &back.dalpha, Tol::of(&back.dalpha, 2e-5));
    close(&format!("{at} dbeta"), &grads[2], &back.dbeta, Tol::of(&back.dbeta, 1e-5));
}

#[test]
fn local_norm_pool_matches_cpu() {
    each_tier(|g| {
        for per_cloud in [false, true] {
            check(g, Dims { b: 1, t: 2, k: 1, c: 1, per_cloud }, false);
            check(g, Dims { b: 3, t: 17, k: 4, c: 24, per_cloud }, false);
            check(g, Dims { b: 2, t: 65, k: 8, c: 67, per_cloud }, false);
            check(g, Dims { b: 2, t: 5, k: 3, c: 4, per_cloud }, true);
        }
        check(g, Dims { b: 300, t: 127, k: 1, c: 2, per_cloud: false }, false); // more rows than 32768
        let mut random = Random::new(5);
        let mut drawn = || [4, 60, 9, 60].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..6).map(|_| drawn()).collect();
        some(drawn).for_each(|[b, t, k, c]| check(g, Dims { b, t: t + 1, k, c, per_cloud: b % 2 == 0 }, false));
    });
}

/// With a deviation for each cloud, a cloud's result has the same bits whatever else is in its batch.
#[test]
fn clouds_of_their_own_do_not_see_each_other() {
    let Some(g) = gpu() else { return };
    let (dim, mut random) = (Dims { b: 2, t: 9, k: 3, c: 5, per_cloud: true }, Random::new(1));
    let (x, index) = (random.normal(2 * 9 * 5), random.below(2 * 9 * 3, 9));
    let parameters = [leaf(g, &[10], &random.normal(10)), leaf(g, &[10], &random.normal(10))];
    let result = |x: &[f32], dim: Dims, index: &[u32], per_cloud: bool| {
        let mut r = Recorder::inference(g);
        let x = leaf(g, &[dim.b, 9, 5], x);
        let [alpha, beta] = &parameters;
        let y = local_norm_pool(&mut r, &x, alpha, beta, &neighbors(g, dim, index), per_cloud);
        let y = y.unwrap_or_else(|e| panic!("{e}"));
        r.run().unwrap_or_else(|e| panic!("{e}"));
        y.data.to_vec(g).unwrap_or_else(|e| panic!("{e}"))
    };
    let one = result(&x[..45], Dims { b: 1, ..dim }, &index[..27], true);
    assert_eq!(one, result(&x, dim, &index, true)[..90]);
    assert_ne!(one, result(&x, dim, &index, false)[..90]);
}

#[test]
fn local_norm_pool_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let e = Neighbors::table(&[0, 1, 2, 5], 2).expect_err("5 of two points").to_string();
    assert!(e.contains("neighbor: got 2, expected below 2"), "{e}");
    let e = Neighbors::table(&[0, 1, 2], 2).expect_err("three of pairs").to_string();
    assert!(e.contains("neighbors: got 3, expected a multiple of 2"), "{e}");
    let dim = Dims { b: 1, t: 2, k: 2, c: 1, per_cloud: false };
    let near = neighbors(g, dim, &[0, 1, 1, 0]);
    let of = |shape: &[usize]| leaf(g, shape, &vec![0.0; shape.iter().product()]);
    for (x, alpha, what) in [
        (of(&[1, 3, 1]), of(&[2]), "local_norm_pool: graph of the neighbors"),
        (of(&[1, 2, 1]), of(&[3]), "local_norm_pool: alpha"),
    ] {
        let e = local_norm_pool(&mut Recorder::new(g), &x, &alpha, &of(&[2]), &near, false).expect_err(what);
        assert!(e.to_string().contains(what), "{e}");
    }
}
