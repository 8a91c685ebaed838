use std::cell::OnceCell;

use rowscan::cpu::selective_scan::{Dims, Grads, Inputs, Out, backward, forward};
use rowscan::gpu::{Caps, Gpu, Precision};
use rowscan::ops::selective_scan::{Algorithm, Scan, ScanOptions, channel_layout, packed, selective_scan};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, close_l2, each_choice, leaf, one_in, round_to_f16, run, to_f16, to_f32, wide};

/// One case: the operands of `packed`.
struct Case {
    dim: Dims,
    spec: Scan,
    u: Vec<f32>,
    delta: Vec<f32>,
    xdbl: Vec<f32>,
    a_log: Vec<f32>,
    d: Vec<f32>,
    bias: Vec<f32>,
    xz: Option<Vec<f32>>,
    dout: Vec<f32>,
    /// Whether the GPU stores u, delta, xz, out and their gradients as f16.
    f16: bool,
}

impl Case {
    fn random(dim: Dims, spec: Scan, has_z: bool) -> Self {
        let Dims { s, b, l, e, n, r } = dim;
        let mut random = Random::new((s + 3 * b + 5 * l + 7 * e + 11 * n + 13 * r) as u64);
        let mut delta = random.uniform(s * b * l * e, if spec.softplus { -4.0 } else { 0.01 }, 1.0);
        delta[0] = 25.0; // above 20, where softplus(x) = x, with decays down to 0
        let mut xz = random.normal(b * l * 2 * e);
        xz[2 * e - 1] = 0.0; // z = 0: the gate is closed, but dz is not 0
        Self {
            dim,
            spec,
            u: random.normal(s * b * l * e),
            delta,
            xdbl: random.normal(s * b * l * (r + 2 * n)),
            a_log: random.uniform(s * e * n, -3.0, 2.8),
            d: random.normal(s * e),
            bias: random.uniform(s * e, -0.01, 1.0),
            xz: has_z.then_some(xz),
            dout: random.normal(b * l * e),
            f16: false,
        }
    }

    fn in_f16(mut self) -> Self {
        self.f16 = true;
        for values in [&mut self.u, &mut self.delta, &mut self.dout].into_iter().chain(self.xz.as_mut()) {
            round_to_f16(values);
        }
        self
    }

    /// a_log, d and bias in one tensor, as `channel_layout` places them. The padding between them is NaN, which must
    /// not be read.
    fn channel_params(&self) -> Vec<f32> {
        self.layout(&self.a_log, &self.d, &self.bias, f32::NAN)
    }

    fn layout(&self, a_log: &[f32], d: &[f32], bias: &[f32], pad: f32) -> Vec<f32> {
        let at = channel_layout(self.dim.s, self.dim.e, self.dim.n);
        let mut all = vec![pad; at.len];
        all[at.a_log..][..a_log.len()].copy_from_slice(a_log);
        all[at.d..][..d.len()].copy_from_slice(d);
        all[at.bias..][..bias.len()].copy_from_slice(bias);
        all
    }

    fn cpu(&self) -> (Out, Grads) {
        let [u, delta, xdbl, a_log, d, bias] =
            [&self.u, &self.delta, &self.xdbl, &self.a_log, &self.d, &self.bias].map(|v| wide(v));
        let z: Option<Vec<f64>> =
            self.xz.as_ref().map(|xz| xz.chunks(2 * self.dim.e).flat_map(|row| wide(&row[self.dim.e..])).collect());
        // with f16 storage the kernel takes 2⁻¹³ for a z closer to 0 (shaders/lib/gate.wgsl)
        let z = z.map(|z| z.into_iter().map(|z| if self.f16 && z.abs() < 2f64.powi(-13) { 2f64.powi(-13) } else { z }));
        let z: Option<Vec<f64>> = z.map(Iterator::collect);
        let x = Inputs {
            u: &u,
            delta: &delta,
            xdbl: &xdbl,
            a_log: &a_log,
            d: self.spec.has_d.then_some(&d),
            delta_bias: self.spec.has_bias.then_some(&bias),
            z: z.as_deref(),
            softplus: self.spec.softplus,
        };
        (forward(self.dim, &x), backward(self.dim, &x, &wide(&self.dout)))
    }

    /// Returns out, last_state, du, ddelta, dxdbl, dchannel_params and, if there is a z, dxz.
    fn gpu(&self, g: &Gpu) -> Vec<Vec<f32>> {
        let Dims { s, b, l, e, n, r } = self.dim;
        let mut leaves = vec![
            leaf(g, &[s, b, l, e], &self.u),
            leaf(g, &[s, b, l, e], &self.delta),
            leaf(g, &[s, b, l, r + 2 * n], &self.xdbl),
            leaf(g, &[channel_layout(s, e, n).len], &self.channel_params()),
        ];
        leaves.extend(self.xz.as_ref().map(|xz| leaf(g, &[b, l, 2 * e], xz)));
        let last = OnceCell::new();
        let (out, grads) = run(g, &leaves, &self.dout, |r, v| {
            r.set_precision(if self.f16 { Precision::Mixed } else { Precision::F32 });
            let mut stored = |v: &Var| if self.f16 { to_f16(r, v) } else { Ok(v.clone()) };
            let (u, delta, xz) = (stored(&v[0])?, stored(&v[1])?, v.get(4).map(stored).transpose()?);
            let (out, state) = packed(r, &u, &delta, &v[2], &v[3], xz.as_ref(), self.spec)?;
            let _ = last.set(state);
            assert_eq!(out.data.is_f16(), self.f16);
            if self.f16 { to_f32(r, &out) } else { Ok(out) }
        });
        let last = last.get().expect("the op ran").to_vec(g).expect("readable");
        [vec![out, last], grads].concat()
    }

    fn check(&self, g: &Gpu) {
        let Self { dim, spec, .. } = self;
        let name = format!("{dim:?} {spec:?} z {}{}", self.xz.is_some(), if self.f16 { " f16" } else { "" });
        let got = self.gpu(g);
        let (out, want) = self.cpu();
        // Limits of the relative L2 error. In f32 only the GPU's arithmetic differs from the oracle: one rounding per
        // step, and exp, which is off by 3 ulp of its argument. The decay forgets old errors, so the error does not
        // grow with L. Relative to the result, it does not grow with the sums over b and t either. A value stored as
        // f16 is off by up to 2⁻¹¹ = 4.9e-4. For `out` of two directions and for dz, which is computed from `out`, it
        // is twice that. The backward pass restarts each chunk from a state stored as f16, so sums over states have
        // that error too.
        let [out_tol, stored, summed, z_tol] =
            if self.f16 { [1e-3, 5e-4, 4e-4, 1.5e-3] } else { [2e-6, 4e-6, 4e-6, 4e-6] };
        close_l2(&format!("{name}: out"), &got[0], &out.out, out_tol);
        close_l2(&format!("{name}: last_state"), &got[1], &out.last_state, if self.f16 { 5e-4 } else { 4e-6 });
        close_l2(&format!("{name}: du"), &got[2], &want.du, stored);
        close_l2(&format!("{name}: ddelta"), &got[3], &want.ddelta, stored);
        close_l2(&format!("{name}: dxdbl"), &got[4], &want.dxdbl, summed);
        let at = channel_layout(dim.s, dim.e, dim.n);
        let none = vec![0.0; dim.s * dim.e];
        let parts = [
            ("da_log", at.a_log, &want.da_log),
            ("dd", at.d, if spec.has_d { &want.dd } else { &none }),
            ("dbias", at.bias, if spec.has_bias { &want.ddelta_bias } else { &none }),
        ];
        let mut pads = got[5].clone();
        for (part, start, want) in parts {
            close_l2(&format!("{name}: {part}"), &got[5][start..][..want.len()], want, 2.0 * summed);
            pads[start..][..want.len()].fill(0.0);
        }
        assert!(pads.iter().all(|&v| v == 0.0), "{name}: the pads of dchannel_params are 0");
        if self.xz.is_some() {
            let dxz: Vec<f64> = want.dz.chunks(dim.e).flat_map(|dz| [vec![0.0; dim.e], dz.to_vec()].concat()).collect();
            close_l2(&format!("{name}: dxz"), &got[6], &dxz, z_tol);
        }
    }
}

/// Every algorithm that takes `n` states, whichever the adapter would choose.
fn algorithms(n: usize) -> impl Iterator<Item = Option<Algorithm>> {
    let whole = (5..=16).contains(&n).then_some(Algorithm::Whole);
    [Algorithm::Sequential, Algorithm::Chunked].into_iter().chain(whole).map(Some)
}

/// One of them, in turn.
fn one_algorithm(n: usize, i: usize) -> Option<Algorithm> {
    algorithms(n).nth(i % algorithms(n).count()).flatten()
}

#[test]
fn selective_scan_matches_cpu() {
    each_choice(|g| {
        let check = |s, b, l, e, n, r| {
            for algorithm in algorithms(n) {
                Case::random(Dims { s, b, l, e, n, r }, Scan { algorithm, ..Scan::mamba(n) }, true).check(g);
            }
        };
        let cases = [
            (1, 1, 1, 1, 1, 0),      // the smallest
            (2, 3, 2, 5, 4, 3),      // less than one chunk
            (2, 2, 3, 5, 7, 1),      // the same for any algorithm
            (1, 2, 33, 67, 5, 1),    // N not a multiple of 4, L two chunks and a token, E past one workgroup
            (2, 1, 48, 3, 8, 2),     // an even number of whole chunks
            (1, 9, 197, 65, 16, 12), // B is larger than the number of groups in the last stage of a sum
            (2, 9, 197, 65, 16, 12),
            (1, 1, 1000, 2, 16, 0),
            (2, 1, 1000, 3, 4, 0),
            (2, 1, 41, 4, 32, 5),
            (2, 2, 35, 3, 64, 1),   // the largest N, which has shorter chunks
            (1, 1, 2000, 2, 64, 0), // the most that a CPU adapter loops over
        ];
        one_in(3, cases).for_each(|(s, b, l, e, n, r)| check(s, b, l, e, n, r));
    });
}

#[test]
fn selective_scan_matches_cpu_with_parts_absent() {
    each_choice(|g| {
        for flags in 0..16u32 {
            let [softplus, has_d, has_bias, has_z] = [0, 1, 2, 3].map(|bit| flags >> bit & 1 == 1);
            let algorithm = one_algorithm(16, (flags.count_ones() + flags / 4) as usize);
            let spec = Scan { softplus, has_d, has_bias, algorithm, ..Scan::mamba(16) };
            Case::random(Dims { s: 2, b: 2, l: 19, e: 7, n: 16, r: 2 }, spec, has_z).check(g);
        }
    });
}

/// The operands as in the papers and in `selective_scan_fn` of mamba-ssm, each a tensor with a gradient of its own.
#[test]
fn selective_scan_of_separate_operands_matches_cpu() {
    each_choice(|g| {
        for flags in 0..16u32 {
            let [softplus, has_d, has_bias, has_z] = [0, 1, 2, 3].map(|bit| flags >> bit & 1 == 1);
            let spec = Scan { softplus, has_d, has_bias, ..Scan::mamba(5) };
            let case = Case::random(Dims { s: 2, b: 2, l: 19, e: 7, n: 5, r: 0 }, spec, has_z);
            let (Dims { s, b, l, e, n, .. }, (out, want)) = (case.dim, case.cpu());
            // columns at·width .. (at + 1)·width of rows that are 2·width wide
            let part = |values: &[f64], at: usize, width: usize| -> Vec<f64> {
                values.chunks(2 * width).flat_map(|row| &row[at * width..][..width]).copied().collect()
            };
            let narrow = |values: &[f64], at, width| part(values, at, width).into_iter().map(|v| v as f32).collect();
            let [b_, c]: [Vec<f32>; 2] = [0, 1].map(|at| narrow(&wide(&case.xdbl), at, n));
            let z: Option<Vec<f32>> = case.xz.as_ref().map(|xz| narrow(&wide(xz), 1, e));
            let mut leaves = vec![
                leaf(g, &[s, b, l, e], &case.u),
                leaf(g, &[s, b, l, e], &case.delta),
                leaf(g, &[s, e, n], &case.a_log),
                leaf(g, &[s, b, l, n], &b_),
                leaf(g, &[s, b, l, n], &c),
            ];
            let mut wants = vec![
                ("du", want.du),
                ("ddelta", want.ddelta),
                ("da_log", want.da_log),
                ("db", part(&want.dxdbl, 0, n)),
                ("dc", part(&want.dxdbl, 1, n)),
            ];
            let mut optional = |is_there: bool, shape: &[usize], values: &[f32], name, want| {
                is_there.then(|| {
                    leaves.push(leaf(g, shape, values));
                    wants.push((name, want));
                    leaves.len() - 1
                })
            };
            let d = optional(has_d, &[s, e], &case.d, "dd", want.dd);
            let bias = optional(has_bias, &[s, e], &case.bias, "ddelta_bias", want.ddelta_bias);
            let z = optional(has_z, &[b, l, e], z.as_deref().unwrap_or_default(), "dz", want.dz);
            let (y, grads) = run(g, &leaves, &case.dout, |r, v| {
                let [d, z, delta_bias] = [d, z, bias].map(|at| at.map(|at| &v[at]));
                let options = ScanOptions { d, z, delta_bias, delta_softplus: softplus, algorithm: None };
                Ok(selective_scan(r, &v[0], &v[1], &v[2], &v[3], &v[4], options)?.0)
            });
            close_l2(&format!("{flags:04b} out"), &y, &out.out, 2e-6);
            for ((name, want), got) in wants.iter().zip(&grads) {
                close_l2(&format!("{flags:04b} {name}"), got, want, 8e-6);
            }
        }
    });
}

#[test]
fn selective_scan_names_what_does_not_fit() {
    let g = Gpu::dry(Caps::portable());
    let var = |shape: &[usize]| Var::leaf(Tensor::input("v", shape));
    let (tokens, states) = (var(&[2, 1, 9, 4]), var(&[2, 1, 9, 3]));
    let fails = |a_log: &Var, c: &Var, options, words: &str| {
        let call = selective_scan(&mut Recorder::new(&g), &tokens, &tokens, a_log, &states, c, options);
        let error = call.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let none = ScanOptions::default();
    fails(&var(&[2, 5, 3]), &states, none, "a_log: got [2, 5, 3], expected [2, 4, 3]");
    fails(&var(&[2, 4, 3]), &tokens, none, "c: got [2, 1, 9, 4], expected [2, 1, 9, 3]");
    let z = var(&[1, 9, 5]);
    fails(&var(&[2, 4, 3]), &states, ScanOptions { z: Some(&z), ..none }, "z: got [1, 9, 5], expected [1, 9, 4]");
}

/// llvmpipe ends loops after 65,535 iterations without an error, so gradients of longer sequences would be wrong there.
#[test]
fn more_tokens_than_a_cpu_adapter_loops_over_are_refused() {
    let g = Gpu::dry(Caps { software: true, ..Caps::portable() });
    let backward = |l: usize, n: usize| {
        let mut r = Recorder::new(&g);
        let var = |shape: &[usize]| Var::leaf(Tensor::input("v", shape));
        let (u, states) = (var(&[1, 1, l, 4]), var(&[1, 1, l, n]));
        let y = selective_scan(&mut r, &u, &u, &var(&[1, 4, n]), &states, &states, ScanOptions::default())?;
        let loss = rowscan::ops::reduce::sum(&mut r, &y.0)?;
        r.backward(&loss, rowscan::tape::Grads::default()).map(drop)
    };
    for (most, n, words) in [(2000, 20, "of a backward pass"), (20_000, 16, "of a backward pass"), (4000, 1, "tokens")]
    {
        assert!(backward(most, n).is_ok());
        let error = backward(most + 1, n).unwrap_err().to_string();
        assert!(error.contains(&format!("got {}", most + 1)) && error.contains(&format!("at most {most}")), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn selective_scan_in_f16_matches_cpu() {
    each_choice(|g| {
        for (i, n) in one_in(3, [16, 4, 8, 17, 40, 64, 1].into_iter().enumerate()) {
            for algorithm in algorithms(n) {
                let (s, has_z) = (1 + (i + 1) % 2, i != 3);
                for (b, l, e) in [(1, 1, 4), (2, 37, 68), (1, 50, 140)] {
                    let spec = Scan { algorithm, ..Scan::mamba(n) };
                    Case::random(Dims { s, b, l, e, n, r: i }, spec, has_z).in_f16().check(g);
                }
            }
        }
    });
}

#[test]
fn selective_scan_matches_cpu_at_random_sizes() {
    each_choice(|g| {
        let mut random = Random::new(9);
        for i in 0..10 {
            let [b, l, e, r] = [4, 120, 140, 9].map(|below| 1 + random.below(1, below)[0] as usize);
            let (s, n) = (1 + i % 2, [16, 5][i / 5]);
            let spec = Scan { algorithm: one_algorithm(n, i / 2), ..Scan::mamba(n) };
            Case::random(Dims { s, b, l, e, n, r: r - 1 }, spec, true).check(g);
        }
    });
}

/// The number of lanes that share a channel follows from N: here 1 to 16 lanes, the last of them partly filled, and
/// channels for several workgroups.
#[test]
fn selective_scan_matches_cpu_at_any_number_of_states() {
    each_choice(|g| {
        let mut random = Random::new(31);
        for (i, n) in one_in(4, [3, 4, 7, 8, 11, 17, 24, 33, 48, 61, 1, 16].into_iter().enumerate()) {
            let [b, l, e] = [3, 50, 300].map(|below| 1 + random.below(1, below)[0] as usize);
            let l = if i % 4 == 3 { 1 } else { l };
            let spec = Scan { algorithm: one_algorithm(n, i), ..Scan::mamba(n) };
            Case::random(Dims { s: 1 + i / 2 % 2, b, l, e, n, r: 1 }, spec, i % 3 > 0).check(g);
        }
    });
}

/// E = 2, N = 2, L = 3. The results were computed independently, to six decimals. Rows are channels or states, columns
/// are time steps.
#[test]
fn selective_scan_worked_example() {
    let transpose = |rows: &[[f32; 3]]| (0..3).flat_map(|t| rows.iter().map(move |row| row[t])).collect::<Vec<_>>();
    let ln2 = 2f32.ln();
    let z = [[1.0, -1.0, 0.5], [0.0, 2.0, -2.0]];
    let case = |algorithm| Case {
        dim: Dims { s: 1, b: 1, l: 3, e: 2, n: 2, r: 0 },
        spec: Scan { algorithm, ..Scan::mamba(2) },
        u: transpose(&[[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]]),
        delta: transpose(&[[0.1, -0.3, 0.7], [-1.2, 0.4, 0.0]]),
        xdbl: transpose(&[[1.0, 0.5, -1.0], [0.2, -0.7, 0.3], [0.3, 1.0, 0.5], [-1.0, 0.6, 0.2]]),
        a_log: vec![0.0, ln2, 0.0, ln2],
        d: vec![1.0, 0.5],
        bias: vec![-0.5, 0.2],
        xz: Some(transpose(&[[0.0; 3], [0.0; 3], z[0], z[1]])),
        dout: transpose(&[[1.0, 0.5, -1.0], [0.2, -0.3, 1.0]]),
        f16: false,
    };
    let want = [
        ("out", transpose(&[[0.384281, 0.225387, 0.406848], [0.0, 0.460608, 0.006502]])),
        ("last_state", vec![-1.600134, 0.536475, 0.507419, -0.154920]),
        ("du", transpose(&[[0.691611, -0.148184, -0.201932], [-0.067189, -0.328921, -0.035479]])),
        ("ddelta", transpose(&[[-0.015429, 0.024092, 0.154202], [-0.057683, 0.034977, -0.023583]])),
        (
            "dxdbl",
            transpose(&[
                [-0.044559, -0.075092, -0.200834],
                [-0.211767, -0.050127, -0.080334],
                [0.187522, -0.126047, 0.377038],
                [0.037504, 0.053578, -0.130033],
            ]),
        ),
        (
            "dchannel_params",
            case(None).layout(
                &[0.012954, 0.007414, 0.077350, 0.002654],
                &[-0.122459, -0.012917],
                &[0.162864, -0.046288],
                0.0,
            ),
        ),
        ("dxz", transpose(&[[0.0; 3], [0.0; 3], [0.487631, -0.030308, -0.967298], [0.053133, -0.085563, 0.002476]])),
    ];
    each_choice(|g| {
        for algorithm in algorithms(2) {
            for (got, (name, want)) in case(algorithm).gpu(g).iter().zip(&want) {
                assert_eq!(got.len(), want.len(), "{name}");
                for (g, w) in got.iter().zip(want) {
                    assert!((g - w).abs() < 2e-6, "{name}: {g}, expected {w}"); // six decimals
                }
            }
        }
    });
}

/// Results have the same bits in every run, because sums have a fixed order.
#[test]
fn selective_scan_repeats_exactly() {
    each_choice(|g| {
        for algorithm in algorithms(16) {
            let spec = Scan { algorithm, ..Scan::mamba(16) };
            let case = Case::random(Dims { s: 2, b: 3, l: 37, e: 130, n: 16, r: 4 }, spec, true);
            let bits = || case.gpu(g).concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits() == bits(), "{algorithm:?}");
        }
    });
}

#[test]
fn channel_layout_can_be_bound_part_by_part() {
    for (s, e, n) in [(1, 1, 1), (2, 3, 5), (2, 384, 16)] {
        let at = channel_layout(s, e, n);
        assert!([at.a_log, at.d, at.bias, at.len].iter().all(|at| at % 64 == 0));
        assert!(at.d >= s * e * n && at.bias >= at.d + s * e && at.len >= at.bias + s * e);
    }
}
