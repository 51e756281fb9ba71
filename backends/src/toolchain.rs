//! CUDA's run-time requirements: a driver, NVRTC and the CUDA headers, of matching versions.
//!
//! CubeCL compiles every kernel with NVRTC, which includes headers of the CUDA toolkit. If something is
//! missing it panics at the first kernel; [`Toolchain::problem`] reports it before.

use std::fmt;
use std::path::{Path, PathBuf};

/// A version of CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// From CUDA's integers: 12080 is 12.8.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub fn of_number(number: u32) -> Self {
        Self {
            major: number / 1000,
            minor: number % 1000 / 10,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The toolchain for one GPU.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    /// The newest CUDA version that the driver supports.
    pub driver: Version,
    /// The oldest version that it must support for this build.
    pub needed: Version,
    /// NVRTC's version, if it can be loaded.
    pub nvrtc: Option<Version>,
    /// The folder of the headers, if there is one.
    pub include: Option<PathBuf>,
    /// The GPU's compute capability: 75 for sm_75.
    pub architecture: u32,
    /// The GPU's name.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub gpu: String,
}

/// Headers that kernels include, and the wheel that contains each.
const HEADERS: [(&str, &str); 4] = [
    ("cuda_fp16.h", "nvidia-cuda-runtime-cu12"),
    ("mma.h", "nvidia-cuda-runtime-cu12"),
    ("crt/mma.h", "nvidia-cuda-nvcc-cu12"),
    ("cuda/barrier", "nvidia-cuda-cccl-cu12"),
];

/// Documentation of the three ways to install NVRTC and the headers.
const GUIDE: &str = "docs/cuda.md";

impl Toolchain {
    /// The first problem that prevents kernels from being compiled and loaded, and its fix.
    pub fn problem(&self) -> Option<String> {
        self.old_driver()
            .or_else(|| self.bad_nvrtc())
            .or_else(|| self.missing_header())
    }

    fn old_driver(&self) -> Option<String> {
        let (driver, needed) = (self.driver, self.needed);
        (driver < needed).then(|| {
            format!(
                "the NVIDIA driver supports CUDA {driver}, but this build calls functions of CUDA \
                 {needed}; update the driver (525 or newer has CUDA 12.0, 570 has 12.8), or build with \
                 CUDARC_CUDA_VERSION=12060 in the environment"
            )
        })
    }

    fn bad_nvrtc(&self) -> Option<String> {
        let Some(nvrtc) = self.nvrtc else {
            return Some(format!(
                "NVRTC, CUDA's run-time compiler, cannot be loaded (libnvrtc.so.12); install the CUDA \
                 toolkit, or `pip install nvidia-cuda-nvrtc-cu12` and add its folder lib to \
                 LD_LIBRARY_PATH (see {GUIDE})"
            ));
        };
        if nvrtc.major >= 13 && self.architecture < 75 {
            return Some(format!(
                "NVRTC {nvrtc} has no support for sm_{} (Volta and older), which ended with CUDA 12; \
                 `pip install nvidia-cuda-nvrtc-cu12` and put its folder lib first in LD_LIBRARY_PATH \
                 (see {GUIDE})",
                self.architecture
            ));
        }
        // A driver compiles PTX of its own and of older versions.
        let driver = self.driver;
        (nvrtc > driver).then(|| {
            format!(
                "NVRTC is of CUDA {nvrtc}, but the NVIDIA driver supports CUDA {driver}, which cannot load \
                 its kernels; update the driver, or `pip install 'nvidia-cuda-nvrtc-cu12<={driver}.999'` \
                 and put its folder lib first in LD_LIBRARY_PATH (see {GUIDE})"
            )
        })
    }

    fn missing_header(&self) -> Option<String> {
        let fix = format!(
            "install the CUDA toolkit, or collect the headers of wheels in one folder, and set \
             CUDA_PATH to the folder above its `include` (see {GUIDE})"
        );
        let Some(include) = &self.include else {
            return Some(format!(
                "the CUDA headers are missing: CUDA_PATH is not set and there is no /usr/local/cuda; {fix}"
            ));
        };
        let is_missing = |header: &str| {
            let folders = [include.clone(), include.join("cccl")];
            !folders.iter().any(|folder| folder.join(header).is_file())
        };
        let (header, wheel) = HEADERS.into_iter().find(|(header, _)| is_missing(header))?;
        let include = include.display();
        Some(format!(
            "the CUDA header {header} is missing in {include} (the wheel {wheel} has it); {fix}"
        ))
    }

    /// One line for `doctor`.
    pub fn summary(&self) -> String {
        let nvrtc = self
            .nvrtc
            .map_or("no NVRTC".into(), |version| format!("NVRTC {version}"));
        let include = self.include.as_deref().map(Path::display);
        let include = include.map_or("no headers".into(), |path| format!("headers in {path}"));
        format!("driver for CUDA {}, {nvrtc}, {include}", self.driver)
    }
}

#[cfg(feature = "cuda")]
pub(crate) use probe::{compile, find};

#[cfg(feature = "cuda")]
mod probe {
    use super::{Toolchain, Version};
    use cubecl::cuda::install;
    use cudarc::driver::result as driver;
    use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute};
    use cudarc::nvrtc::result as nvrtc;
    use std::ffi::{CStr, CString};

    /// CUDA 12.0: the oldest version whose functions CubeCL uses.
    const OLDEST: u32 = 12_000;

    /// The CUDA version whose functions the driver must have: drivers keep the functions of older versions, and cudarc
    /// binds one function by the name that it got in 12.8.
    fn needed() -> u32 {
        if sys::CUDA_VERSION >= 12_080 {
            12_080
        } else {
            OLDEST
        }
    }

    /// The toolchain of a GPU. Fails if the driver fails.
    pub(crate) fn find(number: usize) -> Result<Toolchain, String> {
        let failed = |error: driver::DriverError| format!("the NVIDIA driver failed: {error}");
        // SAFETY: loads the library, whose initializers are NVIDIA's. cudarc panics without it.
        if !unsafe { sys::is_culib_present() } {
            return Err("there is no NVIDIA driver (libcuda.so)".into());
        }
        driver::init().map_err(failed)?;
        let mut version = 0;
        // SAFETY: `version` is an integer that the driver writes.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(failed)?;
        let device = driver::device::get(number as i32).map_err(failed)?;
        // SAFETY: the device was returned by the driver.
        let attribute = |which| unsafe { driver::device::get_attribute(device, which) };
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        let architecture = 10 * major.map_err(failed)? + minor.map_err(failed)?;
        Ok(Toolchain {
            driver: Version::of_number(version as u32),
            needed: Version::of_number(needed()),
            nvrtc: nvrtc_version(),
            include: install::cuda_path().map(|path| path.join("include")),
            architecture: architecture as u32,
            gpu: driver::device::get_name(device).map_err(failed)?,
        })
    }

    fn nvrtc_version() -> Option<Version> {
        let [mut major, mut minor] = [0; 2];
        // SAFETY: the library is loaded before it is called, and writes two integers.
        let code = unsafe {
            if !cudarc::nvrtc::sys::is_culib_present() {
                return None;
            }
            cudarc::nvrtc::sys::nvrtcVersion(&mut major, &mut minor)
        };
        code.result().ok()?;
        Some(Version {
            major: major as u32,
            minor: minor as u32,
        })
    }

    /// Compiles a kernel with every header that CubeCL's kernels include, for the GPU's architecture. The error
    /// is NVRTC's log.
    pub(crate) fn compile(toolchain: &Toolchain) -> Result<(), String> {
        const SOURCE: &CStr = c"#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <mma.h>
#include <cuda/barrier>
extern \"C\" __global__ void probe(float *values) {
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> sums;
    nvcuda::wmma::fill_fragment(sums, __half2float(__float2half(values[0])));
    nvcuda::wmma::store_matrix_sync(values, sums, 16, nvcuda::wmma::mem_row_major);
}
";
        let include = toolchain.include.clone().unwrap_or_default();
        let options = [
            format!("--gpu-architecture=sm_{}", toolchain.architecture),
            format!("--include-path={}", include.display()),
            format!("--include-path={}", include.join("cccl").display()),
        ];
        let options = options.map(|option| CString::new(option).unwrap_or_default());
        let options: Vec<Vec<u8>> = options.into_iter().map(CString::into_bytes).collect();
        let failed = |error: nvrtc::NvrtcError| format!("NVRTC failed: {error:?}");
        let program = nvrtc::create_program(SOURCE, None).map_err(failed)?;
        // SAFETY: the program was created above, and is destroyed once.
        unsafe {
            let result = nvrtc::compile_program(program, &options).map_err(|_| {
                let log = nvrtc::get_program_log(program).unwrap_or_default();
                let log: Vec<u8> = log.into_iter().map(|c| c as u8).collect();
                String::from_utf8_lossy(&log)
                    .trim_end_matches('\0')
                    .to_string()
            });
            let _ = nvrtc::destroy_program(program);
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with all headers, and a toolchain that works.
    fn complete(folder: &Path) -> Toolchain {
        for (header, _) in HEADERS {
            let path = folder.join(header);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, "").expect("a file");
        }
        let version = |major, minor| Version { major, minor };
        Toolchain {
            driver: version(12, 8),
            needed: version(12, 0),
            nvrtc: Some(version(12, 8)),
            include: Some(folder.to_path_buf()),
            architecture: 80,
            gpu: "any".into(),
        }
    }

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("mrcnn-toolchain-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn a_complete_toolchain_has_no_problem() {
        let folder = folder("complete");
        let toolchain = complete(&folder);
        assert_eq!(toolchain.problem(), None);
        assert!(toolchain.summary().contains("NVRTC 12.8"));
        let newer = Toolchain {
            driver: Version::of_number(13_000),
            ..toolchain
        };
        assert_eq!(newer.problem(), None);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn each_problem_names_its_fix() {
        let folder = folder("problems");
        let toolchain = complete(&folder);
        let version = Version::of_number;
        let problem = |toolchain: Toolchain| toolchain.problem().expect("a problem");

        let old = problem(Toolchain {
            driver: version(11_080),
            ..toolchain.clone()
        });
        assert!(
            old.contains("CUDA 11.8") && old.contains("update the driver"),
            "{old}"
        );
        let none = problem(Toolchain {
            nvrtc: None,
            ..toolchain.clone()
        });
        assert!(
            none.contains("pip install nvidia-cuda-nvrtc-cu12"),
            "{none}"
        );
        let volta = problem(Toolchain {
            driver: version(13_000),
            nvrtc: Some(version(13_000)),
            architecture: 70,
            ..toolchain.clone()
        });
        assert!(
            volta.contains("sm_70") && volta.contains("-cu12"),
            "{volta}"
        );
        let newer = problem(Toolchain {
            driver: version(12_040),
            ..toolchain.clone()
        });
        assert!(
            newer.contains("NVRTC is of CUDA 12.8") && newer.contains("<=12.4"),
            "{newer}"
        );
        let nowhere = problem(Toolchain {
            include: None,
            ..toolchain.clone()
        });
        assert!(nowhere.contains("CUDA_PATH"), "{nowhere}");
        std::fs::remove_file(folder.join("cuda/barrier")).expect("removed");
        let header = problem(toolchain);
        assert!(
            header.contains("cuda/barrier") && header.contains("cccl-cu12"),
            "{header}"
        );
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
