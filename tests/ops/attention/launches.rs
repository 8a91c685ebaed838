//! Which kernels attention launches, what they need of a workgroup, and which arguments it refuses.

use rowscan::Result;
use rowscan::gpu::{Caps, DType, Gpu, Precision, Tiers};
use rowscan::ops::attention::{
    AttentionMask, AttentionOptions, KERNELS, Regions, cross_attention, self_attention, tiling,
};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::gpu;
use crate::wgsl::Shader;

/// (bytes of workgroup memory, invocations) of an entry point.
fn needs(source: &str, entry: &str) -> (u32, u32) {
    let shader = Shader::new(entry, source, naga::valid::Capabilities::all());
    (shader.workgroup_bytes(entry), shader.invocations(entry))
}

const HEADS: [usize; 10] = [1, 12, 16, 17, 32, 33, 64, 65, 127, 128];

/// Every width of head fits WebGPU's 16 KiB of workgroup memory and 256 invocations.
#[test]
fn attention_fits_at_every_head() {
    for (dh, on_cpu) in HEADS.into_iter().flat_map(|dh| [(dh, false), (dh, true)]) {
        for kernel in KERNELS.iter().filter(|kernel| kernel.family() == "attention") {
            let consts = tiling(on_cpu, dh, kernel.entry() != "forward");
            let value = |name| consts.iter().find(|(known, _)| *known == name).map_or(1, |(_, value)| *value); // HALF
            let values: Vec<u32> = kernel.consts.iter().map(|known| value(known.name)).collect();
            let (bytes, invocations) = needs(&kernel.wgsl(Tiers::default(), false, &values), kernel.entry());
            assert!(bytes <= if on_cpu { 128 } else { 16_384 }, "{} {dh}: {bytes} bytes", kernel.name);
            assert!(invocations <= 256, "{} {dh}", kernel.name);
        }
    }
}

/// Kernels on cooperative matrices are launched in mixed precision only, and only on hardware that has them. They fit
/// the 32 KiB of workgroup memory that the `coop` tier requires.
#[test]
fn attention_takes_cooperative_matrices_in_mixed_precision_only() {
    let tiers = Tiers { coop: true, ..Tiers::default() };
    for (fragment, lanes) in [(8, 8), (8, 32), (16, 16), (16, 32), (16, 64)] {
        let caps = Caps { tiers, fragment, coop_lanes: lanes, ..Caps::portable() };
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
    let f16 = |shape: &[usize]| Var::leaf(Tensor::scratch_of(DType::F16, "x", shape));
    let cross_f16 = |q: &Var, kv: &Var, heads| {
        shape(cross_attention(&mut Recorder::inference(g), q, kv, AttentionOptions::heads(heads)))
    };
    assert_eq!(cross_f16(&f16(&[2, 5, 12]), &f16(&[2, 7, 24]), 3).expect("fits"), [2, 5, 12]);
    fails(cross_f16(&f16(&[2, 5, 12]), &f16(&[2, 7, 24]), 2), "a multiple of 4");
    fails(cross_f16(&f16(&[2, 5, 12]), &var(&[2, 7, 24]), 3), "f16");
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
