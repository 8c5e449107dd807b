//! Servers of models on this machine: well-behaved ones, and those that models are really fetched
//! from.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_lowercase()).map(String::as_str)
    }
}

/// What happens after the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    GoOn,
    HangUp,
    /// Says nothing more, and keeps the connection.
    Stall,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What Content-Length says, where that is not the body's.
    pub says: Option<usize>,
    pub then: Then,
}

impl Answer {
    pub fn new(status: u16, body: &[u8]) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: body.to_vec(),
            says: None,
            then: Then::GoOn,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The file, or the part of it that is asked for.
    pub fn ranged(asked: &Asked, file: &[u8]) -> Answer {
        let Some((from, to)) = asked
            .header("range")
            .and_then(|r| r.strip_prefix("bytes=")?.split_once('-'))
        else {
            return Answer::new(200, file);
        };
        let from: usize = from.parse().unwrap();
        let to = to
            .parse::<usize>()
            .map_or(file.len(), |t| (t + 1).min(file.len()));
        if from >= file.len() {
            return Answer::new(416, b"")
                .header("Content-Range", &format!("bytes */{}", file.len()));
        }
        Answer::new(206, &file[from..to]).header(
            "Content-Range",
            &format!("bytes {from}-{}/{}", to - 1, file.len()),
        )
    }

    /// Only so much of the body comes.
    pub fn cut(mut self, after: usize, then: Then) -> Answer {
        self.says.get_or_insert(self.body.len());
        self.body.truncate(after);
        self.then = then;
        self
    }
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

pub struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, stop) = (
            Arc::<Mutex<Vec<Asked>>>::default(),
            Arc::<Mutex<bool>>::default(),
        );
        let handler: Arc<Handler> = Arc::new(handler);
        let (log, ended) = (asked.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if *ended.lock().unwrap() {
                    return;
                }
                let (log, handler) = (log.clone(), handler.clone());
                // A client that goes away is no failure of a test.
                std::thread::spawn(move || serve(&stream, &log, &*handler));
            }
        });
        Server {
            port,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().unwrap().join();
    }
}

/// What comes after the head: as long as is said, in pieces (RFC 9112, 7.1), packed or not.
fn body(reader: &mut impl BufRead, asked: &Asked) -> Option<Vec<u8>> {
    let mut body = vec![
        0;
        asked
            .header("content-length")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    ];
    reader.read_exact(&mut body).ok()?;
    while asked.header("transfer-encoding") == Some("chunked") {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut piece = vec![0; usize::from_str_radix(line.trim(), 16).ok()? + 2];
        reader.read_exact(&mut piece).ok()?;
        if piece.len() == 2 {
            break;
        }
        body.extend_from_slice(&piece[..piece.len() - 2]);
    }
    if asked.header("content-encoding") == Some("gzip") {
        let mut child = std::process::Command::new("gzip")
            .arg("-d")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(&body).ok()?;
        body = child.wait_with_output().ok()?.stdout;
    }
    Some(body)
}

/// Answers requests of one connection until it ends.
fn serve(stream: &TcpStream, log: &Mutex<Vec<Asked>>, handler: &Handler) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let mut words = first.split_whitespace().map(str::to_string);
        let mut asked = Asked {
            method: words.next()?,
            path: words.next()?,
            headers: BTreeMap::new(),
            body: Vec::new(),
        };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            asked.headers.insert(name.to_lowercase(), value.to_string());
        }
        asked.body = body(&mut reader, &asked)?;
        log.lock().unwrap().push(asked.clone());
        let a = handler(&asked);
        let length = a.says.unwrap_or(a.body.len());
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\n", a.status);
        a.headers
            .iter()
            .for_each(|(k, v)| head += &format!("{k}: {v}\r\n"));
        let mut out: &TcpStream = stream;
        out.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if asked.method != "HEAD" {
            out.write_all(&a.body).ok()?;
        }
        match a.then {
            Then::GoOn => {}
            Then::HangUp => return None,
            Then::Stall => {
                // Until the client gives up.
                let _ = reader.read(&mut [0; 1]);
                return None;
            }
        }
    }
}

/// A hub as huggingface.co answers: large files by a redirect to another server, with their hash;
/// small ones itself.
pub fn huggingface(
    files: Vec<(&'static str, Vec<u8>)>,
    storage: String,
    commit: &'static str,
) -> impl Fn(&Asked) -> Answer + Send + Sync {
    move |asked| {
        let known = files.iter().find(|(name, _)| {
            ["main", commit]
                .iter()
                .any(|r| asked.path == format!("/org/repo/resolve/{r}/{name}"))
        });
        let Some((name, bytes)) = known else {
            return Answer::new(404, b"Entry not found");
        };
        let answer = if bytes.len() > 1000 {
            let sha256 = crate::support::sha256(bytes);
            Answer::new(302, b"")
                .header("X-Linked-Size", &bytes.len().to_string())
                .header("X-Linked-Etag", &format!("\"{sha256}\""))
                .header("Location", &format!("{storage}/{name}?signature=x"))
        } else {
            Answer::ranged(asked, bytes)
                .header("ETag", "\"0123456789012345678901234567890123456789\"")
        };
        answer.header("X-Repo-Commit", commit)
    }
}
