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
pub const PRESETS: [Preset; 12] = [
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
    Preset {
        name: "qwen3-4b-instruct-2507",
        repository: "Qwen/Qwen3-4B-Instruct-2507",
        service: "qwen3-4b",
        about: "text, 4B, about 8 GB on disk",
    },
    Preset {
        name: "qwen3-4b-instruct-2507-fp8",
        repository: "Qwen/Qwen3-4B-Instruct-2507-FP8",
        service: "qwen3-4b",
        about: "text, 4B in fp8, about 5 GB on disk",
    },
    Preset {
        name: "qwen3-coder-30b-a3b",
        repository: "Qwen/Qwen3-Coder-30B-A3B-Instruct",
        service: "qwen3-coder-30b",
        about: "text and code, 30B of which 3B are active, about 61 GB on disk",
    },
    Preset {
        name: "qwen3-coder-30b-a3b-fp8",
        repository: "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8",
        service: "qwen3-coder-30b",
        about: "the same in fp8, about 31 GB on disk",
    },
    Preset {
        name: "qwen3-vl-2b-instruct",
        repository: "Qwen/Qwen3-VL-2B-Instruct",
        service: "qwen3-vl-2b",
        about: "text from text and pictures, 2B, about 4 GB on disk",
    },
    Preset {
        name: "qwen3-vl-2b-instruct-fp8",
        repository: "Qwen/Qwen3-VL-2B-Instruct-FP8",
        service: "qwen3-vl-2b",
        about: "the same in fp8, about 3 GB on disk",
    },
    Preset {
        name: "glm-4.7-flash",
        repository: "zai-org/GLM-4.7-Flash",
        service: "glm47",
        about: "text, 30B of which 3B are active, about 62 GB on disk",
    },
    Preset {
        name: "glm-4.7",
        repository: "zai-org/GLM-4.7",
        service: "glm47",
        about: "text, 355B of which 32B are active, about 717 GB on disk",
    },
];

impl Preset {
    /// The preset of that name, in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
    }
}

/// How the files of a checkpoint lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A folder a component, named by `model_index.json`.
    Diffusers,
    /// Everything beside `config.json`.
    Transformers,
}

/// Folders of a diffusers checkpoint that are loaded.
const FOLDERS: [&str; 7] =
    ["transformer", "text_encoder", "tokenizer", "vae", "scheduler", "image_encoder", "image_processor"];
/// Kinds of files that are read: no pictures, no second copy of the weights in another format.
const KINDS: [&str; 5] = ["json", "safetensors", "model", "txt", "jinja"];

impl Layout {
    /// That of a repository with these files.
    pub(crate) fn of<'a>(mut paths: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        if paths.clone().any(|path| path == "model_index.json") {
            Some(Self::Diffusers)
        } else {
            paths.any(|path| path == "config.json").then_some(Self::Transformers)
        }
    }

    /// Whether a file of a repository is needed to serve it.
    pub(crate) fn needs(self, path: &str) -> bool {
        let is_read = |file: &str| file.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind));
        match (self, path.split_once('/')) {
            (Self::Diffusers, None) => path == "model_index.json",
            (Self::Diffusers, Some((folder, file))) => {
                FOLDERS.contains(&folder) && !file.contains('/') && is_read(file)
            }
            // `consolidated` is the same again under other names.
            (Self::Transformers, None) => is_read(path) && !path.starts_with("consolidated"),
            (Self::Transformers, Some(_)) => false,
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
            assert!(Layout::Diffusers.needs(needed), "{needed}");
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
            assert!(!Layout::Diffusers.needs(other), "{other}");
        }
    }

    #[test]
    fn a_transformers_checkpoint_is_flat() {
        let files = [
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "chat_template.jinja",
            "merges.txt",
            "consolidated.safetensors",
            "original/x.json",
        ];
        let layout = Layout::of(files.into_iter()).unwrap();
        assert_eq!(layout, Layout::Transformers);
        let needed: Vec<_> = files.into_iter().filter(|file| layout.needs(file)).collect();
        assert_eq!(needed, &files[1..7]);
        assert_eq!(Layout::of(["README.md", "a/config.json"].into_iter()), None);
        assert_eq!(Layout::of(["config.json", "model_index.json"].into_iter()), Some(Layout::Diffusers));
    }

    #[test]
    fn a_checkpoints_folder_is_never_its_services_link() {
        for preset in PRESETS {
            assert_ne!(preset.name, preset.service);
            assert_eq!(Preset::by_name(&preset.name.to_uppercase()), Some(&preset));
        }
    }
}
