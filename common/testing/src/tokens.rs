use std::{path::Path, time::Duration};

use videosdgx_auth::{ExposeSecret as _, KeyFolder, Scopes};

/// A token of ten minutes for `subject`, signed with the key in `folder`, which is created if it does not exist. `scopes` is
/// a space-separated list.
///
/// # Panics
/// If the folder or the scopes are invalid.
#[must_use]
pub fn mint_token(folder: &Path, subject: &str, scopes: &str) -> String {
    let keys = KeyFolder::load_or_create(folder).expect("a key folder");
    let signer = keys.signer().expect("a readable signing key");
    let scopes: Scopes = scopes.parse().expect("known scopes");
    let token = signer.mint(subject, scopes, Duration::from_secs(600)).expect("a token");
    token.expose_secret().to_owned()
}
