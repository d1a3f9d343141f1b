//! Prints which device a service would choose, and why: `show_device [auto|cpu|cuda:0]`. Then, from this process itself, whether
//! libtorch's CUDA part is mapped and whether its operators are registered. `scripts/check-cuda` reads the lines.

use std::process::ExitCode;

use videosdgx_tensor::{Device, DeviceChoice, Kind, Tensor, TensorError, choose_device, cuda_memory};

fn main() -> ExitCode {
    let choice = std::env::args().nth(1).unwrap_or_else(|| "auto".to_owned());
    let chosen = choice
        .parse::<DeviceChoice>()
        .map_err(|error| error.to_string())
        .and_then(|choice| choose_device(choice).map_err(|error| error.to_string()));
    match &chosen {
        Ok(chosen) => println!("device: {chosen}"),
        Err(error) => println!("refused: {error}"),
    }
    println!("mapped: {}", mapped("libtorch_cuda.so").unwrap_or_else(|| "no".to_owned()));
    println!("operators: {}", operators());
    if let Some((free, total)) = cuda_memory(0) {
        println!("memory: {free} of {total} bytes free");
    }
    if chosen.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The file that this process has mapped under `name`.
fn mapped(name: &str) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path =
        maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|path| path.ends_with(name)));
    path.map(str::to_owned)
}

/// What making a tensor on the GPU gives. Without registered operators libtorch's dispatcher refuses it; with them their own
/// code runs, which finds a device or says why there is none.
fn operators() -> String {
    match Tensor::f_zeros([2, 2], (Kind::Float, Device::Cuda(0))).map_err(TensorError::from) {
        Ok(tensor) => format!("registered, {:?} was made on the device", tensor.size()),
        Err(error) => {
            let text = error.to_string();
            let missing = text.contains("Could not run") || text.contains("not linked");
            format!("{}: {text}", if missing { "missing" } else { "registered" })
        }
    }
}
