//! A "public" server at 127.0.0.2, which the tests count as a public address, and a private one at 127.0.0.1 on the same port,
//! which the fetcher must never connect to.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::fetch::is_public;

const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PRIVATE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const PICTURE: &[u8] = b"\x89PNG, says the server";

struct TestNetwork {
    port: u16,
    private: Arc<AtomicUsize>,
    public: Arc<AtomicUsize>,
    /// The addresses of each name for its first, second, … lookup; the last entry is repeated.
    names: HashMap<&'static str, Vec<Vec<Ipv4Addr>>>,
    lookups: Arc<Mutex<Vec<String>>>,
}

impl TestNetwork {
    async fn new() -> Self {
        let (private, public) = loop {
            let private = TcpListener::bind((PRIVATE, 0)).await.expect("binds");
            let port = private.local_addr().expect("an address").port();
            if let Ok(public) = TcpListener::bind((PUBLIC, port)).await {
                break (private, public);
            }
        };
        let port = private.local_addr().expect("an address").port();
        let network = Self {
            port,
            private: Arc::default(),
            public: Arc::default(),
            names: HashMap::new(),
            lookups: Arc::default(),
        };
        for (listener, count) in
            [(private, Arc::clone(&network.private)), (public, Arc::clone(&network.public))]
        {
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    count.fetch_add(1, SeqCst);
                    tokio::spawn(serve(socket, port));
                }
            });
        }
        network
    }

    fn name(mut self, name: &'static str, answers: &[&[Ipv4Addr]]) -> Self {
        self.names.insert(name, answers.iter().map(|answer| answer.to_vec()).collect());
        self
    }

    fn fetcher(&self, limits: FetchLimits) -> ImageFetcher {
        self.fetcher_with(limits, |address| address == IpAddr::V4(PUBLIC) || is_public(address))
    }

    fn fetcher_with(&self, limits: FetchLimits, allowed: fn(IpAddr) -> bool) -> ImageFetcher {
        let (names, lookups) = (self.names.clone(), Arc::clone(&self.lookups));
        let rules = AddressRules {
            lookup: Arc::new(move |name: String| {
                let mut lookups = lookups.lock().expect("not poisoned");
                let asked = lookups.iter().filter(|asked| **asked == name).count();
                let answer =
                    names.get(name.as_str()).map(|answers| answers[asked.min(answers.len() - 1)].clone());
                lookups.push(name);
                Box::pin(async move {
                    let answer = answer.ok_or_else(|| io::Error::other("no such name"))?;
                    Ok(answer.into_iter().map(IpAddr::V4).collect())
                })
            }),
            allowed,
            allow_http: true,
        };
        ImageFetcher::with_rules(limits, rules).expect("builds")
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let url = url.replace("PORT", &self.port.to_string());
        self.fetcher(limits()).fetch(&url).await
    }

    /// Number of connections to the private and to the public server.
    fn connections(&self) -> (usize, usize) {
        (self.private.load(SeqCst), self.public.load(SeqCst))
    }
}

fn limits() -> FetchLimits {
    FetchLimits { bytes: 100_000, time: Duration::from_secs(20), redirects: 3, concurrent: 2 }
}

/// Answers one request according to its path.
async fn serve(mut socket: TcpStream, port: u16) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if socket.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let redirect = |to: &str| format!("302 Found\r\ncontent-length: 0\r\nlocation: {to}");
    let length = PICTURE.len();
    let answer = match path.split('/').nth(1).unwrap_or_default() {
        "picture" => format!("200 OK\r\ncontent-type: Image/PNG; q=1\r\ncontent-length: {length}"),
        "hops" => match path.rsplit('/').next().and_then(|hops| hops.parse::<u32>().ok()) {
            Some(0) | None => redirect("/picture"),
            Some(hops) => redirect(&format!("/hops/{}", hops - 1)),
        },
        "to" => redirect(&path["/to/".len()..].replace("PORT", &port.to_string())),
        "nowhere" => "302 Found\r\ncontent-length: 0".to_owned(),
        "page" => format!("200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}"),
        "untyped" => format!("200 OK\r\ncontent-length: {length}"),
        "huge" => "200 OK\r\ncontent-type: image/jpeg\r\ncontent-length: 99999999999".to_owned(),
        "endless" | "silent" => "200 OK\r\ncontent-type: image/webp\r\nconnection: close".to_owned(),
        _ => "404 Not Found\r\ncontent-length: 0".to_owned(),
    };
    socket.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await?;
    match path {
        "/endless" => loop {
            socket.write_all(&[7; 8192]).await?;
        },
        // Until the client gives up.
        "/silent" => drop(socket.read(&mut [0; 1]).await?),
        _ if answer.contains(&format!("content-length: {length}")) => socket.write_all(PICTURE).await?,
        _ => {}
    }
    Ok(())
}

#[tokio::test]
async fn a_picture_is_fetched_by_name_and_over_redirects() {
    let network = TestNetwork::new().await.name("pictures.example", &[&[PUBLIC]]);
    for url in [
        "http://127.0.0.2:PORT/picture",
        "http://pictures.example:PORT/picture",
        "http://127.0.0.2:PORT/hops/2",
    ] {
        assert_eq!(network.fetch(url).await.as_deref(), Ok(PICTURE), "{url}");
    }
    assert_eq!(network.fetch("http://127.0.0.2:PORT/hops/3").await, Err(FetchError::TooManyRedirects(3)));
    assert_eq!(network.connections().0, 0);
}

#[tokio::test]
async fn private_addresses_are_refused_in_every_notation() {
    let network = TestNetwork::new().await;
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let result = network.fetch(&format!("http://{host}:PORT/picture")).await;
        assert_eq!(result, Err(FetchError::NotPublic), "{host}");
        // The same as the target of a redirect.
        let result = network.fetch(&format!("http://127.0.0.2:PORT/to/http://{host}:PORT/picture")).await;
        assert!(matches!(result, Err(FetchError::NotPublic | FetchError::Address)), "{host}: {result:?}");
    }
    for target in ["//127.0.0.1:PORT/picture", "http://localhost:PORT/picture", "http://[::1]:PORT/picture"] {
        let result = network.fetch(&format!("http://127.0.0.2:PORT/to/{target}")).await;
        assert!(
            matches!(result, Err(FetchError::NotPublic | FetchError::Unreachable)),
            "{target}: {result:?}"
        );
    }
    assert_eq!(network.connections().0, 0);
}

#[tokio::test]
async fn names_of_private_addresses_are_refused() {
    let network = TestNetwork::new()
        .await
        .name("localhost", &[&[PRIVATE]])
        .name("private.example", &[&[PRIVATE]])
        .name("both.example", &[&[PUBLIC, PRIVATE]])
        .name("nothing.example", &[&[]]);
    for name in ["localhost", "private.example", "both.example", "nothing.example"] {
        assert_eq!(
            network.fetch(&format!("http://{name}:PORT/picture")).await,
            Err(FetchError::NotPublic),
            "{name}"
        );
    }
    assert_eq!(network.fetch("http://unknown.example:PORT/picture").await, Err(FetchError::Unreachable));
    assert_eq!(network.connections(), (0, 0));
    // Control: without the check each of them reaches the private server.
    for (times, host) in ["localhost", "127.0.0.1", "0x7f.1"].into_iter().enumerate() {
        let url = format!("http://{host}:{}/picture", network.port);
        assert_eq!(network.fetcher_with(limits(), |_| true).fetch(&url).await.as_deref(), Ok(PICTURE));
        assert_eq!(network.connections(), (times + 1, 0));
    }
}

#[tokio::test]
async fn dns_rebinding_has_no_effect() {
    let network = TestNetwork::new()
        .await
        .name("rebound.example", &[&[PUBLIC], &[PRIVATE]])
        .name("later.example", &[&[PUBLIC], &[PRIVATE]]);
    assert_eq!(network.fetch("http://rebound.example:PORT/picture").await.as_deref(), Ok(PICTURE));
    assert_eq!(*network.lookups.lock().expect("not poisoned"), ["rebound.example"], "resolved once");
    // A redirect to itself is resolved again, and then refused.
    assert_eq!(network.fetch("http://later.example:PORT/hops/0").await, Err(FetchError::NotPublic));
    assert_eq!(network.connections(), (0, 2));
}

#[tokio::test]
async fn urls_of_other_forms_are_refused() {
    let network = TestNetwork::new().await;
    let long = format!("http://127.0.0.2:PORT/{}", "a".repeat(MAX_URL_BYTES));
    for url in [
        "",
        "picture.png",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://127.0.0.2:PORT/picture",
        "data:image/png;base64,AAAA",
        "gopher://127.0.0.2:PORT/",
        "http://",
        "http://user@127.0.0.2:PORT/picture",
        "http://:word@127.0.0.2:PORT/picture",
        "http://[fe80::1%25eth0]:PORT/",
        "javascript:0",
        &long,
    ] {
        assert_eq!(network.fetch(url).await, Err(FetchError::Address), "{url}");
    }
    for target in ["file:///etc/passwd", "ftp://127.0.0.2/x", "http://user:word@127.0.0.2:PORT/picture"] {
        let result = network.fetch(&format!("http://127.0.0.2:PORT/to/{target}")).await;
        assert_eq!(result, Err(FetchError::Address), "{target}");
    }
    assert_eq!(network.connections(), (0, 3));
    // Outside of tests only https: is allowed.
    let fetcher = ImageFetcher::new(FetchLimits::default()).expect("builds");
    for url in ["http://pictures.example/a.png", &format!("http://127.0.0.2:{}/picture", network.port)] {
        assert_eq!(fetcher.fetch(url).await, Err(FetchError::Address));
    }
    let url = format!("https://127.0.0.2:{}/picture", network.port);
    assert_eq!(fetcher.fetch(&url).await, Err(FetchError::NotPublic));
    let url = format!("https://localhost:{}/picture", network.port);
    assert_eq!(fetcher.fetch(&url).await, Err(FetchError::NotPublic));
    assert_eq!(network.connections(), (0, 3));
}

#[tokio::test]
async fn responses_that_are_not_pictures_are_refused() {
    let network = TestNetwork::new().await;
    let fetch = async |path: &str| network.fetch(&format!("http://127.0.0.2:PORT/{path}")).await;
    assert_eq!(fetch("page").await, Err(FetchError::Type));
    assert_eq!(fetch("untyped").await, Err(FetchError::Type));
    assert_eq!(fetch("missing").await, Err(FetchError::Status(404)));
    assert_eq!(fetch("nowhere").await, Err(FetchError::Status(302)));
    assert_eq!(fetch("huge").await, Err(FetchError::TooLarge(100_000)));
    assert_eq!(fetch("endless").await, Err(FetchError::TooLarge(100_000)));
}

#[tokio::test]
async fn slow_servers_time_out() {
    let network = TestNetwork::new().await;
    let time = Duration::from_millis(200);
    let fetcher = network.fetcher(FetchLimits { time, concurrent: 1, ..limits() });
    let url = format!("http://127.0.0.2:{}/silent", network.port);
    let start = Instant::now();
    // The second one waits for the first, within its own time.
    let results = futures::join!(fetcher.fetch(&url), fetcher.fetch(&url));
    assert_eq!(results, (Err(FetchError::TooSlow(time)), Err(FetchError::TooSlow(time))));
    assert!(start.elapsed() < Duration::from_secs(10));
}
