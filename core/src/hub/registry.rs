//! What is published (`www/models.json`), a hub's addresses and its lists of
//! files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{HubError, InParts};

/// `www/models.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    /// For people: what the figures are.
    pub about: String,
    /// Base URL of the hub.
    pub hub: String,
    /// Where CLIP's tokenizer is, for repositories that lack one.
    pub tokenizer: Source,
    /// What is offered.
    pub models: Vec<Published>,
    /// Flamingos, none of which is published as a page could read it.
    #[serde(default)]
    pub flamingos: Vec<InParts>,
}

/// What a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It says how well texts fit pictures.
    Clip,
    /// It writes about pictures.
    Flamingo,
}

/// A published model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Its name in addresses and on the command line.
    pub id: String,
    /// Its name for a person.
    pub name: String,
    /// Who trained it.
    #[serde(default)]
    pub publisher: String,
    /// An SPDX identifier, or what the publisher says.
    #[serde(default)]
    pub licence: String,
    /// What it is good at, and what one should know.
    #[serde(default)]
    pub good_at: String,
    /// What it does; nothing where that is not known before it is read.
    #[serde(default = "clip")]
    pub kind: Option<Kind>,
    /// Side of the pictures it sees, in pixels; 0 where it is not known.
    #[serde(default)]
    pub image_size: usize,
    /// Numbers in all its weights; 0 where it is not known.
    #[serde(default)]
    pub parameters: u64,
    /// Bytes of the largest tensor between two layers for one picture, in f32; 0
    /// where it is not known.
    #[serde(default)]
    pub picture_bytes: u64,
    /// Floating-point operations to see one picture, in 10⁹; 0 where unknown.
    #[serde(default)]
    pub gflops: f64,
    /// Where it can be had, the first that answers is taken.
    pub sources: Vec<Source>,
}

/// A repository, or a folder on some server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// `owner/name` on the hub, or the URL of a folder.
    pub repository: String,
    /// Branch, tag, commit or `refs/pr/15`.
    #[serde(default = "main")]
    pub revision: String,
    /// What a model needs from there; a hub's own list goes before.
    pub files: Vec<FileOf>,
}

/// Most of what is published; entries of other kinds say so.
#[expect(clippy::unnecessary_wraps, reason = "it is the default of an `Option`")]
fn clip() -> Option<Kind> {
    Some(Kind::Clip)
}

fn main() -> String {
    "main".to_owned()
}

/// A file of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOf {
    /// Its name there.
    pub name: String,
    /// Bytes as computed or measured; the server's word goes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Known hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The model works without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl FileOf {
    fn needed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            bytes: None,
            sha256: None,
            optional: false,
        }
    }

    fn optional(name: &str) -> Self {
        Self {
            optional: true,
            ..Self::needed(name)
        }
    }
}

/// A file name for a model, whatever its id.
pub fn slug(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    id.bytes()
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("~{byte:02x}"),
        })
        .collect()
}

/// Whether a file holds weights, by its name.
pub(super) fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

impl Registry {
    /// Reads `models.json`.
    ///
    /// # Errors
    /// Where it is damaged.
    pub fn from_json(json: &str) -> crate::Result<Self> {
        serde_json::from_str(json)
            .map_err(|error| crate::Error::Config(format!("models.json: {error}")))
    }
}

impl Published {
    /// Bytes to download, as far as they are known beforehand.
    pub fn bytes(&self) -> u64 {
        let first = self.sources.first();
        let files = first.into_iter().flat_map(|source| &source.files);
        files.filter_map(|file| file.bytes).sum()
    }

    /// The model that an address names: `owner/name`, with `@revision` if need
    /// be, a page of the hub, a weights file, or a folder.
    ///
    /// # Errors
    /// Where it names none.
    pub fn from_address(text: &str, hub: &Hub) -> Result<Self, HubError> {
        let text = text.trim().trim_end_matches('/');
        let no = || HubError::Address {
            text: text.to_owned(),
        };
        let on_hub = text.strip_prefix(hub.base()).map(|p| p.trim_matches('/'));
        let (name, sources) = if let Some(path) = on_hub {
            let mut parts = path.splitn(4, '/');
            let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
                return Err(no());
            };
            let rest = parts.next().and(parts.next()).unwrap_or_default();
            // A page of a pull request has slashes in its revision.
            let revision = match rest.strip_prefix("refs/pr/") {
                Some(rest) => {
                    let number = rest.split('/').next().unwrap_or_default();
                    format!("refs/pr/{number}")
                }
                None => rest.split('/').next().unwrap_or_default().to_owned(),
            };
            let revision = if revision.is_empty() {
                main()
            } else {
                revision
            };
            (
                name.to_owned(),
                repository(&format!("{owner}/{name}"), &revision),
            )
        } else if text.starts_with("https://") || text.starts_with("http://") {
            let plain = text.split(['?', '#']).next().unwrap_or(text);
            let (folder, file) = plain.rsplit_once('/').ok_or_else(no)?;
            if is_weights(file) {
                (file.to_owned(), file_in(folder, file))
            } else {
                let both = ["model.safetensors", "open_clip_model.safetensors"];
                let sources = both.iter().flat_map(|file| file_in(plain, file));
                (file.to_owned(), sources.collect())
            }
        } else {
            let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
            let word = |part: &str| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            };
            match path.split_once('/') {
                Some((owner, name)) if word(owner) && word(name) => {
                    (name.to_owned(), repository(path, revision))
                }
                _ => return Err(no()),
            }
        };
        Ok(Self {
            id: text.to_owned(),
            name,
            publisher: String::new(),
            licence: String::new(),
            good_at: String::new(),
            kind: None,
            image_size: 0,
            parameters: 0,
            picture_bytes: 0,
            gflops: 0.0,
            sources,
        })
    }
}

/// A repository in either layout; its own list of files says which.
fn repository(path: &str, revision: &str) -> Vec<Source> {
    let both = ["model.safetensors", "open_clip_model.safetensors"];
    both.iter()
        .flat_map(|file| file_in(path, file))
        .map(|source| Source {
            revision: revision.to_owned(),
            ..source
        })
        .collect()
}

/// Weights and what stands beside them in transformers' or open_clip's layout.
fn file_in(place: &str, weights: &str) -> Vec<Source> {
    let transformers = vec![
        FileOf::needed(weights),
        FileOf::needed("config.json"),
        FileOf::needed("tokenizer.json"),
        FileOf::optional("preprocessor_config.json"),
    ];
    let open_clip = vec![
        FileOf::needed(weights),
        FileOf::needed("open_clip_config.json"),
        FileOf::needed("tokenizer.json"),
    ];
    let files = if weights.ends_with(".gguf") {
        vec![vec![FileOf::needed(weights)]]
    } else if weights.starts_with("open_clip") {
        vec![open_clip, transformers]
    } else {
        vec![transformers, open_clip]
    };
    let source = |files| Source {
        repository: place.to_owned(),
        revision: main(),
        files,
    };
    files.into_iter().map(source).collect()
}

/// The addresses of a hub: Hugging Face's, or a mirror that speaks alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub(String);

impl Hub {
    /// By its base URL.
    pub fn new(base: &str) -> Self {
        Self(base.trim().trim_end_matches('/').to_owned())
    }

    /// The base URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.0
    }

    /// Where the list of a repository's files is; a folder has none.
    pub fn listing(&self, source: &Source) -> Option<String> {
        if source.repository.contains("://") {
            return None;
        }
        let revision = source.revision.replace('/', "%2F");
        let Self(base) = self;
        let repository = &source.repository;
        Some(format!(
            "{base}/api/models/{repository}/revision/{revision}?blobs=true"
        ))
    }

    /// Where a file is; `commit` pins what the revision was when it was asked.
    pub fn file(&self, source: &Source, commit: Option<&str>, name: &str) -> String {
        let place = &source.repository;
        if place.contains("://") {
            return format!("{}/{name}", place.trim_end_matches('/'));
        }
        let revision = commit.unwrap_or(&source.revision).replace('/', "%2F");
        format!("{}/{place}/resolve/{revision}/{name}", self.0)
    }
}

/// A file in a hub's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its length.
    pub bytes: Option<u64>,
    /// Of large files alone.
    pub sha256: Option<String>,
}

/// A hub's list of a repository's files, at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit.
    pub commit: String,
    /// Its files by name.
    pub files: BTreeMap<String, Remote>,
}

impl Listing {
    /// Reads the answer of `/api/models/…/revision/…?blobs=true`.
    pub fn from_json(json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
            size: Option<u64>,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            sha256: String,
        }
        let answer: Answer = serde_json::from_str(json).ok()?;
        let files = answer.siblings.into_iter().map(|file| {
            let sha256 = file.lfs.map(|lfs| lfs.sha256.to_lowercase());
            let bytes = file.size;
            (file.rfilename, Remote { bytes, sha256 })
        });
        Some(Self {
            commit: answer.sha,
            files: files.collect(),
        })
    }

    /// The weights a model of this repository is read from: those that
    /// `source` names where they are there, else in whichever form there is,
    /// a file, shards with their index, or the smallest packed file.
    pub fn weights(&self, source: &Source) -> Option<Vec<String>> {
        let has = |name: &str| self.files.contains_key(name);
        let named = source.files.iter().map(|file| file.name.as_str());
        let plain = ["model.safetensors", "open_clip_model.safetensors"];
        let mut single = named.filter(|name| is_weights(name)).chain(plain);
        if let Some(found) = single.find(|name| has(name)) {
            return Some(vec![found.to_owned()]);
        }
        for stem in ["model", "open_clip_model"] {
            let index = format!("{stem}.safetensors.index.json");
            if has(&index) {
                let start = format!("{stem}-");
                let shards = self
                    .files
                    .keys()
                    .filter(|name| name.starts_with(&start) && name.ends_with(".safetensors"));
                return Some(std::iter::once(index).chain(shards.cloned()).collect());
            }
        }
        let packed = self
            .files
            .iter()
            .filter(|(name, _)| name.ends_with(".gguf"));
        let smallest = packed.min_by_key(|(_, file)| file.bytes.unwrap_or(u64::MAX));
        smallest.map(|(name, _)| vec![name.clone()])
    }
}
