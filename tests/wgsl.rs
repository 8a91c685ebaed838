//! WGSL through naga: is a shader valid, and what does it need of a workgroup?

use naga::valid::{
    Capabilities, FunctionInfo, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator,
};

/// A parsed and validated shader.
pub struct Shader {
    pub module: naga::Module,
    info: ModuleInfo,
}

impl Shader {
    /// `name` is for the message of the panic if naga refuses `source` or a capability that is not in `allowed`.
    #[track_caller]
    pub fn new(name: &str, source: &str, allowed: Capabilities) -> Self {
        let module = parse(name, source);
        let mut validator = Validator::new(ValidationFlags::all(), allowed);
        validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
        let info = validator.validate(&module).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        Self { module, info }
    }

    #[track_caller]
    fn at(&self, entry: &str) -> usize {
        let found = self.module.entry_points.iter().position(|point| point.name == entry);
        found.unwrap_or_else(|| panic!("no entry point {entry}"))
    }

    /// Which global variables an entry point uses.
    #[track_caller]
    pub fn uses(&self, entry: &str) -> &FunctionInfo {
        self.info.get_entry_point(self.at(entry))
    }

    /// Workgroup memory of an entry point, in bytes.
    #[track_caller]
    pub fn workgroup_bytes(&self, entry: &str) -> u32 {
        let (module, uses) = (&self.module, self.uses(entry));
        let used = module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty());
        let shared = used.filter(|(_, var)| var.space == naga::AddressSpace::WorkGroup);
        shared.map(|(_, var)| module.types[var.ty].inner.size(module.to_ctx())).sum()
    }

    /// Invocations in a workgroup of an entry point.
    #[track_caller]
    pub fn invocations(&self, entry: &str) -> u32 {
        self.module.entry_points[self.at(entry)].workgroup_size.iter().product()
    }
}

#[track_caller]
pub fn parse(name: &str, source: &str) -> naga::Module {
    naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)))
}
