use rowscan::cpu::tokens::{Dims, gather, gather_backward, restore, restore_backward};
use rowscan::gpu::{Caps, DType, Gpu};
use rowscan::ops::tokens;
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, at_once, close, each_tier, gpu, leaf, round_to_f16, run, to_f16, to_f32, wide};

/// Draws `v` of the `l` tokens of each sample. Returns their positions, ascending, and the inverse table: the place of
/// each token among the drawn ones, or `u32::MAX`.
fn indices(random: &mut Random, Dims { b, l, v, .. }: Dims) -> (Vec<u32>, Vec<u32>) {
    let (mut ids, mut inv) = (Vec::new(), vec![u32::MAX; b * l]);
    for b in 0..b {
        let noise = random.uniform(l, 0.0, 1.0);
        let mut order: Vec<usize> = (0..l).collect();
        order.sort_by(|&i, &j| noise[i].total_cmp(&noise[j]));
        order.truncate(v);
        order.sort_unstable();
        for (at, &token) in order.iter().enumerate() {
            inv[b * l + token] = at as u32;
            ids.push(token as u32);
        }
    }
    (ids, inv)
}

fn sum(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

fn check(g: &Gpu, dim: Dims, seed: u64) {
    eprintln!("{dim:?}");
    let Dims { b, l, v, d } = dim;
    let mut random = Random::new(seed);
    let (ids, inv) = indices(&mut random, dim);
    let (all, some) = (random.normal(b * l * d), random.normal(b * v * d));
    let (dall, dsome) = (random.normal(b * l * d), random.normal(b * v * d));
    let (table, token) = (random.normal(l * d), random.normal(d));
    let ids_t = Tensor::from_indices(g, &[b, v], &ids).unwrap();
    let inv_t = Tensor::from_indices(g, &[b, l], &inv).unwrap();
    let leaf_table = || leaf(g, &[1, l, d], &table);
    // two: one addition; many and most: f32 sums of up to b and b·l normals
    let two = Tol { rel: 1e-7, abs: 1e-7 };
    let many = Tol { rel: 1e-6, abs: 1e-6 * (b as f64).sqrt().max(2.0) };
    let most = Tol { abs: 1e-6 * ((b * l) as f64).sqrt().max(2.0), ..many };

    let (out, grads) = run(g, &[leaf(g, &[b, l, d], &all)], &dsome, |r, x| tokens::gather(r, &x[0], &ids_t, &inv_t));
    close("gather out", &out, &gather(dim, &wide(&all), &ids, None), Tol::EXACT);
    let back = gather_backward(dim, &ids, &wide(&dsome));
    close("gather dx", &grads[0], &back.dx, Tol::EXACT);

    // one table, that of the first sample, for all samples
    let (ids_1, inv_1) = (&ids[..v], &inv[..l]);
    let one_ids = Tensor::from_indices(g, &[v], ids_1).unwrap();
    let one_inv = Tensor::from_indices(g, &[l], inv_1).unwrap();
    let (out, grads) =
        run(g, &[leaf(g, &[b, l, d], &all)], &dsome, |r, x| tokens::gather(r, &x[0], &one_ids, &one_inv));
    close("shared gather out", &out, &gather(dim, &wide(&all), &ids_1.repeat(b), None), Tol::EXACT);
    close("shared gather dx", &grads[0], &gather_backward(dim, &ids_1.repeat(b), &wide(&dsome)).dx, Tol::EXACT);

    let (out, grads) = run(g, &[leaf(g, &[b, v, d], &some), leaf_table()], &dsome, |r, x| {
        tokens::embed(r, &x[0], &x[1], &ids_t, &inv_t)
    });
    let positions = gather(dim, &vec![0.0; b * l * d], &ids, Some(&wide(&table)));
    close("embed out", &out, &sum(&wide(&some), &positions), two);
    close("embed dx", &grads[0], &wide(&dsome), Tol::EXACT);
    close("embed dtable", &grads[1], &back.dtable, many);

    let leaves = [leaf(g, &[b, v, d], &some), leaf(g, &[d], &token), leaf_table()];
    let (out, grads) = run(g, &leaves, &dall, |r, x| tokens::restore(r, &x[0], &x[1], &x[2], &ids_t, &inv_t));
    close("restore out", &out, &restore(dim, &wide(&some), &inv, &wide(&token), Some(&wide(&table))), two);
    let back = restore_backward(dim, &inv, &wide(&dall));
    close("restore dx", &grads[0], &back.dx, Tol::EXACT);
    close("restore dmask_token", &grads[1], &back.dmask_token, most);
    close("restore dtable", &grads[2], &back.dtable, many);

    let (out, grads) =
        run(g, &[leaf(g, &[b, l, d], &all), leaf_table()], &dall, |r, x| tokens::add_positions(r, &x[0], &x[1]));
    let repeated: Vec<f64> = wide(&table).repeat(b);
    close("positions out", &out, &sum(&wide(&all), &repeated), two);
    close("positions dx", &grads[0], &wide(&dall), Tol::EXACT);
    close("positions dtable", &grads[1], &back.dtable, many);
}

/// Rows of f16: a result or gradient of gather, and x of restore, whose result is f32.
#[test]
fn tokens_in_f16_match_cpu() {
    each_tier(|g| {
        for (seed, dim) in
            [Dims { b: 2, l: 7, v: 3, d: 6 }, Dims { b: 3, l: 49, v: 20, d: 130 }].into_iter().enumerate()
        {
            let Dims { b, l, v, d } = dim;
            let mut random = Random::new(seed as u64);
            let (ids, inv) = indices(&mut random, dim);
            let [mut all, mut some, mut dsome] = [l, v, v].map(|rows| random.normal(b * rows * d));
            [&mut all, &mut some, &mut dsome].into_iter().for_each(|v| round_to_f16(v));
            let (dall, table, token) = (random.normal(b * l * d), random.normal(l * d), random.normal(d));
            let ids_t = Tensor::from_indices(g, &[b, v], &ids).unwrap();
            let inv_t = Tensor::from_indices(g, &[b, l], &inv).unwrap();
            let (out, grads) = run(g, &[leaf(g, &[b, l, d], &all)], &dsome, |r, x| {
                let x = to_f16(r, &x[0])?;
                let out = tokens::gather(r, &x, &ids_t, &inv_t)?;
                assert!(out.data.is_f16());
                to_f32(r, &out)
            });
            close("gather out", &out, &gather(dim, &wide(&all), &ids, None), Tol::EXACT);
            close("gather dx", &grads[0], &gather_backward(dim, &ids, &wide(&dsome)).dx, Tol::EXACT);

            let leaves = [leaf(g, &[b, v, d], &some), leaf(g, &[d], &token), leaf(g, &[l, d], &table)];
            let (out, grads) = run(g, &leaves, &dall, |r, x| {
                let visible = to_f16(r, &x[0])?;
                tokens::restore(r, &visible, &x[1], &x[2], &ids_t, &inv_t)
            });
            let want = restore(dim, &wide(&some), &inv, &wide(&token), Some(&wide(&table)));
            close("restore out", &out, &want, Tol { rel: 1e-7, abs: 1e-7 }); // one addition
            let back = restore_backward(dim, &inv, &wide(&dall));
            close("restore dx", &grads[0], &back.dx, Tol::EXACT.or_f16(true));
        }
    });
    let g = Gpu::dry(Caps::portable());
    let odd = Var::leaf(Tensor::scratch_of(DType::F16, "x", &[1, 2, 3]));
    let table = Tensor::indices("table", &[2]);
    let e = tokens::gather(&mut Recorder::new(&g), &odd, &table, &table).unwrap_err().to_string();
    assert_eq!(e, "tokens: columns in f16: got 3, expected an even number");
}

#[test]
fn tokens_match_cpu() {
    each_tier(|g| {
        let sizes = [
            Dims { b: 1, l: 1, v: 1, d: 1 },
            Dims { b: 2, l: 7, v: 1, d: 5 },
            Dims { b: 3, l: 13, v: 13, d: 7 },   // no token is masked
            Dims { b: 131, l: 17, v: 9, d: 31 }, // sums over samples in two stages, over samples and tokens in three
            Dims { b: 2, l: 196, v: 98, d: 192 },
        ];
        for (i, dim) in sizes.into_iter().enumerate() {
            check(g, dim, i as u64);
        }
        let mut random = Random::new(9);
        for seed in 0..10 {
            let draw: Vec<usize> = random.below(4, 40).into_iter().map(|x| x as usize + 1).collect();
            check(g, Dims { b: draw[0], l: draw[1], v: draw[2] % draw[1] + 1, d: draw[3] }, seed);
        }
    });
}

/// Two elements more than a grid row covers (32768 workgroups of 256). The values are small integers, so sums are
/// exact.
#[test]
fn tokens_fold_their_grid() {
    let Some(g) = gpu() else { return };
    let d = (1 << 22) + 1;
    let rows: Vec<f32> = (0..2 * d).map(|i| (i % 1021) as f32).collect();
    let swapped = [&rows[d..], &rows[..d]].concat();
    let twice: Vec<f32> = rows.iter().map(|x| 2.0 * x).collect();
    let both: Vec<f32> = rows.iter().zip(&swapped).map(|(a, b)| a + b).collect();
    let data = Tensor::from_slice(g, &[1, 2, d], &rows).unwrap();
    let token = Var::constant(Tensor::from_slice(g, &[d], &vec![0.0; d]).unwrap());
    let swap = Tensor::from_indices(g, &[1, 2], &[1, 0]).unwrap();
    type Op<'a> = &'a dyn Fn(&mut Recorder, &Var, &Var) -> rowscan::Result<Var>;
    /// Name, operator, expected result, expected gradients of x and table.
    type Case<'a> = (&'a str, Op<'a>, &'a [f32], [Option<&'a [f32]>; 2]);
    let cases: [Case<'_>; 4] = [
        ("gather", &|r, x, _| tokens::gather(r, x, &swap, &swap), &swapped, [Some(&swapped), None]),
        ("embed", &|r, x, w| tokens::embed(r, x, w, &swap, &swap), &both, [Some(&rows), Some(&swapped)]),
        ("restore", &|r, x, w| tokens::restore(r, x, &token, w, &swap, &swap), &both, [Some(&swapped), Some(&rows)]),
        ("positions", &|r, x, w| tokens::add_positions(r, x, w), &twice, [Some(&rows), Some(&rows)]),
    ];
    for (name, op, out, want) in cases {
        let [x, table] = [Var::leaf(data.clone()), Var::leaf(data.clone())];
        let (got, grads) = at_once(g, |r| {
            let got = op(r, &x, &table)?;
            let dout = Tensor::scratch("dout", &[1, 2, d]);
            dout.copy_from(r, &data)?;
            let grads = r.backward_from(&got, dout, Grads::default())?;
            Ok((got, grads))
        });
        assert!(got.data.to_vec(g).unwrap() == out, "{name} out");
        for (var, want) in [&x, &table].into_iter().zip(want) {
            let grad = grads.get(var).map(|grad| grad.to_vec(g).unwrap());
            assert!(grad.as_deref() == want, "{name} gradient");
        }
    }
}

/// An index past the end is allowed. There `gather` returns 0, `embed` adds no position, `restore` puts the mask token,
/// and no gradient flows.
#[test]
fn tokens_out_of_range_count_as_masked() {
    each_tier(|g| {
        let x = leaf(g, &[1, 2, 1], &[1.0, 2.0]);
        let table = leaf(g, &[2, 1], &[10.0, 20.0]);
        let token = leaf(g, &[1], &[5.0]);
        let at = Tensor::from_indices(g, &[1, 2], &[1, 2]).unwrap();
        let dout = [3.0, 4.0];
        let (out, grads) = run(g, std::slice::from_ref(&x), &dout, |r, v| tokens::gather(r, &v[0], &at, &at));
        assert_eq!((out, grads), (vec![2.0, 0.0], vec![vec![4.0, 0.0]]));
        let leaves = [x.clone(), table.clone()];
        let (out, grads) = run(g, &leaves, &dout, |r, v| tokens::embed(r, &v[0], &v[1], &at, &at));
        assert_eq!((out, grads), (vec![21.0, 2.0], vec![vec![3.0, 4.0], vec![4.0, 0.0]]));
        let leaves = [x, token, table];
        let (out, grads) = run(g, &leaves, &dout, |r, v| tokens::restore(r, &v[0], &v[1], &v[2], &at, &at));
        assert_eq!((out, grads), (vec![12.0, 25.0], vec![vec![4.0, 0.0], vec![4.0], vec![3.0, 4.0]]));
    });
}

#[test]
fn tokens_refuse_other_shapes() {
    let g = Gpu::dry(Caps::portable());
    let r = &mut Recorder::new(&g);
    let x = Var::leaf(Tensor::input("x", &[2, 3, 8]));
    let table = Var::leaf(Tensor::input("table", &[5, 8]));
    let (ids, inv) = (Tensor::indices("ids", &[2, 3]), Tensor::indices("inv", &[2, 5]));
    assert!(tokens::embed(r, &x, &table, &ids, &inv).is_ok());
    let error = tokens::embed(r, &x, &table, &ids, &ids).unwrap_err().to_string();
    assert!(error.contains("table") && error.contains("(3, 8)"), "{error}");
    let error = tokens::gather(r, &x, &ids, &inv).unwrap_err().to_string();
    assert!(error.contains("inv") && error.contains("[2, 3]"), "{error}");
    let error = tokens::restore(r, &x, &table, &table, &ids, &inv).unwrap_err().to_string();
    assert!(error.contains("mask_token"), "{error}");
}
