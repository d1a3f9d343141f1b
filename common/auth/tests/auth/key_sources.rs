//! Where keys come from: the folder (also with several processes at once), PEM files, key sets in files and at URLs.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::tokens::{TestKey, claims};
use serde_json::json;
use videosdgx_auth::{
    AuthConfig, AuthError, ExposeSecret, FetchFuture, JwksFetcher, KeyFolder, Scope, Signer, Verifier,
};

const MINUTE: Duration = Duration::from_secs(60);

fn jwks_of(keys: &[(&TestKey, &str)]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|(key, kid)| {
            let decoding = match key.algorithm {
                jsonwebtoken::Algorithm::RS256 => {
                    jsonwebtoken::DecodingKey::from_rsa_pem(key.public_pem.as_bytes())
                }
                jsonwebtoken::Algorithm::ES256 => {
                    jsonwebtoken::DecodingKey::from_ec_pem(key.public_pem.as_bytes())
                }
                _ => jsonwebtoken::DecodingKey::from_ed_pem(key.public_pem.as_bytes()),
            };
            let jwk =
                jsonwebtoken::jwk::Jwk::from_decoding_key(&decoding.unwrap(), Some(key.algorithm)).unwrap();
            let mut jwk = serde_json::to_value(jwk).unwrap();
            jwk["kid"] = json!(kid);
            jwk
        })
        .collect();
    json!({"keys": keys}).to_string()
}

#[test]
fn whoever_starts_first_makes_the_key_and_all_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/auth");
    let folders: Vec<KeyFolder> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..16).map(|_| scope.spawn(|| KeyFolder::load_or_create(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(folders.iter().filter(|folder| folder.was_created()).count(), 1);
    let verifier = Verifier::from_config(&AuthConfig::with_dir(&path)).unwrap();
    for folder in &folders {
        let token = folder.signer().unwrap().mint("ada", [Scope::Admin], MINUTE).unwrap();
        verifier.verify(token.expose_secret()).unwrap();
    }
    let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("signing-key.pem"), 0o600);
    assert_eq!(mode("jwks.json"), 0o644);
    let published = std::fs::read_to_string(path.join("jwks.json")).unwrap();
    assert!(!published.contains("\"d\""), "the private part is not published");
    assert_eq!(verifier.public_jwks().keys.len(), 1);
}

#[test]
fn a_verifier_needs_no_signing_key() {
    let dir = tempfile::tempdir().unwrap();
    let made = KeyFolder::load_or_create(dir.path()).unwrap();
    let token = made.signer().unwrap().mint("ada", [Scope::Read], MINUTE).unwrap();
    std::fs::remove_file(dir.path().join("signing-key.pem")).unwrap();
    let folder = KeyFolder::load_or_create(dir.path()).unwrap();
    assert!(folder.signer().is_none() && !folder.was_created());
    let verifier = Verifier::from_config(&AuthConfig::with_dir(dir.path())).unwrap();
    verifier.verify(token.expose_secret()).unwrap();
}

#[test]
fn a_signing_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    KeyFolder::load_or_create(dir.path()).unwrap();
    let key = dir.path().join("signing-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = KeyFolder::load_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, AuthError::KeyExposed { mode: 0o644, .. }), "{error}");
    assert!(error.to_string().contains("chmod 600"));
}

#[tokio::test]
async fn a_replaced_key_is_published_beside_the_old_one_and_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let old = KeyFolder::load_or_create(dir.path()).unwrap();
    let old_token = old.signer().unwrap().mint("ada", [Scope::Read], MINUTE).unwrap();
    let config = AuthConfig { refresh_interval: Duration::ZERO, ..AuthConfig::with_dir(dir.path()) };
    let verifier = Verifier::from_config(&config).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    KeyFolder::load_or_create(elsewhere.path()).unwrap();
    std::fs::copy(elsewhere.path().join("signing-key.pem"), dir.path().join("signing-key.pem")).unwrap();
    let new = KeyFolder::load_or_create(dir.path()).unwrap();
    let new_token = new.signer().unwrap().mint("ada", [Scope::Read], MINUTE).unwrap();

    for token in [&old_token, &new_token] {
        let header = format!("Bearer {}", token.expose_secret());
        verifier.authenticate([header.as_bytes()]).await.unwrap();
    }
    assert_eq!(verifier.public_jwks().keys.len(), 2);
}

#[test]
fn broken_key_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("jwks.json"), "{\"keys\":[]}").unwrap();
    let error = KeyFolder::load_or_create(dir.path()).unwrap_err();
    assert!(error.to_string().contains("jwks.json"), "{error}");

    let file = dir.path().join("key.pem");
    for (content, expected) in [
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----", "private key"),
        ("hello", "no RSA, P-256 or Ed25519"),
        ("", "no RSA, P-256 or Ed25519"),
        (
            &TestKey::rsa(aws_lc_rs::rsa::KeySize::Rsa2048).public_pem.replace("MIIB", "MIIC"),
            "no RSA, P-256 or Ed25519",
        ),
    ] {
        std::fs::write(&file, content).unwrap();
        let config = AuthConfig { public_key_file: Some(file.clone()), ..AuthConfig::default() };
        let error = Verifier::from_config(&config).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("key.pem"), "{error}");
    }
    let short = AuthConfig { hs256_secret: Some("short-canary".into()), ..AuthConfig::default() };
    let error = Verifier::from_config(&short).unwrap_err().to_string();
    assert!(error.contains("32 bytes") && !error.contains("canary"), "{error}");
}

#[test]
fn a_pem_key_says_its_algorithm() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    for key in [TestKey::ed25519(), TestKey::p256(), TestKey::rsa(aws_lc_rs::rsa::KeySize::Rsa2048)] {
        std::fs::write(&file, &key.public_pem).unwrap();
        let config = AuthConfig { public_key_file: Some(file.clone()), ..AuthConfig::default() };
        let verifier = Verifier::from_config(&config).unwrap();
        verifier.verify(&key.sign(&key.header(), &claims())).unwrap();
        for other in [TestKey::ed25519(), TestKey::p256()] {
            assert!(verifier.verify(&other.sign(&other.header(), &claims())).is_err());
        }
    }
}

#[test]
fn a_key_set_takes_what_it_can_and_symmetric_keys_never() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let (ed, ec, rsa) = (TestKey::ed25519(), TestKey::p256(), TestKey::rsa(aws_lc_rs::rsa::KeySize::Rsa2048));
    let mut set: serde_json::Value =
        serde_json::from_str(&jwks_of(&[(&ed, "a"), (&ec, "b"), (&rsa, "c")])).unwrap();
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA";
    set["keys"].as_array_mut().unwrap().extend([
        json!({"kty": "oct", "alg": "HS256", "kid": "s", "k": secret}),
        json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "future", "thing": [1, 2]}),
        json!("nonsense"),
    ]);
    std::fs::write(&file, set.to_string()).unwrap();
    let config = AuthConfig { jwks_file: Some(file), ..AuthConfig::default() };
    let verifier = Verifier::from_config(&config).unwrap();
    assert_eq!(verifier.public_jwks().keys.len(), 3);
    for (key, kid) in [(&ed, "a"), (&ec, "b"), (&rsa, "c")] {
        let mut header = key.header();
        header["kid"] = json!(kid);
        verifier.verify(&key.sign(&header, &claims())).unwrap();
        header["kid"] = json!("another");
        assert!(verifier.verify(&key.sign(&header, &claims())).is_err(), "the kid must fit");
    }
    let key = jsonwebtoken::EncodingKey::from_base64_secret(&format!("{secret}=")).ok();
    if let Some(key) = key {
        let header = r#"{"alg":"HS256","kid":"s"}"#;
        let token =
            crate::tokens::sign_with(&key, jsonwebtoken::Algorithm::HS256, header, &claims().to_string());
        assert!(verifier.verify(&token).is_err());
    }
}

/// A fetcher that answers from memory and counts.
#[derive(Clone, Default)]
struct FakeFetcher {
    state: Arc<Mutex<(usize, Option<String>)>>,
}

impl JwksFetcher for FakeFetcher {
    fn fetch<'a>(&'a self, _url: &'a str) -> FetchFuture<'a> {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        let answer = state.1.clone().map(String::into_bytes).ok_or_else(|| "down".to_owned());
        Box::pin(async move {
            tokio::task::yield_now().await;
            answer
        })
    }
}

#[tokio::test]
async fn a_key_set_url_is_read_when_a_key_is_unknown_but_not_more_often_than_allowed() {
    let fetcher = FakeFetcher::default();
    let config = AuthConfig { jwks_url: Some("https://id.example/jwks".into()), ..AuthConfig::default() };
    assert!(Verifier::from_config(&config).is_err(), "without a fetcher this is a configuration error");
    let verifier = Verifier::with_fetcher(&config, fetcher.clone()).unwrap();
    let (one, two) = (TestKey::ed25519(), TestKey::p256());
    fetcher.state.lock().unwrap().1 = Some(jwks_of(&[(&one, "one")]));
    let mut header = one.header();
    header["kid"] = json!("one");
    let good = format!("Bearer {}", one.sign(&header, &claims()));

    // Sixteen first requests at once: one fetch, all let in.
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (verifier, good) = (verifier.clone(), good.clone());
            tokio::spawn(async move { verifier.authenticate([good.as_bytes()]).await.is_ok() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(fetcher.state.lock().unwrap().0, 1);

    // A storm of unknown keys within the interval costs no further fetch.
    fetcher.state.lock().unwrap().1 = Some(jwks_of(&[(&one, "one"), (&two, "two")]));
    let unknown = format!("Bearer {}", two.sign(&json!({"alg": "ES256", "kid": "two"}), &claims()));
    for _ in 0..100 {
        assert!(verifier.authenticate([unknown.as_bytes()]).await.is_err());
    }
    assert_eq!(fetcher.state.lock().unwrap().0, 1);

    // After a refresh it is known; when the source is down the keys at hand stay in use.
    verifier.refresh().await.unwrap();
    assert!(verifier.authenticate([unknown.as_bytes()]).await.is_ok());
    fetcher.state.lock().unwrap().1 = None;
    assert!(verifier.refresh().await.is_err());
    assert!(verifier.authenticate([good.as_bytes()]).await.is_ok());
}

#[test]
fn minting_refuses_nonsense_and_never_shows_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let folder = KeyFolder::load_or_create(dir.path()).unwrap();
    let signer = folder.signer().unwrap();
    assert!(signer.mint("", [Scope::Read], MINUTE).is_err());
    assert!(signer.mint("a\nb", [Scope::Read], MINUTE).is_err());
    assert!(signer.mint("ada", [], MINUTE).is_err());
    assert!(signer.mint("ada", [Scope::Read], Duration::ZERO).is_err());
    assert!(signer.mint("ada", [Scope::Read], Duration::from_secs(u64::MAX)).is_err());
    let pem = std::fs::read_to_string(dir.path().join("signing-key.pem")).unwrap();
    let body = pem.lines().nth(1).unwrap();
    assert!(!format!("{folder:?}{signer:?}").contains(body));
}

#[test]
fn a_shared_secret_signs_and_verifies_for_its_own_audience_only() {
    let secret = "0123456789abcdef0123456789abcdef".into();
    let signer = Signer::from_hs256_secret(&secret).unwrap();
    let config = AuthConfig { hs256_secret: Some(secret), ..AuthConfig::default() };
    let verifier = Verifier::from_config(&config).unwrap();
    let ours = signer.mint("ada", [Scope::Read], MINUTE).unwrap();
    verifier.verify(ours.expose_secret()).unwrap();
    let theirs = signer.with_issuer_and_audience("videosdgx", "elsewhere").mint("ada", [Scope::Read], MINUTE);
    assert!(verifier.verify(theirs.unwrap().expose_secret()).is_err());
    assert!(verifier.public_jwks().keys.is_empty(), "a secret is never published");
}

#[tokio::test]
async fn a_key_that_is_removed_from_its_source_is_refused_within_the_interval() {
    const INTERVAL: Duration = Duration::from_millis(100);
    let (kept, removed) = (TestKey::ed25519(), TestKey::p256());
    let before = jwks_of(&[(&kept, "kept"), (&removed, "removed")]);
    let after = jwks_of(&[(&kept, "kept")]);
    let header = |key: &TestKey, kid: &str| {
        let mut header = key.header();
        header["kid"] = json!(kid);
        format!("Bearer {}", key.sign(&header, &claims()))
    };
    let (kept, removed) = (header(&kept, "kept"), header(&removed, "removed"));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, &before).unwrap();
    let config =
        AuthConfig { jwks_file: Some(file.clone()), refresh_interval: INTERVAL, ..AuthConfig::default() };
    let of_file = Verifier::from_config(&config).unwrap();
    let fetcher = FakeFetcher::default();
    fetcher.state.lock().unwrap().1 = Some(before);
    let config = AuthConfig {
        jwks_url: Some("https://id.example/jwks".into()),
        refresh_interval: INTERVAL,
        ..AuthConfig::default()
    };
    let of_url = Verifier::with_fetcher(&config, fetcher.clone()).unwrap();
    for verifier in [&of_file, &of_url] {
        for token in [&kept, &removed] {
            verifier.authenticate([token.as_bytes()]).await.unwrap();
        }
    }

    std::fs::write(&file, &after).unwrap();
    fetcher.state.lock().unwrap().1 = Some(after);
    tokio::time::sleep(INTERVAL).await;
    for verifier in [&of_file, &of_url] {
        assert!(verifier.authenticate([removed.as_bytes()]).await.is_err(), "also the first request");
        verifier.authenticate([kept.as_bytes()]).await.unwrap();
    }
    // A source that cannot be read leaves the keys as they are.
    std::fs::write(&file, "{").unwrap();
    fetcher.state.lock().unwrap().1 = None;
    tokio::time::sleep(INTERVAL).await;
    for verifier in [&of_file, &of_url] {
        verifier.authenticate([kept.as_bytes()]).await.unwrap();
    }
}
