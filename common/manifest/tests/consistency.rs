//! The manifest agrees with itself, with the folders of the services, with compose and with the scripts.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use videosdgx_manifest::{CONTAINER_PORT, ServiceKind, preset, presets, services};

const GATEWAY_PORT: u16 = 8080;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn names() -> BTreeSet<String> {
    services().iter().map(|service| service.name.clone()).collect()
}

#[test]
fn names_and_ports_are_unique() {
    assert_eq!(names().len(), services().len());
    let ports: Vec<u16> = services().iter().map(|service| service.port).collect();
    assert!(ports.is_sorted_by(|left, right| left < right), "ports are unique and in order: {ports:?}");
    assert!(!ports.contains(&GATEWAY_PORT) && !ports.contains(&CONTAINER_PORT));
    for service in services() {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(service.name.bytes().all(plain), "{}", service.name);
    }
}

#[test]
fn presets_are_unique_and_found_in_any_case() {
    let distinct: BTreeSet<&str> = presets().map(|(_, preset)| preset.name.as_str()).collect();
    assert_eq!(distinct.len(), presets().count());
    for (service, one) in presets() {
        assert_eq!(preset(&one.name.to_uppercase()), Some((service, one)));
        // models/<service> is a link to models/<preset>.
        assert!(videosdgx_manifest::service(&one.name).is_none(), "{} is also a service", one.name);
        assert_eq!(one.repository.split('/').count(), 2, "{}", one.repository);
    }
    for service in services() {
        let default = preset(&service.default_preset).map(|(owner, _)| owner.name.as_str());
        assert_eq!(default, Some(service.name.as_str()), "default_preset of {}", service.name);
    }
}

#[test]
fn every_service_has_a_folder_and_the_other_way_round() {
    let folders: BTreeSet<String> = std::fs::read_dir(root().join("services"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, names());
    for service in services() {
        let checkpoint = root().join("checkpoints").join(&service.demo_checkpoint);
        assert!(checkpoint.exists() || service.demo_checkpoint == "smollm2-135m", "{}", checkpoint.display());
    }
}

#[test]
fn scripts_read_the_same_facts() {
    let facts = "for name in $(service_names); do echo $name $(kind_of $name) $(port_of $name) $(demo_checkpoint_of $name); done";
    let output = Command::new("bash")
        .args(["-c", &format!("source scripts/lib.sh; source scripts/stack.sh; {facts}")])
        .current_dir(root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let read: BTreeSet<&str> = text.lines().collect();
    let checkpoints = root().canonicalize().unwrap().join("checkpoints");
    let expected: Vec<String> = services()
        .iter()
        .map(|service| {
            let kind = match service.kind {
                ServiceKind::Video => "video",
                ServiceKind::Text => "text",
            };
            let checkpoint = checkpoints.join(&service.demo_checkpoint);
            format!("{} {kind} {} {}", service.name, service.port, checkpoint.display())
        })
        .collect();
    assert_eq!(
        read,
        expected.iter().map(String::as_str).collect(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
