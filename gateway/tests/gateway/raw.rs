//! A client that sends raw bytes, including invalid requests.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        // The other end may have closed already; the response shows that.
        let _ = self.0.write_all(text.as_ref()).await;
    }

    /// Everything until the other end closes; `None` when it does not within `limit`.
    pub(crate) async fn read_to_close(&mut self, limit: Duration) -> Option<String> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        let read = async {
            loop {
                match self.0.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => all.extend_from_slice(&buffer[..count]),
                }
            }
        };
        tokio::time::timeout(limit, read).await.ok()?;
        Some(String::from_utf8_lossy(&all).into_owned())
    }

    /// Reads until `mark` has been received.
    pub(crate) async fn read_until(&mut self, mark: &str) -> String {
        let mut all = String::new();
        let read = async {
            let mut buffer = [0; 4096];
            while !all.contains(mark) {
                let count = self.0.read(&mut buffer).await.unwrap();
                assert!(count > 0, "closed before {mark:?}: {all}");
                all.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap_or_else(|_| panic!("no {mark:?}"));
        all
    }
}
