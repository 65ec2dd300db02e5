//! A static server, for the page on this machine and for its tests.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use tiny_http::{Header, Method, Request, Response, StatusCode};

/// A running server. It stops when it is dropped.
pub struct Server {
    http: Arc<tiny_http::Server>,
    threads: Vec<JoinHandle<()>>,
    base: String,
    port: u16,
}

impl Server {
    /// Serves a folder on 127.0.0.1 under a path such as `/` or `/some/where/`,
    /// on this port or, where it is taken, on a free one.
    ///
    /// # Errors
    /// Where no port can be had.
    pub fn start(folder: &Path, port: u16, base: &str) -> Result<Self> {
        let at = |port| tiny_http::Server::http(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let http = at(port)
            .or_else(|_| at(0))
            .map_err(|error| anyhow!("cannot serve: {error}"))?;
        let port = http
            .server_addr()
            .to_ip()
            .context("the server has no address")?
            .port();
        let http = Arc::new(http);
        let threads = (0..4)
            .map(|_| {
                let (http, folder, base) = (http.clone(), folder.to_owned(), base.to_owned());
                std::thread::spawn(move || {
                    for request in http.incoming_requests() {
                        // A browser that goes away in the middle is no concern.
                        let _ = answer(request, &folder, &base);
                    }
                })
            })
            .collect();
        let base = base.to_owned();
        Ok(Self {
            http,
            threads,
            base,
            port,
        })
    }

    /// Where the folder is served.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.base)
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for _ in &self.threads {
            self.http.unblock();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The file that a request is for; none where it would leave the folder.
fn file(folder: &Path, base: &str, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = decoded(path.strip_prefix(base)?)?;
    let relative = Path::new(&path);
    let inside = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let file = folder.join(relative);
    inside.then(|| {
        if file.is_dir() {
            file.join("index.html")
        } else {
            file
        }
    })
}

/// A path with its %-sequences resolved.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        _ => "application/octet-stream",
    }
}

fn header(name: &str, value: &str) -> Result<Header> {
    Header::from_bytes(name, value).map_err(|()| anyhow!("no header {name}: {value}"))
}

/// `bytes=a-b` of a file of `len` bytes.
fn range(request: &Request, len: u64) -> Option<(u64, u64)> {
    let headers = request.headers();
    let asked = headers.iter().find(|header| header.field.equiv("Range"))?;
    let (first, last) = asked
        .value
        .as_str()
        .strip_prefix("bytes=")?
        .split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let last = last
        .parse()
        .unwrap_or(len.saturating_sub(1))
        .min(len.saturating_sub(1));
    (first <= last).then_some((first, last))
}

fn answer(request: Request, folder: &Path, base: &str) -> Result<()> {
    let path = file(folder, base, request.url());
    let opened = path.and_then(|path| Some((File::open(&path).ok()?, path)));
    let (Some((mut file, path)), Method::Get | Method::Head) = (opened, request.method()) else {
        return Ok(request.respond(Response::from_string("not found").with_status_code(404))?);
    };
    let len = file.metadata()?.len();
    let (status, first, last) = match range(&request, len) {
        Some((first, last)) => (206, first, last + 1),
        None => (200, 0, len),
    };
    file.seek(SeekFrom::Start(first))?;
    let mut headers = vec![
        header("Content-Type", mime(&path))?,
        header("Accept-Ranges", "bytes")?,
        header("Cache-Control", "no-cache")?,
    ];
    if status == 206 {
        let value = format!("bytes {first}-{}/{len}", last - 1);
        headers.push(header("Content-Range", &value)?);
    }
    let size = last - first;
    let body = file.take(size);
    let response = Response::new(
        StatusCode(status),
        headers,
        body,
        usize::try_from(size).ok(),
        None,
    );
    Ok(request.respond(response)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_served() {
        let folder = Path::new("/srv/page");
        let at = |url| file(folder, "/plume/", url);
        assert_eq!(at("/plume/a/b.js?x=1"), Some(folder.join("a/b.js")));
        assert_eq!(at("/plume/a%20b.png"), Some(folder.join("a b.png")));
        assert_eq!(at("/other/a.js"), None);
        assert_eq!(at("/plume/../secret"), None);
        assert_eq!(at("/plume/%2e%2e/secret"), None);
        assert_eq!(at("/plume//etc/passwd"), None);
    }
}
