//! The health check of a container: a program requests its own `/health`, so that images do not need curl.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Requests `http://{listen}/health`; an unspecified address means this machine.
///
/// ```no_run
/// // In `main`, before anything else:
/// if std::env::args().nth(1).as_deref() == Some("health") {
///     let listen = std::env::var("VIDEOSDGX_LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".into());
///     std::process::exit(match videosdgx_client::health::check(&listen) {
///         Ok(()) => 0,
///         Err(reason) => {
///             eprintln!("{reason}");
///             1
///         }
///     });
/// }
/// ```
///
/// # Errors
/// The reason as a sentence: not reachable within 5 s, or a status other than 200.
pub fn check(listen: &str) -> Result<(), String> {
    let reason = |what: &str| format!("{listen} {what}");
    let mut address = listen
        .to_socket_addrs()
        .map_err(|error| reason(&format!("is not a valid address: {error}")))?
        .next()
        .ok_or_else(|| reason("is not a valid address"))?;
    if address.ip().is_unspecified() {
        match &mut address {
            std::net::SocketAddr::V4(v4) => v4.set_ip(std::net::Ipv4Addr::LOCALHOST),
            std::net::SocketAddr::V6(v6) => v6.set_ip(std::net::Ipv6Addr::LOCALHOST),
        }
    }
    let mut answer = Vec::new();
    TcpStream::connect_timeout(&address, TIMEOUT)
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            stream.take(1024).read_to_end(&mut answer)
        })
        .map_err(|error| reason(&format!("does not respond: {error}")))?;
    if answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200") {
        return Ok(());
    }
    let first = String::from_utf8_lossy(&answer);
    Err(reason(&format!("answers {:?}", first.lines().next().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn serve(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /health HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        format!("0.0.0.0:{port}")
    }

    #[test]
    fn only_200_is_healthy() {
        assert_eq!(check(&serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), Ok(()));
        let refused = check(&serve("HTTP/1.1 503 Service Unavailable\r\n\r\n")).unwrap_err();
        assert!(refused.contains("503"), "{refused}");
        assert!(check("127.0.0.1:1").unwrap_err().contains("does not respond"));
        assert!(check("nonsense").unwrap_err().contains("not a valid address"));
    }
}
