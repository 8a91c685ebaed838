//! Every kernel through naga with the limits of WebGPU, and its Rust description against the shader's own.

use naga::{AddressSpace, StorageAccess, TypeInner};
use rowscan::gpu::{Bind, Kernel, Params};
use rowscan::ops::step::StepState;

fn kernels() -> Vec<&'static Kernel> {
    let mut all = rowscan::ops::all();
    all.extend(rowscan::tensor::KERNELS);
    all.extend(rowscan::gpu::SELFTEST_KERNELS);
    all
}

fn parse(kernel: &Kernel, subgroup: bool) -> naga::Module {
    let defaults: Vec<u32> = kernel.consts.iter().map(|c| c.1).collect();
    let source = kernel.wgsl(subgroup, &defaults);
    naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&source)))
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
            let mut workgroup_bytes = 0;
            for (handle, var) in module.global_variables.iter() {
                if uses[handle].is_empty() {
                    continue;
                }
                match (&var.binding, var.space) {
                    (Some(b), AddressSpace::Storage { access }) => {
                        found.push((b.binding, access.contains(StorageAccess::STORE)))
                    }
                    (None, AddressSpace::WorkGroup) => {
                        workgroup_bytes += module.types[var.ty].inner.size(module.to_ctx());
                    }
                    _ => {}
                }
            }
            found.sort_unstable();
            let mut ours: Vec<_> = kernel.binds.iter().map(|b: &Bind| (b.number(), b.writes())).collect();
            ours.sort_unstable();
            assert_eq!(found, ours, "{}: bindings (number, writes)", kernel.name);
            assert!(found.len() <= 8, "{}: {} storage buffers", kernel.name, found.len());
            assert!(workgroup_bytes <= 16_384, "{}: {workgroup_bytes} bytes of workgroup memory", kernel.name);
            let [x, y, z] = module.entry_points[at].workgroup_size;
            assert!(x * y * z <= 256, "{}: {} invocations", kernel.name, x * y * z);
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
