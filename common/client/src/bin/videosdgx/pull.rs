use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

use indicatif::{MultiProgress, ProgressBar};
use videosdgx_client::pull::{Hub, PullEvent, pull};

use crate::{
    args::Pull,
    failure::{Exit, Failure},
    show,
};

pub(crate) async fn run(command: Pull) -> Result<(), Failure> {
    let Some(checkpoint) = command.checkpoint.filter(|_| !command.list) else {
        for (_, preset) in videosdgx_manifest::presets() {
            println!("{:<27} {:<38} {}", preset.name, preset.repository, preset.about);
        }
        return Ok(());
    };
    let known = videosdgx_manifest::preset(&checkpoint);
    let repository = match known {
        Some((_, preset)) => preset.repository.as_str(),
        None if checkpoint.contains('/') => &checkpoint,
        None => {
            let names: Vec<_> =
                videosdgx_manifest::presets().map(|(_, preset)| preset.name.as_str()).collect();
            let message = format!(
                "{checkpoint:?} is neither a preset ({}) nor a repository (owner/name)",
                names.join(", ")
            );
            return Err(Failure::new(Exit::Refused, message));
        }
    };
    let name = known.map_or_else(
        || repository.rsplit('/').next().unwrap_or(repository).to_lowercase(),
        |(_, preset)| preset.name.clone(),
    );
    #[expect(clippy::disallowed_methods, reason = "settings are read here")]
    let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty()).map(Into::into);
    let hub = Hub::new(&command.endpoint, repository, &command.revision, token)?;

    let bars = Bars::default();
    let report = pull(&hub, &command.models_dir, &name, command.verify, &|event| bars.show(event)).await;
    bars.all.clear().ok();
    let report = report?;
    eprintln!(
        "{} files, {:.2} GB, {} of them downloaded now, all verified",
        report.files,
        report.bytes as f64 / 1e9,
        report.fetched
    );
    println!("{}", report.folder.display());
    let service = command.service.as_deref().or(known.map(|(service, _)| service.name.as_str()));
    if let Some(service) = service {
        activate(&command.models_dir, service, &name, command.activate)?;
    }
    Ok(())
}

/// Points the link `<models>/<service>`, the service's default checkpoint, at this checkpoint: if the link does not exist
/// yet, or on request.
fn activate(models: &Path, service: &str, name: &str, replace: bool) -> Result<(), Failure> {
    let link = models.join(service);
    let cannot = |error: std::io::Error| {
        Failure::new(Exit::Local, format!("cannot make {} point at {name}: {error}", link.display()))
    };
    match std::fs::symlink_metadata(&link) {
        Ok(_) if std::fs::read_link(&link).is_ok_and(|target| target == Path::new(name)) => {}
        Ok(metadata) if !replace || !metadata.is_symlink() => {
            eprintln!(
                "{service} continues to use {}; to use this one: VIDEOSDGX_CHECKPOINT={}{}",
                link.display(),
                models.join(name).display(),
                if metadata.is_symlink() { ", or --activate" } else { "" }
            );
            return Ok(());
        }
        _ => {
            // A link under another name first: `rename` replaces the old one in one step.
            let fresh = models.join(format!(".{service}.link"));
            let _ = std::fs::remove_file(&fresh);
            std::os::unix::fs::symlink(name, &fresh).map_err(cannot)?;
            std::fs::rename(&fresh, &link).map_err(cannot)?;
        }
    }
    eprintln!("{service} uses it when it loads its model next ({})", link.display());
    Ok(())
}

/// One progress bar per file and one for the total; lines if standard error is not a terminal.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    files: Mutex<HashMap<String, (ProgressBar, u64)>>,
    total: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn show(&self, event: &PullEvent<'_>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PullEvent::Planned { files, bytes } => {
                eprintln!("{files} files, {:.2} GB", *bytes as f64 / 1e9);
                let bar = self.all.add(show::byte_bar());
                bar.set_length(*bytes);
                bar.set_message("all");
                *total = Some(bar);
            }
            PullEvent::Bytes { path, done, size } => {
                let (bar, before) = files.entry(path.to_string()).or_insert_with(|| {
                    let bar = self.all.insert(0, show::byte_bar());
                    bar.set_length(*size);
                    bar.set_message(path.to_string());
                    (bar, 0)
                });
                bar.set_position(*done);
                if let Some(total) = &*total {
                    total.set_position((total.position() + done).saturating_sub(*before));
                }
                *before = *done;
            }
            PullEvent::Done { path } => {
                if let Some((bar, _)) = files.get(path.as_str()) {
                    bar.finish_and_clear();
                }
                if self.all.is_hidden() {
                    eprintln!("{path}");
                }
            }
            PullEvent::Retry { path, reason } => {
                let line = format!("{path}: {reason}; retrying");
                if self.all.println(&line).is_err() || self.all.is_hidden() {
                    eprintln!("{line}");
                }
            }
        }
    }
}
