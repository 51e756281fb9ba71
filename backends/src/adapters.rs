//! wgpu adapters: which exist, their graphics APIs, and which one a device is opened on.
//!
//! OpenGL is used only on request. wgpu's OpenGL backend makes every call under one context lock, and
//! its polling thread waits at most six seconds for this lock; if a batch of kernels holds it for longer,
//! the polling thread panics, and threads that wait for the device wait forever (wgpu-hal 30.0.1, `gles/egl.rs`).

use crate::{BackendError, BackendKind, Selected, peak_rates, tuning};
use burn::tensor::Device;
use burn::tensor::wgpu::WgpuBackend;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor};

/// A graphics API through which wgpu reaches an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GraphicsApi {
    /// Vulkan.
    Vulkan,
    /// Apple's Metal.
    Metal,
    /// DirectX 12.
    Dx12,
    /// OpenGL or OpenGL ES.
    OpenGl,
}

impl GraphicsApi {
    /// All APIs, in the order of preference.
    const ALL: [Self; 4] = [Self::Metal, Self::Vulkan, Self::Dx12, Self::OpenGl];

    fn backends(self) -> Backends {
        match self {
            Self::Vulkan => Backends::VULKAN,
            Self::Metal => Backends::METAL,
            Self::Dx12 => Backends::DX12,
            Self::OpenGl => Backends::GL,
        }
    }

    fn backend(self) -> WgpuBackend {
        match self {
            Self::Vulkan => WgpuBackend::Vulkan,
            Self::Metal => WgpuBackend::Metal,
            Self::Dx12 => WgpuBackend::Dx12,
            Self::OpenGl => WgpuBackend::Gl,
        }
    }
}

impl GraphicsApi {
    /// Display name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vulkan => "Vulkan",
            Self::Metal => "Metal",
            Self::Dx12 => "DirectX 12",
            Self::OpenGl => "OpenGL",
        }
    }
}

impl fmt::Display for GraphicsApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An adapter as its driver describes it. One GPU may appear once per API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// Name of the GPU or of the software renderer.
    pub name: String,
    /// Graphics API through which it is reached.
    pub api: GraphicsApi,
    /// Driver and its version, if the driver states them.
    pub driver: String,
    /// Whether the CPU renders (lavapipe, llvmpipe, WARP, SwiftShader).
    pub is_software: bool,
    /// The reason why this build cannot use it, and an alternative; `None` if it can.
    pub refusal: Option<&'static str>,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.api)
    }
}

/// The adapters of one API. Queried once per process: a Vulkan loader may crash if instances are created and destroyed
/// on several threads, so the instance is kept.
fn adapters_of(api: GraphicsApi) -> Vec<Adapter> {
    static KNOWN: Mutex<BTreeMap<GraphicsApi, Vec<Adapter>>> = Mutex::new(BTreeMap::new());
    static INSTANCES: Mutex<Vec<Instance>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let list = known.entry(api).or_insert_with(|| {
        let instance = Instance::new(InstanceDescriptor {
            backends: api.backends(),
            ..InstanceDescriptor::new_without_display_handle()
        });
        let found = pollster::block_on(instance.enumerate_adapters(api.backends()));
        let adapters = found.iter().map(|adapter| {
            let info = adapter.get_info();
            Adapter {
                is_software: is_software(info.device_type, &info.name),
                refusal: refusal(adapter),
                driver: format!("{} {}", info.driver, info.driver_info)
                    .trim()
                    .into(),
                name: info.name,
                api,
            }
        });
        let adapters = adapters.collect();
        let mut instances = INSTANCES.lock().unwrap_or_else(PoisonError::into_inner);
        instances.push(instance);
        adapters
    });
    list.clone()
}

/// The reason why this build cannot use `adapter`, and an alternative; `None` if it can.
///
/// CubeCL 0.11.3 generates invalid SPIR-V for shared memory without this extension (`lower_shared_implicit` declares a
/// pointer to a pointer), which crashes Mesa's compiler. Adapters whose Vulkan is so old that CubeCL uses WGSL are
/// refused, too.
#[cfg(feature = "vulkan")]
fn refusal(adapter: &wgpu::Adapter) -> Option<&'static str> {
    const NEEDED: &std::ffi::CStr = c"VK_KHR_workgroup_memory_explicit_layout";
    // SAFETY: its handles are neither destroyed nor kept.
    let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let capabilities = vulkan.physical_device_capabilities();
    (!capabilities.supports_extension(NEEDED)).then_some(
        "its driver has no VK_KHR_workgroup_memory_explicit_layout, which kernels in SPIR-V need; use a build without \
         the feature `vulkan`, or --backend cpu",
    )
}

#[cfg(not(feature = "vulkan"))]
fn refusal(_adapter: &wgpu::Adapter) -> Option<&'static str> {
    None
}

/// Whether an adapter is a software renderer. OpenGL drivers report no device type, so known names count too.
fn is_software(device_type: DeviceType, name: &str) -> bool {
    let name = name.to_lowercase();
    let renderers = ["llvmpipe", "softpipe", "swiftshader", "swrast", "lavapipe"];
    device_type == DeviceType::Cpu || renderers.iter().any(|renderer| name.contains(renderer))
}

/// Every adapter of every API, including OpenGL's. Loads the drivers, which takes up to a second.
pub fn adapters() -> Vec<Adapter> {
    GraphicsApi::ALL.into_iter().flat_map(adapters_of).collect()
}

/// The APIs that `kind` may use here, in order of preference. `WGPU_BACKEND` (`vulkan`, `metal`, `dx12`,
/// `gl`, separated by commas) replaces the default of [`BackendKind::Wgpu`], which excludes OpenGL.
pub(crate) fn apis(kind: BackendKind) -> Vec<GraphicsApi> {
    allowed_apis(kind, std::env::var("WGPU_BACKEND").ok().as_deref())
}

fn allowed_apis(kind: BackendKind, variable: Option<&str>) -> Vec<GraphicsApi> {
    if kind == BackendKind::WgpuGl {
        return vec![GraphicsApi::OpenGl];
    }
    let requested = variable.filter(|text| !text.trim().is_empty());
    let is_allowed = |api: &GraphicsApi| match requested {
        Some(text) => Backends::from_comma_list(text).contains(api.backends()),
        None => *api != GraphicsApi::OpenGl,
    };
    GraphicsApi::ALL.into_iter().filter(is_allowed).collect()
}

/// The adapter that `kind` opens: a GPU through the first API that has one, otherwise a software renderer.
pub(crate) fn preferred(kind: BackendKind) -> Result<Adapter, BackendError> {
    let found: Vec<Adapter> = apis(kind).into_iter().flat_map(adapters_of).collect();
    choose(&found).unwrap_or_else(|| Err(BackendError::NoDevice(kind, help(kind))))
}

/// A GPU that this build can use, otherwise such a software renderer. `None` if there is no adapter, an error if this
/// build can use none of them.
fn choose(found: &[Adapter]) -> Option<Result<Adapter, BackendError>> {
    let usable = || found.iter().filter(|adapter| adapter.refusal.is_none());
    let gpu = usable().find(|adapter| !adapter.is_software);
    let adapter = gpu.or_else(|| usable().next()).or(found.first())?;
    Some(adapter.clone().accepted())
}

impl Adapter {
    /// The adapter, or the error that this build cannot use it.
    fn accepted(self) -> Result<Self, BackendError> {
        match self.refusal {
            None => Ok(self),
            Some(reason) => Err(BackendError::Refused {
                adapter: self.to_string(),
                reason,
            }),
        }
    }
}

/// Advice if `kind` has no adapter; names an OpenGL adapter that is not used by default.
fn help(kind: BackendKind) -> String {
    let install = "install the Vulkan driver of your GPU (Debian: apt-get install \
                   mesa-vulkan-drivers, which has a software renderer too) or use --backend cpu";
    let searched = apis(kind);
    if searched.contains(&GraphicsApi::OpenGl) {
        return install.into();
    }
    match adapters_of(GraphicsApi::OpenGl).first() {
        Some(adapter) => format!(
            "{adapter} is not used by default, because OpenGL is slow and can stall (--backend wgpu-gl \
             uses it anyway); {install}"
        ),
        None => install.into(),
    }
}

/// Opens the preferred adapter of `kind`; all callers in this process get the same device.
pub(crate) fn open(kind: BackendKind) -> Result<Selected, BackendError> {
    let adapter = preferred(kind)?;
    tuning::configure(adapter.is_software);
    let cannot_open = |reason| BackendError::CannotOpen {
        adapter: adapter.to_string(),
        reason,
    };
    let device = device(adapter.api).map_err(cannot_open)?;
    // The driver's default may be another adapter than the one found above: CUBECL_WGPU_DEFAULT_DEVICE.
    let name = device.identity().map(|identity| identity.name);
    let is_opened = |adapter: &Adapter| Some(&adapter.name) == name.as_ref();
    let adapter = match adapters_of(adapter.api).into_iter().find(is_opened) {
        Some(opened) => opened.accepted()?,
        None => adapter,
    };
    if adapter.is_software {
        peak_rates::preset(&device);
    }
    let warning = (adapter.api == GraphicsApi::OpenGl).then_some(
        "OpenGL has no timestamps and one lock for all calls: it is slow and can stall; use Vulkan \
         if there is a driver",
    );
    Ok(Selected {
        kind: match adapter.api {
            GraphicsApi::OpenGl => BackendKind::WgpuGl,
            _ => BackendKind::Wgpu,
        },
        name: name.unwrap_or_else(|| adapter.name.clone()),
        api: Some(adapter.api.name()),
        is_software: adapter.is_software,
        warning,
        device,
    })
}

/// The device of an API's high-performance adapter. Burn opens an API once per process and panics when it is opened
/// again.
fn device(api: GraphicsApi) -> Result<Device, String> {
    static OPENED: OnceLock<Mutex<BTreeMap<GraphicsApi, Result<Device, String>>>> = OnceLock::new();
    let opened = OPENED.get_or_init(Mutex::default);
    let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
    let device = opened.entry(api).or_insert_with(|| {
        let options = Device::wgpu_options().graphics_api(api.backend());
        options.init().map_err(|error| error.to_string())
    });
    device.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opengl_is_used_on_request_only() {
        use GraphicsApi::*;
        let default = allowed_apis(BackendKind::Wgpu, None);
        assert_eq!(default, [Metal, Vulkan, Dx12]);
        assert_eq!(allowed_apis(BackendKind::Wgpu, Some("")), default);
        assert_eq!(allowed_apis(BackendKind::WgpuGl, None), [OpenGl]);
        assert_eq!(allowed_apis(BackendKind::Wgpu, Some("gl")), [OpenGl]);
        let both = allowed_apis(BackendKind::Wgpu, Some("gl, vulkan"));
        assert_eq!(both, [Vulkan, OpenGl]);
    }

    #[test]
    fn a_usable_gpu_comes_first() {
        let adapter = |name: &str, is_software, refusal| Adapter {
            name: name.into(),
            api: GraphicsApi::Vulkan,
            driver: String::new(),
            is_software,
            refusal,
        };
        let software = adapter("lavapipe", true, None);
        let gpu = adapter("GPU", false, None);
        let refused = adapter("old GPU", false, Some("its driver is old"));
        let name = |found: &[Adapter]| choose(found).map(|found| found.map(|found| found.name));
        assert_eq!(name(&[]), None);
        let all = [refused.clone(), software.clone(), gpu];
        assert_eq!(name(&all), Some(Ok("GPU".into())));
        assert_eq!(name(&all[..2]), Some(Ok("lavapipe".into())));
        let error = name(&[refused]).unwrap().unwrap_err().to_string();
        assert!(error.contains("old GPU (Vulkan)"), "{error}");
        assert!(error.contains("its driver is old"), "{error}");
    }

    #[test]
    fn software_renderers_are_recognized() {
        let llvmpipe = "llvmpipe (LLVM 15.0.6, 256 bits)";
        assert!(is_software(DeviceType::Other, llvmpipe));
        assert!(is_software(
            DeviceType::Cpu,
            "Microsoft Basic Render Driver"
        ));
        assert!(!is_software(
            DeviceType::Other,
            "NVIDIA GeForce RTX 3090/PCIe/SSE2"
        ));
        assert!(!is_software(
            DeviceType::IntegratedGpu,
            "Intel(R) UHD Graphics"
        ));
    }
}
