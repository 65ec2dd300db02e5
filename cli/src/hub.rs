//! Published models on this machine: the list that comes with Plume, a hub
//! over the network, and a cache.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use plume_core::hub::{
    Head, Http, Hub, HubError, Plan, Planned, Published, Registry, resolve, slug,
};
use sha2::{Digest, Sha256};
use ureq::http::Response;
use ureq::{Agent, Body};

/// What the page's library offers as well.
const REGISTRY: &str = include_str!("../../www/models.json");
/// Tries without a byte of progress before a download is given up.
const TRIES: u32 = 5;
/// Longest patience a hub may ask for, in seconds.
const PATIENCE: u32 = 90;

/// The published models, with `HF_ENDPOINT` in the place of the hub where it
/// is set.
///
/// # Errors
/// Never for the list that comes with Plume.
pub fn registry() -> Result<(Registry, Hub)> {
    let registry = Registry::from_json(REGISTRY)?;
    let base = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| registry.hub.clone());
    let hub = Hub::new(&base);
    Ok((registry, hub))
}

/// The model of this name or address.
///
/// # Errors
/// Where it is neither.
pub fn published(name: &str) -> Result<Published> {
    let (registry, hub) = registry()?;
    let known = registry.models.into_iter().find(|model| model.id == name);
    match known {
        Some(model) => Ok(model),
        None => Ok(Published::from_address(name, &hub)?),
    }
}

/// Where models are kept: `plume/models` in this platform's cache folder.
///
/// # Errors
/// Where the platform names none.
pub fn cache() -> Result<PathBuf> {
    let base = dirs::cache_dir().context("this machine names no cache folder: set HOME")?;
    Ok(base.join("plume/models"))
}

/// The folder of a model, whole or not.
///
/// # Errors
/// As [`cache`].
pub fn folder(id: &str) -> Result<PathBuf> {
    Ok(cache()?.join(slug(id)))
}

/// Written last: all files are there and are what the hub announced.
const DONE: &str = ".done";

/// The folder of a model that is whole, or its one file where it is packed.
pub fn whole(id: &str) -> Option<PathBuf> {
    let folder = folder(id).ok()?;
    if !folder.join(DONE).is_file() {
        return None;
    }
    let files = fs::read_dir(&folder)
        .ok()?
        .flatten()
        .map(|file| file.path());
    let packed = |path: &PathBuf| path.extension().is_some_and(|end| end == "gguf");
    Some(files.into_iter().find(packed).unwrap_or(folder))
}

/// The network.
struct Net(Agent);

impl Net {
    fn new() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build();
        Self(config.into())
    }

    fn ask(&self, url: &str, from: u64) -> Result<Response<Body>, HubError> {
        let mut request = self.0.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let answer = request.call().map_err(|_| HubError::Unreachable {
            url: url.to_owned(),
        })?;
        checked(url, answer)
    }
}

/// An answer with a status of success.
fn checked(url: &str, answer: Response<Body>) -> Result<Response<Body>, HubError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let wait = header(&answer, "retry-after").and_then(|wait| wait.parse().ok());
    let status = answer.status().as_u16();
    Err(HubError::of_status(url, status, wait))
}

fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

impl Http for Net {
    async fn get(&self, url: &str) -> Result<String, HubError> {
        let mut answer = self.ask(url, 0)?;
        let text = answer.body_mut().read_to_string();
        text.map_err(|_| HubError::Cut {
            url: url.to_owned(),
        })
    }

    async fn head(&self, url: &str) -> Result<Head, HubError> {
        let unreachable = |_| HubError::Unreachable {
            url: url.to_owned(),
        };
        // A hub tells the hash before it sends one elsewhere.
        let first = self.0.head(url).config().max_redirects(0);
        let first = first.max_redirects_will_error(false).build().call();
        let first = first.map_err(unreachable)?;
        let linked = header(&first, "x-linked-etag").map(str::to_owned);
        let answer = if first.status().is_redirection() {
            self.0.head(url).call().map_err(unreachable)?
        } else {
            first
        };
        let answer = checked(url, answer)?;
        let bytes = header(&answer, "content-length").and_then(|n| n.parse().ok());
        Ok(Head::new(bytes, header(&answer, "etag"), linked.as_deref()))
    }
}

/// Downloads a model, from where it stopped, and says where it is. `told`
/// hears of bytes so far and in all, and of what is waited for.
///
/// # Errors
/// In words; what has arrived stays.
pub fn download(model: &Published, told: &dyn Fn(u64, u64, Option<&str>)) -> Result<PathBuf> {
    let folder = folder(&model.id)?;
    if let Some(whole) = whole(&model.id) {
        return Ok(whole);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let net = Net::new();
    let plan = plan(&net, model, &folder)?;
    let mut before = 0;
    let total = plan.bytes();
    for file in &plan.files {
        let path = folder.join(&file.name);
        if !path.is_file() {
            let part = folder.join(format!("{}.part", file.name));
            let brought = bring(&net, file, &part, &|at, note| {
                told(before + at, total.max(before + at), note);
            });
            if let Err(error) = brought {
                // The next try asks the hub what it is now.
                if matches!(error.downcast_ref(), Some(HubError::Hash { .. })) {
                    let _ = fs::remove_file(folder.join(PLAN));
                }
                return Err(error);
            }
            fs::rename(&part, &path).with_context(|| path.display().to_string())?;
        }
        before += path.metadata().map_or(0, |data| data.len());
    }
    fs::write(folder.join(DONE), "").context("cannot note that the model is whole")?;
    let _ = fs::remove_file(folder.join(PLAN));
    whole(&model.id).context("the folder was taken away")
}

/// What a download began with, so that a later part is of the same version.
const PLAN: &str = ".plan.json";

fn plan(net: &Net, model: &Published, folder: &Path) -> Result<Plan> {
    let noted = fs::read(folder.join(PLAN)).ok();
    if let Some(plan) = noted.and_then(|json| serde_json::from_slice(&json).ok()) {
        return Ok(plan);
    }
    let (registry, hub) = registry()?;
    let plan = resolve(net, &hub, model, Some(&registry.tokenizer));
    let plan = pollster::block_on(plan)?;
    // A name in a list is a file's, not a path's.
    if let Some(file) = plan
        .files
        .iter()
        .find(|file| file.name.contains(['/', '\\']))
    {
        bail!(
            "{} is in a folder of its own: download it by hand",
            file.name
        );
    }
    fs::write(folder.join(PLAN), serde_json::to_vec(&plan)?)?;
    Ok(plan)
}

/// One file, from where it stopped.
fn bring(net: &Net, file: &Planned, part: &Path, told: &dyn Fn(u64, Option<&str>)) -> Result<()> {
    let context = || part.display().to_string();
    let mut on_disk = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(part)
        .with_context(context)?;
    let mut at = on_disk.metadata().with_context(context)?.len();
    if file.bytes.is_none_or(|bytes| at > bytes) {
        on_disk.set_len(0).with_context(context)?;
        at = 0;
    }
    let mut hash = Sha256::new();
    std::io::copy(&mut (&on_disk).take(at), &mut hash).with_context(context)?;
    let mut tries = 0;
    while file.bytes.is_none_or(|bytes| at < bytes) {
        let before = at;
        let answer = part_of(net, file, &mut on_disk, &mut at, &mut hash, told)?;
        let Err(error) = answer else {
            break;
        };
        tries = if at > before { 1 } else { tries + 1 };
        let seconds = match &error {
            HubError::Busy { seconds, .. } => *seconds,
            _ => 1 << (tries - 1).min(5),
        };
        if !error.is_passing() || tries >= TRIES || seconds > PATIENCE {
            return Err(error.into());
        }
        told(
            at,
            Some("the connection broke or the hub asks for patience"),
        );
        std::thread::sleep(Duration::from_secs(seconds.into()));
    }
    let found = format!("{:x}", hash.finalize());
    if let Some(expected) = &file.sha256
        && *expected != found
    {
        fs::remove_file(part).with_context(context)?;
        return Err(HubError::Hash {
            name: file.name.clone(),
            expected: expected.clone(),
            found,
        }
        .into());
    }
    Ok(())
}

/// One answer, as far as it goes; what goes wrong on this machine is the outer
/// error.
fn part_of(
    net: &Net,
    file: &Planned,
    on_disk: &mut File,
    at: &mut u64,
    hash: &mut Sha256,
    told: &dyn Fn(u64, Option<&str>),
) -> Result<Result<(), HubError>> {
    let cut = || HubError::Cut {
        url: file.url.clone(),
    };
    let answer = match net.ask(&file.url, *at) {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(error)),
    };
    if *at > 0 && answer.status() != 206 {
        // A server without ranges gives all of it again.
        on_disk.set_len(0)?;
        *at = 0;
        *hash = Sha256::new();
    }
    let mut body = answer.into_body().into_reader();
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(_) => return Ok(Err(cut())),
        };
        on_disk
            .write_all(&piece[..read])
            .context("the disk may be full")?;
        hash.update(&piece[..read]);
        *at += read as u64;
        told(*at, None);
    }
    if file.bytes.is_some_and(|bytes| *at < bytes) {
        return Ok(Err(cut()));
    }
    Ok(Ok(()))
}
