//! The one place that talks to the driver: opening a device, memory, launches.
//!
//! unsafe, because the driver is C, and because kernels and copies get addresses as numbers. Functions that take addresses are unsafe as well: each
//! caller says why its addresses are right, where it knows the shapes (`ops.rs`, `session.rs`, `exact.rs`, `layer.rs`, `staging.rs`, `workspace.rs`,
//! `memory.rs`). Kernels stay within these shapes (`tests/` runs them under AddressSanitizer). The safe alternative, a compute API that checks every
//! access on the device, has neither integer matrix instructions nor the devices that this backend is for.
#![allow(unsafe_code, reason = "calls of the CUDA driver")]

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use mlic_backend::BackendError;

use crate::args::{
    AddArgs, FillArgs, LayerArgs, LinearArgs, MoveArgs, NormArgs, ParametersArgs, PlaceArgs, QuantizeArgs, SamplesArgs,
    SquaresArgs, WindowArgs,
};
use crate::images::{self, Image};
use crate::layer::Tile;
use crate::measure::Profile;

/// Version of the oldest driver that is accepted: that of CUDA 11.4, JetPack 5.
pub const OLDEST_DRIVER: i32 = 11_040;

/// A kernel and the type of its argument.
pub(crate) struct Kernel<A> {
    index: usize,
    name: &'static str,
    argument: PhantomData<A>,
}

macro_rules! kernels {
    ($($index:literal $name:ident $entry:literal $argument:ty),* $(,)?) => {
        $(pub(crate) const $name: Kernel<$argument> = Kernel { index: $index, name: $entry, argument: PhantomData };)*
        /// Entry points by index.
        const ENTRIES: &[&str] = &[$($entry),*];
    };
}
kernels! {
    0 DENSE_MMA_BYTES "mlic_dense_mma_bytes" LayerArgs,
    1 DENSE_MMA_BYTES_SINGLE "mlic_dense_mma_bytes_single" LayerArgs,
    2 DENSE_MMA_BYTES_SINGLE_BROAD "mlic_dense_mma_bytes_single_broad" LayerArgs,
    3 DENSE_MMA_WORDS "mlic_dense_mma_words" LayerArgs,
    4 DENSE_MMA_WORDS_SINGLE "mlic_dense_mma_words_single" LayerArgs,
    5 DENSE_DOT_BYTES "mlic_dense_dot_bytes" LayerArgs,
    6 DENSE_DOT_BYTES_SINGLE "mlic_dense_dot_bytes_single" LayerArgs,
    7 DENSE_DOT_WORDS "mlic_dense_dot_words" LayerArgs,
    8 DENSE_DOT_WORDS_SINGLE "mlic_dense_dot_words_single" LayerArgs,
    9 DEPTHWISE "mlic_depthwise" LayerArgs,
    10 QUANTIZE "mlic_quantize" QuantizeArgs,
    11 PACK "mlic_pack" MoveArgs,
    12 UNPACK "mlic_unpack" MoveArgs,
    13 MERGE "mlic_merge" MoveArgs,
    14 SHUFFLE "mlic_shuffle" MoveArgs,
    15 ADD "mlic_add" AddArgs,
    16 PARAMETERS "mlic_parameters" ParametersArgs,
    17 FILL "mlic_fill" FillArgs,
    18 NORM "mlic_norm" NormArgs,
    19 ATTENTION_LARGEST "mlic_attention_largest" LinearArgs,
    20 ATTENTION_SUM "mlic_attention_sum" LinearArgs,
    21 ATTENTION_DIVIDE "mlic_attention_divide" LinearArgs,
    22 ATTENTION_APPLY "mlic_attention_apply" LinearArgs,
    23 WINDOW_ATTENTION "mlic_window_attention" WindowArgs,
    24 SQUARES "mlic_squares" SquaresArgs,
    25 PLACE "mlic_place" PlaceArgs,
    26 SAMPLES "mlic_samples" SamplesArgs,
}

/// What the driver answered, in words.
pub(crate) fn describe(error: DriverError) -> String {
    let text = error.error_string().map_or_else(|e| format!("CUDA error {}", e.0 as u32), |s| s.to_string_lossy().into_owned());
    format!("{text} (CUDA error {})", error.0 as u32)
}

/// An opened GPU with the kernels on it, and a stream on which all work is done in order.
#[derive(Clone)]
pub(crate) struct Device {
    stream: Arc<CudaStream>,
    functions: Vec<CudaFunction>,
    /// Where kernels go instead of the stream while they are recorded.
    recording: Arc<Mutex<Option<Recording>>>,
    /// Name, compute capability, image and driver.
    pub(crate) description: String,
    /// Compute capability.
    pub(crate) capability: (i32, i32),
    /// Whether the device has `mma.m16n8k32` on bytes, and the image uses it.
    pub(crate) has_mma: bool,
    pub(crate) multiprocessors: usize,
    /// Whether the device's memory is the host's.
    pub(crate) is_integrated: bool,
    /// Bytes of shared memory that a block may have.
    pub(crate) shared_limit: usize,
    /// Tile of every dense layer for which it is possible, for measurements.
    pub(crate) forced_tile: Option<Tile>,
    /// Collects the time of each launch, for measurements.
    pub(crate) profile: Option<Arc<Profile>>,
}

fn unavailable(reason: impl Into<String>) -> BackendError {
    BackendError::NotAvailable { backend: "cuda", reason: reason.into() }
}

/// Returns the version of the driver, or an error if there is none or it is too old. Nothing of cudarc may be called before this: it panics where a
/// library or one of its functions is missing.
fn driver_version() -> Result<i32, BackendError> {
    // SAFETY: loads the library if there is one, and calls a function that every driver has had since CUDA 2.2.
    let version = unsafe {
        if !sys::is_culib_present() {
            return Err(unavailable("there is no CUDA driver (libcuda) on this machine"));
        }
        let mut version = 0;
        sys::cuDriverGetVersion(&raw mut version).result().map(|()| version)
    };
    let version = version.map_err(|e| unavailable(format!("the CUDA driver does not tell its version: {}", describe(e))))?;
    let named = |v: i32| format!("{}.{}", v / 1000, v % 1000 / 10);
    if version < OLDEST_DRIVER {
        return Err(unavailable(format!("the driver is for CUDA {}, {} is needed", named(version), named(OLDEST_DRIVER))));
    }
    Ok(version)
}

/// Device file through which a program gets memory of a Jetson's GPU.
const TEGRA_MEMORY: &str = "/dev/nvmap";

/// Says that this process cannot open a file that exists, and what may help. The driver itself then only says that there is no device.
fn closed(path: &Path) -> Option<String> {
    let error = OpenOptions::new().read(true).write(true).open(path).err()?;
    (error.kind() != ErrorKind::NotFound)
        .then(|| format!("{} cannot be opened ({error}): is the user in the groups video and render?", path.display()))
}

impl Device {
    /// Opens a GPU and loads the first image made for it that the driver takes; with `without_mma`, only images that multiply with `dp4a`.
    ///
    /// # Errors
    /// [`BackendError::NotAvailable`] with the reason: no driver, one that is too old, no such device, no image for it.
    pub(crate) fn open(ordinal: usize, without_mma: bool) -> Result<Self, BackendError> {
        let version = driver_version()?;
        let failed = |what: &'static str| move |e: DriverError| unavailable(format!("{what}: {}", describe(e)));
        let unreachable = || closed(Path::new(TEGRA_MEMORY)).filter(|_| cfg!(all(target_os = "linux", target_arch = "aarch64")));
        result::init().map_err(|e| {
            let why = unreachable().map_or_else(String::new, |why| format!("; {why}"));
            unavailable(format!("the driver does not start: {}{why}", describe(e)))
        })?;
        let count = CudaContext::device_count().map_err(failed("the driver does not list its devices"))?;
        if usize::try_from(count).is_ok_and(|count| ordinal >= count) {
            return Err(unavailable(format!("there is no CUDA device {ordinal}: the driver has {count}")));
        }
        let context = CudaContext::new(ordinal).map_err(failed("the device does not open"))?;
        // SAFETY: none of the memory is of a type of cudarc, whose events would order its uses; uses on several streams are ordered by events of this crate.
        unsafe { context.disable_event_tracking() };
        let capability = context.compute_capability().map_err(failed("the device does not tell what it is"))?;
        let can_map = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY).map_err(failed("the device"))?;
        if can_map == 0 {
            return Err(unavailable("the device cannot read memory of the host"));
        }
        let name = context.name().map_err(failed("the device does not tell its name"))?;
        let stream = context.new_stream().map_err(failed("no stream"))?;
        let number = |which| context.attribute(which).map(|n| n.max(0) as usize).map_err(failed("the device"));
        let multiprocessors = number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let is_integrated = number(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0;
        let shared_limit = number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let [major, minor] = [capability.0, capability.1];
        let (image, functions, refused) =
            load_first(&context, images::choices(capability, without_mma), shared_limit).map_err(|why| {
                if why.is_empty() {
                    unavailable(format!("no kernels for {name}, compute capability {major}.{minor}"))
                } else {
                    unavailable(format!("the kernels do not load: {why}"))
                }
            })?;
        let instead = if refused.is_empty() { refused } else { format!(" (refused: {refused})") };
        let driver = format!("{}.{}", version / 1000, version % 1000 / 10);
        let description = format!("{name}, sm_{major}{minor}, image {}{instead}, driver for CUDA {driver}", image.name);
        let has_mma = image.has_mma;
        Ok(Self {
            stream,
            functions,
            recording: Arc::default(),
            description,
            capability,
            has_mma,
            multiprocessors,
            is_integrated,
            shared_limit,
            forced_tile: None,
            profile: None,
        })
    }

    /// Returns the same GPU with a stream of its own.
    pub(crate) fn fork(&self) -> Result<Self, DriverError> {
        Ok(Self { stream: self.stream.context().new_stream()?, recording: Arc::default(), ..self.clone() })
    }

    fn recording(&self) -> MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the context current on this thread, for anything but kernels; an error while kernels are being recorded.
    fn bind(&self) -> Result<(), DriverError> {
        if self.recording().is_some() {
            return Err(DriverError(sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
        }
        self.stream.context().bind_to_thread()
    }

    /// Starts a kernel on `grid` blocks of `threads` threads, after all work before.
    ///
    /// # Safety
    /// The addresses in the argument are of memory that the device sees, as large as the argument's numbers say, and kept until a mark behind this
    /// is reached; nothing else of the host or of another stream uses what the kernel writes until then.
    pub(crate) unsafe fn launch<A: DeviceRepr>(
        &self,
        kernel: &Kernel<A>,
        grid: [usize; 2],
        threads: usize,
        argument: &A,
    ) -> Result<(), DriverError> {
        // SAFETY: the caller's promise.
        unsafe { self.launch_shared(kernel, grid, threads, 0, argument) }
    }

    /// Like [`Self::launch`], with `shared` bytes of dynamic shared memory.
    ///
    /// # Safety
    /// As [`Self::launch`].
    pub(crate) unsafe fn launch_shared<A: DeviceRepr>(
        &self,
        kernel: &Kernel<A>,
        grid: [usize; 2],
        threads: usize,
        shared: usize,
        argument: &A,
    ) -> Result<(), DriverError> {
        let invalid = DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE);
        let side = |n: usize| u32::try_from(n).map_err(|_| invalid);
        let function = self.functions.get(kernel.index).ok_or(invalid)?;
        let config = LaunchConfig {
            grid_dim: (side(grid[0])?, side(grid[1])?, 1),
            block_dim: (side(threads)?, 1, 1),
            shared_mem_bytes: side(shared)?,
        };
        debug_assert_eq!(ENTRIES.get(kernel.index), Some(&kernel.name));
        let start = || {
            if let Some(recording) = &mut *self.recording() {
                self.stream.context().bind_to_thread()?;
                // SAFETY: as below, wherever the graph is launched.
                return unsafe { recording.add(function, config, argument) };
            }
            let mut launch = self.stream.launch_builder(function);
            // SAFETY: the kernel takes one argument, of this type (`kernels!` pairs them as exact.cu does), and touches only memory whose
            // addresses are in it: that is the caller's promise.
            unsafe { launch.arg(argument).launch(config) }.map(|_| ())
        };
        let Some(profile) = &self.profile else { return start() };
        let mark = || self.stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
        profile.launch(kernel.name, start, mark)
    }

    /// Sets the text that is reported with the kernel's name for the next launch, where times are taken.
    pub(crate) fn label(&self, text: impl FnOnce() -> String) {
        if let Some(profile) = &self.profile {
            profile.label(text());
        }
    }

    /// Starts a kernel with a thread for each of `count` elements, or nothing if there are none. A count beyond 32 bits is an error, because kernels
    /// divide their indices in 32 bits.
    ///
    /// # Safety
    /// As [`Self::launch`].
    pub(crate) unsafe fn launch_elements<A: DeviceRepr>(
        &self,
        kernel: &Kernel<A>,
        count: usize,
        argument: &A,
    ) -> Result<(), DriverError> {
        match u32::try_from(count) {
            Ok(0) => Ok(()),
            // SAFETY: the caller's promise.
            Ok(_) => unsafe { self.launch(kernel, [count.div_ceil(256), 1], 256, argument) },
            Err(_) => Err(DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE)),
        }
    }

    /// A property of the device.
    pub(crate) fn attribute(&self, which: Attribute) -> Result<i32, DriverError> {
        self.stream.context().attribute(which)
    }

    /// Bytes of device memory that are in use, by any program.
    pub(crate) fn used_memory(&self) -> Result<usize, DriverError> {
        self.stream.context().bind_to_thread()?;
        result::mem_get_info().map(|(free, total)| total.saturating_sub(free))
    }

    /// Sets a mark behind all work so far.
    pub(crate) fn mark(&self) -> Result<CudaEvent, DriverError> {
        self.bind()?;
        self.stream.record_event(None)
    }

    /// Makes all later work wait for a mark of another stream.
    pub(crate) fn wait(&self, mark: &CudaEvent) -> Result<(), DriverError> {
        self.bind()?;
        self.stream.wait(mark)
    }

    /// Waits until all work is done.
    pub(crate) fn synchronize(&self) -> Result<(), DriverError> {
        self.bind()?;
        self.stream.synchronize()
    }

    /// Allocates device memory with undefined contents: every kernel writes its whole output before anything reads it.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<Memory, DriverError> {
        let context = Arc::clone(self.stream.context());
        context.bind_to_thread()?;
        // SAFETY: the size is not 0. The allocation is not in the order of a stream, so that it is possible while work is recorded.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }?;
        Ok(Memory { context, address })
    }

    /// Allocates device memory and fills it with these bytes.
    pub(crate) fn upload(&self, bytes: &[u8]) -> Result<Memory, DriverError> {
        let memory = self.allocate(bytes.len())?;
        // SAFETY: allocated above with this size.
        unsafe { self.write(memory.address, bytes) }?;
        Ok(memory)
    }

    /// Copies bytes to an address of device memory, after all work before, and waits for the copy.
    ///
    /// # Safety
    /// There is device memory of at least this size at the address, which no other stream uses.
    pub(crate) unsafe fn write(&self, address: u64, bytes: &[u8]) -> Result<(), DriverError> {
        self.bind()?;
        // SAFETY: the caller's promise; `bytes` are not used any more after the wait.
        unsafe { result::memcpy_htod_async(address, bytes, self.stream.cu_stream()) }?;
        self.synchronize()
    }

    /// Queues a copy of the first `bytes` bytes of pinned memory to the device, after all work before.
    ///
    /// # Safety
    /// There is device memory of at least this size at the address, which no other stream uses, and `from` is kept, and not written to, until a mark
    /// behind this is reached.
    pub(crate) unsafe fn send<T: bytemuck::Pod>(&self, from: &Pinned<T>, bytes: usize, address: u64) -> Result<(), DriverError> {
        self.bind()?;
        // SAFETY: the device does not write what the host may write.
        let all: &[u8] = bytemuck::cast_slice(unsafe { from.as_slice() });
        let bytes = all.get(..bytes).ok_or(DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE))?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_htod_async(address, bytes, self.stream.cu_stream()) }
    }

    /// Queues a copy from the device to the first `bytes` bytes of pinned memory, after all work before.
    ///
    /// # Safety
    /// There is device memory of at least this size at the address, and `to` is kept, and not looked at, until a mark behind this is reached.
    pub(crate) unsafe fn fetch(&self, address: u64, bytes: usize, to: &mut Pinned<u8>) -> Result<(), DriverError> {
        self.bind()?;
        // SAFETY: no earlier copy uses it: the caller waited before it took the memory again.
        let to = unsafe { to.as_mut_slice() }.get_mut(..bytes).ok_or(DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE))?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtoh_async(to, address, self.stream.cu_stream()) }
    }

    /// Copies within device memory, after all work before.
    ///
    /// # Safety
    /// There is device memory of at least this size at both addresses, kept until a mark behind this is reached; they do not overlap.
    pub(crate) unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), DriverError> {
        self.bind()?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
    }
}

/// Whether the error says that the driver cannot take this image, but may take another: a Tegra driver of CUDA 11.4 need not know machine code of a
/// later compiler.
const fn is_refusal(error: DriverError) -> bool {
    matches!(
        error.0,
        sys::CUresult::CUDA_ERROR_INVALID_IMAGE
            | sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
            | sys::CUresult::CUDA_ERROR_INVALID_PTX
            | sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
            | sys::CUresult::CUDA_ERROR_NOT_SUPPORTED
    )
}

/// Returns the first image that the driver takes, its kernels, and what the driver said to the images before. If it takes none, what it said is the error.
fn load_first(
    context: &Arc<CudaContext>,
    images: impl Iterator<Item = &'static Image>,
    shared_limit: usize,
) -> Result<(&'static Image, Vec<CudaFunction>, String), String> {
    let mut said = Vec::new();
    for image in images {
        let error = match load(context, image, shared_limit) {
            Ok(functions) => return Ok((image, functions, said.join(", "))),
            Err(error) => error,
        };
        said.push(format!("{}: {}", image.name, describe(error)));
        if !is_refusal(error) {
            break;
        }
    }
    Err(said.join(", "))
}

fn load(context: &Arc<CudaContext>, image: &Image, shared_limit: usize) -> Result<Vec<CudaFunction>, DriverError> {
    let invalid = DriverError(sys::CUresult::CUDA_ERROR_INVALID_IMAGE);
    let mut bytes = image.bytes().ok_or(invalid)?;
    bytes.push(0); // PTX is a C string
    let module = context.load_module(Ptx::from_binary(bytes))?;
    let functions = ENTRIES.iter().map(|name| module.load_function(name)).collect::<Result<Vec<_>, _>>()?;
    // By default, a block may have 48 KiB.
    let dynamic = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    let carveout = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
    for (function, name) in functions.iter().zip(ENTRIES) {
        if name.starts_with("mlic_dense") {
            function.set_attribute(dynamic, shared_limit as i32)?;
            // All that the first cache can give, so that several blocks fit on a multiprocessor.
            function.set_attribute(carveout, 100)?;
        }
    }
    Ok(functions)
}

/// A piece of device memory.
pub(crate) struct Memory {
    context: Arc<CudaContext>,
    pub(crate) address: u64,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // SAFETY: allocated in `allocate`, freed once; the driver waits for work that uses it.
        self.context.record_err(unsafe { result::free_sync(self.address) });
    }
}

/// A graph under construction, in which each kernel comes behind the one before. It is not a capture of the stream, which would fail if another part
/// of the program waited for the device meanwhile.
struct Recording {
    context: Arc<CudaContext>,
    graph: sys::CUgraph,
    last: Option<sys::CUgraphNode>,
}

// SAFETY: the driver requires that one thread at a time uses the handle, and all uses are through `&mut`.
unsafe impl Send for Recording {}

impl Recording {
    fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        let mut graph = ptr::null_mut();
        // SAFETY: the driver writes a handle, which is destroyed in `drop`.
        unsafe { sys::cuGraphCreate(&raw mut graph, 0) }.result()?;
        Ok(Self { context: Arc::clone(context), graph, last: None })
    }

    /// Appends a kernel. The context must be current on this thread.
    ///
    /// # Safety
    /// The kernel takes one argument, of type `A`. Its addresses are as [`Device::launch`] requires at every launch of the graph.
    unsafe fn add<A: DeviceRepr>(
        &mut self,
        kernel: &CudaFunction,
        config: LaunchConfig,
        argument: &A,
    ) -> Result<(), DriverError> {
        let mut arguments = [ptr::from_ref(argument).cast_mut().cast::<c_void>()];
        let node = sys::CUDA_KERNEL_NODE_PARAMS {
            func: kernel.cu_function(),
            gridDimX: config.grid_dim.0,
            gridDimY: config.grid_dim.1,
            gridDimZ: config.grid_dim.2,
            blockDimX: config.block_dim.0,
            blockDimY: config.block_dim.1,
            blockDimZ: config.block_dim.2,
            sharedMemBytes: config.shared_mem_bytes,
            kernelParams: arguments.as_mut_ptr(),
            extra: ptr::null_mut(),
        };
        let (before, mut added) = (self.last.as_slice(), ptr::null_mut());
        // SAFETY: the driver copies the argument, and does not write to it; the node before is of this graph.
        unsafe { sys::cuGraphAddKernelNode(&raw mut added, self.graph, before.as_ptr(), before.len(), &raw const node) }
            .result()?;
        self.last = Some(added);
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // SAFETY: created in `new`, destroyed once; an executable that was made of the graph has all that it needs.
        self.context.record_err(unsafe { result::graph::destroy(self.graph) });
    }
}

/// Recorded work that can be done again: the same kernels with the same arguments.
pub(crate) struct Graph {
    executable: sys::CUgraphExec,
    stream: Arc<CudaStream>,
}

// SAFETY: the driver requires that one thread at a time uses the handle, and all uses are through `&mut`.
unsafe impl Send for Graph {}

impl Graph {
    /// Queues the work.
    ///
    /// # Safety
    /// The memory that the work was recorded with is still there, and nothing else uses it until a mark behind this is reached.
    pub(crate) unsafe fn launch(&mut self) -> Result<(), DriverError> {
        self.stream.context().bind_to_thread()?;
        // SAFETY: the caller's promise.
        unsafe { result::graph::launch(self.executable, self.stream.cu_stream()) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let context = self.stream.context();
        context.record_err(context.bind_to_thread());
        // SAFETY: made in `record`, destroyed once; the driver waits for work that uses it.
        context.record_err(unsafe { result::graph::exec_destroy(self.executable) });
    }
}

impl Device {
    /// Records the kernels that `work` starts instead of running them. One thread at a time: the caller must have the stream for itself.
    pub(crate) fn record<E>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<Result<Graph, E>, DriverError> {
        let recording = Recording::new(self.stream.context())?;
        *self.recording() = Some(recording);
        let result = work();
        let recording = self.recording().take();
        if let Err(error) = result {
            return Ok(Err(error));
        }
        let recording = recording.ok_or(DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE))?;
        self.bind()?;
        // SAFETY: the graph is complete, and used by this thread alone.
        let executable = unsafe { result::graph::instantiate(recording.graph, sys::CUgraphInstantiate_flags(0)) }?;
        Ok(Ok(Graph { executable, stream: Arc::clone(&self.stream) }))
    }
}

/// Host memory that the device reads and writes in place: on a Jetson the same memory, elsewhere over the bus.
pub(crate) struct Pinned<T> {
    context: Arc<CudaContext>,
    pointer: *mut T,
    len: usize,
    pub(crate) address: u64,
}

// SAFETY: the value owns its memory; the pointer is used through `&self` and `&mut self` alone.
unsafe impl<T: Send> Send for Pinned<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Sync> Sync for Pinned<T> {}

impl<T: bytemuck::Pod> Pinned<T> {
    /// Allocates memory for `len` elements, all zero.
    pub(crate) fn new(device: &Device, len: usize) -> Result<Self, DriverError> {
        let context = Arc::clone(device.stream.context());
        context.bind_to_thread()?;
        let bytes = len.max(1) * size_of::<T>();
        // Not write-combined, unlike the pinned memory of cudarc, because the host reads from it.
        // SAFETY: the memory is page-aligned, written before it is read, and released once, in `drop`.
        unsafe {
            let pointer = result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_DEVICEMAP)?.cast::<T>();
            pointer.cast::<u8>().write_bytes(0, bytes);
            let mut pinned = Self { context, pointer, len, address: 0 };
            sys::cuMemHostGetDevicePointer_v2(&raw mut pinned.address, pointer.cast(), 0).result()?;
            Ok(pinned)
        }
    }

    /// Number of elements.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// What the device wrote.
    ///
    /// # Safety
    /// No work of the device that writes here is under way: the caller has waited for it ([`Device::synchronize`], or a mark).
    pub(crate) unsafe fn as_slice(&self) -> &[T] {
        // SAFETY: `len` elements that are written; nobody writes them now.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }

    /// What the device will read.
    ///
    /// # Safety
    /// No work of the device that reads or writes here is under way: the caller has waited for it.
    pub(crate) unsafe fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` is the only way for the host to write.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // SAFETY: allocated in `new`; the context is alive.
        self.context.record_err(unsafe { result::free_host(self.pointer.cast()) });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mlic_backend::contract::is_required;

    use super::*;

    /// Opens the device; none, with a message, if there is none and none is required.
    pub(crate) fn device() -> Option<Arc<Device>> {
        match Device::open(0, false) {
            Ok(device) => Some(Arc::new(device)),
            Err(error) if is_required("cuda") => panic!("{error}"),
            Err(error) => {
                eprintln!("not run: {error}");
                None
            }
        }
    }

    #[test]
    fn a_device_file_that_cannot_be_opened_is_named() {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("mlic-cuda-closed-{}", std::process::id()));
        assert_eq!(closed(&file), None, "what is not there is no reason");
        std::fs::write(&file, "").unwrap();
        assert_eq!(closed(&file), None);
        std::fs::remove_file(&file).unwrap();
        // Nobody can open a folder for writing, whatever its permissions.
        let why = closed(&folder).unwrap();
        assert!(why.contains("cannot be opened") && why.contains("groups video and render"), "{why}");
    }

    #[test]
    fn kernels_are_recorded_in_order_and_nothing_else_is() {
        let Some(device) = device() else { return };
        let memory = device.upload(&[0; 16]).unwrap();
        let fill = |value| {
            // SAFETY: the memory has two words.
            unsafe { device.launch_elements(&FILL, 2, &FillArgs { out: memory.address, value, count: 2 }) }
        };
        let get = || {
            let mut pinned = Pinned::<u8>::new(&device, 16).unwrap();
            // SAFETY: the memory has 16 bytes, and is looked at after the wait.
            unsafe {
                device.fetch(memory.address, 16, &mut pinned).unwrap();
                device.synchronize().unwrap();
                pinned.as_slice().to_vec()
            }
        };
        let mut graph = device.record(|| fill(0x0101_0101_0101_0101).and_then(|()| fill(u64::MAX))).unwrap().unwrap();
        assert_eq!(get(), [0; 16], "recorded kernels do not run");
        for _ in 0..2 {
            fill(7).unwrap();
            // SAFETY: the memory is there, and the device is waited for before it is used.
            unsafe { graph.launch() }.unwrap();
            assert_eq!(get(), [255; 16]);
        }
        let refused = device.record(|| fill(7).and_then(|()| device.synchronize())).unwrap().map(drop);
        assert_eq!(refused, Err(DriverError(sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)));
        assert_eq!(get(), [255; 16], "what was recorded in vain does not run");
    }
}
