//! Environment variables for the compilation of the program: its Cargo profile, which Cargo itself reduces to `release`
//! and `debug`, and whether that leaves the code that launches GPU kernels unoptimized (the workspace's profiles, see
//! its Cargo.toml).

use std::path::{Path, PathBuf};

fn main() {
    // TARGET/PROFILE/build/mrcnn-cli-HASH/out
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let profile = out.ancestors().nth(3).and_then(Path::file_name);
    let profile = profile.unwrap_or_default().to_string_lossy();
    // The package on crates.io is built without the workspace, and its profiles are Cargo's own.
    let is_in_workspace = Path::new("../core/Cargo.toml").exists();
    let is_quick = is_in_workspace && profile != "dist";
    println!("cargo:rustc-env=MRCNN_PROFILE={profile}");
    println!("cargo:rustc-env=MRCNN_QUICK_BUILD={is_quick}");
    println!("cargo:rerun-if-changed=build.rs");
}
