//! The manifest agrees with itself, with the folders of the services, with compose and with the scripts.

#![expect(clippy::disallowed_methods, reason = "tests read variables of their own")]

use std::{
    collections::{BTreeMap, BTreeSet},
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

fn kind_of(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::Video => "video",
        ServiceKind::Text => "text",
    }
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
        let Some(checkpoint) = &service.demo_checkpoint else { continue };
        let folder = root().join("checkpoints").join(checkpoint);
        assert!(folder.exists() || checkpoint == "smollm2-135m", "{}", folder.display());
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
            let kind = kind_of(service.kind);
            let checkpoint = service.demo_checkpoint.as_ref();
            let checkpoint = checkpoint.map(|name| format!(" {}", checkpoints.join(name).display()));
            format!("{} {kind} {}{}", service.name, service.port, checkpoint.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        read,
        expected.iter().map(String::as_str).collect(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The lines of `compose/compose.yaml` that belong to each service, by name.
fn compose_entries() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("compose/compose.yaml")).expect("compose.yaml");
    let services = text.split_once("\nservices:\n").expect("a block of services").1;
    let mut entries: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    // Names are indented by two spaces, their fields by more; the next block starts without an indent.
    for line in services.lines().take_while(|line| line.is_empty() || line.starts_with(' ')) {
        if let Some(name) = line.strip_prefix("  ").and_then(|rest| rest.strip_suffix(':'))
            && !name.starts_with([' ', '#'])
        {
            current = Some(name.to_owned());
        } else if let Some(name) = &current {
            let entry = entries.entry(name.clone()).or_default();
            entry.push_str(line);
            entry.push('\n');
        }
    }
    entries
}

#[test]
fn compose_has_one_entry_for_each_service() {
    let mut entries = compose_entries();
    let gateway = entries.remove("gateway").expect("the gateway");
    assert!(gateway.contains(&format!("VIDEOSDGX_UPSTREAMS:-*=http://*:{CONTAINER_PORT}}}")));
    assert!(gateway.contains(&format!("127.0.0.1:{GATEWAY_PORT}}}:{GATEWAY_PORT}")));
    assert_eq!(entries.keys().cloned().collect::<BTreeSet<_>>(), names());
    for service in services() {
        let (name, entry) = (&service.name, &entries[&service.name]);
        let kind = kind_of(service.kind);
        let variable = name.to_uppercase().replace('-', "_");
        for part in [
            format!("services-${{VIDEOSDGX_LIBTORCH:-cuda}}.yaml\", service: {kind}}}"),
            format!("image: videosdgx/{name}:"),
            format!("SERVICE: {name}}}"),
            format!("mem_limit: ${{VIDEOSDGX_{variable}_MEMORY:-"),
        ] {
            assert!(entry.contains(&part), "compose.yaml: the entry of {name} lacks {part}:\n{entry}");
        }
    }
}

#[test]
fn compose_serves_the_demonstration_checkpoints() {
    let read = |file: &str| std::fs::read_to_string(root().join("compose").join(file)).unwrap();
    let common = read("services.yaml");
    let entries = compose_entries();
    for service in services() {
        let kind = kind_of(service.kind);
        let block = common.split_once(&format!("\n  {kind}:\n")).expect("an entry for each kind").1;
        let of_kind = block.split_once("DEMO_CHECKPOINT: ").unwrap().1.lines().next().unwrap();
        // An entry overrides what its kind has; `none` is an empty folder of the images.
        let own = entries[&service.name].split_once("DEMO_CHECKPOINT: ");
        let checkpoint = own.map_or(of_kind, |(_, rest)| rest.split([',', '}', '\n']).next().unwrap());
        let expected = service.demo_checkpoint.as_deref().unwrap_or("none");
        assert_eq!(checkpoint, expected, "{}", service.name);
        for file in ["services-cuda.yaml", "services-cpu.yaml"] {
            assert!(read(file).contains(&format!("service: {kind}}}")), "{file}: {kind}");
        }
    }
}
