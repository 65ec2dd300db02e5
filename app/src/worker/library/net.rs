//! The network: what a server says, and what a refusal means.

use plume_core::hub::{Head, Http, HubError};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, Request, RequestCache, RequestInit, RequestMode, Response};

use super::super::scope;

/// What is asked for.
#[derive(Clone, Copy, Default)]
pub(super) struct Ask<'a> {
    /// `HEAD`, not `GET`.
    pub(super) head: bool,
    /// From this byte on.
    pub(super) from: f64,
    /// Ends it early.
    pub(super) signal: Option<&'a AbortSignal>,
}

fn options(ask: Ask<'_>) -> RequestInit {
    let options = RequestInit::new();
    options.set_method(if ask.head { "HEAD" } else { "GET" });
    options.set_mode(RequestMode::Cors);
    // What is kept is kept once.
    options.set_cache(RequestCache::NoStore);
    options.set_signal(ask.signal);
    options
}

/// An answer with a status of success.
pub(super) async fn fetch(url: &str, ask: Ask<'_>) -> Result<Response, HubError> {
    let unreachable = || HubError::Unreachable {
        url: url.to_owned(),
    };
    let request =
        Request::new_with_str_and_init(url, &options(ask)).map_err(|_| HubError::Address {
            text: url.to_owned(),
        })?;
    if ask.from > 0.0 {
        let range = format!("bytes={}-", ask.from);
        let set = request.headers().set("Range", &range);
        set.map_err(|_| unreachable())?;
    }
    let answer = JsFuture::from(scope().fetch_with_request(&request)).await;
    let response: Response = match answer {
        Ok(response) => response.unchecked_into(),
        Err(_) if ask.signal.is_some_and(AbortSignal::aborted) => return Err(unreachable()),
        Err(_) => return Err(explain(url).await),
    };
    if !response.ok() {
        let wait = header(&response, "Retry-After").and_then(|wait| wait.parse().ok());
        return Err(HubError::of_status(url, response.status(), wait));
    }
    Ok(response)
}

/// A browser does not tell a script whether a server forbids reading or is not
/// there; a request that does not want to read tells.
async fn explain(url: &str) -> HubError {
    let url = url.to_owned();
    let options = options(Ask {
        head: true,
        ..Ask::default()
    });
    options.set_mode(RequestMode::NoCors);
    let answer = JsFuture::from(scope().fetch_with_str_and_init(&url, &options)).await;
    match answer {
        Ok(_) => HubError::Refused { url },
        Err(_) => HubError::Unreachable { url },
    }
}

/// A header, where the server lets a page read it.
pub(super) fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).ok().flatten()
}

/// The network, to plan with.
pub(super) struct Net;

impl Http for Net {
    async fn get(&self, url: &str) -> Result<String, HubError> {
        let cut = |_: JsValue| HubError::Cut {
            url: url.to_owned(),
        };
        let response = fetch(url, Ask::default()).await?;
        let text = JsFuture::from(response.text().map_err(cut)?).await;
        Ok(text.map_err(cut)?.as_string().unwrap_or_default())
    }

    async fn head(&self, url: &str) -> Result<Head, HubError> {
        let ask = Ask {
            head: true,
            ..Ask::default()
        };
        let response = fetch(url, ask).await?;
        let bytes = header(&response, "Content-Length").and_then(|n| n.parse().ok());
        let etag = header(&response, "ETag");
        let linked = header(&response, "X-Linked-ETag");
        Ok(Head::new(bytes, etag.as_deref(), linked.as_deref()))
    }
}
