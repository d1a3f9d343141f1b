//! The answer to connections that are not admitted.

use std::{sync::LazyLock, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};

/// Refusals under way; further connections are closed without one.
static REFUSALS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(64));
/// Time that a client has to read the refusal.
const TIME: Duration = Duration::from_secs(1);

/// Answers 503 with `Retry-After` without reading a request, and closes the connection. `body` is a problem document.
pub async fn refuse(mut stream: TcpStream, body: &str) {
    let Ok(_permit) = REFUSALS.try_acquire() else { return };
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let send = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection and lose the answer.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // A client that does not read the refusal in time is disconnected.
    let _ = tokio::time::timeout(TIME, send).await;
}
