//! What to download for a model: decided once, before the first byte, so that
//! the total is honest and a later part is of the same version.

use serde::{Deserialize, Serialize};

use super::registry::is_weights;
use super::{Http, Hub, HubError, Listing, Published, Source};

/// One file of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its name in the repository.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Its length, where the server told it.
    pub bytes: Option<u64>,
    /// Its hash, where the server told it.
    pub sha256: Option<String>,
    /// The tag of its version, where there is no hash.
    pub etag: Option<String>,
    /// A name for what is in it: the hash, or one of address and version.
    pub key: String,
}

/// Everything a model needs, at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where it comes from.
    pub repository: String,
    /// The files.
    pub files: Vec<Planned>,
}

impl Plan {
    /// Bytes in all, as far as servers tell.
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.bytes).sum()
    }
}

/// Files that stand beside weights.
const COMPANIONS: &[&str] = &[
    "config.json",
    "open_clip_config.json",
    "tokenizer.json",
    "preprocessor_config.json",
    "golden.json",
    "published.json",
];

/// Finds out what to download: the first source that answers is taken.
///
/// # Errors
/// The last source's, where none does.
pub async fn resolve(
    http: &impl Http,
    hub: &Hub,
    model: &Published,
    tokenizer: Option<&Source>,
) -> Result<Plan, HubError> {
    let mut told = None;
    for source in &model.sources {
        match one(http, hub, source, tokenizer).await {
            Ok(plan) => return Ok(plan),
            // The others are on the same hub: it is the hub that fails.
            Err(error) if error.is_passing() => return Err(error),
            // What the publisher asks for explains more than a name not found.
            Err(error) => {
                let better = matches!(
                    told,
                    Some(HubError::Gated { .. } | HubError::Refused { .. })
                );
                told = if better { told } else { Some(error) };
            }
        }
    }
    Err(told.unwrap_or_else(|| HubError::NoWeights {
        repository: model.id.clone(),
    }))
}

async fn one(
    http: &impl Http,
    hub: &Hub,
    source: &Source,
    tokenizer: Option<&Source>,
) -> Result<Plan, HubError> {
    let mut files = match listed(http, hub, source).await? {
        Some(files) => files,
        None => probed(http, hub, source).await?,
    };
    let packed = files.iter().any(|file| file.name.ends_with(".gguf"));
    let tokens = files.iter().any(|file| file.name == "tokenizer.json");
    if let (false, false, Some(elsewhere)) = (packed, tokens, tokenizer) {
        let mut elsewhere = match listed(http, hub, elsewhere).await? {
            Some(files) => files,
            None => probed(http, hub, elsewhere).await?,
        };
        elsewhere.retain(|file| file.name == "tokenizer.json");
        files.extend(elsewhere);
    }
    Ok(Plan {
        repository: source.repository.clone(),
        files,
    })
}

fn planned(hub: &Hub, source: &Source, commit: Option<&str>, name: &str) -> Planned {
    let url = hub.file(source, commit, name);
    Planned {
        name: name.to_owned(),
        key: String::new(),
        url,
        bytes: None,
        sha256: None,
        etag: None,
    }
}

/// Names what is in it, as far as that is known.
fn keyed(mut file: Planned) -> Planned {
    file.key = match &file.sha256 {
        Some(sha256) => sha256.clone(),
        None => {
            let version = format!("{} {:?} {:?}", file.url, file.etag, file.bytes);
            format!("{:016x}", fnv(&version))
        }
    };
    file
}

/// FNV-1a.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// By the hub's list; none where this server has no lists.
async fn listed(
    http: &impl Http,
    hub: &Hub,
    source: &Source,
) -> Result<Option<Vec<Planned>>, HubError> {
    let Some(url) = hub.listing(source) else {
        return Ok(None);
    };
    let json = match http.get(&url).await {
        Ok(json) => json,
        // A plain mirror: its files may be there all the same.
        Err(HubError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let listing = Listing::from_json(&json).ok_or(HubError::Answer { url })?;
    let weights = if source.files.iter().any(|file| is_weights(&file.name)) {
        let none = || HubError::NoWeights {
            repository: source.repository.clone(),
        };
        listing.weights(source).ok_or_else(none)?
    } else {
        Vec::new()
    };
    // Where open_clip's weights have open_clip's configuration, that of another
    // library beside it is not theirs.
    let open_clip = weights.iter().any(|name| name.starts_with("open_clip"))
        && listing.files.contains_key("open_clip_config.json");
    let belongs =
        |name: &&str| !open_clip || !matches!(*name, "config.json" | "preprocessor_config.json");
    let companions = COMPANIONS
        .iter()
        .copied()
        .filter(belongs)
        .map(str::to_owned);
    let names = weights.into_iter().chain(companions);
    let there = names.filter_map(|name| Some((listing.files.get(&name)?, name)));
    let files = there.map(|(remote, name)| {
        keyed(Planned {
            bytes: remote.bytes,
            sha256: remote.sha256.clone(),
            ..planned(hub, source, Some(&listing.commit), &name)
        })
    });
    Ok(Some(files.collect()))
}

/// By asking for each file that the source names.
async fn probed(http: &impl Http, hub: &Hub, source: &Source) -> Result<Vec<Planned>, HubError> {
    let mut files = Vec::new();
    for wanted in &source.files {
        let file = planned(hub, source, None, &wanted.name);
        match http.head(&file.url).await {
            Ok(head) => files.push(keyed(Planned {
                // Text may be sent packed: its length on the way says nothing.
                bytes: head.bytes.filter(|_| is_weights(&wanted.name)),
                sha256: head.sha256.or_else(|| wanted.sha256.clone()),
                etag: head.etag,
                ..file
            })),
            Err(HubError::Missing { .. }) if wanted.optional => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}
