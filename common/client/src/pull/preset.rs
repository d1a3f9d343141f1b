/// A published checkpoint that a service of ours loads unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What one types, and the folder's name.
    pub name: &'static str,
    /// Repository at the endpoint.
    pub repository: &'static str,
    /// The service that serves it.
    pub service: &'static str,
    /// In one line.
    pub about: &'static str,
}

/// All that can be pulled by name.
pub const PRESETS: [Preset; 4] = [
    Preset {
        name: "wan2.1-t2v-1.3b",
        repository: "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        service: "wan21",
        about: "text to video, 480p, about 29 GB on disk",
    },
    Preset {
        name: "wan2.1-t2v-14b",
        repository: "Wan-AI/Wan2.1-T2V-14B-Diffusers",
        service: "wan21",
        about: "text to video, 480p and 720p, about 80 GB on disk",
    },
    Preset {
        name: "wan2.1-i2v-14b-480p",
        repository: "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        service: "wan21",
        about: "image to video, 480p, about 90 GB on disk",
    },
    Preset {
        name: "wan2.1-i2v-14b-720p",
        repository: "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
        service: "wan21",
        about: "image to video, 720p, about 90 GB on disk",
    },
];

impl Preset {
    /// The preset of that name, in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
    }
}

/// Folders of a diffusers checkpoint that are loaded.
const FOLDERS: [&str; 7] =
    ["transformer", "text_encoder", "tokenizer", "vae", "scheduler", "image_encoder", "image_processor"];
/// Kinds of files in them that are read: no pictures, no second copy of the weights in another format.
const KINDS: [&str; 4] = ["json", "safetensors", "model", "txt"];

/// Whether a file of a repository is needed to serve it.
pub(crate) fn is_needed(path: &str) -> bool {
    match path.split_once('/') {
        None => path == "model_index.json",
        Some((folder, file)) => {
            FOLDERS.contains(&folder)
                && !file.contains('/')
                && file.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_readmes_and_second_copies_stay_away() {
        for needed in [
            "model_index.json",
            "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
            "transformer/diffusion_pytorch_model.safetensors.index.json",
            "tokenizer/spiece.model",
            "scheduler/scheduler_config.json",
            "image_encoder/model.safetensors",
        ] {
            assert!(is_needed(needed), "{needed}");
        }
        for other in [
            "README.md",
            ".gitattributes",
            "assets/logo.png",
            "vae/diffusion_pytorch_model.bin",
            "config.json",
            "transformer/deep/er.json",
            "examples/a.json",
        ] {
            assert!(!is_needed(other), "{other}");
        }
    }
}
