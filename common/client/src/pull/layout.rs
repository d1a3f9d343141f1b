/// Layout of the files of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One folder per component, listed in `model_index.json`.
    Diffusers,
    /// All files in the folder of `config.json`.
    Transformers,
}

/// Folders of a diffusers checkpoint that are loaded.
const FOLDERS: [&str; 7] =
    ["transformer", "text_encoder", "tokenizer", "vae", "scheduler", "image_encoder", "image_processor"];
/// Extensions of the files that are loaded.
const KINDS: [&str; 5] = ["json", "safetensors", "model", "txt", "jinja"];

impl Layout {
    /// The layout of a repository with these files.
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
            // `consolidated` is a second copy under other names.
            (Self::Transformers, None) => is_read(path) && !path.starts_with("consolidated"),
            (Self::Transformers, Some(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loaded_files_are_needed() {
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
}
