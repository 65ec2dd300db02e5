//! A small server that plays the hub of published models, with every
//! misbehaviour that a download must survive. On 127.0.0.1 only.
//!
//! It speaks as Hugging Face's does: `/api/models/R/revision/V?blobs=true` lists
//! files with sizes and hashes, `/R/resolve/V/F` redirects to another origin,
//! which gives the bytes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::checkpoint::Seeded;

/// The commit that every branch is at.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Longest head of a request that is read.
const MAX_HEAD: u64 = 16 << 10;
/// Bytes that are sent at a time.
const PIECE: u64 = 64 << 10;

/// What a file holds.
#[derive(Clone)]
pub enum Content {
    /// These bytes.
    Bytes(Arc<Vec<u8>>),
    /// Made as they are asked for.
    Seeded(Arc<Seeded>),
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Seeded(seeded) => seeded.len(),
        }
    }

    fn read(&self, from: u64, to: u64) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes[from as usize..to as usize].to_vec(),
            Self::Seeded(seeded) => seeded.read(from, to),
        }
    }

    fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut at = 0;
        while at < self.len() {
            let to = (at + (1 << 20)).min(self.len());
            hash.update(self.read(at, to));
            at = to;
        }
        format!("{:x}", hash.finalize())
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Arc::new(bytes))
    }
}

/// How the hub behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Every answer of the hub proper has this status.
    pub status: Option<u16>,
    /// So many answers are 429, with a second of patience asked for.
    pub busy: u32,
    /// Pages of other origins may read.
    pub cors: bool,
    /// Parts of a file can be had.
    pub ranges: bool,
    /// There are lists of files.
    pub lists: bool,
    /// Lists tell another hash than the file has.
    pub lies: bool,
    /// So many answers with weights end in the middle …
    pub cuts: u32,
    /// … after as many bytes.
    pub cut_after: u64,
    /// Weights come as slowly.
    pub bytes_per_second: Option<u64>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            status: None,
            busy: 0,
            cors: true,
            ranges: true,
            lists: true,
            lies: false,
            cuts: 0,
            cut_after: u64::MAX,
            bytes_per_second: None,
        }
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, `HEAD` or `OPTIONS`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// First byte of the range that was asked for.
    pub from: Option<u64>,
}

type Files = BTreeMap<String, (Content, String)>;

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Files>,
    manners: Manners,
    asked: Vec<Asked>,
    ports: [u16; 2],
}

/// The running hub. It stops when it is dropped.
pub struct Hub {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    ports: [u16; 2],
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Starts one without repositories.
    ///
    /// # Errors
    /// Where no port can be had.
    pub fn start() -> Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut ports = [0; 2];
        for port in &mut ports {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            *port = listener.local_addr()?.port();
            let (state, stop) = (state.clone(), stop.clone());
            threads.push(std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (Ok(stream), state) = (stream, state.clone()) else {
                        continue;
                    };
                    // A client that goes away in the middle is no concern.
                    std::thread::spawn(move || drop(serve(stream, &state)));
                }
            }));
        }
        lock(&state).ports = ports;
        Ok(Self {
            state,
            stop,
            threads,
            ports,
        })
    }

    /// The base URL.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Publishes a repository.
    pub fn publish(&self, repository: &str, files: Vec<(&str, Content)>) {
        let files = files.into_iter().map(|(name, content)| {
            let hash = content.sha256();
            (name.to_owned(), (content, hash))
        });
        let repositories = &mut lock(&self.state).repositories;
        repositories.insert(repository.to_owned(), files.collect());
    }

    /// Behaves otherwise from now on.
    pub fn behave(&self, manners: Manners) {
        lock(&self.state).manners = manners;
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.state).asked)
    }
}

impl Hub {
    /// Where the ranges began that were asked for since the last time.
    pub fn ranges(&self) -> Vec<u64> {
        let bytes = self
            .asked()
            .into_iter()
            .filter(|a| a.path.starts_with("/cdn/"));
        bytes.filter_map(|asked| asked.from).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for port in self.ports {
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    /// Of this, from and to.
    body: (Content, u64, u64),
    /// Weights are slow and cut, small files are not.
    weights: bool,
}

impl Answer {
    fn new(status: u16, text: String) -> Self {
        let content = Content::from(text.into_bytes());
        let len = content.len();
        Self {
            status,
            headers: Vec::new(),
            body: (content, 0, len),
            weights: false,
        }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let asked = head(&stream)?;
    let (answer, manners) = {
        let mut state = lock(state);
        state.asked.push(asked.clone());
        let answer = answer(&mut state, &asked);
        let manners = state.manners.clone();
        if answer.weights && asked.method == "GET" {
            state.manners.cuts = state.manners.cuts.saturating_sub(1);
        }
        (answer, manners)
    };
    let (content, from, to) = answer.body;
    let mut head = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", answer.status);
    head += &format!("Content-Length: {}\r\n", to - from);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if manners.cors {
        head += "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: Range\r\n\
                 Access-Control-Expose-Headers: ETag, Content-Range, Retry-After, X-Linked-ETag\r\n";
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method != "GET" {
        return Ok(());
    }
    let end = if answer.weights && manners.cuts > 0 {
        to.min(from.saturating_add(manners.cut_after))
    } else {
        to
    };
    let mut at = from;
    while at < end {
        let next = (at + PIECE).min(end);
        stream.write_all(&content.read(at, next))?;
        at = next;
        // The speed of now: a slow download may be let go.
        let speed = lock(state).manners.bytes_per_second;
        if let (true, Some(speed)) = (answer.weights, speed) {
            std::thread::sleep(Duration::from_secs_f64(PIECE as f64 / speed as f64));
        }
    }
    if end < to {
        stream.shutdown(Shutdown::Both)?;
    }
    Ok(())
}

/// Reads the head of a request.
fn head(stream: &TcpStream) -> Result<Asked> {
    let mut reader = BufReader::new(stream.take(MAX_HEAD));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let method = words.next().context("no method")?.to_owned();
    let path = words.next().context("no path")?.to_owned();
    let mut from = None;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("range") {
            let value = value.trim().strip_prefix("bytes=");
            let range = value.and_then(|value| value.split_once('-'));
            from = range.and_then(|(first, last)| {
                let first: u64 = first.parse().ok()?;
                Some((first, last.parse().ok()))
            });
        }
    }
    let last = from.and_then(|(_, last)| last);
    Ok(Asked {
        method,
        // The last byte of a range travels as a fragment, which no request has.
        path: last.map_or(path.clone(), |last: u64| format!("{path}#{last}")),
        from: from.map(|(first, _)| first),
    })
}

fn answer(state: &mut State, asked: &Asked) -> Answer {
    let none = || Answer::new(404, "there is no such thing".to_owned());
    if asked.method == "OPTIONS" {
        return Answer::new(204, String::new());
    }
    let (path, last) = match asked.path.split_once('#') {
        Some((path, last)) => (path, last.parse().ok()),
        None => (asked.path.as_str(), None),
    };
    let path = path.split('?').next().unwrap_or_default();
    if let Some(file) = path.strip_prefix("/cdn/") {
        return bytes(state, file, asked, last).unwrap_or_else(none);
    }
    if state.manners.busy > 0 {
        state.manners.busy -= 1;
        let mut answer = Answer::new(429, "patience".to_owned());
        answer.headers.push(("Retry-After", "1".to_owned()));
        return answer;
    }
    if let Some(status) = state.manners.status {
        return Answer::new(status, "no".to_owned());
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        let listed = rest.split_once("/revision/").and_then(|(repository, _)| {
            let files = state.repositories.get(repository)?;
            state.manners.lists.then(|| list(files, state.manners.lies))
        });
        return listed.map_or_else(none, |list| Answer::new(200, list.to_string()));
    }
    let Some((repository, rest)) = path.trim_start_matches('/').split_once("/resolve/") else {
        return none();
    };
    let Some((_, name)) = rest.split_once('/') else {
        return none();
    };
    let Some((_, hash)) = state.repositories.get(repository).and_then(|f| f.get(name)) else {
        return none();
    };
    let place = format!(
        "http://127.0.0.1:{}/cdn/{repository}//{name}",
        state.ports[1]
    );
    let mut answer = Answer::new(302, String::new());
    answer.headers.push(("Location", place));
    answer
        .headers
        .push(("X-Linked-ETag", format!("\"{hash}\"")));
    answer
}

fn list(files: &Files, lies: bool) -> Value {
    let siblings = files.iter().map(|(name, (content, hash))| {
        let size = content.len();
        // Only large files are hashed, as on the hub.
        let lfs = (!name.ends_with(".json")).then(|| {
            let hash = if lies { "0".repeat(64) } else { hash.clone() };
            json!({ "sha256": hash, "size": size, "pointerSize": 134 })
        });
        json!({ "rfilename": name, "size": size, "lfs": lfs })
    });
    json!({ "sha": COMMIT, "gated": false, "siblings": siblings.collect::<Vec<_>>() })
}

fn bytes(state: &State, file: &str, asked: &Asked, last: Option<u64>) -> Option<Answer> {
    let (repository, name) = file.split_once("//")?;
    let (content, hash) = state.repositories.get(repository)?.get(name)?;
    let len = content.len();
    let mut headers = vec![
        ("Content-Type", "application/octet-stream".to_owned()),
        ("ETag", format!("\"{hash}\"")),
    ];
    let (mut status, mut from, mut to) = (200, 0, len);
    if let (true, Some(first)) = (state.manners.ranges, asked.from) {
        if first >= len {
            return Some(Answer::new(416, String::new()));
        }
        (status, from) = (206, first);
        to = last.map_or(len, |last| (last + 1).min(len)).max(from);
        headers.push(("Content-Range", format!("bytes {from}-{}/{len}", to - 1)));
    }
    Some(Answer {
        status,
        headers,
        body: (content.clone(), from, to),
        weights: !name.ends_with(".json"),
    })
}
