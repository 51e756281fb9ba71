//! Two hosts with separate addresses: two network namespaces with a virtual cable between them.

use crate::{SEED, binary, cli_ok, loss_difference, mpirun, render_shapes, shown, train};
use std::path::Path;
use std::process::Command;

/// Namespaces `a` and `b` with 10.77.0.1 and 10.77.0.2; removed on drop.
struct Hosts([String; 2]);

fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip").args(line.split(' ')).output();
    let output = output.map_err(|error| format!("ip (apt-get install iproute2): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {line}: {}", shown(&output))),
    }
}

impl Hosts {
    fn new() -> Result<Self, String> {
        let pid = std::process::id();
        let hosts = Self(["a", "b"].map(|host| format!("mrcnn-{pid}-{host}")));
        let [a, b] = &hosts.0;
        for line in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("link add mrcnn-a netns {a} type veth peer name mrcnn-b netns {b}"),
            format!("-n {a} addr add 10.77.0.1/24 dev mrcnn-a"),
            format!("-n {b} addr add 10.77.0.2/24 dev mrcnn-b"),
            format!("-n {a} link set mrcnn-a up"),
            format!("-n {b} link set mrcnn-b up"),
            format!("-n {a} link set lo up"),
            format!("-n {b} link set lo up"),
        ] {
            ip(&line)?;
        }
        Ok(hosts)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in &self.0 {
            let _ = ip(&format!("netns del {host}"));
        }
    }
}

/// Command that Open MPI runs in place of ssh: `agent HOST COMMAND`.
fn write_agent(path: &Path, host: &str, uts: &str) {
    use std::os::unix::fs::PermissionsExt;
    // A different host name, by which Open MPI identifies another machine.
    let script = format!(
        "#!/bin/sh\nshift\nexec ip netns exec {host} unshare --uts sh -c 'hostname {uts}; exec sh -c \"$0\"' \"$*\"\n"
    );
    std::fs::write(path, script).expect("a script");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("a script");
}

#[test]
fn two_hosts_train_as_one_process() {
    let Some(binary) = binary() else { return };
    let hosts = match Hosts::new() {
        Ok(hosts) => hosts,
        Err(error) => {
            mrcnn_test_support::skip(&format!("no network namespaces: {error}"));
            return;
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 7, 5);
    let args = train(&["--set=train.steps=20", SEED]);
    cli_ok(&binary, 1, at, &[&args[..], &["--out=one"]].concat());

    let agent = at.join("agent");
    write_agent(&agent, &hosts.0[1], "host-b");
    let mut outer = Command::new("ip");
    outer.args(["netns", "exec", &hosts.0[0]]);
    let inner = mpirun();
    for (name, value) in inner.get_envs() {
        outer.env(name, value.expect("a value"));
    }
    outer.arg("mpirun").args(inner.get_args());
    outer
        .args(["--host", "10.77.0.1:1,10.77.0.2:1", "-np", "2"])
        .args(["--mca", "plm_rsh_agent", &agent.display().to_string()])
        .args([
            "--mca",
            "btl",
            "tcp,self",
            "--mca",
            "btl_tcp_if_include",
            "10.77.0.0/24",
        ])
        .args(["--mca", "oob_tcp_if_include", "10.77.0.0/24"])
        .args(["-x", "RAYON_NUM_THREADS", "--display-map"])
        .arg(&binary)
        .args(&args)
        .arg("--out=two")
        .current_dir(at);
    let output = outer.output().expect("ip netns exec");
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("2 ranks over mpi"), "{text}");
    // The gradients of 20 steps were sent over the cable, far more than the start needs.
    let counter = "cat /sys/class/net/mrcnn-b/statistics/rx_bytes";
    let mut read = Command::new("ip");
    read.args(["netns", "exec", &hosts.0[1]])
        .args(counter.split(' '));
    let received = String::from_utf8(read.output().expect("ip netns exec").stdout);
    let received: u64 = received
        .expect("a number")
        .trim()
        .parse()
        .expect("a number");
    println!("{received} bytes came to the second host");
    assert!(
        received > 2_000_000,
        "only {received} bytes came to the second host"
    );
    let losses = loss_difference(&at.join("one"), &at.join("two"));
    assert!(losses <= 1e-5, "losses differ by {losses}");
}
