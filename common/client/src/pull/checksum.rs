use std::{fmt, fmt::Write as _};

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// Checksum of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256 of the content, for files in large-file storage.
    Sha256([u8; 32]),
    /// Git's object id of the content, SHA-1 over `blob <size>\0<content>`, for files in git itself.
    GitBlob([u8; 20]),
}

impl Digest {
    /// 64 hexadecimal digits.
    #[must_use]
    pub fn sha256_from_hex(hex: &str) -> Option<Self> {
        from_hex(hex.strip_prefix("sha256:").unwrap_or(hex)).map(Self::Sha256)
    }

    /// 40 hexadecimal digits.
    #[must_use]
    pub fn git_blob_from_hex(hex: &str) -> Option<Self> {
        from_hex(hex).map(Self::GitBlob)
    }

    /// Starts hashing a file of `size` bytes.
    pub(crate) fn begin(&self, size: u64) -> Context {
        match self {
            Self::Sha256(_) => Context::new(&SHA256),
            Self::GitBlob(_) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {size}\0").as_bytes());
                context
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::GitBlob(bytes) => bytes,
        }
    }

    /// Whether the hashed bytes have this checksum.
    pub(crate) fn is_of(&self, context: Context) -> bool {
        context.finish().as_ref() == self.bytes()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256(_) => "sha256:",
            Self::GitBlob(_) => "git:",
        })?;
        let mut hex = String::new();
        for byte in self.bytes() {
            write!(hex, "{byte:02x}")?;
        }
        f.write_str(&hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn from_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    if hex.len() != 2 * N || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests_are_met() {
        // `printf 'hello\n' | git hash-object --stdin` and `… | sha256sum`.
        let git = Digest::git_blob_from_hex("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let sha256 =
            Digest::sha256_from_hex("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")
                .unwrap();
        for digest in [git, sha256] {
            let mut context = digest.begin(6);
            context.update(b"hello\n");
            assert!(digest.is_of(context), "{digest}");
            let mut context = digest.begin(6);
            context.update(b"hellO\n");
            assert!(!digest.is_of(context), "{digest}");
        }
        assert_eq!(git.to_string(), "git:ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(Digest::sha256_from_hex("é".repeat(32).as_str()), None);
    }
}
