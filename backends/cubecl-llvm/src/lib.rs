//! A stand-in for `cubecl-llvm` 0.11.3 with only the types that `cubecl-cuda` names.
//!
//! Burn's `cuda` feature depends on `cubecl-cuda`, which always links `cubecl-llvm`,
//! whose build script downloads a prebuilt LLVM. Machines without network access could not build
//! the CUDA backend at all. This workspace enables `cubecl/cuda-cpp`, so every kernel is compiled
//! from CUDA C++ with NVRTC at run time (which also supports TMA and asynchronous copies), and the
//! LLVM path is never taken. `[patch.crates-io]` in the workspace's `Cargo.toml` replaces the
//! original crate with this one.
//!
//! Compiling a kernel with it returns an error. It contains no code of the crate that it replaces.

use cubecl_core::{Compiler, ir::nvidia::SmArch, prelude::KernelDefinition};
use cubecl_runtime::{compiler::CompilationError, kernel::BufferIOAttr};

/// The target that a compiler was built for; only CUDA names it here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// NVIDIA PTX.
    #[default]
    Nvptx,
}

/// Handle of the LLVM compiler; every compilation returns an error.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// The compilation target.
    pub target: LlvmTarget,
}

/// Compilation options, as `cubecl-cuda` fills them in.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// AMD architecture; always `None` for CUDA.
    pub arch: Option<()>,
    /// NVIDIA architecture.
    pub sm_arch: Option<SmArch>,
    /// PTX version to emit.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether scalars are passed in the kernel's parameter block.
    pub grid_constants: bool,
}

/// A compiled PTX module, which this crate never creates.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// NUL-terminated PTX assembly.
    pub ptx: Vec<core::ffi::c_char>,
    /// Entry point symbol.
    pub entrypoint: String,
    /// Intermediate representation, for logs.
    pub ir: String,
    /// Shared memory of a launch, in bytes.
    pub shared_memory_size: usize,
    /// Buffer access modes in binding order.
    pub io: Vec<BufferIOAttr>,
}

/// The result of a compilation.
#[derive(Clone, Debug)]
pub enum PlironArtifact {
    /// A PTX module.
    NvptxCode(NvptxModule),
    /// No artifact; it keeps the catch-all arm of callers reachable.
    None,
}

impl core::fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NvptxCode(module) => f.write_str(&module.ir),
            Self::None => f.write_str("no artifact"),
        }
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(
        &mut self,
        _kernel: KernelDefinition,
        _options: &Self::CompilationOptions,
    ) -> Result<Self::Representation, CompilationError> {
        Err(CompilationError::Generic {
            reason: "this build has no LLVM backend: enable the `cubecl/cuda-cpp` feature".into(),
            backtrace: Default::default(),
        })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}

/// NVPTX types.
pub mod nvptx {
    /// The PTX version that a driver loads.
    pub mod ptx_version {
        /// A PTX ISA version; only its name is needed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct PtxVersion(i32);

        impl PtxVersion {
            /// The version for a driver; `None`, because no PTX is emitted here.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl core::fmt::Display for PtxVersion {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "ptx{}", self.0)
            }
        }
    }
}

/// Types shared by the targets.
pub mod shared {
    /// The features that the LLVM path lowers.
    pub mod lowered_features {
        /// The GPU family.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA PTX.
            Nvptx,
        }

        /// Restricts the advertised features to those that LLVM supports; does nothing here.
        pub fn restrict_features<T>(_properties: &mut T, _target: GpuTarget) {}
    }
}
