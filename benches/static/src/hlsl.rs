//! WGSL to HLSL as wgpu-hal 30 does it on DX12.

use naga::back::hlsl;
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

/// The HLSL of an entry point, and the name that it has there.
///
/// # Errors
/// If naga refuses the shader.
pub fn hlsl(entry: &str, source: &str) -> Result<(String, String), String> {
    let module = rowscan::gpu::module(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_5,
        fake_missing_bindings: true, // the layout of the pipeline would give them
        zero_initialize_workgroup_memory: false,
        restrict_indexing: false,
        force_loop_bounding: false,
        ..hlsl::Options::default()
    };
    let pipeline = hlsl::PipelineOptions { entry_point: Some((naga::ShaderStage::Compute, entry.into())) };
    let mut text = String::new();
    let written = hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None);
    let names = written.map_err(|e| e.to_string())?.entry_point_names;
    match names.into_iter().next() {
        Some(Ok(name)) => Ok((text, name)),
        Some(Err(e)) => Err(e.to_string()),
        None => Err(format!("no entry point {entry} in the HLSL")),
    }
}
