//! What this machine says of itself.

use videosdgx_model::{Host, MemoryBudget, MemoryProbe, SystemMemory, process_resident_bytes};

#[test]
fn memory_is_what_the_system_says() {
    let memory = SystemMemory::new().memory().expect("this system tells its memory");
    assert!(memory.total > 0 && memory.available > 0 && memory.available <= memory.total, "{memory:?}");
    let known = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib = |name: &str| -> u64 {
        let line = known.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(memory.total <= kib("MemTotal:") * 1024);
    let slack = 2 << 30;
    assert!(memory.available <= kib("MemAvailable:") * 1024 + slack);
    let all = MemoryBudget::of_system(0).available();
    assert!(MemoryBudget::of_system(u64::MAX).available() == 0 && all > 0);
}

#[test]
fn resident_bytes_grow_with_what_is_touched() {
    let before = process_resident_bytes();
    let touched = vec![1_u8; 64 << 20];
    let after = process_resident_bytes();
    assert!(touched[touched.len() / 2] == 1 && before > 0);
    assert!(after >= before + (60 << 20), "{before} {after}");
}

#[test]
fn the_host_has_a_name_and_processors() {
    let report = Host::probe().report();
    assert!(!report.cpu.is_empty() && report.cpu_count > 0, "{report:?}");
    assert!(report.memory.total_gb > 0.0 && report.memory.allocated_gb > 0.0, "{report:?}");
}
