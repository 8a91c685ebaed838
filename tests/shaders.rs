//! Every kernel through naga with the limits of WebGPU, and its description in Rust compared with the shader.

use naga::valid::{Capabilities, FunctionInfo};
use naga::{AddressSpace, StorageAccess, TypeInner};
use rowscan::gpu::{Bind, Caps, DType, Element, Gpu, Kernel, Scalars, Tiers};
use rowscan::ops::selective_scan::{Scan, channel_layout, packed};
use rowscan::ops::step::StepState;
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::wgsl::{Shader, parse};

fn kernels() -> Vec<&'static Kernel> {
    let mut all = rowscan::ops::all();
    all.extend(rowscan::tensor::KERNELS);
    all.extend(rowscan::gpu::SELFTEST_KERNELS);
    all.extend(rowscan::bench::runner::roof::KERNELS);
    all
}

/// A kernel's shader with the default constants.
fn shader(kernel: &Kernel, subgroup: bool) -> Shader {
    let defaults: Vec<u32> = kernel.consts.iter().map(|known| known.default()).collect();
    validated(kernel, &kernel.wgsl(Tiers { subgroup, ..Tiers::default() }, false, &defaults), subgroup)
}

/// `source` with the capabilities of WebGPU, and those that the kernel declares to need.
fn validated(kernel: &Kernel, source: &str, subgroup: bool) -> Shader {
    let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32; // unpack2x16float, which WebGPU has without f16
    allowed.set(Capabilities::SUBGROUP, subgroup || kernel.needs.subgroup);
    allowed.set(Capabilities::SHADER_FLOAT16, kernel.needs.f16);
    allowed.set(Capabilities::COOPERATIVE_MATRIX, kernel.needs.coop);
    Shader::new(kernel.name, source, allowed)
}

/// Name, offset, type of each member of a struct, and its size.
fn fields(module: &naga::Module, name: &str) -> (Vec<(String, usize, &'static str)>, u32) {
    let found = module.types.iter().find(|(_, t)| t.name.as_deref() == Some(name));
    let Some(TypeInner::Struct { members, span }) = found.map(|(_, t)| &t.inner) else { panic!("no struct {name}") };
    let kind = |member: &naga::StructMember| match module.types[member.ty].inner {
        TypeInner::Scalar(naga::Scalar::U32) => "u32",
        TypeInner::Scalar(naga::Scalar::F32) => "f32",
        _ => panic!("{name}.{:?} is neither u32 nor f32", member.name),
    };
    (members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize, kind(m))).collect(), *span)
}

/// The storage buffers that a shader declares: binding number, name, whether it is written, element type.
fn declared(module: &naga::Module, uses: &FunctionInfo) -> Vec<(u32, String, bool, Scalar)> {
    let used = module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty());
    let mut found: Vec<_> = used
        .filter_map(|(_, var)| match (&var.binding, var.space) {
            (Some(b), AddressSpace::Storage { access }) => {
                let name = var.name.clone().unwrap_or_default();
                Some((b.binding, name, access.contains(StorageAccess::STORE), scalar(module, var.ty)))
            }
            _ => None,
        })
        .collect();
    found.sort_unstable_by_key(|bind| bind.0);
    found
}

/// The element type of a storage array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scalar {
    F32,
    F16,
    U32,
    Struct,
}

fn scalar(module: &naga::Module, ty: naga::Handle<naga::Type>) -> Scalar {
    match module.types[ty].inner {
        TypeInner::Array { base, .. } => scalar(module, base),
        TypeInner::Scalar(s) | TypeInner::Vector { scalar: s, .. } => match (s.kind, s.width) {
            (naga::ScalarKind::Float, 2) => Scalar::F16,
            (naga::ScalarKind::Float, _) => Scalar::F32,
            _ => Scalar::U32,
        },
        _ => Scalar::Struct,
    }
}

/// Whether an array declared as `declared` can hold `element`. An array of u32 can hold any.
fn holds(declared: Scalar, element: Element) -> bool {
    match declared {
        Scalar::F32 => matches!(element, Element::F32),
        Scalar::F16 => matches!(element, Element::F16),
        Scalar::Struct => matches!(element, Element::Words),
        Scalar::U32 => true,
    }
}

#[test]
fn every_kernel_is_portable_and_matches_its_description() {
    for kernel in kernels() {
        for subgroup in [false, true] {
            if subgroup && kernel.subgroup.is_none() {
                continue;
            }
            let shader = shader(kernel, subgroup);
            let (members, span) = fields(&shader.module, "Params");
            let ours: Vec<_> = kernel.params.iter().map(|f| (f.0.to_string(), f.1, f.2)).collect();
            assert_eq!(members, ours, "{}: Params", kernel.name);
            assert_eq!(span as usize, 4 * ours.len(), "{}: size of Params", kernel.name);

            let found = declared(&shader.module, shader.uses(kernel.entry()));
            let mut ours: Vec<Bind> = kernel.binds.to_vec();
            ours.sort_unstable_by_key(|bind| bind.number);
            let said: Vec<_> = ours.iter().map(|b| (b.number, b.name.to_string(), b.writes())).collect();
            let seen: Vec<_> = found.iter().map(|b| (b.0, b.1.clone(), b.2)).collect();
            assert_eq!(seen, said, "{}: bindings (number, name, writes)", kernel.name);
            for (bind, (.., scalar)) in ours.iter().zip(&found) {
                let Bind { name, element, .. } = bind;
                assert!(holds(*scalar, *element), "{}: `{name}` is {scalar:?}, not {element:?}", kernel.name);
                let constants = [
                    bind.constant(),
                    match element {
                        Element::F16Until(constant, _) => Some(*constant),
                        _ => None,
                    },
                ];
                for constant in constants.into_iter().flatten() {
                    let known = kernel.consts.iter().find(|known| known.name == constant);
                    assert!(known.is_some_and(|c| c.values == [0, 1]), "{}: `{constant}` is no flag", kernel.name);
                }
                if let Element::F16Until(_, scalar) = element {
                    assert!(kernel.params.iter().any(|(known, ..)| known == scalar), "{}: no `{scalar}`", kernel.name);
                }
            }
            assert!(found.len() <= 8, "{}: {} storage buffers", kernel.name, found.len());
            let bytes = shader.workgroup_bytes(kernel.entry());
            assert!(bytes <= 16_384, "{}: {bytes} bytes of workgroup memory", kernel.name);
            let invocations = shader.invocations(kernel.entry());
            assert!(invocations <= 256, "{}: {invocations} invocations", kernel.name);
        }
        for source in [Some(kernel.source), kernel.subgroup].into_iter().flatten() {
            assert_eq!(source.contains("NEAREST"), kernel.rounds, "{}: lib/half and `rounds`", kernel.name);
            assert!(!source.contains("enable "), "{}: directives come from `needs`", kernel.name);
        }
    }
}

/// Combinations of constants that are tried per kernel. Of a kernel with more, evenly spaced ones are tried; the first
/// changes from day to day.
const MOST: usize = 160;

/// Every admissible combination of constants is valid and within the limits of a workgroup.
#[test]
fn every_variant_is_valid() {
    let seed = crate::common::seed();
    let (mut tried, mut all, mut wrong) = (0, 0, Vec::new());
    for kernel in kernels() {
        let count = kernel.combinations().count();
        let step = count.div_ceil(MOST).max(1);
        assert!(kernel.admissible(&kernel.consts.iter().map(|c| c.default()).collect::<Vec<_>>()), "{}", kernel.name);
        for values in kernel.combinations().skip(seed % step).step_by(step) {
            for subgroup in [false, true] {
                if subgroup && kernel.subgroup.is_none() || subgroup && values.len() > 4 && tried % 2 == 1 {
                    continue;
                }
                let tiers = Tiers { subgroup, ..Tiers::default() };
                let shader = validated(kernel, &kernel.wgsl(tiers, tried % 2 == 0, &values), subgroup);
                let bytes = shader.workgroup_bytes(kernel.entry());
                // kernels on cooperative matrices may take more: the tier requires 32 KiB
                let wrong_size = match kernel.needs.coop {
                    true => bytes > 32_768,
                    false => (bytes > 16_384) != (!subgroup && kernel.is_large(&values)),
                };
                if wrong_size {
                    wrong.push(format!("{} {values:?}, subgroup {subgroup}: {bytes} bytes", kernel.name));
                }
            }
            tried += 1;
        }
        all += count;
    }
    println!("{tried} of {all} combinations of constants");
    assert!(wrong.is_empty(), "more than 16 KiB of workgroup memory, or less than `large` says:\n{}", wrong.join("\n"));
    assert!(tried > 500);
}

/// The backward scan chooses its tiling from the number of states and the smallest subgroup. Every choice is valid and
/// fits into 16 KiB of workgroup memory.
#[test]
fn the_backward_scan_fits_any_subgroup() {
    for smallest in [0, 4, 8, 16, 32, 64, 128] {
        let tiers = Tiers { subgroup: smallest > 0, ..Tiers::default() };
        let g = Gpu::dry(Caps { tiers, subgroup_sizes: (smallest, 128), ..Caps::portable() });
        let states = [1, 4, 5, 8, 9, 16, 17, 32, 33, 48, 64];
        for (n, f16) in states.into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let var = |shape: &[usize]| Var::leaf(Tensor::input("leaf", shape));
            let stored = |label, shape: &[usize]| Tensor::scratch_of(DType::f16_if(f16), label, shape);
            let x = || Var::leaf(stored("leaf", &[2, 2, 40, 70]));
            let (xdbl, channel_params) = (var(&[2, 2, 40, 2 * n]), var(&[channel_layout(2, 70, n).len]));
            let scan = |r: &mut Recorder| {
                let out = packed(r, &x(), &x(), &xdbl, &channel_params, None, Scan::mamba(n))?.0;
                r.backward_from(&out, stored("dout", &[2, 40, 70]), Grads::default())
            };
            let (recording, _) = Recorder::new(&g).record(scan).expect("recorded");
            for launch in recording.launches() {
                let subgroup = tiers.subgroup && launch.kernel().subgroup.is_some();
                let shader = validated(launch.kernel(), &launch.wgsl(tiers, false), subgroup);
                let bytes = shader.workgroup_bytes(launch.kernel().entry());
                assert!(bytes <= 16_384, "{}: {bytes} bytes, {n} states, subgroups of {smallest}", launch.name());
            }
        }
    }
}

#[test]
fn step_state_is_the_same_on_both_sides() {
    let module = parse("lib/step", include_str!("../shaders/lib/step.wgsl"));
    let (members, span) = fields(&module, "StepState");
    let ours: Vec<_> = StepState::FIELDS.iter().map(|f| (f.0.to_string(), f.1, f.2)).collect();
    assert_eq!(members, ours);
    assert_eq!(span as usize, size_of::<StepState>());
}

#[test]
fn every_entry_point_belongs_to_one_kernel() {
    let all = kernels();
    for kernel in &all {
        for entry in shader(kernel, false).module.entry_points {
            let owners = all.iter().filter(|k| k.family() == kernel.family() && k.entry() == entry.name).count();
            assert_eq!(owners, 1, "{}.{} is claimed {owners} times", kernel.family(), entry.name);
        }
    }
}

#[test]
fn a_family_is_one_stem_in_every_folder() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for kernel in rowscan::ops::all() {
        let shader = kernel.family();
        // some families have other shaders: for the backward pass, cooperative matrices, one channel a group, CPUs
        let ends = ["_backward", "_coop", "_depthwise", "_whole"];
        let stem = ends.iter().find_map(|end| shader.strip_suffix(end)).unwrap_or(shader);
        let file = format!("shaders/{shader}.wgsl");
        assert!(root.join(&file).exists(), "{}: {file} is missing", kernel.name);
        for folder in ["src/ops", "src/cpu", "src/bench/ops", "tests/ops"] {
            let files = [format!("{folder}/{stem}.rs"), format!("{folder}/{stem}/mod.rs")];
            assert!(files.iter().any(|file| root.join(file).exists()), "{}: no {folder}/{stem}", kernel.name);
        }
    }
    for entry in std::fs::read_dir(root.join("shaders")).expect("shaders/") {
        let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".wgsl") else { continue };
        assert!(kernels().iter().any(|k| k.family() == stem), "shaders/{name} is used by no kernel");
    }
}
