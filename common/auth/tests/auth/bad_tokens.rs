//! Tokens that must not pass: the table of the threats we know, against a verifier with an EdDSA key folder, an RSA
//! key and a shared secret at once. From outside every refusal is the same.

use crate::tokens::{TestKey, claims, claims_with, now, sign_with};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;
use videosdgx_api::Problem;
use videosdgx_auth::{AuthConfig, Denied, ExposeSecret, KeyFolder, Scope, Verifier};

const SECRET: &str = "a shared secret of more than thirty-two bytes";

struct World {
    verifier: Verifier,
    /// A good token of the key folder.
    good: String,
    folder_kid: String,
    rsa: TestKey,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let rsa = TestKey::rsa(aws_lc_rs::rsa::KeySize::Rsa2048);
    let pem = dir.path().join("rsa.pem");
    std::fs::write(&pem, &rsa.public_pem).unwrap();
    let mut config = AuthConfig::with_dir(dir.path().join("auth"));
    config.public_key_file = Some(pem);
    config.hs256_secret = Some(SECRET.into());
    let verifier = Verifier::from_config(&config).unwrap();
    let folder = KeyFolder::load_or_create(dir.path().join("auth")).unwrap();
    let good = folder.signer().unwrap().mint("ada", [Scope::Read], Duration::from_secs(60)).unwrap();
    let good = good.expose_secret().to_owned();
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(good.split('.').next().unwrap()).unwrap()).unwrap();
    let folder_kid = header["kid"].as_str().unwrap().to_owned();
    World { verifier, good, folder_kid, rsa, _dir: dir }
}

fn hs256(claims: &Value) -> String {
    hs256_text(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

fn hs256_text(header: &str, claims: &str) -> String {
    sign_with(&EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256, header, claims)
}

fn unsigned(header: &str, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[test]
fn good_tokens_of_each_key_pass() {
    let world = world();
    let tokens = [
        world.good.clone(),
        hs256(&claims()),
        hs256(&claims_with("aud", json!(["other", "videosdgx"]))),
        hs256(&claims_with("nbf", json!(now() + 10))),
        hs256(&claims_with("exp", json!(now() - 10))),
        hs256(&claims_with("exp", json!(now() as f64 + 60.5))),
        world.rsa.sign(&world.rsa.header(), &claims()),
        world.rsa.sign(&json!({"alg": "RS256", "kid": "any: a PEM file has no id"}), &claims()),
    ];
    for token in tokens {
        let identity = world.verifier.verify(&token).unwrap_or_else(|denied| panic!("{denied:?}: {token}"));
        assert_eq!(identity.principal().as_str(), "ada");
        identity.require(Scope::Read).unwrap();
        // The second time comes from the cache.
        assert_eq!(world.verifier.verify(&token), Ok(identity));
    }
}

#[test]
fn every_bad_token_is_refused_with_the_same_answer() {
    let world = world();
    let [header, body, signature] = world.good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let rsa = |claims: &Value| world.rsa.sign(&world.rsa.header(), claims);
    let anonymous = TestKey::ed25519();
    let stranger_jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7_u8; 32])});
    let rsa_pem_as_secret = EncodingKey::from_secret(world.rsa.public_pem.as_bytes());
    let rsa_der = STANDARD.decode(world.rsa.public_pem.lines().nth(1).unwrap()).unwrap();
    let rsa_der_as_secret = EncodingKey::from_secret(&rsa_der);
    let hs_header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let kid = world.folder_kid.as_str();
    let text = claims().to_string();
    let doubled = |name: &str, value: &str| text.replacen('{', &format!("{{\"{name}\":{value},"), 1);
    let hs_with = |name: &str, value: Value| {
        let mut header = json!({"alg": "HS256", "typ": "JWT"});
        header[name] = value;
        hs256_text(&header.to_string(), &text)
    };

    let bad: Vec<(&str, String)> = vec![
        // Signatures.
        ("alg none", unsigned(r#"{"alg":"none"}"#, &claims(), "")),
        (
            "alg none, signed part kept",
            format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#)),
        ),
        ("alg None", unsigned(r#"{"alg":"None"}"#, &claims(), "AA")),
        ("alg NONE with kid", unsigned(&json!({"alg": "NONE", "kid": kid}).to_string(), &claims(), "AA")),
        ("alg empty", unsigned(r#"{"alg":""}"#, &claims(), "AA")),
        ("alg null", unsigned(r#"{"alg":null}"#, &claims(), "AA")),
        ("alg missing", unsigned(r#"{"typ":"JWT"}"#, &claims(), "AA")),
        ("alg a list", unsigned(r#"{"alg":["HS256","none"]}"#, &claims(), "AA")),
        ("alg twice", hs256_text(r#"{"alg":"none","alg":"HS256"}"#, &text)),
        ("alg lower case", hs256_text(r#"{"alg":"hs256"}"#, &text)),
        ("empty signature", format!("{header}.{body}.")),
        ("no signature", format!("{header}.{body}")),
        ("all-zero signature", format!("{header}.{body}.{}", URL_SAFE_NO_PAD.encode([0_u8; 64]))),
        ("signature cut", format!("{header}.{body}.{}", &signature[..40])),
        ("signature of another token", {
            let other = hs256(&claims_with("sub", json!("eve")));
            format!("{header}.{body}.{}", other.rsplit('.').next().unwrap())
        }),
        ("claims changed after signing", {
            let claims = URL_SAFE_NO_PAD.encode(claims_with("sub", json!("root")).to_string());
            format!("{header}.{claims}.{signature}")
        }),
        // Keys.
        (
            "HS256 keyed with the RSA key's PEM",
            sign_with(&rsa_pem_as_secret, Algorithm::HS256, hs_header, &text),
        ),
        (
            "HS256 keyed with the RSA key's DER",
            sign_with(&rsa_der_as_secret, Algorithm::HS256, hs_header, &text),
        ),
        (
            "HS256 keyed with nothing",
            sign_with(&EncodingKey::from_secret(b""), Algorithm::HS256, hs_header, &text),
        ),
        ("HS256 under the folder's kid", {
            let header = json!({"alg": "HS256", "kid": kid}).to_string();
            let key = EncodingKey::from_secret(kid.as_bytes());
            sign_with(&key, Algorithm::HS256, &header, &text)
        }),
        ("HS512 with the right secret", {
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            sign_with(&key, Algorithm::HS512, r#"{"alg":"HS512"}"#, &text)
        }),
        ("RS512 with the right key", {
            sign_with(&world.rsa.encoding, Algorithm::RS512, r#"{"alg":"RS512"}"#, &text)
        }),
        ("PS256 with the right key", {
            sign_with(&world.rsa.encoding, Algorithm::PS256, r#"{"alg":"PS256"}"#, &text)
        }),
        ("a anonymous's Ed25519 key", anonymous.sign(&anonymous.header(), &claims())),
        ("a anonymous's key under our kid", anonymous.sign(&json!({"alg": "EdDSA", "kid": kid}), &claims())),
        ("ES256 without such a key", TestKey::p256().sign(&json!({"alg": "ES256"}), &claims())),
        ("kid that climbs", anonymous.sign(&json!({"alg": "EdDSA", "kid": "../../../dev/null"}), &claims())),
        ("kid with SQL", anonymous.sign(&json!({"alg": "EdDSA", "kid": "x' UNION SELECT 'key"}), &claims())),
        ("kid empty", hs_with("kid", json!(""))),
        ("kid a number", hs_with("kid", json!(1))),
        ("kid huge", hs_with("kid", json!("k".repeat(300)))),
        ("jku", hs_with("jku", json!("https://evil.example/jwks.json"))),
        ("jwk in the header", anonymous.sign(&json!({"alg": "EdDSA", "jwk": stranger_jwk}), &claims())),
        ("jwk beside a good signature", hs_with("jwk", json!({}))),
        ("x5u", hs_with("x5u", json!("https://evil.example/cert"))),
        ("x5c", hs_with("x5c", json!(["MIIB"]))),
        ("crit", hs_with("crit", json!(["exp"]))),
        ("b64 false", hs_with("b64", json!(false))),
        ("typ of something else", hs_with("typ", json!("JOSE+JSON"))),
        // Times.
        ("expired", hs256(&claims_with("exp", json!(now() - 20)))),
        ("expired, RSA", rsa(&claims_with("exp", json!(now() - 20)))),
        ("no exp", hs256(&claims_with("exp", Value::Null))),
        ("exp text", hs256(&claims_with("exp", json!((now() + 600).to_string())))),
        ("exp negative", hs256(&claims_with("exp", json!(-1)))),
        ("exp beyond all time", hs256(&claims_with("exp", json!(1e18)))),
        ("exp infinite", hs256_text(hs_header, &text.replace("\"exp\":", "\"exp\":1e999,\"was\":"))),
        ("early", hs256(&claims_with("nbf", json!(now() + 60)))),
        ("nbf text", hs256(&claims_with("nbf", json!("0")))),
        // Claims.
        ("no iss", hs256(&claims_with("iss", Value::Null))),
        ("wrong iss", hs256(&claims_with("iss", json!("evil")))),
        ("iss a list with ours", hs256(&claims_with("iss", json!(["evil", "videosdgx"])))),
        ("no aud", hs256(&claims_with("aud", Value::Null))),
        ("wrong aud", hs256(&claims_with("aud", json!("other")))),
        ("aud empty list", hs256(&claims_with("aud", json!([])))),
        ("aud almost ours", hs256(&claims_with("aud", json!("videosdgx ")))),
        ("no sub", hs256(&claims_with("sub", Value::Null))),
        ("sub empty", hs256(&claims_with("sub", json!("")))),
        ("sub blank", hs256(&claims_with("sub", json!("  ")))),
        ("sub a number", hs256(&claims_with("sub", json!(7)))),
        ("sub with a line break", hs256(&claims_with("sub", json!("ada\nroot")))),
        ("sub huge", hs256(&claims_with("sub", json!("s".repeat(300))))),
        ("scope a list", hs256(&claims_with("scope", json!(["admin"])))),
        ("sub twice", hs256_text(hs_header, &doubled("sub", "\"root\""))),
        ("exp twice", hs256_text(hs_header, &doubled("exp", "99999999999"))),
        ("scope twice", hs256_text(hs_header, &doubled("scope", "\"admin\""))),
        // Shapes.
        ("empty", String::new()),
        ("dots", "..".to_owned()),
        ("one part", header.to_owned()),
        ("four parts", format!("{}.x", world.good)),
        ("five parts (JWE)", format!("{header}.{body}.{signature}.x.y")),
        ("standard base64 padding", format!("{header}=.{body}.{signature}")),
        ("space inside", format!("{header}. {body}.{signature}")),
        ("NUL at the end", format!("{}\0", world.good)),
        ("not JSON", unsigned("alg", &claims(), "AA")),
        ("claims a list", hs256_text(hs_header, "[]")),
        ("claims not UTF-8", {
            let message =
                format!("{}.{}", URL_SAFE_NO_PAD.encode(hs_header), URL_SAFE_NO_PAD.encode([0xff, 0xfe]));
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
            format!("{message}.{signature}")
        }),
        (
            "deeply nested",
            hs256_text(hs_header, &format!("{{\"x\":{}{}}}", "[".repeat(2000), "]".repeat(2000))),
        ),
        ("huge", hs256(&claims_with("pad", json!("x".repeat(9000))))),
    ];
    assert!(bad.len() >= 40);

    let mut answers = Vec::new();
    for (name, token) in &bad {
        let denied = world.verifier.verify(token).expect_err(name);
        assert!(matches!(denied, Denied::Unauthenticated { .. }), "{name}: {denied:?}");
        answers.push((serde_json::to_string(&Problem::from(&denied)).unwrap(), denied.www_authenticate()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "all answers are the same: {answers:?}");
    assert_eq!(answers[0].1, "Bearer");
    assert!(answers[0].0.contains("\"status\":401"));
}

#[tokio::test]
async fn the_header_must_be_one_bearer_token() {
    let world = world();
    let bearer = format!("Bearer {}", world.good);
    let lower = format!("bearer {}", world.good);
    for value in [&bearer, &lower] {
        assert!(world.verifier.authenticate([value.as_bytes()]).await.is_ok());
    }
    let basic = format!("Basic {}", world.good);
    let two_tokens = format!("{bearer}, {bearer}");
    let no_scheme = world.good.clone();
    for value in
        [basic.as_bytes(), two_tokens.as_bytes(), no_scheme.as_bytes(), b"Bearer", b"Bearer ", b"", b"\xff"]
    {
        assert!(world.verifier.authenticate([value]).await.is_err(), "{value:?}");
    }
    assert!(world.verifier.authenticate([]).await.is_err());
    assert!(world.verifier.authenticate([bearer.as_bytes(), bearer.as_bytes()]).await.is_err());
}

#[test]
fn a_missing_scope_is_named() {
    let world = world();
    let principal = world.verifier.verify(&world.good).unwrap();
    let denied = principal.require(Scope::Generate).unwrap_err();
    let problem = Problem::from(&denied);
    assert_eq!((problem.status, problem.code.as_str()), (403, "insufficient_scope"));
    assert!(problem.detail.contains("`generate`"), "{}", problem.detail);
    assert_eq!(denied.www_authenticate(), "Bearer error=\"insufficient_scope\", scope=\"generate\"");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No input makes the verifier panic, and nothing random passes.
    #[test]
    fn random_text_never_passes(token in "\\PC{0,200}|[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,90}") {
        thread_local!(static WORLD: World = world());
        WORLD.with(|world| {
            prop_assert!(world.verifier.verify(&token).is_err());
            Ok(())
        })?;
    }

    /// Changing any one character of a good token breaks it.
    #[test]
    fn a_changed_character_breaks_a_token(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        thread_local!(static WORLD: World = world());
        WORLD.with(|world| {
            let mut token = world.good.clone();
            let at = at.index(token.len());
            let changed = token[at..=at] != to;
            token.replace_range(at..=at, &to);
            prop_assert_eq!(world.verifier.verify(&token).is_err(), changed);
            Ok(())
        })?;
    }
}
