//! Every kernel through naga with the limits of WebGPU, and its Rust description against the shader's own.

use naga::{AddressSpace, StorageAccess, TypeInner};
use rowscan::gpu::{Bind, Caps, Gpu, Kernel, Params, Tiers};
use rowscan::ops::selective_scan::{Scan, chan_layout, selective_scan};
use rowscan::ops::step::StepState;
use rowscan::tape::{Grads, Tape, Var};
use rowscan::tensor::Tensor;

fn kernels() -> Vec<&'static Kernel> {
    let mut all = rowscan::ops::all();
    all.extend(rowscan::tensor::KERNELS);
    all.extend(rowscan::gpu::SELFTEST_KERNELS);
    all
}

fn parse(kernel: &Kernel, subgroup: bool) -> naga::Module {
    let defaults: Vec<u32> = kernel.consts.iter().map(|c| c.1).collect();
    parse_text(kernel, &kernel.wgsl(Tiers { subgroup, ..Tiers::default() }, &defaults))
}

fn parse_text(kernel: &Kernel, source: &str) -> naga::Module {
    naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(source)))
}

fn validate(kernel: &Kernel, module: &naga::Module, subgroup: bool) -> naga::valid::ModuleInfo {
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let mut needs = Capabilities::SHADER_FLOAT16_IN_FLOAT32; // unpack2x16float, which WebGPU has without f16
    needs.set(Capabilities::SUBGROUP, subgroup || kernel.name.contains("subgroup"));
    needs.set(Capabilities::SHADER_FLOAT16, kernel.name.contains("f16") || kernel.name.contains("coop"));
    needs.set(Capabilities::COOPERATIVE_MATRIX, kernel.name.contains("coop"));
    let mut validator = Validator::new(ValidationFlags::all(), needs);
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
            let mut found = Vec::new();
            for (handle, var) in module.global_variables.iter() {
                if uses[handle].is_empty() {
                    continue;
                }
                if let (Some(b), AddressSpace::Storage { access }) = (&var.binding, var.space) {
                    found.push((b.binding, access.contains(StorageAccess::STORE)));
                }
            }
            found.sort_unstable();
            let mut ours: Vec<_> = kernel.binds.iter().map(|b: &Bind| (b.number(), b.writes())).collect();
            ours.sort_unstable();
            assert_eq!(found, ours, "{}: bindings (number, writes)", kernel.name);
            assert!(found.len() <= 8, "{}: {} storage buffers", kernel.name, found.len());
            let bytes = workgroup_bytes(&module, uses);
            assert!(bytes <= 16_384, "{}: {bytes} bytes of workgroup memory", kernel.name);
            let [x, y, z] = module.entry_points[at].workgroup_size;
            assert!(x * y * z <= 256, "{}: {} invocations", kernel.name, x * y * z);
        }
    }
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
            let stored = if half { Tensor::scratch_half } else { Tensor::scratch };
            let x = || Var::leaf(stored("leaf", &[2, 2, 40, 70]));
            let (xdbl, chan) = (var(&[2, 2, 40, 2 * n]), var(&[chan_layout(2, 70, n).len]));
            let scan = || {
                let mut t = Tape::new();
                let out = selective_scan(&g, &mut t, &x(), &x(), &xdbl, &chan, None, Scan::mamba(n))?.0;
                t.backward_from(&g, &out, stored("dout", &[2, 40, 70]), Grads::default())
            };
            let (recording, _) = g.record(scan).expect("recorded");
            for launch in recording.launches() {
                let subgroup = tiers.subgroup && launch.kernel().subgroup.is_some();
                let module = parse_text(launch.kernel(), &launch.wgsl(tiers));
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
        for file in [
            format!("shaders/{shader}.wgsl"),
            format!("src/ops/{stem}.rs"),
            format!("src/cpu/{stem}.rs"),
            format!("tests/ops/{stem}.rs"),
            format!("src/bench/ops/{stem}.rs"),
        ] {
            assert!(root.join(&file).exists(), "{}: {file} is missing", kernel.name);
        }
    }
    for entry in std::fs::read_dir(root.join("shaders")).expect("shaders/") {
        let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".wgsl") else { continue };
        assert!(kernels().iter().any(|k| k.family() == stem), "shaders/{name} is used by no kernel");
    }
}
