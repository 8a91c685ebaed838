//! A Vulkan device with the features that wgpu asks for, and what its compiler reports about a pipeline
//! (`VK_KHR_pipeline_executable_properties`). The device may be Mesa's null hardware, which compiles and runs nothing.

use std::ffi::{CStr, CString, c_char};

use ash::vk;

pub type Result<T> = std::result::Result<T, String>;

/// An open device.
pub struct Driver {
    device: ash::Device,
    statistics: ash::khr::pipeline_executable_properties::Device,
    /// Name of the adapter.
    pub name: String,
    /// Driver and version.
    pub version: String,
    /// Smallest and largest subgroup size.
    pub subgroups: (u32, u32),
    /// Largest workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// Sides of the square cooperative matrices with f16 operands and f32 sums.
    pub fragments: Vec<u32>,
}

/// A compiled kernel.
#[derive(Debug, Default)]
pub struct Compiled {
    /// Lanes of a subgroup; 0 if the driver does not say.
    pub subgroup: u32,
    /// Figures, by the name that the driver gives them.
    pub figures: Vec<(String, f64)>,
    /// Texts that the compiler hands out, by name; one of them is the assembly.
    pub texts: Vec<(String, String)>,
}

impl Compiled {
    /// A figure, 0 if the driver has none of this name.
    pub fn figure(&self, name: &str) -> u64 {
        self.figures.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value as u64)
    }
    /// The text whose name ends with `end`, empty if there is none.
    pub fn text(&self, end: &str) -> &str {
        self.texts.iter().find(|(name, _)| name.ends_with(end)).map_or("", |(_, text)| text)
    }
}

fn text(bytes: &[c_char]) -> String {
    // SAFETY: Vulkan terminates its fixed arrays of characters with a zero.
    unsafe { CStr::from_ptr(bytes.as_ptr()) }.to_string_lossy().into_owned()
}

fn failed(what: &'static str) -> impl Fn(vk::Result) -> String {
    move |result| format!("{what}: {result:?}")
}

impl Driver {
    /// Opens the first adapter.
    ///
    /// # Errors
    /// If there is no Vulkan loader or adapter, or the adapter does not report about pipelines.
    pub fn open() -> Result<Self> {
        // SAFETY: the loader and its libraries are not unloaded before the process ends; every handle below comes from
        // the calls before it.
        unsafe {
            let entry = ash::Entry::load().map_err(|e| e.to_string())?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let wanted = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&wanted, None).map_err(failed("instance"))?;
            let adapters = instance.enumerate_physical_devices().map_err(failed("adapters"))?;
            let adapter = *adapters.first().ok_or("no adapter")?;
            Self::on(&entry, &instance, adapter)
        }
    }

    /// # Safety
    /// `adapter` is one of `instance`, which is one of `entry`.
    unsafe fn on(entry: &ash::Entry, instance: &ash::Instance, adapter: vk::PhysicalDevice) -> Result<Self> {
        // SAFETY: as the caller says.
        let listed = unsafe { instance.enumerate_device_extension_properties(adapter) };
        let listed: Vec<_> = listed.map_err(failed("extensions"))?.iter().map(|e| text(&e.extension_name)).collect();
        let has = |name: &CStr| listed.iter().any(|known| known.as_bytes() == name.to_bytes());
        if !has(vk::KHR_PIPELINE_EXECUTABLE_PROPERTIES_NAME) {
            return Err("the driver has no VK_KHR_pipeline_executable_properties".into());
        }

        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut sizes = vk::PhysicalDeviceSubgroupSizeControlProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver).push_next(&mut sizes);
        // SAFETY: as the caller says.
        unsafe { instance.get_physical_device_properties2(adapter, &mut properties) };
        let properties = properties.properties;

        let (mut has11, mut has12, mut has13) = Default::default();
        let mut has_robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
        let mut has_coop = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
        let mut features = vk::PhysicalDeviceFeatures2::default();
        features = features.push_next(&mut has11).push_next(&mut has12).push_next(&mut has13);
        if has(vk::EXT_ROBUSTNESS2_NAME) {
            features = features.push_next(&mut has_robust);
        }
        if has(vk::KHR_COOPERATIVE_MATRIX_NAME) {
            features = features.push_next(&mut has_coop);
        }
        // SAFETY: as the caller says.
        unsafe { instance.get_physical_device_features2(adapter, &mut features) };
        let core = features.features;
        let (coop, robust) = (has_coop.cooperative_matrix == vk::TRUE, has_robust.robust_buffer_access2 == vk::TRUE);

        // the features that wgpu-hal asks for where they are offered
        let (has11, has12, has13): (
            vk::PhysicalDeviceVulkan11Features<'_>,
            vk::PhysicalDeviceVulkan12Features<'_>,
            vk::PhysicalDeviceVulkan13Features<'_>,
        ) = (has11, has12, has13);
        let wanted = vk::PhysicalDeviceFeatures {
            robust_buffer_access: core.robust_buffer_access,
            shader_int16: core.shader_int16,
            shader_int64: core.shader_int64,
            ..Default::default()
        };
        let mut want11 = vk::PhysicalDeviceVulkan11Features {
            storage_buffer16_bit_access: has11.storage_buffer16_bit_access,
            ..Default::default()
        };
        let mut want12 = vk::PhysicalDeviceVulkan12Features {
            shader_float16: has12.shader_float16,
            vulkan_memory_model: has12.vulkan_memory_model,
            vulkan_memory_model_device_scope: has12.vulkan_memory_model_device_scope,
            shader_subgroup_extended_types: has12.shader_subgroup_extended_types,
            timeline_semaphore: vk::TRUE,
            ..Default::default()
        };
        let mut want13 = vk::PhysicalDeviceVulkan13Features {
            subgroup_size_control: has13.subgroup_size_control,
            compute_full_subgroups: has13.compute_full_subgroups,
            maintenance4: has13.maintenance4,
            shader_zero_initialize_workgroup_memory: has13.shader_zero_initialize_workgroup_memory,
            ..Default::default()
        };
        let mut want_robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(robust);
        let mut want_coop = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
        let mut want_statistics =
            vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        let mut names = vec![vk::KHR_PIPELINE_EXECUTABLE_PROPERTIES_NAME.as_ptr()];
        let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
        let mut info = vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_features(&wanted);
        info =
            info.push_next(&mut want11).push_next(&mut want12).push_next(&mut want13).push_next(&mut want_statistics);
        if robust {
            names.push(vk::EXT_ROBUSTNESS2_NAME.as_ptr());
            info = info.push_next(&mut want_robust);
        }
        let mut fragments = Vec::new();
        if coop {
            names.push(vk::KHR_COOPERATIVE_MATRIX_NAME.as_ptr());
            info = info.push_next(&mut want_coop);
            let matrices = ash::khr::cooperative_matrix::Instance::new(entry, instance);
            // SAFETY: as the caller says.
            let known = unsafe { matrices.get_physical_device_cooperative_matrix_properties(adapter) };
            let (half, single) = (vk::ComponentTypeKHR::FLOAT16, vk::ComponentTypeKHR::FLOAT32);
            let ours = known.unwrap_or_default().into_iter().filter(|p| {
                (p.a_type, p.b_type, p.c_type, p.result_type) == (half, half, single, single)
                    && (p.m_size, p.n_size) == (p.k_size, p.k_size)
                    && p.scope == vk::ScopeKHR::SUBGROUP
            });
            fragments.extend(ours.map(|p| p.m_size));
        }
        // SAFETY: as the caller says.
        let device = unsafe { instance.create_device(adapter, &info.enabled_extension_names(&names), None) };
        let device = device.map_err(failed("device"))?;
        Ok(Self {
            statistics: ash::khr::pipeline_executable_properties::Device::new(instance, &device),
            device,
            name: text(&properties.device_name),
            version: format!("{} {}", text(&driver.driver_name), text(&driver.driver_info)),
            subgroups: (sizes.min_subgroup_size, sizes.max_subgroup_size),
            workgroup_memory: properties.limits.max_compute_shared_memory_size,
            fragments,
        })
    }

    /// Compiles an entry point, as wgpu-hal does. `binds` are the numbers of its storage buffers; 0 is the uniform.
    ///
    /// # Errors
    /// If the driver refuses it.
    pub fn compile(&self, spirv: &[u32], entry: &str, binds: &[u32], subgroups: bool) -> Result<Compiled> {
        let bind = |number: u32, ty: vk::DescriptorType| {
            let binding = vk::DescriptorSetLayoutBinding::default().binding(number).descriptor_count(1);
            binding.descriptor_type(ty).stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let mut bindings = vec![bind(0, vk::DescriptorType::UNIFORM_BUFFER)];
        bindings.extend(binds.iter().map(|&number| bind(number, vk::DescriptorType::STORAGE_BUFFER)));
        let name = CString::new(entry).map_err(|e| e.to_string())?;
        let device = &self.device;
        // SAFETY: every handle comes from this device and is destroyed once, after its last use.
        unsafe {
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&info, None).map_err(failed("bindings"))?];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device.create_pipeline_layout(&info, None).map_err(failed("layout"))?;
            let info = vk::ShaderModuleCreateInfo::default().code(spirv);
            let module = device.create_shader_module(&info, None).map_err(failed("module"))?;
            let mut stage = vk::PipelineShaderStageCreateInfo::default().module(module).name(&name);
            stage = stage.stage(vk::ShaderStageFlags::COMPUTE);
            if subgroups {
                stage = stage.flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE);
            }
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = vk::ComputePipelineCreateInfo::default().flags(flags).layout(layout).stage(stage);
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let compiled = match made {
                Ok(pipelines) => {
                    let compiled = self.report(pipelines[0]);
                    device.destroy_pipeline(pipelines[0], None);
                    compiled
                }
                Err((_, result)) => Err(failed("pipeline")(result)),
            };
            device.destroy_shader_module(module, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(sets[0], None);
            compiled
        }
    }

    /// # Safety
    /// `pipeline` is one of this device, with one executable.
    unsafe fn report(&self, pipeline: vk::Pipeline) -> Result<Compiled> {
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: as the caller says.
        let executables = unsafe { self.statistics.get_pipeline_executable_properties(&info) };
        let subgroup = executables.map_err(failed("executables"))?.first().map_or(0, |found| found.subgroup_size);
        let of = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        // SAFETY: as the caller says.
        let figures = unsafe { self.statistics.get_pipeline_executable_statistics(&of) };
        let figures = figures.map_err(failed("statistics"))?.into_iter().map(|statistic| {
            use vk::PipelineExecutableStatisticFormatKHR as Format;
            // SAFETY: `format` says which member of the union is set.
            let value = unsafe {
                match statistic.format {
                    Format::BOOL32 => f64::from(statistic.value.b32),
                    Format::INT64 => statistic.value.i64 as f64,
                    Format::UINT64 => statistic.value.u64 as f64,
                    _ => statistic.value.f64,
                }
            };
            (text(&statistic.name), value)
        });
        // SAFETY: as the caller says.
        Ok(Compiled { subgroup, figures: figures.collect(), texts: unsafe { self.texts(&of) }? })
    }

    /// # Safety
    /// `of` names an executable of this device.
    unsafe fn texts(&self, of: &vk::PipelineExecutableInfoKHR<'_>) -> Result<Vec<(String, String)>> {
        let get = self.statistics.fp().get_pipeline_executable_internal_representations_khr;
        let device = self.device.handle();
        let mut count = 0;
        // SAFETY: the first call asks for the number, the second for the lengths, the third for the texts, into
        // buffers of these lengths.
        unsafe {
            get(device, of, &mut count, std::ptr::null_mut()).result().map_err(failed("texts"))?;
            let mut parts = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(device, of, &mut count, parts.as_mut_ptr()).result().map_err(failed("texts"))?;
            let mut buffers: Vec<Vec<u8>> = parts.iter().map(|part| vec![0; part.data_size]).collect();
            for (part, buffer) in parts.iter_mut().zip(&mut buffers) {
                part.p_data = buffer.as_mut_ptr().cast();
            }
            get(device, of, &mut count, parts.as_mut_ptr()).result().map_err(failed("texts"))?;
            let contents = |buffer: &[u8]| {
                let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len());
                String::from_utf8_lossy(&buffer[..end]).into_owned()
            };
            Ok(parts.iter().zip(&buffers).map(|(part, buffer)| (text(&part.name), contents(buffer))).collect())
        }
    }
}
