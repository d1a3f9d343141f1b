//! libtorch's CUDA part, which is opened at run time, and what the driver reports.
//!
//! A program is linked with libtorch_cpu only: nothing in it refers to libtorch_cuda, so the linker leaves that out, and the
//! CPU form of libtorch has none. Opening it registers its operators. It must be opened before the first call into
//! libtorch, which decides once per process whether there is CUDA.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_NOW};

/// What this process can use of CUDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cuda {
    /// The installed libtorch has no CUDA part.
    Absent,
    /// libtorch_cuda is installed and cannot be opened, for this reason.
    NotLoaded(String),
    /// libtorch_cuda is open, and there is no device that it can use, for this reason.
    NoDevice(String),
    /// libtorch_cuda is open, and these are the devices.
    Devices(Vec<CudaDevice>),
}

/// A device as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CudaDevice {
    /// For example `NVIDIA GB10`.
    pub(crate) name: String,
    /// Compute capability, for example (12, 1).
    pub(crate) capability: (c_int, c_int),
}

/// Whether a model of this process computes on a CUDA device.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// Opens libtorch_cuda if it is installed, and asks the driver; the first call decides for the process.
pub(crate) fn cuda() -> &'static Cuda {
    static CUDA: OnceLock<Cuda> = OnceLock::new();
    CUDA.get_or_init(probe)
}

/// Remembers that a CUDA device is used, so that [`empty_device_cache`] has something to do.
pub(crate) fn mark_in_use() {
    IN_USE.store(true, Ordering::Relaxed);
}

/// Gives the device memory that libtorch keeps for reuse back to the driver.
pub(crate) fn empty_device_cache() {
    unsafe extern "C" {
        fn videosdgx_empty_device_cache(message: *mut c_char, capacity: usize) -> bool;
    }
    if !IN_USE.load(Ordering::Relaxed) {
        return;
    }
    let mut message: [c_char; 512] = [0; 512];
    // SAFETY: the function writes at most `capacity` bytes, of which the last is zero, and lets no exception pass.
    let emptied = unsafe { videosdgx_empty_device_cache(message.as_mut_ptr(), message.len()) };
    if !emptied {
        // SAFETY: ends with a zero byte in every case, since the array begins as zeros.
        let reason = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy();
        let reason = reason.lines().next().unwrap_or_default();
        tracing::warn!(reason, "device_cache_not_emptied");
    }
}

/// Free and total bytes of a CUDA device as its driver reports them; `None` when there is no such device. On a GPU that shares
/// the host's memory these are the host's.
#[must_use]
pub fn cuda_memory(index: usize) -> Option<(u64, u64)> {
    type GetDevice = unsafe extern "C" fn(*mut c_int) -> c_int;
    type SetDevice = unsafe extern "C" fn(c_int) -> c_int;
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
    match cuda() {
        Cuda::Devices(devices) if index < devices.len() => {}
        _ => return None,
    }
    let process = Library::this();
    // SAFETY: the signatures are those of CUDA's runtime, which libtorch_cuda has opened. The thread's device is restored.
    unsafe {
        let get_device = process.get::<GetDevice>(b"cudaGetDevice\0").ok()?;
        let set_device = process.get::<SetDevice>(b"cudaSetDevice\0").ok()?;
        let memory_info = process.get::<MemGetInfo>(b"cudaMemGetInfo\0").ok()?;
        let (mut before, mut free, mut total) = (0, 0, 0);
        if get_device(&raw mut before) != 0 || set_device(c_int::try_from(index).ok()?) != 0 {
            return None;
        }
        let known = memory_info(&raw mut free, &raw mut total) == 0;
        set_device(before);
        known.then_some((free as u64, total as u64))
    }
}

fn probe() -> Cuda {
    let Some(library) = libtorch_folder().map(|folder| folder.join("libtorch_cuda.so")) else {
        return Cuda::Absent;
    };
    if !library.exists() {
        return Cuda::Absent;
    }
    if let Err(reason) = open_for_good(&library, RTLD_NOW | RTLD_GLOBAL) {
        return Cuda::NotLoaded(reason);
    }
    match driver_devices() {
        Err(reason) => Cuda::NoDevice(reason),
        // libtorch's CUDA runtime may refuse a driver that has devices, for example because it is too old.
        Ok(_) if tch::Cuda::device_count() == 0 => {
            let reason = runtime_error().unwrap_or_else(|| "libtorch finds no device".to_owned());
            Cuda::NoDevice(reason)
        }
        Ok(devices) => Cuda::Devices(devices),
    }
}

/// The folder that this process's libtorch was loaded from.
fn libtorch_folder() -> Option<PathBuf> {
    unsafe extern "C" fn visit(object: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
        // SAFETY: the loader passes a valid object whose name is null or ends with a zero byte; `found` is the pointer below.
        let (name, found) = unsafe { ((*object).dlpi_name, &mut *found.cast::<Option<PathBuf>>()) };
        if name.is_null() {
            return 0;
        }
        // SAFETY: as above.
        let path = Path::new(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()));
        if path.file_name().is_none_or(|name| name != "libtorch_cpu.so") {
            return 0;
        }
        *found = path.parent().map(Path::to_owned);
        1
    }
    let mut found: Option<PathBuf> = None;
    // SAFETY: `visit` has the required signature and keeps nothing; `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// Opens a library that stays open until the process ends; the error is the loader's reason.
fn open_for_good(path: &Path, flags: c_int) -> Result<ManuallyDrop<Library>, String> {
    // SAFETY: libtorch and the driver are installed for this program; their initialisers are meant to run in any process.
    let library = unsafe { Library::open(Some(path), flags) };
    library.map(ManuallyDrop::new).map_err(|error| error.to_string())
}

/// The devices of the driver's own interface, or its reason for having none.
fn driver_devices() -> Result<Vec<CudaDevice>, String> {
    type Init = unsafe extern "C" fn(c_uint) -> c_int;
    type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
    let driver = Driver::open()?;
    // SAFETY: the signature is the driver's.
    let started = driver.call::<Init, _>("cuInit", |init| unsafe { init(0) })?;
    driver.check("cuInit", started)?;
    let mut count = 0;
    let counted = driver.call::<Count, _>("cuDeviceGetCount", |get| {
        // SAFETY: the signature is the driver's; it writes one number.
        unsafe { get(&raw mut count) }
    })?;
    driver.check("cuDeviceGetCount", counted)?;
    if count == 0 {
        return Err("the driver has no device".to_owned());
    }
    (0..count).map(|index| driver.device(index)).collect()
}

/// NVIDIA's driver library.
struct Driver(ManuallyDrop<Library>);

impl Driver {
    fn open() -> Result<Self, String> {
        open_for_good(Path::new("libcuda.so.1"), RTLD_LAZY)
            .map(Self)
            .map_err(|error| format!("no driver: {error}"))
    }

    /// Calls `call` with the driver's function `name`, whose type is `F`.
    fn call<F: Copy, R>(&self, name: &str, call: impl FnOnce(F) -> R) -> Result<R, String> {
        // SAFETY: each caller gives the type that the driver's interface documents for this name.
        let function = unsafe { self.0.get::<F>(name.as_bytes()) }.map_err(|error| error.to_string())?;
        Ok(call(*function))
    }

    /// The driver's description of a status other than 0.
    fn check(&self, what: &str, status: c_int) -> Result<(), String> {
        type ErrorString = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
        if status == 0 {
            return Ok(());
        }
        let mut text: *const c_char = std::ptr::null();
        let described = self.call::<ErrorString, _>("cuGetErrorString", |describe| {
            // SAFETY: the signature is the driver's; it writes a pointer to a constant text.
            unsafe { describe(status, &raw mut text) }
        });
        if described != Ok(0) || text.is_null() {
            return Err(format!("{what} failed with status {status}"));
        }
        // SAFETY: not null, and a constant of the driver that ends with a zero byte.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        Err(format!("{text} ({what}: {status})"))
    }

    fn device(&self, index: c_int) -> Result<CudaDevice, String> {
        type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
        type Handle = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
        let mut handle = 0;
        let got = self.call::<Handle, _>("cuDeviceGet", |get| {
            // SAFETY: the signature is the driver's; it writes one number.
            unsafe { get(&raw mut handle, index) }
        })?;
        self.check("cuDeviceGet", got)?;
        let mut name: [c_char; 256] = [0; 256];
        let named = self.call::<Name, _>("cuDeviceGetName", |get| {
            // SAFETY: the signature is the driver's; it writes at most 255 bytes and a zero byte.
            unsafe { get(name.as_mut_ptr(), 255, handle) }
        })?;
        self.check("cuDeviceGetName", named)?;
        // SAFETY: the array begins as zeros, and its last byte was not written.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
        Ok(CudaDevice { name, capability: (self.attribute(75, handle)?, self.attribute(76, handle)?) })
    }

    fn attribute(&self, attribute: c_int, handle: c_int) -> Result<c_int, String> {
        type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
        let mut value = 0;
        let got = self.call::<Attribute, _>("cuDeviceGetAttribute", |get| {
            // SAFETY: the signature is the driver's; it writes one number.
            unsafe { get(&raw mut value, attribute, handle) }
        })?;
        self.check("cuDeviceGetAttribute", got).map(|()| value)
    }
}

/// Why CUDA's runtime, which libtorch_cuda has opened, counts no devices.
fn runtime_error() -> Option<String> {
    type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
    type Describe = unsafe extern "C" fn(c_int) -> *const c_char;
    let process = Library::this();
    let mut count = 0;
    // SAFETY: the signatures are those of CUDA's runtime; the description is a constant text.
    unsafe {
        let status = process.get::<Count>(b"cudaGetDeviceCount\0").ok()?(&raw mut count);
        let text = process.get::<Describe>(b"cudaGetErrorString\0").ok()?(status);
        (status != 0 && !text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        let folder = libtorch_folder().expect("the test is linked with libtorch");
        assert!(folder.join("libtorch_cpu.so").is_file(), "{}", folder.display());
        let has_cuda = folder.join("libtorch_cuda.so").exists();
        assert_eq!(*cuda() == Cuda::Absent, !has_cuda, "{:?}", cuda());
    }

    #[test]
    fn a_library_that_is_not_there_gives_the_loaders_reason() {
        let reason = open_for_good(Path::new("libvideosdgx-missing.so"), RTLD_LAZY).err();
        assert!(
            reason.as_ref().is_some_and(|reason| reason.contains("cannot open shared object file")),
            "{reason:?}"
        );
    }

    #[test]
    fn emptying_the_cache_works_with_any_device() {
        mark_in_use();
        empty_device_cache();
        assert_eq!(cuda_memory(99), None);
    }
}
