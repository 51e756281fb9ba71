//! Memory of this process, of the machine and of the device.

use burn::tensor::Device;
use sysinfo::{CpuRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Reads the memory that this process and its device use.
#[derive(Debug)]
pub struct MemoryMeter {
    system: System,
    process: Option<Pid>,
}

impl Default for MemoryMeter {
    fn default() -> Self {
        Self {
            system: System::new(),
            process: sysinfo::get_current_pid().ok(),
        }
    }
}

impl MemoryMeter {
    /// Resident memory of this process in bytes; 0 if the system does not report it.
    pub fn process(&mut self) -> u64 {
        let Some(id) = self.process else {
            return 0;
        };
        let only_this = [id];
        let kind = ProcessRefreshKind::nothing().with_memory();
        let these = ProcessesToUpdate::Some(&only_this);
        self.system.refresh_processes_specifics(these, false, kind);
        self.system
            .process(id)
            .map_or(0, |process| process.memory())
    }

    /// Bytes of the machine that are free or can be freed; `None` if the system does not report it.
    pub fn available(&mut self) -> Option<u64> {
        self.system.refresh_memory();
        // In a container, the limit is that of the container.
        let limit = self.system.cgroup_limits().map(|limits| limits.free_memory);
        let machine = self.system.available_memory();
        let available = limit.map_or(machine, |limit| limit.min(machine));
        (available > 0).then_some(available)
    }
}

/// Bytes that a device with memory of its own has reserved.
pub fn device_memory(device: &Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

/// The machine's system, CPU and memory, each as a name and a text.
pub fn machine() -> Vec<(&'static str, String)> {
    let mut system = System::new();
    system.refresh_memory();
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    let kernel = System::kernel_version().unwrap_or_default();
    let os = System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into());
    let name = system
        .cpus()
        .first()
        .map(|cpu| cpu.brand().trim().to_string());
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let (total, available) = (system.total_memory(), system.available_memory());
    vec![
        (
            "system",
            format!("{os}, kernel {kernel}, {}", std::env::consts::ARCH),
        ),
        ("cores", format!("{cores}, {}", name.unwrap_or_default())),
        (
            "memory",
            format!(
                "{:.1} GB, {:.1} GB available",
                gigabytes(total),
                gigabytes(available)
            ),
        ),
    ]
}
