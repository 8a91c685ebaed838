use rowscan::Result;
use rowscan::cpu::attention::{Dims, Mask as Seen, backward, forward, weights};
use rowscan::gpu::{Caps, Gpu, Precision, Tiers};
use rowscan::ops::attention::{
    AttentionMask, AttentionOptions, KERNELS, Regions, cross_attention, self_attention, tiling, weights as ops_weights,
};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use super::values;
use crate::common::{
    Random, Tol, as_hardware, close, each_tier, gpu, halved as to_half, leaf, round_to_half, run, some, wide, widened,
};

/// Sums of at most 200 products of order 1 in another order than the oracle's, and one exp of a few ulp each way.
const TOL: Tol = Tol { rel: 1e-5, abs: 5e-6 };

/// The same of operands that are rounded to f16 exactly as the oracle's are. What multiplies v, k, q and dout in turn
/// is rounded as well, to within 2⁻¹¹ of itself, so a sum is off by at most 2⁻¹¹ of the sum of sizes of what it adds,
/// which is up to a few times the largest result; and delta, made of such sums, is subtracted in every dx. Where a
/// query sees one key dq and dk are zero, and what is left are the roundings of [`TOL`]. Results that are stored as f16
/// miss as much.
fn halved(want: &[f64]) -> Tol {
    let Tol { rel, abs } = Tol::of(want, 2e-3);
    Tol { rel, abs: abs + TOL.abs }
}

/// An adapter that computes attention on cooperative matrices in mixed precision, if there is one.
fn coop() -> Option<Gpu> {
    let found = as_hardware().filter(takes_coop);
    if found.is_none() {
        eprintln!("SKIPPED: attention on cooperative matrices (the adapter has none)");
    }
    found
}

fn takes_coop(g: &Gpu) -> bool {
    g.caps().tiers.coop && !g.caps().software
}

/// Each tier in f32, then cooperative matrices where there are any.
fn each_path(test: impl Fn(&Gpu, Precision)) {
    each_tier(|g| test(g, Precision::F32));
    if let Some(g) = coop() {
        test(&g, Precision::Mixed);
    }
}

/// One problem with its data: q, k, v and dout as the oracle wants them.
struct Problem {
    dim: Dims,
    mask: AttentionMask,
    regions: Vec<u32>,
    parts: [Vec<f32>; 3],
    dout: Vec<f32>,
    /// Whether the GPU gets them as f16.
    half: bool,
    precision: Precision,
}

impl Problem {
    fn new(seed: u64, [b, lq, lk, h, dh]: [usize; 5], mask: AttentionMask, regions: Vec<u32>) -> Self {
        let dim = Dims { b, lq, lk, h, dh };
        let mut random = Random::new(seed);
        let parts = [lq, lk, lk].map(|l| random.normal(b * l * h * dh));
        let dout = random.normal(b * lq * h * dh);
        Self { dim, mask, regions, parts, dout, half: false, precision: Precision::F32 }
    }

    fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    fn options<'a>(&self, regions: Option<&'a Regions>) -> AttentionOptions<'a> {
        AttentionOptions { heads: self.dim.h, mask: self.mask, regions }
    }

    fn seen(&self) -> Seen<'_> {
        match self.mask {
            AttentionMask::Full => Seen::Full,
            AttentionMask::RegionCausal => Seen::RegionCausal(&self.regions, &self.regions),
            AttentionMask::SameRegion => Seen::SameRegion(&self.regions, &self.regions),
        }
    }

    /// q, k or v of one token stand together in rows of `of.len()` such parts.
    fn join(&self, of: &[usize], l: usize) -> Vec<f32> {
        let c = self.dim.h * self.dim.dh;
        let token = |t: usize| of.iter().flat_map(move |&i| &self.parts[i][t * c..][..c]);
        (0..self.dim.b * l).flat_map(token).copied().collect()
    }

    fn leaf(&self, g: &Gpu, of: &[usize], l: usize) -> Var {
        leaf(g, &[self.dim.b, l, of.len() * self.dim.h * self.dim.dh], &self.join(of, l))
    }

    fn table(&self, g: &Gpu) -> Option<Regions> {
        (self.mask != AttentionMask::Full).then(|| Regions::new(g, &self.regions).unwrap())
    }

    /// (out, dqkv)
    fn run_self(&self, g: &Gpu) -> (Vec<f32>, Vec<f32>) {
        let table = self.table(g);
        let qkv = self.leaf(g, &[0, 1, 2], self.dim.lq);
        let (out, mut grads) = run(g, &[qkv], &self.dout, |r, v| {
            r.set_precision(self.precision);
            let qkv = self.stored(r, &v[0])?;
            let out = self_attention(r, &qkv, self.options(table.as_ref()))?;
            self.wide(r, out)
        });
        (out, grads.remove(0))
    }

    fn stored(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        if self.half { to_half(r, x) } else { Ok(x.clone()) }
    }

    fn wide(&self, r: &mut Recorder, out: Var) -> Result<Var> {
        assert_eq!(out.data.is_f16(), self.half);
        if self.half { widened(r, &out) } else { Ok(out) }
    }

    /// With q, k, v, out and their gradients in f16.
    fn check_stored(mut self, g: &Gpu) {
        self.parts.iter_mut().chain([&mut self.dout]).for_each(|values| round_to_half(values));
        self.half = true;
        self.check_of(g, wide, halved);
    }

    fn check(&self, g: &Gpu, tol: Tol) {
        self.check_of(g, wide, |_| tol);
    }

    /// In mixed precision on cooperative matrices.
    fn check_halved(self, g: &Gpu) {
        let read = |x: &[f32]| x.iter().map(|&x| half::f16::from_f32(x).to_f64()).collect();
        self.in_precision(Precision::Mixed).check_of(g, read, halved);
    }

    /// With operands as the device reads them, and what a result may be off by.
    fn check_of(&self, g: &Gpu, read: impl Fn(&[f32]) -> Vec<f64>, tol: impl Fn(&[f64]) -> Tol) {
        let [q, k, v] = self.parts.each_ref().map(|x| read(x));
        let scale = (self.dim.dh as f64).sqrt().recip();
        let want = forward(self.dim, &q, &k, &v, scale, self.seen());
        let grads = backward(self.dim, &q, &k, &v, scale, self.seen(), &read(&self.dout));
        let wants = [&grads.dq, &grads.dk, &grads.dv];
        let name = format!("{:?} {:?}", self.mask, self.dim);
        let compare = |kind: &str, of: &[usize], got: &[f32]| {
            let c = self.dim.h * self.dim.dh;
            for (at, &i) in of.iter().enumerate() {
                let rows = got.chunks_exact(of.len() * c);
                let part: Vec<f32> = rows.flat_map(|row| &row[at * c..][..c]).copied().collect();
                close(&format!("{name} {kind} d{}", ["q", "k", "v"][i]), &part, wants[i], tol(wants[i]));
            }
        };
        if self.dim.lq == self.dim.lk {
            let (out, dqkv) = self.run_self(g);
            close(&format!("{name} self out"), &out, &want.out, tol(&want.out));
            compare("self", &[0, 1, 2], &dqkv);
        }
        let table = self.table(g);
        let leaves = [self.leaf(g, &[0], self.dim.lq), self.leaf(g, &[1, 2], self.dim.lk)];
        let (out, found) = run(g, &leaves, &self.dout, |r, v| {
            r.set_precision(self.precision);
            let (q, kv) = (self.stored(r, &v[0])?, self.stored(r, &v[1])?);
            let out = cross_attention(r, &q, &kv, self.options(table.as_ref()))?;
            self.wide(r, out)
        });
        close(&format!("{name} cross out"), &out, &want.out, tol(&want.out));
        compare("cross", &[0], &found[0]);
        compare("cross", &[1, 2], &found[1]);
        let seen = values(g, |r| {
            r.set_precision(self.precision);
            let (q, kv) = (self.stored(r, &leaves[0])?, self.stored(r, &leaves[1])?);
            ops_weights(r, &q.data, &kv.data, self.options(table.as_ref()))
        });
        let want = weights(self.dim, &wide(&self.parts[0]), &wide(&self.parts[1]), scale, self.seen());
        let tol = if self.precision == Precision::Mixed { TOL } else { tol(&want) }; // never rounded
        close(&format!("{name} weights"), &seen, &want, tol);
    }
}

fn rows(l: usize, width: usize) -> Vec<u32> {
    (0..l).map(|t| (t / width) as u32).collect()
}

fn tokens(l: usize) -> Vec<u32> {
    rows(l, 1)
}

#[test]
fn attention_matches_cpu() {
    let any = |seed, l, below| Random::new(seed).below(l, below);
    each_tier(|g| {
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

/// In f32 arithmetic, and on cooperative matrices where there are any. Where one key is seen, dq and dk are what delta
/// misses by, so these cases see more.
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
            Problem::new(40 + seed as u64, shape, mask, regions).in_precision(precision).check_stored(g);
        }
    });
}

/// Every mask at every way to split a head over invocations, with rows and tiles that end early.
#[test]
fn attention_in_f16_matches_cpu_at_every_head() {
    each_path(|g, precision| {
        for (i, dh) in some([4, 8, 32, 64, 128].into_iter().enumerate()) {
            for mask in [AttentionMask::Full, AttentionMask::RegionCausal, AttentionMask::SameRegion] {
                let l = 35 + 6 * i;
                let problem = Problem::new(60 + i as u64, [1 + i % 2, l, l, 1 + i % 3, dh], mask, rows(l, 7));
                problem.in_precision(precision).check_stored(g);
            }
        }
    });
}

#[test]
fn attention_past_one_grid_row() {
    // 2049·16 groups of one workgroup each: 16 more than a grid row of 32768
    let problem = Problem::new(1, [2049, 2, 2, 16, 1], AttentionMask::RegionCausal, tokens(2));
    each_tier(|g| problem.check(g, TOL));
    if let Some(g) = coop() {
        problem.check_halved(&g);
    }
}

/// Every length around tiles of 32 keys and of 32 or 64 queries, every mask at every width of head.
#[test]
fn attention_on_cooperative_matrices_matches_cpu() {
    let Some(g) = &coop() else { return };
    for l in 1..=70 {
        let dh = [12, 64, 33, 128, 1, 16][l % 6];
        let mask = [AttentionMask::Full, AttentionMask::RegionCausal, AttentionMask::SameRegion][l / 6 % 3];
        let regions = if l % 2 == 0 { rows(l, 7) } else { Random::new(l as u64).below(l, 1 << 31) };
        Problem::new(l as u64, [1 + l % 2, l, l, 1 + l % 3, dh], mask, regions).check_halved(g);
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
        Problem::new(seed as u64, shape, mask, regions).check_halved(g);
    }
    let mut random = Random::new(1618);
    for seed in 0..12 {
        let mut upto = |n| 1 + random.below(1, n)[0] as usize;
        let (b, lq, lk, h, dh) = (upto(3), upto(140), upto(140), upto(4), upto(40));
        Problem::new(seed, [b, lq, lk, h, dh], AttentionMask::Full, vec![]).check_halved(g);
        let mask = [AttentionMask::RegionCausal, AttentionMask::SameRegion][upto(2) - 1];
        let regions = upto(40) as u32;
        Problem::new(seed, [b, lq, lq, h, dh], mask, random.below(lq, regions)).check_halved(g);
    }
}

#[test]
fn attention_repeats_bit_for_bit() {
    each_path(|g, precision| {
        let problem = Problem::new(3, [2, 100, 100, 3, 12], AttentionMask::RegionCausal, rows(100, 9));
        let mut problem = problem.in_precision(precision);
        for half in [false, true] {
            problem.half = half;
            assert_eq!(problem.run_self(g), problem.run_self(g));
        }
    });
}

/// Mixed precision rounds where there are cooperative matrices, and nothing elsewhere; `high` rounds nothing.
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

#[test]
fn attention_fuzz() {
    each_tier(|g| {
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

/// MAP's contract: later rows reach earlier ones neither forward nor, through their gradients, backward.
#[test]
fn attention_is_causal_bit_for_bit() {
    let (h, w, r) = (14, 14, 5);
    let kept = (r + 1) * w * 16; // values of rows 0..=r
    each_path(|g, precision| {
        for (regions, half) in [(rows(h * w, w), false), (tokens(h * w), false), (rows(h * w, w), true)] {
            let a = Problem::new(5, [1, h * w, h * w, 1, 16], AttentionMask::RegionCausal, regions);
            let mut a = Problem { half, precision, ..a };
            a.dout[kept..].fill(0.0);
            let (out, grad) = a.run_self(g);
            assert!(grad[3 * kept..].iter().all(|&d| d == 0.0), "gradient of later rows");
            let reached = grad[..3 * kept].iter().filter(|&&d| d != 0.0).count();
            assert!(reached > 29 * kept / 10, "gradient of earlier rows"); // a query with one key has none
            let noise = Random::new(6).uniform(h * w * 16, -30.0, 30.0);
            for part in &mut a.parts {
                part[kept..].copy_from_slice(&noise[kept..]);
            }
            let (changed, moved) = a.run_self(g);
            assert_eq!(out[..kept], changed[..kept], "rows <= {r}");
            assert_eq!(grad[..3 * kept], moved[..3 * kept], "gradients of rows <= {r}");
            assert_ne!(out[kept..], changed[kept..], "rows > {r} see the change");
        }
    });
}

#[test]
fn attention_stays_finite_at_large_logits() {
    each_path(|g, precision| {
        for (size, check) in [(9.0, true), (60.0, false)] {
            let a = Problem::new(7, [1, 65, 65, 1, 16], AttentionMask::RegionCausal, rows(65, 13));
            let mut a = a.in_precision(precision);
            for part in &mut a.parts[..2] {
                part.iter_mut().for_each(|x| *x *= size);
            }
            let [q, k, _] = &a.parts;
            let x: f32 = (0..65 * 65)
                .map(|n| q[n / 65 * 16..][..16].iter().zip(&k[n % 65 * 16..]).map(|(q, k)| q * k / 4.0).sum::<f32>())
                .fold(0.0, |m, x| x.abs().max(m));
            assert!(x > 80.0, "logits of {x} test nothing");
            if check && precision == Precision::F32 {
                // a logit of 300 is rounded to 3e-5, and with it each weight, relative; dq and dk carry the factor 9
                a.check(g, Tol { rel: 1e-4, abs: 2e-4 });
            } else {
                let (out, grad) = a.run_self(g);
                assert!(out.iter().chain(&grad).all(|x| x.is_finite()), "logits of {x}");
                assert!(out.iter().all(|x| x.abs() < 3.01), "an average of values leaves their range");
            }
        }
    });
}

/// (bytes of workgroup memory, invocations) of an entry point.
fn needs(source: &str, entry: &str) -> (u32, u32) {
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    let all = naga::valid::Capabilities::all();
    let info = naga::valid::Validator::new(Default::default(), all).validate(&module).expect("valid module");
    let at = module.entry_points.iter().position(|e| e.name == entry).expect("entry point");
    let used = module.global_variables.iter().filter(|(handle, var)| {
        var.space == naga::AddressSpace::WorkGroup && !info.get_entry_point(at)[*handle].is_empty()
    });
    let bytes = used.map(|(_, var)| module.types[var.ty].inner.size(module.to_ctx())).sum();
    (bytes, module.entry_points[at].workgroup_size[0])
}

const HEADS: [usize; 10] = [1, 12, 16, 17, 32, 33, 64, 65, 127, 128];

/// Every width of head within 16 KiB of workgroup memory and 256 invocations.
#[test]
fn attention_fits_at_every_head() {
    for dh in HEADS {
        for kernel in KERNELS.iter().filter(|kernel| kernel.family() == "attention") {
            let consts = tiling(dh, kernel.entry() != "forward");
            let (bytes, invocations) = needs(
                &kernel.wgsl(Tiers::default(), false, &[&consts.map(|c| c.1)[..], &[1]].concat()),
                kernel.entry(),
            );
            assert!(bytes <= 16_384, "{} {dh}: {bytes} bytes", kernel.name);
            assert!(invocations <= 256, "{} {dh}", kernel.name);
        }
    }
}

/// The launches of a forward and a backward pass, and whether they fit into what an adapter of that tier has.
#[test]
fn attention_takes_cooperative_matrices_in_mixed_precision_only() {
    let tiers = Tiers { coop: true, ..Tiers::default() };
    for (fragment, lanes) in [(8, 8), (8, 32), (16, 16), (16, 32), (16, 64)] {
        let caps = Caps { tiers, fragment, subgroup_sizes: (lanes, lanes), ..Caps::portable() };
        let names = |caps: &Caps, precision, dh: usize| {
            let g = Gpu::dry(caps.clone());
            let qkv = Var::leaf(Tensor::input("qkv", &[2, 70, 3 * dh]));
            let step = |r: &mut Recorder| {
                let out = self_attention(r, &qkv, AttentionOptions::heads(1))?;
                r.backward_from(&out, Tensor::input("dout", &[2, 70, dh]), Grads::default())
            };
            let (recording, _) = Recorder::new(&g).in_precision(precision).record(step).expect("recorded");
            for launch in recording.launches().iter().filter(|launch| launch.name().contains("coop")) {
                let (bytes, invocations) = needs(&launch.wgsl(Tiers::default(), false), launch.kernel().entry());
                assert!(bytes <= 32_768, "{} {dh} {lanes}: {bytes} bytes", launch.name());
                assert_eq!(invocations, 4 * lanes, "{}", launch.name());
            }
            let names = recording.launches().iter().map(|launch| launch.name().to_string());
            names.collect::<Vec<_>>()
        };
        let f32 = ["attention.forward", "attention.backward_delta", "attention.backward_dq", "attention.backward_dkv"];
        for dh in HEADS {
            let [forward, dq, dkv] = ["forward", "dq", "dkv"].map(|entry| format!("attention_coop.{entry}{fragment}"));
            assert_eq!(names(&caps, Precision::Mixed, dh), [forward, f32[1].into(), dq, dkv]);
        }
        assert_eq!(names(&caps, Precision::F32, 64), f32);
        assert_eq!(names(&caps, Precision::High, 64), f32);
        assert_eq!(names(&Caps { software: true, ..caps }, Precision::Mixed, 64), f32);
    }
    assert_eq!(KERNELS.iter().filter(|kernel| kernel.least.is_none()).count(), 2, "weights and delta move bytes only");
}

#[test]
fn attention_names_what_is_wrong() {
    let g = &Gpu::dry(Caps::portable());
    let var = |shape: &[usize]| Var::leaf(Tensor::input("x", shape));
    let shape = |out: Result<Var>| out.map(|out| out.data.shape().to_vec());
    let on_its_own = |of: &[usize], heads, mask| {
        shape(self_attention(&mut Recorder::inference(g), &var(of), AttentionOptions { heads, mask, regions: None }))
    };
    let fails = |result: Result<Vec<usize>>, with: &str| {
        let text = result.expect_err(with).to_string();
        assert!(text.contains(with), "{text}");
    };
    assert_eq!(on_its_own(&[2, 5, 36], 3, AttentionMask::Full).expect("fits"), [2, 5, 12]);
    fails(on_its_own(&[2, 5, 35], 1, AttentionMask::Full), "multiple of 3");
    fails(on_its_own(&[2, 5, 36], 5, AttentionMask::Full), "heads");
    fails(on_its_own(&[2, 5, 36], 0, AttentionMask::Full), "heads");
    fails(on_its_own(&[2, 5, 3 * 129], 1, AttentionMask::Full), "heads of 1 to 128");
    fails(on_its_own(&[2, 180], 3, AttentionMask::Full), "3 dimensions");
    fails(on_its_own(&[2, 5, 36], 3, AttentionMask::SameRegion), "a table for SameRegion");
    let across = |q: &[usize], kv: &[usize]| {
        shape(cross_attention(&mut Recorder::inference(g), &var(q), &var(kv), AttentionOptions::heads(3)))
    };
    assert_eq!(across(&[2, 5, 12], &[2, 7, 24]).expect("fits"), [2, 5, 12]);
    fails(across(&[2, 5, 12], &[3, 7, 24]), "attention: kv");
    fails(across(&[2, 5, 12], &[2, 7, 12]), "attention: kv");
    let half = |shape: &[usize]| Var::leaf(Tensor::scratch_of(rowscan::gpu::DType::F16, "x", shape));
    let in_half = |q: &Var, kv: &Var, heads| {
        shape(cross_attention(&mut Recorder::inference(g), q, kv, AttentionOptions::heads(heads)))
    };
    assert_eq!(in_half(&half(&[2, 5, 12]), &half(&[2, 7, 24]), 3).expect("fits"), [2, 5, 12]);
    fails(in_half(&half(&[2, 5, 12]), &half(&[2, 7, 24]), 2), "a multiple of 4");
    fails(in_half(&half(&[2, 5, 12]), &var(&[2, 7, 24]), 3), "f16");
    let Some(g) = gpu() else { return };
    fails(Regions::new(g, &[]).map(|r| vec![r.len()]), "at least one");
    let table = Regions::rows(g, 2, 3).expect("six tokens");
    let r = &mut Recorder::inference(g);
    fails(
        shape(self_attention(
            r,
            &var(&[2, 5, 36]),
            AttentionOptions { heads: 3, mask: AttentionMask::RegionCausal, regions: Some(&table) },
        )),
        "6 of each",
    );
}
