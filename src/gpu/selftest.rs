//! Self-tests of the tiers at start-up. A tier is used only if its test kernel reproduces a known result exactly.

use super::buffer::Physical;
use super::caps::Tiers;
use super::choice::Const;
use super::device::Inner;
use super::kernel::{Bind, Kernel, Needs, read, wgsl, write};
use super::pipeline::compile;
use super::scalars::params;

params! { pub(crate) struct SelfTest { n: u32 } }

const SUBGROUP: Kernel =
    Kernel::new::<SelfTest>("selftest_subgroup.run", wgsl!("selftest_subgroup", "reduce_subgroup"), &[write(1, "out")])
        .needs(Needs::SUBGROUP);
const HALF: Kernel = Kernel::new::<SelfTest>(
    "selftest_half.run",
    wgsl!("selftest_half", "half"),
    &[read(1, "x"), write(2, "out").f16()],
)
.rounds();
const COOP_BINDS: &[Bind] = &[read(1, "x").f16(), write(2, "out")];
/// In smaller subgroups the results of `matmul_coop.wgsl` would need more than 32 KiB of workgroup memory; no known GPU
/// has fragments of 16×16 in them.
const LANES16: &[Const] = &[Const::of("LANES", &[32, 64])];
/// Subgroups of 64 would hold more fragments of 8×8 than `matmul_coop.wgsl` writes out; no known GPU has those.
const LANES8: &[Const] = &[Const::of("LANES", &[32, 8, 16])];
const COOP16: Kernel =
    Kernel::new::<SelfTest>("selftest_coop.product16", wgsl!("selftest_coop", "coop16", "product16"), COOP_BINDS)
        .consts(LANES16)
        .needs(Needs::COOP);
const COOP8: Kernel =
    Kernel::new::<SelfTest>("selftest_coop.product8", wgsl!("selftest_coop", "coop8", "product8"), COOP_BINDS)
        .consts(LANES8)
        .needs(Needs::COOP);

/// The kernels of the self-tests, for the shader tests.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&SUBGROUP, &HALF, &COOP16, &COOP8];

/// What the self-tests found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passed {
    pub tiers: Tiers,
    /// [`Caps::coop_lanes`](super::caps::Caps::coop_lanes).
    pub coop_lanes: u32,
}

/// The tiers of `offered` whose self-test passed. Each of the others is reported as a warning.
pub(super) async fn passing(inner: &Inner, offered: Tiers) -> Passed {
    let checked = |on: bool, name: &str, passed: bool| {
        if on && !passed {
            tracing::warn!("tier `{name}` of {} failed its self-test and is off", inner.caps.name);
        }
        on && passed
    };
    let coop_lanes = if offered.coop { coop_lanes(inner).await } else { 0 };
    let tiers = Tiers {
        subgroup: checked(offered.subgroup, "subgroup", offered.subgroup && subgroup_sums(inner).await),
        coop: checked(offered.coop, "coop", coop_lanes > 0),
    };
    Passed { tiers, coop_lanes }
}

/// The subgroup size with which products on cooperative matrices are right: the adapter's smallest or its largest, of
/// which AMD's drivers choose one. 0 if neither gives the right product.
async fn coop_lanes(inner: &Inner) -> u32 {
    let (least, most) = inner.caps.subgroup_sizes;
    let consts = if inner.caps.fragment == 16 { LANES16 } else { LANES8 };
    for lanes in [least, most] {
        let known = consts[0].admits(lanes) && (lanes == least || least != most);
        if known && 4 * lanes <= inner.caps.workgroup_size && coop_product(inner, lanes).await {
            return lanes;
        }
    }
    0
}

/// Tests subgroup sums and shuffles: every invocation must get 1 + 2 + … + 256. The kernel writes 0 if the lanes of a
/// subgroup are not consecutive invocations, which our kernels rely on.
async fn subgroup_sums(inner: &Inner) -> bool {
    let sums = run(inner, &SUBGROUP, &[], None, 256 * 4).await;
    sums.is_some_and(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes) == [32_896.0; 256])
}

/// Whether the driver's `pack2x16float` rounds to the nearest f16, ties to even (IEEE 754's default, which WGSL does
/// not promise). The inputs are ties, numbers too large and too small for f16, and numbers in between; the result is
/// compared bit for bit.
pub(super) async fn nearest_halves(inner: &Inner) -> bool {
    let power = |n: i32| 2f32.powi(n);
    let edges = [
        0.0,
        65504.0,
        65519.996,
        65520.0,
        1e30,
        f32::INFINITY,
        f32::NAN,
        power(-14),
        power(-24),
        power(-25),
        power(-26),
    ];
    let ties = (0..64).map(|i| (1.0 + i as f32 * power(-11)) * power(i % 7 - 3));
    let small = (0..32).map(|i| i as f32 * power(-25));
    let between = (1..22).map(|i| (i as f32 * 0.7).exp() * power(-12) * 1.0001);
    let positive: Vec<f32> = edges.into_iter().chain(ties).chain(small).chain(between).collect();
    let x: Vec<f32> = positive.iter().flat_map(|&v| [v, -v]).collect();
    let halves = run(inner, &HALF, &[], Some(bytemuck::cast_slice(&x)), 2 * x.len() as u64).await;
    let right = |(&x, half): (&f32, half::f16)| {
        let want = half::f16::from_f32(x);
        half.to_bits() == want.to_bits() || half.is_nan() && want.is_nan()
    };
    halves.is_some_and(|bytes| x.iter().zip(bytemuck::pod_collect_to_vec::<u8, half::f16>(&bytes)).all(right))
}

/// Tests cooperative matrices: a (4f, 64) · (64, f) product, where f is the side of a fragment, accumulated over tiles
/// of the inner dimension. All values are small integers, so the f32 result is exact.
async fn coop_product(inner: &Inner, lanes: u32) -> bool {
    let f = inner.caps.fragment as usize;
    let kernel = if f == 16 { &COOP16 } else { &COOP8 };
    let a = |i: usize, k: usize| ((i * 3 + k * 5) % 7) as f32 - 3.0;
    let b = |k: usize, j: usize| ((k * 2 + j * 11) % 5) as f32 - 2.0;
    let lhs = (0..4 * f * 64).map(|i| half::f16::from_f32(a(i / 64, i % 64)));
    let rhs = (0..64 * f).map(|i| half::f16::from_f32(b(i / f, i % f)));
    let input: Vec<_> = lhs.chain(rhs).collect();
    let dot = |i: usize, j: usize| (0..64).map(|k| a(i, k) * b(k, j)).sum::<f32>();
    let expected: Vec<_> = (0..4 * f * f).map(|at| dot(at / f, at % f)).collect();
    let product = run(inner, kernel, &[lanes], Some(bytemuck::cast_slice(&input)), (4 * f * f * 4) as u64).await;
    product.is_some_and(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes) == expected)
}

/// Runs one workgroup of a kernel, with these values of its constants, on new buffers and returns its output. `None` if
/// anything fails.
async fn run(
    inner: &Inner, kernel: &'static Kernel, values: &[u32], input: Option<&[u8]>, out_bytes: u64,
) -> Option<Vec<u8>> {
    let live = inner.live.as_ref()?;
    let pipeline = compile(live, kernel, &kernel.wgsl(Tiers::default(), true, values));
    live.check().ok()?;
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let uniform = Physical::new(&live.device, &live.counters, 16, usage, kernel.name);
    let out = live.allocate(out_bytes, kernel.name);
    let mut buffers = vec![uniform];
    if let Some(bytes) = input {
        let buffer = live.allocate(bytes.len() as u64, kernel.name);
        live.queue.write_buffer(&buffer.raw, 0, bytes);
        buffers.push(buffer);
    }
    buffers.push(out.clone());
    let entry = |(i, b): (usize, &std::sync::Arc<Physical>)| (i as u32, b.clone());
    let bound: Vec<_> = buffers.iter().enumerate().map(entry).collect();
    let entries: Vec<_> = bound
        .iter()
        .map(|(binding, b)| wgpu::BindGroupEntry { binding: *binding, resource: b.raw.as_entire_binding() })
        .collect();
    let group = live.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.layout,
        entries: &entries,
    });
    let mut encoder = live.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline.raw);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(1, 1, 1);
    drop(pass);
    live.queue.submit([encoder.finish()]);
    live.check().ok()?;
    live.start_read(&out.raw, 0, out_bytes).await.ok()
}
