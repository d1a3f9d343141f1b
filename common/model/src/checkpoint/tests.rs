use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::ModelError;

struct Models(tempfile::TempDir);

impl Models {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().expect("exists").join(name)
    }

    /// Writes a file, with its folders.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        fs::write(&path, b"{}").expect("writes");
        path
    }

    fn link(&self, target: &str, link: &str) {
        let _ = fs::remove_file(self.path(link));
        symlink(target, self.path(link)).expect("links");
    }

    fn search(
        &self,
        format: CheckpointFormat,
        configured: Option<&Path>,
    ) -> Result<CheckpointLocation, ModelError> {
        let (installed, demonstration) = (self.path("service"), self.path("demo"));
        CheckpointSearch { configured, installed: &installed, demonstration: &demonstration, format }.locate()
    }

    fn refusal(&self, format: CheckpointFormat) -> String {
        match self.search(format, None) {
            Err(error @ ModelError::CheckpointInvalid { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_demonstration_is_served_only_where_nothing_is_installed() {
    let models = Models::new();
    let found = models.search(CheckpointFormat::Text, None).expect("the demonstration");
    assert_eq!((found.path, found.demonstration), (models.path("demo"), true));
    models.file("service/loras/style.safetensors");
    assert!(models.search(CheckpointFormat::Text, None).expect("LoRAs are no checkpoint").demonstration);
    models.file("service/config.json");
    let found = models.search(CheckpointFormat::Text, None).expect("the installed one");
    assert_eq!(
        (found.path, found.name.as_str(), found.demonstration),
        (models.path("service"), "service", false)
    );
    let missing = models.path("missing");
    let found = models
        .search(CheckpointFormat::Text, Some(&missing))
        .expect("its opening reports that it is missing");
    assert_eq!((found.path, found.demonstration), (missing, false));
    let file = models.file("demo/model.gguf");
    for configured in [models.path("demo"), file] {
        assert!(models.search(CheckpointFormat::Text, Some(&configured)).expect("found").demonstration);
    }
}

#[test]
fn a_linked_checkpoint_is_called_by_its_own_name() {
    let models = Models::new();
    models.file("wan2.1-t2v-14b/model_index.json");
    models.link("wan2.1-t2v-14b", "service");
    let found = models.search(CheckpointFormat::Diffusers, None).expect("found");
    assert_eq!((found.name.as_str(), &found.path), ("wan2.1-t2v-14b", &models.path("wan2.1-t2v-14b")));
    models.file("Qwen3-4B.Q4_1.gguf");
    models.link("Qwen3-4B.Q4_1.gguf", "service");
    let found = models.search(CheckpointFormat::Text, None).expect("found");
    assert_eq!((found.name.as_str(), &found.path), ("Qwen3-4B.Q4_1", &models.path("Qwen3-4B.Q4_1.gguf")));
}

#[test]
fn the_hubs_cache_is_followed_to_its_snapshot() {
    let models = Models::new();
    let repository = "service/models--Qwen--Qwen3-4B";
    models.file(&format!("{repository}/snapshots/aaa/config.json"));
    let found = models.search(CheckpointFormat::Text, None).expect("the only snapshot");
    assert_eq!(
        (found.name.as_str(), found.path),
        ("Qwen3-4B", models.path(&format!("{repository}/snapshots/aaa")))
    );
    models.file(&format!("{repository}/snapshots/bbb/config.json"));
    assert!(models.refusal(CheckpointFormat::Text).contains("2 snapshots and no refs/main"));
    let main = models.file(&format!("{repository}/refs/main"));
    fs::write(&main, "bbb\n").expect("writes");
    let found = models.search(CheckpointFormat::Text, None).expect("that of refs/main");
    assert_eq!(found.path, models.path(&format!("{repository}/snapshots/bbb")));
    fs::write(&main, "../../..").expect("writes");
    assert!(models.refusal(CheckpointFormat::Text).contains("no refs/main"));
    models.file("service/models--Qwen--Other/snapshots/ccc/config.json");
    assert!(models.refusal(CheckpointFormat::Text).contains("2 repositories"));
    // The repository itself and a single snapshot can be linked, too.
    for target in ["models--Qwen--Other", "models--Qwen--Other/snapshots/ccc"] {
        models.link(&format!("service/{target}"), "one");
        let one = models.path("one");
        let found = models.search(CheckpointFormat::Text, Some(&one)).expect("found");
        assert_eq!(found.name, "Other", "{target}");
    }
    // A GGUF file of a snapshot is a link to a file without an extension, and has a name of its own.
    models.file("service/models--Qwen--Other/blobs/0123");
    models.link("../../blobs/0123", "service/models--Qwen--Other/snapshots/ccc/m.Q4_1.gguf");
    models.link("service/models--Qwen--Other/snapshots/ccc/m.Q4_1.gguf", "two");
    let two = models.path("two");
    assert_eq!(models.search(CheckpointFormat::Text, Some(&two)).expect("found").name, "m.Q4_1");
}

#[test]
fn what_cannot_be_used_is_named_with_what_is_wanted() {
    use CheckpointFormat::{Diffusers, Text};
    for (files, format, reason) in [
        (&["service/.hidden"][..], Diffusers, "is empty; wanted is a folder in the layout of diffusers"),
        (&["service/wan2.1_14B_fp8.safetensors"], Diffusers, "holds wan2.1_14B_fp8.safetensors; wanted is"),
        (
            &["service/wan.pth", "service/google/tokenizer.json"],
            Diffusers,
            "holds google/, wan.pth (.pth, .pt, .bin",
        ),
        (
            &["service/wan2.1/model_index.json"],
            Diffusers,
            "one level too deep, in wan2.1/: link or configure",
        ),
        (&["service/qwen/config.json"], Text, "one level too deep, in qwen/"),
        (
            &["service/model.safetensors"],
            Text,
            "holds model.safetensors; wanted is a folder with config.json",
        ),
        (&["service"], Text, "is a file; wanted is"),
        (&["service"], Diffusers, "is a file; wanted is"),
    ] {
        let models = Models::new();
        for file in files {
            models.file(file);
        }
        let message = models.refusal(format);
        assert!(message.contains(reason) && message.contains("service"), "{message}");
    }
    let models = Models::new();
    models.link("gone", "service");
    assert!(models.refusal(Text).contains("is a link to gone, which does not exist"));
}

#[test]
fn the_version_follows_the_files() {
    let models = Models::new();
    models.file("one/config.json");
    let weights = models.file("one/transformer/model.safetensors");
    models.link("one", "service");
    let version = || CheckpointVersion::of(&models.path("service")).expect("can be examined");
    let first = version();
    assert_eq!((first, first), (version(), CheckpointVersion::of(&models.path("one")).expect("the same")));
    models.file("one/.cache/download.lock");
    assert_eq!(first, version(), "hidden files do not count");
    fs::write(&weights, b"longer").expect("writes");
    let second = version();
    assert_ne!(first, second, "written to");
    // Replaced by a file of the same size and time.
    let time = fs::metadata(&weights).and_then(|facts| facts.modified()).expect("has a time");
    let other = models.path("other");
    fs::write(&other, b"LONGER").expect("writes");
    let opened = fs::File::options().write(true).open(&other).expect("opens");
    opened.set_modified(time).expect("sets");
    fs::rename(&other, &weights).expect("replaces");
    let third = version();
    assert_ne!(second, third, "replaced");
    fs::create_dir(models.path("two")).expect("creates");
    for file in ["config.json", "transformer"] {
        fs::rename(models.path("one").join(file), models.path("two").join(file)).expect("moves");
    }
    models.link("two", "service");
    assert_ne!(third, version(), "another folder");
    fs::remove_file(models.path("two/config.json")).expect("removes");
    fs::remove_file(models.path("service")).expect("removes");
    assert!(CheckpointVersion::of(&models.path("service")).is_err());
}
