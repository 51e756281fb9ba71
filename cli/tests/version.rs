//! The printed version. Because of this test, `cargo test --workspace` builds the program that the other tests run.

use std::process::Command;

#[test]
fn the_version_is_that_of_the_crate() {
    let output = Command::new(env!("CARGO_BIN_EXE_mrcnn-cli"))
        .arg("--version")
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    assert_eq!(
        text.trim(),
        concat!("mrcnn-cli ", env!("CARGO_PKG_VERSION"))
    );
}
