//! An HTTP server for a test: each request gets what a function says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is answered.
pub(crate) enum Reply {
    Send(u16, Vec<u8>),
    /// To another address, with the same method.
    Elsewhere(String),
    /// Nothing, for as long as the client waits.
    Never,
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Send(200, body.into())
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers until the test's process ends.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept) = (Arc::new(answer), Arc::clone(&log));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
                std::thread::spawn(move || {
                    if let Some(asked) = read(&stream) {
                        kept.lock().unwrap().push(asked.clone());
                        write(stream, answer(&asked));
                    }
                });
            }
        });
        Self { url, log }
    }

    /// Everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

fn read(mut stream: &TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let read = stream.read(&mut part).ok().filter(|&read| read > 0)?;
        bytes.extend_from_slice(&part[..read]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut asked = Asked { method, path, headers, body: bytes.split_off(end + 4) };
    let length: usize = asked.header("content-length").parse().unwrap_or(0);
    while asked.body.len() < length {
        let read = stream.read(&mut part).ok().filter(|&read| read > 0)?;
        asked.body.extend_from_slice(&part[..read]);
    }
    Some(asked)
}

fn write(mut stream: TcpStream, reply: Reply) {
    let (status, more, body) = match reply {
        Reply::Send(status, body) => (status, String::new(), body),
        Reply::Elsewhere(url) => (307, format!("Location: {url}\r\n"), Vec::new()),
        Reply::Never => {
            std::thread::sleep(Duration::from_secs(120));
            return;
        }
    };
    let head = format!("HTTP/1.1 {status} X\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client that has gone does not want it.
    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
}
