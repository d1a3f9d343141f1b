//! Compiles `src/device_cache.cpp` against the libtorch that torch-sys found.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo passes its settings to a build script in the environment"
)]

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src/device_cache.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    // torch-sys passes on its folder of libraries; the headers are beside it unless LIBTORCH_INCLUDE says otherwise.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let root = std::env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from).or_else(|| {
        let libraries = PathBuf::from(std::env::var_os("DEP_TCH_LIBTORCH_LIB")?);
        libraries.parent().map(PathBuf::from)
    });
    let root = root.expect("torch-sys names the folder of libtorch");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(root.join("include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file("src/device_cache.cpp")
        .compile("videosdgx_device_cache");
}
