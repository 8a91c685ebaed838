//! Every kernel through naga with the limits of WebGPU, and its Rust description against the shader's own.

use naga::{AddressSpace, StorageAccess, TypeInner};
use rowscan::gpu::{Bind, Caps, DType, Element, Gpu, Kernel, Scalars, Tiers};
use rowscan::ops::selective_scan::{Scan, channel_layout, packed};
use rowscan::ops::step::StepState;
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

fn kernels() -> Vec<&'static Kernel> {
    let mut all = rowscan::ops::all();
    all.extend(rowscan::tensor::KERNELS);
    all.extend(rowscan::gpu::SELFTEST_KERNELS);
    all.extend(rowscan::bench::runner::roof::KERNELS);
    all
}

fn parse(kernel: &Kernel, subgroup: bool) -> naga::Module {
    let defaults: Vec<u32> = kernel.consts.iter().map(|known| known.default()).collect();
    parse_text(kernel, &kernel.wgsl(Tiers { subgroup, ..Tiers::default() }, false, &defaults))
}

fn parse_text(kernel: &Kernel, source: &str) -> naga::Module {
    naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(source)))
}

fn validate(kernel: &Kernel, module: &naga::Module, subgroup: bool) -> naga::valid::ModuleInfo {
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32; // unpack2x16float, which WebGPU has without f16
    allowed.set(Capabilities::SUBGROUP, subgroup || kernel.needs.subgroup);
    allowed.set(Capabilities::SHADER_FLOAT16, kernel.needs.f16);
    allowed.set(Capabilities::COOPERATIVE_MATRIX, kernel.needs.coop);
    let mut validator = Validator::new(ValidationFlags::all(), allowed);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    validator.validate(module).unwrap_or_else(|e| panic!("{}: {e:?}", kernel.name))
}

/// Bytes of workgroup memory of an entry point.
fn workgroup_bytes(module: &naga::Module, uses: &naga::valid::FunctionInfo) -> u32 {
    let used = module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty());
    let shared = used.filter(|(_, var)| var.space == AddressSpace::WorkGroup);
    shared.map(|(_, var)| module.types[var.ty].inner.size(module.to_ctx())).sum()
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

/// What the shader itself says of its storage buffers: number, name, whether it stores, and whether it declares floats.
fn declared(module: &naga::Module, uses: &naga::valid::FunctionInfo) -> Vec<(u32, String, bool, Scalar)> {
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

/// What an array is made of.
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

/// Whether a shader that declares this may hold that element: words may hold anything.
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
            let module = parse(kernel, subgroup);
            let info = validate(kernel, &module, subgroup);
            let (members, span) = fields(&module, "Params");
            let ours: Vec<_> = kernel.params.iter().map(|f| (f.0.to_string(), f.1, f.2)).collect();
            assert_eq!(members, ours, "{}: Params", kernel.name);
            assert_eq!(span as usize, 4 * ours.len(), "{}: size of Params", kernel.name);

            let at = module.entry_points.iter().position(|e| e.name == kernel.entry());
            let at = at.unwrap_or_else(|| panic!("{}: no such entry point", kernel.name));
            let uses = info.get_entry_point(at);
            let found = declared(&module, uses);
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
            let bytes = workgroup_bytes(&module, uses);
            assert!(bytes <= 16_384, "{}: {bytes} bytes of workgroup memory", kernel.name);
            let [x, y, z] = module.entry_points[at].workgroup_size;
            assert!(x * y * z <= 256, "{}: {} invocations", kernel.name, x * y * z);
        }
        for source in [Some(kernel.source), kernel.subgroup].into_iter().flatten() {
            assert_eq!(source.contains("NEAREST"), kernel.rounds, "{}: lib/half and `rounds`", kernel.name);
            assert!(!source.contains("enable "), "{}: directives come from `needs`", kernel.name);
        }
    }
}

/// Combinations of a kernel's constants that are tried. One with more is sampled, evenly from a start that changes by
/// day.
const MOST: usize = 160;

/// Every admissible combination of constants is a module that naga takes, within the limits of a workgroup.
#[test]
fn every_variant_is_valid() {
    let seed = std::env::var("ROWSCAN_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let today = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs() / 86_400);
        today as usize
    });
    println!("ROWSCAN_TEST_SEED={seed}");
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
                let module = parse_text(kernel, &kernel.wgsl(tiers, tried % 2 == 0, &values));
                let info = validate(kernel, &module, subgroup);
                // cooperative matrices are only where there is more
                let entry = |point: &naga::EntryPoint| point.name == kernel.entry();
                let at = module.entry_points.iter().position(entry).expect("entry point");
                let bytes = workgroup_bytes(&module, info.get_entry_point(at));
                if !kernel.needs.coop && (bytes > 16_384) != (!subgroup && kernel.is_large(&values)) {
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

/// Batches and lanes of the backward scan depend on states and subgroups: every choice is valid and fits.
#[test]
fn the_backward_scan_fits_any_subgroup() {
    for smallest in [0, 4, 8, 16, 32, 64, 128] {
        let tiers = Tiers { subgroup: smallest > 0, ..Tiers::default() };
        let g = Gpu::dry(Caps { tiers, subgroup_sizes: (smallest, 128), ..Caps::portable() });
        let states = [1, 4, 5, 8, 9, 16, 17, 32, 33, 48, 64];
        for (n, half) in states.into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let var = |shape: &[usize]| Var::leaf(Tensor::input("leaf", shape));
            let stored = |label, shape: &[usize]| Tensor::scratch_of(DType::f16_if(half), label, shape);
            let x = || Var::leaf(stored("leaf", &[2, 2, 40, 70]));
            let (xdbl, channel_params) = (var(&[2, 2, 40, 2 * n]), var(&[channel_layout(2, 70, n).len]));
            let scan = |r: &mut Recorder| {
                let out = packed(r, &x(), &x(), &xdbl, &channel_params, None, Scan::mamba(n))?.0;
                r.backward_from(&out, stored("dout", &[2, 40, 70]), Grads::default())
            };
            let (recording, _) = Recorder::new(&g).record(scan).expect("recorded");
            for launch in recording.launches() {
                let subgroup = tiers.subgroup && launch.kernel().subgroup.is_some();
                let module = parse_text(launch.kernel(), &launch.wgsl(tiers, false));
                let info = validate(launch.kernel(), &module, subgroup);
                let at = module.entry_points.iter().position(|e| e.name == launch.kernel().entry());
                let bytes = workgroup_bytes(&module, info.get_entry_point(at.expect("entry point")));
                assert!(bytes <= 16_384, "{}: {bytes} bytes, {n} states, subgroups of {smallest}", launch.name());
            }
        }
    }
}

#[test]
fn step_state_is_the_same_on_both_sides() {
    let source = include_str!("../shaders/lib/step.wgsl");
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    let (members, span) = fields(&module, "StepState");
    let ours: Vec<_> = StepState::FIELDS.iter().map(|f| (f.0.to_string(), f.1, f.2)).collect();
    assert_eq!(members, ours);
    assert_eq!(span as usize, size_of::<StepState>());
}

#[test]
fn every_entry_point_belongs_to_one_kernel() {
    let all = kernels();
    for kernel in &all {
        for entry in parse(kernel, false).entry_points {
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
        // a long family has two shaders
        let stem = ["_backward", "_coop"].iter().find_map(|end| shader.strip_suffix(end)).unwrap_or(shader);
        for file in
            [format!("shaders/{shader}.wgsl"), format!("tests/ops/{stem}.rs"), format!("src/bench/ops/{stem}.rs")]
        {
            assert!(root.join(&file).exists(), "{}: {file} is missing", kernel.name);
        }
        for room in ["ops", "cpu"] {
            let files = [format!("src/{room}/{stem}.rs"), format!("src/{room}/{stem}/mod.rs")];
            assert!(files.iter().any(|file| root.join(file).exists()), "{}: no src/{room}/{stem}", kernel.name);
        }
    }
    for entry in std::fs::read_dir(root.join("shaders")).expect("shaders/") {
        let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".wgsl") else { continue };
        assert!(kernels().iter().any(|k| k.family() == stem), "shaders/{name} is used by no kernel");
    }
}
