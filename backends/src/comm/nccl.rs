//! NCCL communication between NVIDIA GPUs, from device memory to device memory.
//!
//! The library is loaded at run time. It works on the memory of CubeCL's tensors, on a stream of its own:
//! CubeCL does not expose its streams, so the host waits for each before it enqueues work on the other that depends on it.
//! Work that does not depend on it runs beside it.

use super::buckets::Buckets;
use super::launch::Launch;
use super::nccl_library::nccl;
use super::{CommError, Communicator, Reduction, Watch};
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeBackend};
use cubecl::cuda::CudaRuntime;
use cubecl_runtime::runtime::Runtime;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError};
use cudarc::nccl::sys::{self, ncclComm_t, ncclDataType_t, ncclRedOp_t, ncclResult_t};
use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of the unique id with which ranks join a communicator.
pub(super) const ID_BYTES: usize = 128;

/// The unique id of a new run, created by rank 0.
pub(super) fn unique_id() -> Result<[u8; ID_BYTES], CommError> {
    let mut id = sys::ncclUniqueId {
        internal: [0; ID_BYTES],
    };
    // SAFETY: `id` is written, and lives until the call returns.
    succeeded("ncclGetUniqueId", unsafe {
        (nccl()?.get_unique_id)(&mut id)
    })?;
    Ok(id.internal.map(|byte| byte as u8))
}

fn succeeded(call: &'static str, code: ncclResult_t) -> Result<(), CommError> {
    match code {
        ncclResult_t::ncclSuccess => Ok(()),
        _ => Err(CommError::Nccl {
            call,
            reason: format!("{code:?}"),
        }),
    }
}

fn driver_failed(call: &'static str) -> impl Fn(DriverError) -> CommError {
    move |error| CommError::Nccl {
        call,
        reason: error.to_string(),
    }
}

/// NCCL communicator of a process with its own GPU.
pub struct Nccl {
    rank: usize,
    world: usize,
    /// One call at a time.
    comm: Mutex<Comm>,
    stream: Arc<CudaStream>,
    watch: Watch,
    /// Transfers host bytes if the ranks were started by MPI.
    mpi: Option<Box<dyn Communicator>>,
}

struct Comm(ncclComm_t);

// SAFETY: NCCL's communicators may be used from any thread, by one at a time, which the mutex guarantees.
unsafe impl Send for Comm {}

impl Nccl {
    /// Joins the other ranks within `limit`. Uses the GPU of the local rank.
    pub(super) fn start(
        launch: &Launch,
        id: [u8; ID_BYTES],
        mpi: Option<Box<dyn Communicator>>,
        limit: Duration,
    ) -> Result<Self, CommError> {
        let nccl = nccl()?;
        let (rank, world) = (launch.rank, launch.world_size);
        let context = CudaContext::new(launch.local_rank).map_err(driver_failed("cuCtx"))?;
        let stream = context.new_stream().map_err(driver_failed("cuStream"))?;
        let watch = Watch::start(rank, world, limit);
        let id = sys::ncclUniqueId {
            internal: id.map(|byte| byte as _),
        };
        let mut comm: ncclComm_t = std::ptr::null_mut();
        {
            let _waiting = watch.waiting("ncclCommInitRank");
            // SAFETY: `comm` is written before it is read; the context is this thread's.
            let code = unsafe { (nccl.comm_init_rank)(&mut comm, world as i32, id, rank as i32) };
            succeeded("ncclCommInitRank", code)?;
        }
        Ok(Self {
            rank,
            world,
            comm: Mutex::new(Comm(comm)),
            stream,
            watch,
            mpi,
        })
    }

    fn comm(&self) -> Result<MutexGuard<'_, Comm>, CommError> {
        let context = self.stream.context();
        context.bind_to_thread().map_err(driver_failed("cuCtx"))?;
        Ok(self.comm.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enqueues `call` on the memory of each tensor, in place. The host waits for the GPU once, before all calls.
    ///
    /// The tensors must not share their memory with others, which would change too.
    fn in_place(
        &self,
        name: &'static str,
        tensors: Vec<Tensor<1>>,
        call: impl Fn(&Buffer, ncclComm_t, sys::cudaStream_t) -> ncclResult_t,
    ) -> Result<Enqueued<'_>, CommError> {
        let cubes = tensors.iter().cloned().map(cube_tensor);
        let cubes = cubes.collect::<Result<Vec<CubeTensor>, _>>()?;
        // The tensors must be computed before the call: NCCL's stream does not wait for CubeCL's.
        if let Some(tensor) = tensors.first() {
            tensor.device().sync()?;
        }
        let buffers = cubes.iter().map(buffer).collect::<Result<Vec<_>, _>>()?;
        let (buffers, bindings): (Vec<_>, Vec<_>) = buffers.into_iter().unzip();
        let comm = self.comm()?;
        let _waiting = self.watch.waiting(name);
        // Dropped after an error, it waits: calls before that use the memory.
        let enqueued = Enqueued {
            nccl: self,
            name,
            tensors,
            _bindings: bindings,
            is_finished: false,
        };
        for buffer in &buffers {
            succeeded(name, call(buffer, comm.0, self.stream.cu_stream().cast()))?;
        }
        Ok(enqueued)
    }

    fn finish(&self, call: &'static str) -> Result<(), CommError> {
        self.stream.synchronize().map_err(driver_failed(call))
    }

    /// Gathers the same number of bytes from every rank.
    fn gather(&self, mine: &[u8]) -> Result<Vec<u8>, CommError> {
        const NAME: &str = "ncclAllGather";
        let comm = self.comm()?;
        let _waiting = self.watch.waiting(NAME);
        let cuda = driver_failed(NAME);
        let from: CudaSlice<u8> = self.stream.clone_htod(mine).map_err(&cuda)?;
        let mut to = self
            .stream
            .alloc_zeros::<u8>(mine.len() * self.world)
            .map_err(&cuda)?;
        {
            let (from, _read) = from.device_ptr(&self.stream);
            let (to, _written) = to.device_ptr_mut(&self.stream);
            // SAFETY: `to` has `world` times the length of `from`; both live until the stream is done.
            let code = unsafe {
                (nccl()?.all_gather)(
                    from as *const c_void,
                    to as *mut c_void,
                    mine.len(),
                    ncclDataType_t::ncclUint8,
                    comm.0,
                    self.stream.cu_stream().cast(),
                )
            };
            succeeded(NAME, code)?;
        }
        let bytes = self.stream.clone_dtoh(&to).map_err(&cuda)?;
        self.finish(NAME)?;
        Ok(bytes)
    }
}

/// Calls on the memory of tensors, on NCCL's stream.
struct Enqueued<'a> {
    nccl: &'a Nccl,
    name: &'static str,
    tensors: Vec<Tensor<1>>,
    _bindings: Vec<Binding>,
    is_finished: bool,
}

impl Enqueued<'_> {
    /// Waits for the end of the calls; returns the tensors.
    fn finish(mut self) -> Result<Vec<Tensor<1>>, CommError> {
        let _waiting = self.nccl.watch.waiting(self.name);
        self.is_finished = true;
        self.nccl.finish(self.name)?;
        Ok(std::mem::take(&mut self.tensors))
    }
}

impl Drop for Enqueued<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            let _waiting = self.nccl.watch.waiting(self.name);
            // NCCL uses the memory until its stream is done. The caller already has the error that caused the drop.
            let _ = self.nccl.finish(self.name);
        }
    }
}

/// The memory of a tensor on the GPU.
struct Buffer {
    pointer: *mut c_void,
    count: usize,
    dtype: ncclDataType_t,
}

/// Something without which CubeCL may move a tensor to other memory.
type Binding = Box<dyn Any>;

/// The memory of `tensor`.
fn buffer(tensor: &CubeTensor) -> Result<(Buffer, Binding), CommError> {
    let dtype = match tensor.dtype {
        DType::F32 => ncclDataType_t::ncclFloat32,
        DType::F16 => ncclDataType_t::ncclFloat16,
        dtype => {
            return Err(CommError::DType {
                name: "NCCL",
                dtype,
                help: "gradients are f32 or f16",
            });
        }
    };
    let resource = tensor
        .client
        .get_resource::<<CudaRuntime as Runtime>::Server>(tensor.handle.clone())
        .map_err(|error| CommError::Nccl {
            call: "finding a tensor's memory",
            reason: format!("{error:?}"),
        })?;
    let buffer = Buffer {
        pointer: resource.resource().ptr as *mut c_void,
        count: tensor.meta.num_elements(),
        dtype,
    };
    Ok((buffer, Box::new(resource)))
}

/// CubeCL's handle of a tensor, after all kernels that compute it have been launched.
fn cube_tensor(tensor: Tensor<1>) -> Result<CubeTensor, CommError> {
    let found = tensor.try_into_primitive::<Cube>();
    let found = found.map_err(|error| CommError::Nccl {
        call: "finding a tensor's memory",
        reason: format!("{error:?}"),
    })?;
    #[cfg(feature = "fusion")]
    let found = found
        .client
        .clone()
        .resolve_tensor_float::<CubeBackend>(found);
    Ok(found)
}

impl Communicator for Nccl {
    fn name(&self) -> &'static str {
        "nccl"
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world
    }

    fn all_reduce_mean(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        self.start_all_reduce_mean(tensors)?.finish()
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn start_all_reduce_mean(&self, tensors: Vec<Tensor<1>>) -> Result<Reduction<'_>, CommError> {
        let scale = 1.0 / self.world as f64;
        let (nccl, sum) = (nccl()?, ncclRedOp_t::ncclSum);
        let all_reduce = |buffer: &Buffer, comm, stream| {
            let (at, count, dtype) = (buffer.pointer, buffer.count, buffer.dtype);
            // SAFETY: `Enqueued` keeps the memory, `count` of `dtype`, and waits for the call before it is dropped.
            unsafe { (nccl.all_reduce)(at, at, count, dtype, sum, comm, stream) }
        };
        let (buckets, flat) = Buckets::of(tensors);
        // Divided before the sum, so that f16 does not overflow; this also creates tensors of their own.
        let parts = flat.map(|flat| flat * scale).collect();
        let enqueued = self.in_place("ncclAllReduce", parts, all_reduce)?;
        Ok(Reduction::until(move || {
            Ok(buckets.split(enqueued.finish()?))
        }))
    }

    fn broadcast(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        let nccl = nccl()?;
        let broadcast = |buffer: &Buffer, comm, stream| {
            let (at, count, dtype) = (buffer.pointer, buffer.count, buffer.dtype);
            // SAFETY: `Enqueued` keeps the memory, `count` of `dtype`, and waits for the call before it is dropped.
            unsafe { (nccl.broadcast)(at, at, count, dtype, 0, comm, stream) }
        };
        let (buckets, flat) = Buckets::of(tensors);
        // The products are tensors of their own.
        let copies = flat.map(|flat| flat * 1.0).collect();
        let copied = self
            .in_place("ncclBroadcast", copies, broadcast)?
            .finish()?;
        Ok(buckets.split(copied))
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.gather(&[0]).map(drop)
    }

    fn all_gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        if let Some(mpi) = &self.mpi {
            return mpi.all_gather_bytes(mine);
        }
        let lengths = self.gather(&(mine.len() as u64).to_le_bytes())?;
        let lengths: Vec<usize> = lengths
            .as_chunks::<8>()
            .0
            .iter()
            .map(|length| u64::from_le_bytes(*length) as usize)
            .collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(vec![Vec::new(); self.world]);
        }
        let mut padded = mine.to_vec();
        padded.resize(longest, 0);
        let all = self.gather(&padded)?;
        let parts = all.chunks(longest).zip(lengths);
        Ok(parts
            .map(|(part, length)| part[..length].to_vec())
            .collect())
    }

    fn mark(&self, place: &str) {
        self.watch.mark(place);
        if let Some(mpi) = &self.mpi {
            mpi.mark(place);
        }
    }

    fn waited(&self) -> Duration {
        let mpi = self.mpi.as_ref().map(|mpi| mpi.waited());
        self.watch.waited() + mpi.unwrap_or_default()
    }

    fn abort(&self) -> ! {
        match &self.mpi {
            Some(mpi) => mpi.abort(),
            // The supervisor, torchrun or Kubernetes ends the other processes.
            None => std::process::exit(1),
        }
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let (Ok(comm), Ok(nccl)) = (self.comm(), nccl()) {
            // SAFETY: nothing uses it after this. It would only fail if the GPU is lost.
            let _ = unsafe { (nccl.comm_destroy)(comm.0) };
        }
    }
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nccl(rank {} of {})", self.rank, self.world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_one_clear_error() {
        match unique_id() {
            Err(error) => assert!(error.to_string().contains("libnccl.so.2"), "{error}"),
            // It is installed here.
            Ok(id) => assert!(id.iter().any(|&byte| byte != 0)),
        }
    }
}
