//! Where models are published and how a hub of models answers: plain data and
//! words. Whoever has a network implements [`Http`].

mod parts;
mod plan;
mod registry;

use std::future::Future;

pub use parts::{InParts, PackOption, PackedBytes, Part};
pub use plan::{Plan, Planned, resolve};
pub use registry::{FileOf, Hub, Kind, Listing, Published, Registry, Remote, Source, slug};

/// What can go wrong between here and a hub, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// 401 or 403.
    #[error(
        "{url} asks who you are: its publisher wants an agreement first. Sign in and accept the \
         terms on the model's page, download the files there, and use them from your disk"
    )]
    Gated {
        /// What was asked for.
        url: String,
    },
    /// 404 or 410.
    #[error(
        "{url} is not there: the publisher may have moved or renamed it. Look for it on the hub \
         and give its new address"
    )]
    Missing {
        /// What was asked for.
        url: String,
    },
    /// 429.
    #[error("{url} is asked for too often: the hub wants {seconds} s of patience. Try again then")]
    Busy {
        /// What was asked for.
        url: String,
        /// What `Retry-After` says.
        seconds: u32,
    },
    /// Any other status.
    #[error("{url} answered {status}: the server has a fault of its own. Try again later")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// The server is there and does not let a page read it.
    #[error(
        "{url} is there but does not let other pages read it (no CORS headers): download the \
         files yourself and use them from your disk"
    )]
    Refused {
        /// What was asked for.
        url: String,
    },
    /// No answer.
    #[error("{url} cannot be reached: is there a network? What has arrived is kept")]
    Unreachable {
        /// What was asked for.
        url: String,
    },
    /// The body ended early, again and again.
    #[error("the connection to {url} broke several times: what has arrived is kept. Go on later")]
    Cut {
        /// What was asked for.
        url: String,
    },
    /// The bytes are not those that were promised.
    #[error(
        "{name} is not what the hub announced (sha256 {found}, expected {expected}): it was \
         thrown away. Try again; if it happens again, something between here and the hub \
         changes files"
    )]
    Hash {
        /// The file.
        name: String,
        /// By the hub.
        expected: String,
        /// By what arrived.
        found: String,
    },
    /// The file changed between two parts of a download.
    #[error("{url} changed while it was downloaded: start again")]
    Changed {
        /// What was asked for.
        url: String,
    },
    /// The repository has no weights that Plume reads.
    #[error(
        "{repository} holds no model.safetensors, open_clip_model.safetensors or .gguf: give the \
         address of a repository that does"
    )]
    NoWeights {
        /// The repository.
        repository: String,
    },
    /// An answer that is none.
    #[error("{url} answered something that is no list of files: is this the address of a hub?")]
    Answer {
        /// What was asked for.
        url: String,
    },
    /// What the person typed.
    #[error(
        "`{text}` is no address of a model: give owner/name as on the hub, or the address of a \
         .safetensors or .gguf file or of the folder that holds it"
    )]
    Address {
        /// What was typed.
        text: String,
    },
}

impl HubError {
    /// The error for a status that is no success.
    pub fn of_status(url: &str, status: u16, retry_after: Option<u32>) -> Self {
        let url = url.to_owned();
        match status {
            401 | 403 => Self::Gated { url },
            404 | 410 => Self::Missing { url },
            429 => Self::Busy {
                url,
                seconds: retry_after.unwrap_or(60),
            },
            status => Self::Status { url, status },
        }
    }

    /// Whether trying again soon may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status >= 500,
            Self::Busy { .. } | Self::Unreachable { .. } | Self::Cut { .. } => true,
            _ => false,
        }
    }
}

/// What a server says of a file before it is fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Length in bytes.
    pub bytes: Option<u64>,
    /// The tag of this version, without quotes.
    pub etag: Option<String>,
    /// Only where the server tells it (`X-Linked-ETag`, or a tag that is one).
    pub sha256: Option<String>,
}

impl Head {
    /// From the headers `Content-Length`, `ETag` and `X-Linked-ETag`.
    pub fn new(bytes: Option<u64>, etag: Option<&str>, linked: Option<&str>) -> Self {
        let plain = |tag: &str| tag.trim_start_matches("W/").trim_matches('"').to_owned();
        let (etag, linked) = (etag.map(plain), linked.map(plain));
        let digest = |tag: &String| tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit());
        let sha256 = [&linked, &etag].into_iter().flatten().find(|t| digest(t));
        Self {
            bytes,
            sha256: sha256.map(|tag| tag.to_lowercase()),
            etag,
        }
    }
}

/// A network, as far as planning a download needs one.
pub trait Http {
    /// The body of an answer, as text.
    ///
    /// # Errors
    /// Where there is none.
    fn get(&self, url: &str) -> impl Future<Output = Result<String, HubError>>;

    /// What is known of a file before it is fetched.
    ///
    /// # Errors
    /// Where there is no such file.
    fn head(&self, url: &str) -> impl Future<Output = Result<Head, HubError>>;
}
