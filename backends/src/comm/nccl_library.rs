//! NCCL's library, loaded at run time, and the functions that are called.
//!
//! cudarc looks for `libnccl.so` but not for `libnccl.so.2`, the only name that Debian's `libnccl2` and the
//! wheel `nvidia-nccl-cu12` install.

use super::CommError;
use cudarc::nccl::sys::{
    cudaStream_t, ncclComm_t, ncclDataType_t, ncclRedOp_t, ncclResult_t, ncclUniqueId,
};
use libloading::{Library, Symbol};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// Names of the library, the most specific first.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

type GetUniqueId = unsafe extern "C" fn(*mut ncclUniqueId) -> ncclResult_t;
type CommInitRank =
    unsafe extern "C" fn(*mut ncclComm_t, c_int, ncclUniqueId, c_int) -> ncclResult_t;
type CommDestroy = unsafe extern "C" fn(ncclComm_t) -> ncclResult_t;
type AllReduce = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    ncclDataType_t,
    ncclRedOp_t,
    ncclComm_t,
    cudaStream_t,
) -> ncclResult_t;
type Broadcast = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    ncclDataType_t,
    c_int,
    ncclComm_t,
    cudaStream_t,
) -> ncclResult_t;
type AllGather = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    ncclDataType_t,
    ncclComm_t,
    cudaStream_t,
) -> ncclResult_t;

/// The NCCL functions that ranks call.
pub(super) struct NcclLibrary {
    pub get_unique_id: GetUniqueId,
    pub comm_init_rank: CommInitRank,
    pub comm_destroy: CommDestroy,
    pub all_reduce: AllReduce,
    pub broadcast: Broadcast,
    pub all_gather: AllGather,
    /// Keeps the library loaded.
    _library: Library,
}

/// NCCL, loaded once per process.
pub(super) fn nccl() -> Result<&'static NcclLibrary, CommError> {
    static LOADED: OnceLock<Option<NcclLibrary>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| NAMES.iter().find_map(|name| load(name)));
    loaded.as_ref().ok_or(CommError::NoNccl)
}

fn load(name: &str) -> Option<NcclLibrary> {
    // SAFETY: the library's initializers are NVIDIA's, and the functions have NCCL's documented types.
    unsafe {
        let library = Library::new(name).ok()?;
        Some(NcclLibrary {
            get_unique_id: function(&library, b"ncclGetUniqueId\0")?,
            comm_init_rank: function(&library, b"ncclCommInitRank\0")?,
            comm_destroy: function(&library, b"ncclCommDestroy\0")?,
            all_reduce: function(&library, b"ncclAllReduce\0")?,
            broadcast: function(&library, b"ncclBroadcast\0")?,
            all_gather: function(&library, b"ncclAllGather\0")?,
            _library: library,
        })
    }
}

/// The function of a name, as `F`.
///
/// # Safety
///
/// `F` must be the type of the function.
unsafe fn function<F: Copy>(library: &Library, name: &[u8]) -> Option<F> {
    let symbol: Symbol<F> = unsafe { library.get(name) }.ok()?;
    Some(*symbol)
}
