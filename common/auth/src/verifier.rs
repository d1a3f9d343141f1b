use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Validation;
use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;
use videosdgx_api::Principal;

use crate::claims::{Claims, TokenHeader};
use crate::key::VerifyingKey;
use crate::key_set::KeySet;
use crate::token_cache::TokenCache;
use crate::{AuthConfig, AuthError, Denied, Identity, JwksFetcher, KeyFolder, LEEWAY_SECONDS, Scopes};

/// Turns the `Authorization` header into an [`Identity`]. Cheap to clone; shared by all handlers.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    config: AuthConfig,
    created: Instant,
    /// When changeable sources were last read, in milliseconds since `created`.
    read_at: AtomicU64,
    fetcher: Option<Box<dyn JwksFetcher>>,
    keys: RwLock<Arc<KeySet>>,
    /// Keys as last fetched from the URL: kept when a later fetch fails.
    fetched: Mutex<Refresh>,
    seen: TokenCache,
}

#[derive(Default)]
struct Refresh {
    last: Option<Instant>,
    keys: KeySet,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("keys", &*self.keys()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Loads every configured key; creates the key folder if it is used and empty.
    ///
    /// # Errors
    /// When a key file cannot be read or used, and when `jwks_url` is configured (it needs a fetcher: use
    /// [`Verifier::with_fetcher`]).
    pub fn from_config(config: &AuthConfig) -> Result<Self, AuthError> {
        if config.jwks_url.is_some() {
            return Err(AuthError::Configuration {
                name: "VIDEOSDGX_JWKS_URL",
                reason: "this program cannot fetch key sets; use VIDEOSDGX_JWKS_FILE".to_owned(),
            });
        }
        Self::build(config, None)
    }

    /// Like [`Verifier::from_config`], with a fetcher for `jwks_url`. The URL is first read by
    /// [`Verifier::refresh`] or for the first token whose key is unknown.
    pub fn with_fetcher(config: &AuthConfig, fetcher: impl JwksFetcher) -> Result<Self, AuthError> {
        Self::build(config, Some(Box::new(fetcher)))
    }

    fn build(config: &AuthConfig, fetcher: Option<Box<dyn JwksFetcher>>) -> Result<Self, AuthError> {
        let keys = load_files(config)?;
        let inner = Inner {
            config: config.clone(),
            created: Instant::now(),
            read_at: AtomicU64::new(0),
            fetcher,
            keys: RwLock::new(Arc::new(keys)),
            fetched: Mutex::default(),
            seen: TokenCache::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Verifies the request's `Authorization` header, given all its values as bytes.
    ///
    /// The key folder, JWKS file and JWKS URL are read again when half of the refresh interval has passed, so that a key that
    /// was removed from them is refused within that interval; and if the key of a token is unknown, at most once per interval.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`], whatever is wrong.
    pub async fn authenticate<'a>(
        &self,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Identity, Denied> {
        let token = bearer_token(values)?;
        self.refresh_old_keys().await;
        match self.verify(token) {
            Err(denied) if denied == UNKNOWN_KEY => {
                if self.refresh_if_due().await {
                    self.verify(token)
                } else {
                    Err(denied)
                }
            }
            result => result,
        }
    }

    /// Verifies a token with the keys that are loaded.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`], whatever is wrong.
    pub fn verify(&self, token: &str) -> Result<Identity, Denied> {
        if token.len() > crate::MAX_TOKEN_BYTES {
            return Err(Denied::unauthenticated("the token is too long"));
        }
        let now = unix_seconds();
        let fingerprint = TokenCache::fingerprint(token);
        if let Some(identity) = self.inner.seen.get(&fingerprint, now) {
            return Ok(identity);
        }
        let header = TokenHeader::parse(token)?;
        let keys = self.keys();
        let mut denied = UNKNOWN_KEY;
        for key in keys.candidates(&header.alg, header.kid.as_deref()) {
            match self.verify_with(token, key) {
                Ok(claims) => {
                    let scopes = Scopes::from_claim(claims.scope.as_deref().unwrap_or(""));
                    let identity = Identity::new(Principal::new(claims.sub), scopes);
                    let dead_at = (claims.exp as u64).saturating_add(LEEWAY_SECONDS);
                    self.inner.seen.put(fingerprint, identity.clone(), dead_at, now);
                    return Ok(identity);
                }
                Err(reason) => denied = reason,
            }
        }
        Err(denied)
    }

    fn verify_with(&self, token: &str, key: &VerifyingKey) -> Result<Claims, Denied> {
        let mut validation = Validation::new(key.algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.inner.config.issuer]);
        validation.set_audience(&[&self.inner.config.audience]);
        validation.validate_exp = true;
        validation.validate_nbf = true;
        validation.validate_aud = true;
        validation.leeway = LEEWAY_SECONDS;
        let data = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation)
            .map_err(|error| Denied::unauthenticated(reason_of(error.kind())))?;
        data.claims.check()?;
        Ok(data.claims)
    }

    /// Reads every changeable key source again, now.
    ///
    /// # Errors
    /// When a file or the URL cannot be read; the keys already in use stay.
    pub async fn refresh(&self) -> Result<(), AuthError> {
        let mut refresh = self.inner.fetched.lock().await;
        self.refresh_locked(&mut refresh).await
    }

    /// Whether the keys were read again, by this call or by one it waited for.
    async fn refresh_if_due(&self) -> bool {
        if !self.can_change() {
            return false;
        }
        let asked = Instant::now();
        let mut refresh = self.inner.fetched.lock().await;
        match refresh.last {
            Some(last) if last >= asked => return true,
            Some(last) if last.elapsed() < self.inner.config.refresh_interval => return false,
            _ => {}
        }
        if let Err(error) = self.refresh_locked(&mut refresh).await {
            tracing::warn!(event = "key_refresh_failed", %error);
        }
        true
    }

    /// Reads changeable sources again when their keys are older than half of the refresh interval. Other requests continue with
    /// the present keys meanwhile, unless these have reached the whole interval.
    async fn refresh_old_keys(&self) {
        let interval = self.inner.config.refresh_interval;
        if self.age() < interval / 2 || !self.can_change() {
            return;
        }
        let mut refresh = match self.inner.fetched.try_lock() {
            Ok(refresh) => refresh,
            Err(_) if self.age() < interval => return,
            Err(_) => self.inner.fetched.lock().await,
        };
        // Another request may have read them while this one waited.
        if self.age() >= interval / 2
            && let Err(error) = self.refresh_locked(&mut refresh).await
        {
            tracing::warn!(event = "key_refresh_failed", %error);
        }
    }

    /// Time since changeable sources were last read.
    fn age(&self) -> Duration {
        let read_at = Duration::from_millis(self.inner.read_at.load(Ordering::Relaxed));
        self.inner.created.elapsed().saturating_sub(read_at)
    }

    async fn refresh_locked(&self, refresh: &mut Refresh) -> Result<(), AuthError> {
        let config = &self.inner.config;
        let mut outcome = Ok(());
        if let (Some(url), Some(fetcher)) = (&config.jwks_url, &self.inner.fetcher) {
            let fetched = fetcher.fetch(url).await;
            match fetched
                .map_err(|reason| AuthError::Fetch { url: url.clone(), reason })
                .and_then(|json| KeySet::from_jwks(&json, url))
            {
                Ok(keys) => refresh.keys = keys,
                Err(error) => outcome = Err(error),
            }
        }
        refresh.last = Some(Instant::now());
        let read_at = u64::try_from(self.inner.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.inner.read_at.store(read_at, Ordering::Relaxed);
        let mut keys = load_files(config)?;
        keys.keys.extend(refresh.keys.keys.iter().cloned());
        if !keys.is_same_as(&self.keys()) {
            tracing::info!(event = "keys_changed", keys = keys.keys.len());
            *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            self.inner.seen.clear();
        }
        outcome
    }

    fn can_change(&self) -> bool {
        let config = &self.inner.config;
        config.jwks_url.is_some() || config.jwks_file.is_some() || config.key_dir().is_some()
    }

    /// The public keys in use, for `/.well-known/jwks.json`. A shared secret is never among them.
    pub fn public_jwks(&self) -> JwkSet {
        self.keys().public()
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.inner.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

const UNKNOWN_KEY: Denied = Denied::Unauthenticated { reason: "no key fits the token's alg and kid" };

/// Reads every configured source except the URL.
fn load_files(config: &AuthConfig) -> Result<KeySet, AuthError> {
    let mut set = KeySet::default();
    if let Some(dir) = config.key_dir() {
        set.keys.extend(KeyFolder::load_or_create(dir)?.into_keys().keys);
    }
    if let Some(secret) = &config.hs256_secret {
        set.keys.push(VerifyingKey::from_secret(secret)?);
    }
    if let Some(path) = &config.public_key_file {
        let pem = std::fs::read(path).map_err(AuthError::file("read", path))?;
        set.keys.push(VerifyingKey::from_public_pem(&pem, &path.display().to_string())?);
    }
    if let Some(path) = &config.jwks_file {
        let json = std::fs::read(path).map_err(AuthError::file("read", path))?;
        set.keys.extend(KeySet::from_jwks(&json, &path.display().to_string())?.keys);
    }
    Ok(set)
}

/// The token of exactly one `Authorization: Bearer …` header.
fn bearer_token<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<&'a str, Denied> {
    let mut values = values.into_iter();
    let value = values.next().ok_or(Denied::unauthenticated("there is no Authorization header"))?;
    if values.next().is_some() {
        return Err(Denied::unauthenticated("there is more than one Authorization header"));
    }
    let value = std::str::from_utf8(value)
        .map_err(|_| Denied::unauthenticated("the Authorization header is not text"))?;
    let (scheme, token) =
        value.split_once(' ').ok_or(Denied::unauthenticated("the Authorization header has no token"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::unauthenticated("the scheme is not Bearer"));
    }
    Ok(token.trim_matches(' '))
}

fn reason_of(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::InvalidSignature => "the signature does not hold",
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not yet good",
        ErrorKind::InvalidIssuer => "the issuer is another",
        ErrorKind::InvalidAudience => "the audience is another",
        ErrorKind::MissingRequiredClaim(_) => "a required claim is missing",
        _ => "the token cannot be read",
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
