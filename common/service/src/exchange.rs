//! A checkpoint that is exchanged while the service runs: a job is made by the model that it names.

use videosdgx_api::{Code, Problem, ResolvedRequest};

use crate::{Engine, EngineError, GenerateContext};

/// What became of a job on the loaded model.
#[derive(Debug)]
pub(crate) enum Generated {
    /// The video is made, from the request as it was accepted.
    AsAccepted,
    /// The video is made, from the request as the present checkpoint resolves it.
    ResolvedAnew(Box<ResolvedRequest>),
    /// Nothing is made: the installed checkpoint is not the loaded one. Load it and try again.
    ModelIsStale,
}

/// Runs `request` on `model` if that is the installed checkpoint; resolves it anew if it was accepted for another one.
///
/// # Errors
/// As [`Engine::generate`]; `checkpoint_changed` when the present checkpoint cannot make the request.
pub(crate) fn generate<E: Engine>(
    engine: &E,
    model: &mut E::Model,
    request: &ResolvedRequest,
    context: &GenerateContext,
) -> Result<Generated, EngineError> {
    let loaded = engine.fingerprint(model);
    // A checkpoint that cannot be described is being exchanged, or gone: the loaded model still makes its own jobs.
    let installed = engine.describe();
    if installed.as_ref().is_ok_and(|installed| installed.fingerprint != loaded) {
        return Ok(Generated::ModelIsStale);
    }
    let is_for_this = match (&request.fingerprint, &installed) {
        (Some(accepted), _) => *accepted == loaded,
        (None, Ok(installed)) => installed.checkpoint == request.checkpoint,
        (None, Err(_)) => false,
    };
    if is_for_this {
        engine.generate(model, request, context)?;
        return Ok(Generated::AsAccepted);
    }
    let now = installed?.checkpoint;
    let mut anew = resolve_anew(engine, request, &now)?;
    if anew.fingerprint.as_ref() != Some(&loaded) {
        return Ok(Generated::ModelIsStale);
    }
    engine.generate(model, &anew, context)?;
    anew.settings.take_attachments();
    anew.request = None;
    Ok(Generated::ResolvedAnew(Box::new(anew)))
}

fn resolve_anew<E: Engine>(
    engine: &E,
    request: &ResolvedRequest,
    now: &str,
) -> Result<ResolvedRequest, EngineError> {
    let before = &request.checkpoint;
    let refuse = |reason: &str| {
        let detail = format!("accepted for the checkpoint {before}, which was replaced by {now}: {reason}");
        EngineError::InvalidInput(Problem::new(Code::CheckpointChanged, detail))
    };
    let Some(original) = &request.request else {
        return Err(refuse("submit the request again"));
    };
    let original = original.as_ref().clone().with_attachments_of(&request.settings);
    let mut anew = engine.resolve(&original).map_err(|problem| refuse(&problem.detail))?;
    if now != before {
        anew.warnings.push(format!("accepted for the checkpoint {before}, made by {now}, which replaced it"));
    }
    Ok(anew)
}
