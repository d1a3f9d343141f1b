//! Facts of every service: name, kind, port, demonstration checkpoint and the published checkpoints it serves.
//!
//! They are written once, in `services/manifest.toml`, which is compiled in. Tests of this crate compare it with the folders below
//! `services/`, with `compose/compose.yaml` and with what `scripts/stack.sh` reads from it.
//!
//! ```
//! let service = videosdgx_manifest::service("wan21").expect("wan21 is in the manifest");
//! assert_eq!(service.port, 8002);
//! assert!(service.presets.iter().any(|preset| preset.name == service.default_preset));
//! ```

use std::sync::LazyLock;

use serde::Deserialize;

/// The port of a program that is not in the manifest (test doubles), and of every service inside a container.
pub const CONTAINER_PORT: u16 = 8000;

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../services/manifest.toml"))
        .expect("services/manifest.toml is compiled in, and parsed by a test")
});

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    service: Vec<Service>,
}

/// What kind of interface a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// Videos, as jobs: `videosdgx-service`.
    Video,
    /// Text, token by token: `videosdgx-text-service`.
    Text,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name of its folder, program, container and of the model in the gateway's routes.
    pub name: String,
    /// Kind of its interface.
    pub kind: ServiceKind,
    /// Default port when it runs natively.
    pub port: u16,
    /// Description in one line.
    pub about: String,
    /// Folder of `checkpoints/` that is served until a model is pulled, if there is one.
    pub demo_checkpoint: Option<String>,
    /// Name of the preset that messages recommend; one of `presets`.
    pub default_preset: String,
    /// Published checkpoints that it loads unchanged.
    pub presets: Vec<Preset>,
}

/// A published checkpoint that a service loads unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Argument of `videosdgx pull`, and the name of the folder it makes.
    pub name: String,
    /// Repository at the Hugging Face endpoint.
    pub repository: String,
    /// Description in one line, with its size on disk.
    pub about: String,
}

/// All services, in the order of their ports.
#[must_use]
pub fn services() -> &'static [Service] {
    &MANIFEST.service
}

/// The service of that name.
#[must_use]
pub fn service(name: &str) -> Option<&'static Service> {
    services().iter().find(|service| service.name == name)
}

/// Default port of the service of that name; [`CONTAINER_PORT`] for a program that is not in the manifest.
#[must_use]
pub fn port(name: &str) -> u16 {
    service(name).map_or(CONTAINER_PORT, |service| service.port)
}

/// All presets, each with its service.
pub fn presets() -> impl Iterator<Item = (&'static Service, &'static Preset)> {
    services().iter().flat_map(|service| service.presets.iter().map(move |preset| (service, preset)))
}

/// The preset of that name, in any case, with its service.
#[must_use]
pub fn preset(name: &str) -> Option<(&'static Service, &'static Preset)> {
    presets().find(|(_, preset)| preset.name.eq_ignore_ascii_case(name))
}
