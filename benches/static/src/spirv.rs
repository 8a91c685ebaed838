//! WGSL to SPIR-V as wgpu-hal 30 does it on Vulkan, with the run-time checks that `src/gpu/open.rs` asks for.

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

/// The SPIR-V of an entry point, and the bytes of workgroup memory that it uses.
///
/// # Errors
/// If naga refuses the shader.
pub fn spirv(entry: &str, source: &str) -> Result<(Vec<u32>, u32), String> {
    let module = rowscan::gpu::module(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    let policy = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        capabilities: None,
        bounds_check_policies: BoundsCheckPolicies {
            index: policy,
            buffer: policy,
            image_load: policy,
            binding_array: policy,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        use_storage_input_output_16: false,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: entry.into() };
    let words = spv::write_vec(&module, &info, &options, Some(&pipeline)).map_err(|e| e.to_string())?;
    Ok((words, workgroup_memory(&module, &info, entry)))
}

fn workgroup_memory(module: &naga::Module, info: &naga::valid::ModuleInfo, entry: &str) -> u32 {
    let Some(at) = module.entry_points.iter().position(|known| known.name == entry) else { return 0 };
    let uses = info.get_entry_point(at);
    let used = module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty());
    let shared = used.filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup);
    shared.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum()
}
